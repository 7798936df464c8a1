"""Still pictures: read one, and write frames as numbered ones without loss."""

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
from legato.video.frames import Frame

__all__ = ["is_pattern", "read_picture", "write_pictures"]


def read_picture(path: str | Path) -> UInt8[Tensor, "3 height width"]:
    """A picture file as RGB; transparency is left out.

    Raises:
        VideoError: it cannot be read.
    """
    try:
        stored = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from error
    picture = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.size else None
    if picture is None:
        raise VideoError(f"{path} is not a picture that can be read; expected PNG, JPEG, WebP or the like")
    return torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))


def is_pattern(path: str | Path) -> bool:
    """Whether a path numbers pictures, as `frames/%05d.png`."""
    name = Path(path).name
    try:
        return name.endswith(".png") and name % 1 != name % 2
    except (TypeError, ValueError):
        return False


def write_pictures(frames: Iterable[Frame], pattern: str | Path) -> int:
    """Write frames as PNG files numbered from 0, all or none.

    Args:
        frames: at even times, which the numbers stand for.
        pattern: such as `frames/%05d.png`; its folder is made.

    Returns:
        How many were written.

    Raises:
        BadArgument: the path numbers nothing, or times are uneven.
        VideoError: the folder cannot be written.
    """
    pattern = Path(pattern)
    if not is_pattern(pattern):
        raise BadArgument(f"{pattern} numbers no pictures; expected a name such as frames/%05d.png")
    try:
        pattern.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".legato-", dir=pattern.parent))
    except OSError as error:
        raise VideoError(f"{pattern.parent} cannot be written: {error.strerror or error}") from error
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
            (part / (pattern.name % number)).write_bytes(stored.tobytes())
        for path in part.iterdir():
            path.replace(pattern.parent / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(times)
