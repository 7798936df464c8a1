"""What several verbs write in the same way: JSON, and one line on what went wrong."""

import json
from pathlib import Path
from typing import Any

import typer

__all__ = ["tell", "write_json"]


def tell(error: Exception | str) -> None:
    """One line on standard error: what was wrong and what to do."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("legato: ", "bold red"), str(error)), soft_wrap=True)


def write_json(path: Path, numbers: Any) -> None:
    """Write JSON to a file, complete or not at all, or to standard output for `-`."""
    text = json.dumps(numbers, indent=1)
    if path == Path("-"):
        typer.echo(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
