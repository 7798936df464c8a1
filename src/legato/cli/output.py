"""What several verbs write in the same way: JSON, and one line on what went wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from legato.files import check_place, write_whole

__all__ = ["check_places", "tell", "write_json"]


def tell(error: Exception | str) -> None:
    """One line on standard error: what was wrong and what to do."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("legato: ", "bold red"), str(error)), soft_wrap=True)


def check_places(places: Mapping[str, Path | None]) -> None:
    """Refuse outputs that cannot be written, before the work that is to end there.

    Args:
        places: files by their options; `-` is standard output, None is not asked for.

    Raises:
        FileNotWritten: one is a folder, or no file can be made there.
    """
    for option, path in places.items():
        if path is not None and path != Path("-"):
            check_place(path, option)


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
