"""Frames put aside in a file until they are wanted, so that they take no memory meanwhile."""

import tempfile
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from legato.errors import BadArgument

__all__ = ["Shelf"]

Rows = Float32[Tensor, "time channels height width"]


class Shelf:
    """Frames of one shape, in order, in a temporary file that goes with it; use it in a `with` block."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `with`
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, frames: Rows) -> None:
        """Put frames after those that are there.

        Raises:
            BadArgument: they are of another shape.
        """
        self._shape = self._shape or tuple(frames.shape[1:])
        if frames.shape[1:] != self._shape:
            raise BadArgument(f"frames of {tuple(frames.shape[1:])} do not go with those of {self._shape}")
        self._file.seek(0, 2)
        self._file.write(frames.contiguous().cpu().numpy().tobytes())
        self._count += len(frames)

    def part(self, first: int, count: int) -> Rows:
        """Up to so many frames from a number on.

        Raises:
            BadArgument: there is none there.
        """
        if not 0 <= first < self._count:
            raise BadArgument(f"frame {first} of {self._count} on the shelf")
        count = min(count, self._count - first)
        size = 4 * int(np.prod(self._shape))
        self._file.seek(first * size)
        stored = np.frombuffer(self._file.read(count * size), np.float32)
        return torch.from_numpy(stored.copy()).unflatten(0, (count, *self._shape))
