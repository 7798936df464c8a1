"""Driving pictures just in time: an iterator of pictures with their seconds, asked for pictures at other seconds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from legato.errors import BadArgument

__all__ = ["Drive", "DriveState"]

Picture = Float32[Tensor, "channels height width"]


@dataclass(frozen=True, eq=False)
class DriveState:
    """What is kept of the pictures taken so far: the newest two at most.

    Attributes:
        pictures: -1 to 1.
        seconds: of each.
        ended: whether the driver has no more.
    """

    pictures: Float32[Tensor, "kept channels height width"]
    seconds: Float64[Tensor, " kept"]
    ended: bool = False

    @property
    def end_seconds(self) -> float | None:
        """When the last picture was, once it is known to be the last."""
        return float(self.seconds[-1]) if self.ended else None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "DriveState":
        """A state of plain values.

        Raises:
            BadArgument: they are those of something else.
        """
        if set(values) != {f.name for f in fields(cls)}:
            raise BadArgument(f"not the state of a drive; it holds {', '.join(sorted(values))}")
        return cls(**values)


class Drive:
    """Gives the picture for any later time, and takes no more from the driver than that needs.

    Before the driver's first picture that one is shown, after its last one the last. A driver that stalls blocks; what
    it skips is filled by what is nearest in time, or linearly.

    Args:
        pictures: seconds, rising, and the picture, -1 to 1. It is taken from only in `at`.
        between: `nearest` in time (the earlier of two as near), or `linear`.
        at_end: whether a stream is to `hold` the last picture, or to `end` with it.

    Raises:
        BadArgument: an argument is outside what is said here.
    """

    def __init__(
        self, pictures: Iterable[tuple[float, Picture]], *, between: str = "nearest", at_end: str = "hold"
    ) -> None:
        for name, value, known in (("between", between, ("nearest", "linear")), ("at_end", at_end, ("hold", "end"))):
            if value not in known:
                raise BadArgument(f"{name} is '{value}'; expected {' or '.join(known)}")
        self.between, self.at_end = between, at_end
        self._coming: Iterator[tuple[float, Picture]] = iter(pictures)
        self._taken = False

    def at(
        self, seconds: Float64[Tensor, " time"], state: DriveState | None = None
    ) -> tuple[Float32[Tensor, "time channels height width"], DriveState]:
        """Pictures at times that rise from call to call, and what is kept.

        A driver that begins anew is skipped up to where the state stood, so a stream resumes with the same file.

        Args:
            seconds: of the frames.
            state: what the last call gave; None at the beginning.

        Raises:
            BadArgument: there is no picture at all, or their times do not rise, or their shapes change.
        """
        kept = [] if state is None else list(zip(state.seconds.tolist(), state.pictures, strict=True))
        ended = state is not None and state.ended
        shown = []
        for wanted in seconds.tolist():
            while not ended and (not kept or kept[-1][0] < wanted):
                following = self._next(kept)
                ended = following is None
                if following is not None:
                    kept = [*kept[-1:], following]
            if not kept:
                raise BadArgument("the driver has no picture; expected one at least")
            shown.append(self._between(kept, wanted))
        places, pictures = zip(*kept, strict=True)
        return torch.stack(shown), DriveState(torch.stack(pictures), torch.tensor(places, dtype=torch.float64), ended)

    def _next(self, kept: list[tuple[float, Picture]]) -> tuple[float, Picture] | None:
        """The next picture after those kept."""
        for at, picture in self._coming:
            if kept and at <= kept[-1][0]:
                if self._taken:
                    raise BadArgument(
                        f"a driving picture at {at:g} s follows one at {kept[-1][0]:g} s; times must rise"
                    )
                continue
            if kept and picture.shape != kept[-1][1].shape:
                raise BadArgument(
                    f"the driving picture at {at:g} s is {tuple(picture.shape)}; those before were "
                    f"{tuple(kept[-1][1].shape)}"
                )
            self._taken = True
            return float(at), picture
        return None

    def _between(self, kept: list[tuple[float, Picture]], wanted: float) -> Picture:
        """The picture at a time, of one or two on both its sides."""
        (earlier, first), (later, second) = kept[0], kept[-1]
        if len(kept) == 1 or wanted <= earlier:
            return first
        if wanted >= later:
            return second
        share = (wanted - earlier) / (later - earlier)
        if self.between == "linear":
            return torch.lerp(first, second, share)
        return first if share <= 0.5 else second
