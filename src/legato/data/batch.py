"""A batch of clips, each frame with its own seconds: what every source of training data yields."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor

__all__ = [
    "NOMINAL_FPS",
    "NO_LABEL",
    "ClipBatch",
    "Source",
    "nominal_seconds",
    "pixels_to_signal",
    "signal_to_pixels",
    "whole_values",
]

NO_LABEL = -1
NOMINAL_FPS = 30.0


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Clips of equal length and size.

    Attributes:
        frames: RGB, -1 to 1; or latents.
        seconds: of each frame on the clip's own clock.
        rate_known: whether a clip's seconds can be believed; where not, they count frames at a nominal rate.
        text: of each clip, "" where there is none.
        labels: class of each clip, `NO_LABEL` where there is none.
        drive: per-frame conditioning such as pose maps, -1 to 1, or None.
        paths: the files, where clips come from files.
        failures: videos that were drawn but could not be read, and had others drawn in their place.
        encoded: whether `frames` are latents already.
        peers: other clips that are told the same as every one of these, where all of these are told the same; None
            where they are not.
    """

    frames: Float32[Tensor, "batch time channels height width"]
    seconds: Float64[Tensor, "batch time"]
    rate_known: Bool[Tensor, " batch"]
    text: tuple[str, ...]
    labels: Int64[Tensor, " batch"]
    drive: Float32[Tensor, "batch time drive_channels drive_height drive_width"] | None = None
    paths: tuple[Path, ...] = ()
    failures: tuple[Any, ...] = ()
    encoded: bool = False
    peers: Float32[Tensor, "peers time channels height width"] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> "ClipBatch":
        """The same on a device."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in every.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def nominal_seconds(frames: int) -> Float64[Tensor, " time"]:
    """The times that a model is told of a clip whose rate is unknown: frames counted at `NOMINAL_FPS`."""
    return torch.arange(frames, dtype=torch.float64) / NOMINAL_FPS


class Source(ABC):
    """Endless batches by number: the same number gives the same batch, so training resumes without a record.

    Attributes:
        side_px: of the square frame, in pixels even where batches are encoded.
        classes: names of the labels.
        words: that its texts are made of, where they are from a closed vocabulary.
    """

    side_px: int
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, number: int) -> ClipBatch:
        """The batch of that number."""


def pixels_to_signal(pixels: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """0..255 to -1..1."""
    return pixels.float() / 127.5 - 1


def signal_to_pixels(signal: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """-1..1 to 0..255, clamped."""
    return whole_values(signal).to(torch.uint8)


def whole_values(signal: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """The same, not stored as bytes yet."""
    return (signal.float() + 1).mul_(127.5).round_().clamp_(0, 255)
