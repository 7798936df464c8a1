"""What one stream remembers between frames: a value that goes in and comes out."""

import io
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legato.errors import BadArgument
from legato.files import write_whole
from legato.motion import content_cuts, cuts
from legato.reuse.audit import Tally
from legato.reuse.track import Track

__all__ = ["Memory", "StreamState"]

# What a saved state may hold besides tensors and numbers.
SAVED_TYPES: list[Any] = [
    Track, Tally, cuts.AdaptiveState, cuts.Candidate, cuts.Cut, content_cuts.ConfirmedState, content_cuts.FeatureState,
    content_cuts.HistogramState,
]  # fmt: skip


class Memory:
    """Rows of several tensors that advance in place while every older version stays readable.

    A frame changes a few rows of many large tensors. Copying all of them each frame would cost more than
    computing the rows, and changing them under an older state would break "state in, state out". So a
    version either owns the tensors or knows the next version and the few rows that differ from it
    (Baker 1978, "Shallow binding in Lisp 1.5": persistent arrays). The newest version is always direct;
    reading an older one copies once.
    """

    def __init__(self, tensors: list[Tensor], axis: int):
        self._tensors: list[Tensor] | None = tensors
        self._axis = axis
        self._next: Memory | None = None
        self._rows: Tensor | None = None
        self._old: list[Tensor] = []

    @property
    def tensors(self) -> list[Tensor]:
        """This version's tensors; not to be written to."""
        if self._tensors is None:
            assert self._next is not None
            assert self._rows is not None
            self._tensors = [
                newer.clone().index_copy_(self._axis, self._rows, old)
                for newer, old in zip(self._next.tensors, self._old, strict=True)
            ]
            self._next, self._rows, self._old = None, None, []
        return self._tensors

    def advance(self, rows: Tensor) -> "Memory":
        """Give the tensors to a new version, of which the caller then overwrites just these rows."""
        tensors = self.tensors
        newer = Memory(tensors, self._axis)
        self._old = [t.index_select(self._axis, rows) for t in tensors]
        self._rows, self._next, self._tensors = rows, newer, None
        return newer


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything that a `ReuseEncoder` keeps of one stream. Treat it as a value: it never changes.

    Attributes:
        signature: which encoder, layer, size and precision made it.
        track: the stream's pictures and times.
        tokens: encoder output of prefix and patch tokens, `(prefix + tokens, channels)`.
        memory: keys and values of every layer.
        tally: what the audit has gathered since its last verdict.
    """

    signature: str
    track: Track
    tokens: Tensor
    memory: Memory = field(repr=False)
    tally: Tally = Tally()  # noqa: RUF009 - immutable

    def to(self, device: str | torch.device) -> "StreamState":
        """The same state with its model tensors on another device."""
        memory = Memory([t.to(device) for t in self.memory.tensors], axis=2)
        return replace(self, tokens=self.tokens.to(device), memory=memory)

    def save(self, path: str | Path) -> None:
        """Write the state to a file, complete or not at all; `load` resumes the stream from it exactly.

        Raises:
            FileNotWritten: it cannot be written there.
        """
        content = io.BytesIO()
        torch.save(vars(self) | {"memory": self.memory.tensors}, content)
        write_whole(path, content.getbuffer())

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "StreamState":
        """Read a state that `save` wrote.

        Raises:
            BadArgument: the file is missing or not a saved state.
        """
        try:
            with torch.serialization.safe_globals(SAVED_TYPES):
                values = torch.load(path, map_location="cpu", weights_only=True)
            values["memory"] = Memory(values["memory"], axis=2)
            return cls(**values).to(device)
        except (OSError, RuntimeError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise BadArgument(f"{path} is not a saved stream state: {error}") from error
