"""What is kept, and the only code that writes or reads it."""
