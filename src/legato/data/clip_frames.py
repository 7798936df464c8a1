"""Which frames of a video make a clip, and their pixels: from memory, or from the file."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from legato.data.clip_index import Footage
from legato.errors import CorruptVideo, LegatoError
from legato.video.read import open_video

__all__ = ["FrameCache", "evenly_spaced"]


def evenly_spaced(
    seconds: Float64[np.ndarray, " frames"], start: int, count: int, interval_seconds: float | None
) -> Int64[np.ndarray, " time"] | None:
    """Places of `count` frames, from `start` on, that lie nearest to an even interval; None where the video ends first.

    No frame is taken twice: where the video is slower than the interval, or has a hole, the next frame is taken, and
    the interval counts on from there once that lies off by more than half of it.

    Args:
        seconds: times of all frames, rising.
        start: place of the first frame.
        count: how many.
        interval_seconds: the interval, over 0; None takes one frame after the other.
    """
    if start + count > len(seconds):
        return None
    if interval_seconds is None or count == 1:
        return np.arange(start, start + count)
    # The last frame stands for what would come until half-way to the next one.
    end = seconds[-1] + min(interval_seconds, seconds[-1] - seconds[-2]) / 2
    wanted, places = float(seconds[start]), [start]
    for _ in range(count - 1):
        wanted += interval_seconds
        if wanted > end:
            return None
        after = int(seconds.searchsorted(wanted))
        before = max(after - 1, 0)
        nearest = before if after == len(seconds) or wanted - seconds[before] <= seconds[after] - wanted else after
        place = max(nearest, places[-1] + 1)
        if place == len(seconds):
            return None
        if abs(seconds[place] - wanted) > interval_seconds / 2:
            wanted = float(seconds[place])
        places.append(place)
    return np.array(places)


class FrameCache:
    """Whole videos, small, for as long as there is room; the first ones stay."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: dict[tuple[Path, int, int], UInt8[Tensor, "frames 3 height width"]] = {}
        self._broken: set[tuple[Path, int, int]] = set()
        self.bytes_used = 0

    def take(
        self, footage: Footage, places: Int64[np.ndarray, " time"], height: int, width: int
    ) -> UInt8[Tensor, "time 3 height width"]:
        """The frames at these places, from memory or from the file."""
        key = (footage.path, footage.first, footage.stop)
        size = len(footage) * 3 * height * width
        if key not in self._kept and key not in self._broken and self.bytes_used + size <= self._limit_bytes:
            try:
                self._kept[key] = _decoded(footage, np.arange(len(footage)), height, width)
                self.bytes_used += size
            except (LegatoError, OSError):
                self._broken.add(key)  # but the frames wanted may be whole
        kept = self._kept.get(key)
        return _decoded(footage, places, height, width) if kept is None else kept[torch.from_numpy(places)]

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit_bytes": self._limit_bytes, "_kept": {}, "_broken": set(), "bytes_used": 0}


def _decoded(
    footage: Footage, places: Int64[np.ndarray, " time"], height: int, width: int
) -> UInt8[Tensor, "time 3 height width"]:
    scale = max(height / footage.height, width / footage.width)
    rows, columns = (
        max(wanted, round(side * scale)) for wanted, side in ((height, footage.height), (width, footage.width))
    )
    top, left = (rows - height) // 2, (columns - width) // 2
    pixels = torch.empty(len(places), 3, height, width, dtype=torch.uint8)
    with open_video(footage.path, size_px=(rows, columns), table=footage.table) as video:
        for row, stamp in enumerate(footage.pts[places].tolist()):
            time = stamp * footage.time_base
            frame = video.at(time)
            if frame.time != time:
                raise CorruptVideo(f"{footage.path} promises a frame at {float(time):.3f} s that does not decode")
            pixels[row] = frame.pixels[:, top : top + height, left : left + width]
    return pixels
