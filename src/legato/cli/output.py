"""What several verbs write in the same way: JSON, and one line on what went wrong."""

import json
from pathlib import Path
from typing import Any

import typer

from legato.files import write_whole

__all__ = ["tell", "write_json"]


def tell(error: Exception) -> None:
    """One line on standard error: what was wrong and what to do."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("legato: ", "bold red"), str(error)), soft_wrap=True)


def write_json(path: Path, numbers: Any) -> None:
    """Write JSON to a file, complete or not at all, or to standard output for `-`.

    Raises:
        FileNotWritten: it cannot be written there.
    """
    text = json.dumps(numbers, indent=1)
    if path == Path("-"):
        typer.echo(text)
        return
    write_whole(path, text.encode())
