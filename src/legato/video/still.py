"""Still pictures: read one, and write frames as numbered ones without loss."""

import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from legato.errors import BadArgument, VideoError
from legato.files import identity, telling
from legato.video.frames import Frame

__all__ = ["PICTURE_ENDINGS", "check_numbered", "is_pattern", "left_out", "numbers", "read_picture", "write_pictures"]

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_BEGINNINGS = re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*", re.DOTALL)
_PATTERN = re.compile(r"([^%]*)%0?\d{0,2}d([^%]*\.png)")


def read_picture(path: str | Path) -> UInt8[Tensor, "3 height width"]:
    """A picture file as RGB of 8 bits; transparency and finer shades are left out.

    Raises:
        VideoError: it cannot be read.
    """
    try:
        stored = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from error
    loud = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        picture = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.size else None
    except cv2.error:  # a size beyond its limits, which only a damaged or hostile file declares
        picture = None
    finally:
        cv2.utils.logging.setLogLevel(loud)
    if picture is None and _BEGINNINGS.match(stored[:16].tobytes()):
        raise VideoError(f"{path} is a picture that is cut short or damaged; copy it again")
    if picture is None:
        raise VideoError(f"{path} is not a picture that can be read; expected PNG, JPEG, WebP or the like")
    return torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))


def left_out(path: str | Path) -> str:
    """What a picture file holds beyond `read_picture`, in words: transparency, more than 8 bits, or nothing ("")."""
    picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None  # it was read
    transparent = picture.ndim == 3 and picture.shape[2] in (2, 4)
    bits = 8 * picture.dtype.itemsize
    return " and ".join(["transparency"] * transparent + [f"{bits} bits a colour"] * (bits > 8))


def is_pattern(path: str | Path) -> bool:
    """Whether a path numbers pictures, as `frames/%05d.png`."""
    return _PATTERN.fullmatch(Path(path).name) is not None


def numbers(pattern: str | Path, path: str | Path) -> bool:
    """Whether a pattern gives one of its pictures that name, wherever they are."""
    return _number(Path(pattern).name, Path(path).name) is not None


def check_numbered(pattern: str | Path, count: int, read: Iterable[str | Path] = ()) -> None:
    """Look at the folder of a pattern before long work: numbered pictures that are there already are written anew.

    Args:
        pattern: see `write_pictures`.
        count: how many are to be written.
        read: pictures that they are made from.

    Raises:
        BadArgument: one of these has a name of the pattern, or there are pictures with higher numbers, which would
            stay behind the new ones.
    """
    pattern = Path(pattern)
    if not pattern.parent.is_dir():
        return
    sources = {identity(Path(path)) for path in read if Path(path).exists()}
    higher = []
    for path in pattern.parent.iterdir():
        number = _number(pattern.name, path.name)
        if number is not None and path.exists() and identity(path) in sources:
            raise BadArgument(
                f"{pattern} takes the name of {path}, which is one of the pictures given; write to another folder"
            )
        if number is not None and number >= count:
            higher.append((number, path.name))
    if higher:
        raise BadArgument(
            f"{pattern.parent} has pictures up to {max(higher)[1]} from before, which would stay behind the new ones, "
            f"up to {pattern.name % (count - 1)}; delete those from {min(higher)[1]} on, or write to another folder"
        )


def _number(pattern: str, name: str) -> int | None:
    """Which of the pictures of a pattern has this name."""
    parts = _PATTERN.fullmatch(pattern)
    assert parts is not None
    before, after = map(re.escape, parts.groups())
    found = re.fullmatch(f"{before} *([0-9]+){after}", name)
    return int(found[1]) if found and pattern % int(found[1]) == name else None


def write_pictures(frames: Iterable[Frame], pattern: str | Path) -> int:
    """Write frames as PNG files numbered from 0, all or none.

    Args:
        frames: at even times, which the numbers stand for.
        pattern: such as `frames/%05d.png`; its folder is made.

    Returns:
        How many were written.

    Raises:
        BadArgument: the path numbers nothing, or times are uneven.
        FileNotWritten: the folder cannot be made, or a picture not be written.
    """
    pattern = Path(pattern)
    if not is_pattern(pattern):
        raise BadArgument(f"{pattern} numbers no pictures; expected a name such as frames/%05d.png")
    with telling(pattern.parent):
        pattern.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".legato-", dir=pattern.parent))
    times = []
    try:
        for number, frame in enumerate(frames):
            times.append(frame.time)
            if len(times) > 2 and times[-1] - times[-2] != times[1] - times[0]:
                raise BadArgument(
                    f"frame {number} at {frame.seconds:g} s is not an even step after the one before; numbered "
                    "pictures have no times: write a video, or move the keys onto the grid of the frame rate"
                )
            rows = frame.pixels.permute(1, 2, 0).flip(-1).contiguous().numpy()
            stored = cv2.imencode(".png", rows)[1]
            with telling(pattern):
                (part / (pattern.name % number)).write_bytes(stored.tobytes())
        with telling(pattern):
            for path in part.iterdir():
                path.replace(pattern.parent / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(times)
