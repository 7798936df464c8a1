"""Files and folders that are written whole or not at all, and whether a place takes one."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from legato.errors import FileNotWritten

__all__ = [
    "check_folder",
    "check_place",
    "hidden_beside",
    "identity",
    "local_path",
    "replacing_file",
    "replacing_folder",
    "telling",
    "write_whole",
]


@contextlib.contextmanager
def replacing_file(path: str | Path) -> Iterator[Path]:
    """A hidden name beside a path, to write a file to: it takes the path's place if all goes well, else it is removed.

    Folders on the way are made. Where the path is a link, it stays, and what it leads to is replaced. What is no file,
    such as a pipe or `/dev/null`, cannot be replaced: then the name is the path itself.

    Args:
        path: of the file.

    Raises:
        FileNotWritten: it cannot be made there. What is raised within goes on as it is.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    place = Path(os.path.realpath(path))
    with telling(path):
        place.parent.mkdir(parents=True, exist_ok=True)
    part = hidden_beside(place)
    try:
        yield part
        with telling(path):
            part.replace(place)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A new folder of a hidden name beside a path: it takes the path's place if all goes well, else it is removed.

    Folders on the way are made. Where the path is a link, it stays, and the folder that it leads to is replaced.

    Args:
        path: of the folder.

    Raises:
        FileNotWritten: it is a file, or the folder cannot be made there. What is raised within goes on as it is.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_dir():
        raise FileNotWritten(f"{path} is no folder, and one is to be written there; choose another name")
    part = hidden_beside(place)
    with telling(path):
        part.mkdir(parents=True)
    try:
        yield part
        with telling(path):
            _take_place(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
    with replacing_file(path) as part, telling(path):
        part.write_bytes(content)


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


def hidden_beside(place: Path) -> Path:
    """A name beside a place that nothing else has."""
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")


def local_path(place: str | Path) -> Path:
    """The path of a file that is named by it, or by a `file:` URL as FFmpeg reads it, all after `file:`; whatever else
    is named leads nowhere."""
    return Path(re.sub(r"^file:", "", str(place), flags=re.IGNORECASE))


def identity(path: Path) -> tuple[int, int]:
    """The same for all names of one file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _take_place(part: Path, place: Path) -> None:
    """Rename a folder to a place; a folder that is there is put aside first, and back if that fails."""
    if not place.exists():
        part.replace(place)
        return
    old = hidden_beside(place)
    place.replace(old)
    try:
        part.replace(place)
    except BaseException:
        old.replace(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def telling(path: str | Path) -> Iterator[None]:
    """Tell what the system says of a path that cannot be written.

    Raises:
        FileNotWritten: it said something.
    """
    try:
        yield
    except OSError as error:
        raise FileNotWritten(
            f"{path} cannot be written: {error.strerror or error}; check the folder, its rights and the free space"
        ) from error
