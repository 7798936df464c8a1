"""Writing video with exact times."""

from collections.abc import Iterable
from pathlib import Path

from legato.errors import UnsupportedOutput
from legato.video.frames import Frame, Frames

__all__ = ["write_video"]


def write_video(frames: Frames | Iterable[Frame], path: str | Path, *, audio_from: str | Path | None = None) -> None:
    """Writes frames to `path`."""
    raise UnsupportedOutput(f"{path}: writing comes with the next change")
