"""Whether a file's frame rate is to be believed, as far as the file itself can tell.

A rate is doubted where

- there are fewer than two frames;
- the container is a bare codec stream without times: FFmpeg counts its frames at 25 per second, or at what the codec's
  header claims;
- more than a few times were missing or did not rise, and were made up in reading (decoding times that the file does
  hold, as in AVI with B-frames, are no invention);
- a GIF gives a frame a delay of 0 or 1/100 s, which every viewer replaces with one of its own;
- a phone noted that it recorded at another rate than the file plays at: slow motion or time lapse;
- frames follow each other faster than 480 times a second: counts rather than times;
- frames come evenly, but at another rate than the file declares.

It cannot be told from the file that someone slowed it down, or wrapped a bare stream at a wrong rate. Repeated
pictures (25 per second padded to 50) are no reason: their times are right.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from legato.video.decode import Source
from legato.video.frame_times import measured_times
from legato.video.read import Video

__all__ = ["rate_doubt"]

# FFmpeg's names of containers that are none: the packets of a codec, one after the other.
WITHOUT_TIMES = frozenset((
    "apv", "av1", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "evc", "h261", "h263", "h264", "hevc", "ingenient",
    "m4v", "mjpeg", "mjpeg_2000", "mpegvideo", "obu", "rawvideo", "vc1", "vvc",
))  # fmt: skip
SHORTEST_DELAY = 2
FASTEST_RATE = 480.0
# A phone's low light or a dropped frame changes a rate by less, slow motion and time lapse by more.
RECORDED_FACTOR = 1.5
RECORDED_RATE = "com.android.capture.fps"
# Decoders with B-frames hand out their last few pictures without times.
MADE_UP_FRAMES, MADE_UP_SHARE = 4, 0.1


def rate_doubt(video: Video, pts: Int64[np.ndarray, " time"]) -> str | None:
    """Why the rate is not to be believed; None where nothing speaks against it.

    Args:
        video: open, `Video.table` having been asked for.
        pts: presentation times of all its frames.
    """
    info = video.info
    if len(pts) < 2:
        return "a single frame has no rate"
    if info.container in WITHOUT_TIMES:
        return f"a bare {info.codec} stream holds no times"
    if video.times_made_up > max(MADE_UP_FRAMES, MADE_UP_SHARE * len(pts)):
        return f"{video.times_made_up} of {len(pts)} frame times were missing or did not rise, and were made up"
    if info.container == "gif" and min(_gif_delays(Path(info.path).read_bytes()), default=0) < SHORTEST_DELAY:
        return "this GIF leaves it to the viewer how long a frame is shown"
    measured = measured_times((pts - pts[0]) * float(info.time_base), float(info.time_base))
    rate = measured.usual_rate
    assert rate is not None
    recorded = _recorded_rate(info.path)
    if recorded and not 1 / RECORDED_FACTOR < recorded / rate < RECORDED_FACTOR:
        return f"recorded at {recorded:g} frames per second, played at {rate:.4g}"
    if rate > FASTEST_RATE:
        return f"{rate:.4g} frames per second are counts rather than times"
    declared = info.declared_rate
    if declared and measured.kind.startswith("constant") and measured.contradicts(float(declared)):
        return f"declares {float(declared):g} frames per second, but gives {rate:.4g}"
    return None


def _gif_delays(data: bytes) -> Iterator[int]:
    """Hundredths of a second that each picture of a GIF asks to be shown for; FFmpeg hides the zeros."""
    end, data = len(data), data + bytes(16)  # zeros, so that one cut short needs no care
    at, delay = 13 + _colour_table_bytes(data[10]), 0
    while at < end and data[at] != 0x3B:
        if data[at] == 0x2C:  # a picture: its place, its colour table, the code size
            yield delay
            at, delay = at + 11 + _colour_table_bytes(data[at + 9]), 0
        else:  # an extension, of which the graphic control holds the delay
            if data[at + 1] == 0xF9:
                delay = int.from_bytes(data[at + 4 : at + 6], "little")
            at += 2
        while at < end and data[at]:
            at += data[at] + 1
        at += 1


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _recorded_rate(path: str) -> float | None:
    with contextlib.closing(Source(path).open_container()) as container:
        try:
            return float(container.metadata.get(RECORDED_RATE, "0"))
        except ValueError:
            return None
