"""What the pages share: the frame around them, the time control, tables, cards and words."""
