"""Self-contained HTML pages, which open offline and hold their own scripts and pictures, and contact sheets."""
