"""What several verbs write in the same way: JSON, and one line on what went wrong; and where they may write."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from legato.errors import BadArgument
from legato.files import check_place, identity, local_path, write_whole

__all__ = ["check_places", "check_spared", "tell", "write_json"]

MODEL_FILES = (
    "config.json",
    "generator.json",
    "preprocessor_config.json",
    "model*.safetensors",
    "diffusion_pytorch_model*.safetensors",
    "pytorch_model*.bin",
)


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
        BadArgument: two are one file, or one is among the numbered pictures of another.
    """
    from legato.video.still import is_pattern, numbers

    taken: dict[Path, str] = {}
    numbered = {option: path for option, path in places.items() if path is not None and is_pattern(path)}
    for option, path in places.items():
        if path is None or path == Path("-"):
            continue
        check_place(path, option)
        place = Path(os.path.realpath(path))
        for other, pattern in numbered.items():
            if option != other and place.parent == Path(os.path.realpath(pattern.parent)) and numbers(pattern, place):
                raise BadArgument(f"{option} is {path}, one of the pictures of {other} {pattern}; give it another name")
        if place in taken and not (place.exists() and not place.is_file()):
            raise BadArgument(f"{taken[place]} and {option} are both {path}; give one of them another name")
        taken[place] = option


def check_spared(read: Iterable[str | Path | None], written: Iterable[tuple[str, Path | None]]) -> None:
    """Refuse to write over what is read, under whatever name or link, before work.

    Args:
        read: files, folders of models, names and URLs; None is not given.
        written: files with their options; `-` is standard output, None is not asked for. What is no file, such as
            `/dev/null`, may be read and written.

    Raises:
        BadArgument: a place is a file that is read.
    """
    sources = {identity(path) for path in _files(read) if path.is_file()}
    for option, place in written:
        if place is not None and place != Path("-") and place.is_file() and identity(place) in sources:
            raise BadArgument(f"{option} is {place}, a file that is read here; give it another name")


def _files(read: Iterable[str | Path | None]) -> Iterator[Path]:
    """What is read, with the files of a model for its folder."""
    for one in read:
        if one is None:
            continue
        path = local_path(one)
        if not path.is_dir():
            yield path
            continue
        for name in MODEL_FILES:
            yield from path.glob(name)
            yield from path.glob(f"*/{name}")  # latents


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
