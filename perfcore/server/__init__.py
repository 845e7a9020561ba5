"""Processes: the embedded PostgreSQL, and the supervisor of everything `perfcore demo` starts."""
