"""Files that are written whole or not at all, and whether a place takes one."""

import os
import tempfile
from pathlib import Path

from legato.errors import FileNotWritten

__all__ = ["check_folder", "check_place", "write_whole"]


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file under another name, which then takes its place, so that no half of it is ever seen.

    Folders on the way are made. Where a path is a link, what it leads to is replaced. What is no file, such as a pipe
    or `/dev/null`, cannot be replaced and is written to as it stands.

    Args:
        path: of the file.
        content: all of it.

    Raises:
        FileNotWritten: the path is a folder, or the file cannot be made there.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as there:
                there.write(content)
            return
        _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise FileNotWritten(
            f"{path} cannot be written: {error.strerror or error}; check the folder, its rights and the free space"
        ) from error


def check_place(path: str | Path, name: str) -> None:
    """Refuse a place that takes no file, before the work that is to end there; nothing is left behind.

    Args:
        path: of a file to be written, in a folder that is there or can be made.
        name: what it is to the user, such as `--out`.

    Raises:
        FileNotWritten: it is a folder, or no file can be made there.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotWritten(f"{name} is {path}, a folder; name a file")
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK):
            raise FileNotWritten(f"{name} is {path}, which may not be written to; name another file")
        return
    check_folder(Path(os.path.realpath(path)).parent, name)


def check_folder(path: str | Path, name: str) -> None:
    """Refuse a folder that takes no files, or cannot be made, before the work that is to end there.

    Args:
        path: of the folder.
        name: see `check_place`.

    Raises:
        FileNotWritten: nothing can be made in it, or in the nearest folder above it that is there.
    """
    folder = Path(os.path.realpath(path))
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise FileNotWritten(f"{name} leads through {there}, which is no folder; name another place")
    try:
        with tempfile.TemporaryDirectory(prefix=".legato-", dir=there):
            pass
    except OSError as error:
        raise FileNotWritten(
            f"{name} leads to {there}, where nothing can be made: {error.strerror or error}; name another place"
        ) from error


def _replace(path: Path, content: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
