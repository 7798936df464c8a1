"""Small weights that the project trained itself, each with its card; found by name without a network."""

from pathlib import Path

__all__ = ["bundled"]


def bundled(name: str) -> str | None:
    """The folder of a bundled checkpoint, or None where no bundled one has that name."""
    folder = Path(__file__).parent / name
    return str(folder) if "/" not in name and (folder / "config.json").is_file() else None
