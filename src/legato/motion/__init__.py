"""What moves and what changes between frames."""
