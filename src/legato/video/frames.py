"""Pixels that know when they are shown: one `Frame`, or `Frames` along a time axis."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import overload

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from legato.errors import BadArgument

__all__ = ["Frame", "Frames"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and its exact presentation time.

    Attributes:
        pixels: RGB, `uint8 (3, height, width)`. May be a channels-last view; not to be written to.
        pts: presentation time in units of `time_base`.
        time_base: seconds per unit of `pts`, exact.
        key: whether the codec stored this frame whole (a random-access point).

    Raises:
        BadArgument: pixels are of another dtype or shape.
    """

    pixels: UInt8[Tensor, "3 height width"]
    pts: int
    time_base: Fraction
    key: bool = False

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != torch.uint8 or len(shape) != 3 or shape[0] != 3:
            raise BadArgument(
                f"pixels are {self.pixels.dtype} {tuple(self.pixels.shape)}; expected uint8 (3, height, width)"
            )

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base

    @property
    def seconds(self) -> float:
        """Presentation time in seconds."""
        return float(self.time)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.pixels.shape[-2]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.pixels.shape[-1]

    def __repr__(self) -> str:
        return f"Frame({self.width}x{self.height} at {self.seconds:.6f} s)"


@dataclass(frozen=True, eq=False)
class Frames:
    """A run of pictures of one size with exact, strictly rising presentation times.

    Attributes:
        pixels: RGB, `uint8 (time, 3, height, width)`.
        pts: presentation times in units of `time_base`, `int64 (time,)`.
        time_base: seconds per unit of `pts`, exact.

    Indexing with an integer gives a `Frame`, slicing gives `Frames`; both keep the times.

    Raises:
        BadArgument: dtype or shape is off, lengths differ, or times do not rise.
    """

    pixels: UInt8[Tensor, "time 3 height width"]
    pts: Int64[Tensor, " time"]
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise BadArgument(
                f"pixels are {self.pixels.dtype} {tuple(self.pixels.shape)}; expected uint8 (time, 3, height, width)"
            )
        if self.pts.dtype != torch.int64 or self.pts.shape != self.pixels.shape[:1]:
            raise BadArgument(
                f"pts are {self.pts.dtype} {tuple(self.pts.shape)}; expected int64 ({len(self.pixels)},), one per frame"
            )
        if self.time_base <= 0:
            raise BadArgument(f"time_base is {self.time_base}; expected a positive number of seconds per pts unit")
        falling = (self.pts.diff() <= 0).nonzero()
        if len(falling):
            at = int(falling[0])
            raise BadArgument(
                f"times must rise, but frame {at + 1} (pts {int(self.pts[at + 1])}) does not come after "
                f"frame {at} (pts {int(self.pts[at])}); sort the frames and drop repeats"
            )

    @property
    def seconds(self) -> Float64[Tensor, " time"]:
        """Presentation times in seconds, float64."""
        base = self.time_base
        return torch.tensor([int(p) * base.numerator / base.denominator for p in self.pts], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, at: int) -> Frame: ...
    @overload
    def __getitem__(self, at: slice) -> "Frames": ...
    def __getitem__(self, at: int | slice) -> "Frame | Frames":
        if isinstance(at, slice):
            if (at.step or 1) < 0:
                raise BadArgument("a slice with a negative step would run time backwards; use a positive step")
            return Frames(self.pixels[at], self.pts[at], self.time_base)
        return Frame(self.pixels[at], int(self.pts[at]), self.time_base)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        time, _, height, width = self.pixels.shape
        span = f", {self.seconds[0]:.3f} to {self.seconds[-1]:.3f} s" if time else ""
        return f"Frames({time} x {width}x{height}{span})"
