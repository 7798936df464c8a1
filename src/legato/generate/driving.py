"""Driving pictures just in time: an iterator of pictures with their seconds, asked for pictures at other seconds."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from queue import Empty, Queue
from threading import Thread
from time import monotonic
from typing import Any

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from legato.errors import BadArgument, StateMismatch
from legato.generate.calibration import Calibration

__all__ = ["Drive", "DriveState"]

Picture = Float32[Tensor, "channels height width"]


@dataclass(frozen=True, eq=False)
class DriveState:
    """What is kept of the pictures taken so far: the newest two at most.

    Attributes:
        pictures: -1 to 1.
        seconds: of each.
        ended: whether the driver has no more.
        calibration: scale and shift that its pictures are moved by; None where they are taken as they are.
    """

    pictures: tuple[Picture, ...]
    seconds: tuple[float, ...]
    ended: bool = False
    calibration: tuple[float, float, float] | None = None

    @property
    def end_seconds(self) -> float | None:
        """When the last picture was, once it is known to be the last."""
        return self.seconds[-1] if self.ended else None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "DriveState":
        """A state of plain values.

        Raises:
            BadArgument: they are those of something else.
        """
        if set(values) != {f.name for f in fields(cls)}:
            raise BadArgument(f"not the state of a drive; it holds {', '.join(sorted(values))}")
        moved = values["calibration"]
        return cls(
            tuple(values["pictures"]),
            tuple(values["seconds"]),
            values["ended"],
            None if moved is None else tuple(moved),
        )


class Drive:
    """Gives the picture for any later time, and takes no more from the driver than that needs.

    Before the driver's first picture that one is shown, after its last one the last. What it skips is filled by what
    is nearest in time, or linearly. A driver that stalls is waited for, without end or as long as there is patience:
    then its last picture is held, and those that come late are skipped until it has caught up. Until one comes it is
    waited for no longer than what is asked for lasts, so that frames go on as they are shown.

    Args:
        pictures: seconds, rising, and the picture, -1 to 1. It is taken from only in `at`; with patience in a thread,
            and one picture ahead.
        between: `nearest` in time (the earlier of two as near), or `linear`.
        at_end: whether a stream is to `hold` the last picture, or to `end` with it.
        patience_seconds: how long `at` waits for what it lacks, once there is a first picture, and the driver has not
            stalled already; what is shown then depends on when pictures come.
        fit_to: the driving picture of a reference, to whose place and size the first picture and all after it are
            moved, see `Calibration`.
        bridge_seconds: before second 0 the reference's picture fades into the first one for so long, so that a stream
            which begins that much earlier comes from the one pose to the other without a jump.

    Raises:
        BadArgument: an argument is outside what is said here.
    """

    def __init__(
        self,
        pictures: Iterable[tuple[float, Picture]],
        *,
        between: str = "nearest",
        at_end: str = "hold",
        patience_seconds: float | None = None,
        fit_to: Float32[Tensor, "reference_channels reference_height reference_width"] | None = None,
        bridge_seconds: float = 0.0,
    ) -> None:
        for name, value, known in (("between", between, ("nearest", "linear")), ("at_end", at_end, ("hold", "end"))):
            if value not in known:
                raise BadArgument(f"{name} is '{value}'; expected {' or '.join(known)}")
        if patience_seconds is not None and not patience_seconds >= 0:
            raise BadArgument(f"patience_seconds is {patience_seconds:g}; expected 0 or more, or None")
        if not 0 <= bridge_seconds < float("inf"):
            raise BadArgument(f"bridge_seconds is {bridge_seconds:g}; expected 0 or more")
        if bridge_seconds and fit_to is None:
            raise BadArgument("a bridge leads from a reference's pose to the drive's; give its driving picture, fit_to")
        self.between, self.at_end, self.fit_to, self.bridge_seconds = between, at_end, fit_to, bridge_seconds
        self._patience = patience_seconds
        coming: Iterator[tuple[float, Picture]] = iter(pictures)
        self._coming = _Waiting(coming) if patience_seconds is None else _InThread(coming)
        self._taken = self._stalled = False
        self._asked: tuple[float, float] | None = None  # when it was asked last, and for up to which time
        self._ahead: tuple[float, Picture] | None = None
        self._newest = -math.inf  # of the pictures taken, seconds

    @property
    def used(self) -> bool:
        """Whether a picture of the driver was shown or kept yet, and not all were skipped."""
        return self._taken

    def continued(self, state: DriveState) -> DriveState:
        """What was kept of a drive, which is not over any more where this driver has later pictures, or is live."""
        if not state.ended:
            return state
        if self._patience is None:
            self._ahead = self._next(list(zip(state.seconds, state.pictures, strict=True)), None)
        return replace(state, ended=self._patience is None and self._ahead is None)

    def at(
        self, seconds: Float64[Tensor, " time"], state: DriveState | None = None
    ) -> tuple[Float32[Tensor, "time channels height width"], DriveState]:
        """Pictures at times that rise from call to call, and what is kept.

        A driver that begins anew is skipped up to where the state stood, so a stream resumes with the same file.

        Args:
            seconds: of the frames.
            state: what the last call gave; None at the beginning.

        Raises:
            BadArgument: there is no picture at all, or their times do not rise, or their shapes change, or one is no
                picture.
            StateMismatch: the driver has gone on beyond the state, and what it lacks has been taken already.
        """
        kept = self._bridge() if state is None else list(zip(state.seconds, state.pictures, strict=True))
        if self._patience is None and self._newest > (kept[-1][0] if kept else -math.inf):
            raise StateMismatch(
                f"the drive has gone on to {self._newest:g} s, and the state stands before that; go on with a new "
                "drive of the same pictures"
            )
        ended = state is not None and state.ended
        moved = None if state is None or state.calibration is None else Calibration(*state.calibration)
        until = self._until(seconds)
        shown = []
        for wanted in seconds.tolist():
            while not ended and (not kept or kept[-1][0] < wanted):
                try:
                    following = self._next(kept, until if kept and kept[-1][0] >= 0 else None)
                except _Stalled:
                    self._stalled = True
                    break
                if self._stalled and self._patience is not None:
                    self._stalled = False
                    until = monotonic() + self._patience
                ended = following is None
                if following is not None:
                    at, picture = following
                    if moved is None and self.fit_to is not None:
                        moved = self._fitted(picture)
                    kept, self._newest = [*kept[-1:], (at, picture if moved is None else moved(picture))], at
            if not kept:
                raise BadArgument("the driver has no picture; expected one at least")
            shown.append(self._between(kept, wanted))
        own, times = tuple(picture.clone() for _, picture in kept), tuple(at for at, _ in kept)
        return torch.stack(shown), DriveState(own, times, ended, None if moved is None else moved.values)

    def _until(self, seconds: Float64[Tensor, " time"]) -> float | None:
        """Up to when pictures of these times are waited for; of a driver that has stalled while those before last."""
        if self._patience is None:
            return None
        now, before = monotonic(), self._asked
        self._asked = now, float(seconds[-1])
        if before is None or not self._stalled:
            return now + self._patience
        return min(now + self._patience, max(now, before[0] + self._asked[1] - before[1]))

    def _bridge(self) -> list[tuple[float, Picture]]:
        return [(-self.bridge_seconds, self.fit_to)] if self.bridge_seconds and self.fit_to is not None else []

    def _fitted(self, first: Picture) -> Calibration:
        assert self.fit_to is not None
        if self.fit_to.shape != first.shape:
            raise BadArgument(
                f"the reference's driving picture is {tuple(self.fit_to.shape)}; the driver's are {tuple(first.shape)}"
            )
        return Calibration.between(first, self.fit_to)

    def _next(self, kept: list[tuple[float, Picture]], until: float | None) -> tuple[float, Picture] | None:
        """The next picture after those kept; None at the end. Raises `_Stalled` where there is none in time."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        while (one := self._coming.take(until)) is not None:
            at, picture = one
            if not math.isfinite(at) or not isinstance(picture, Tensor) or not picture.is_floating_point():
                what = picture.dtype if isinstance(picture, Tensor) else type(picture).__name__
                raise BadArgument(f"the driver gave {what} at {at:g} s; expected floating-point tensors, -1 to 1")
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
        bridging = bool(self.bridge_seconds) and earlier == -self.bridge_seconds
        if bridging or self.between == "linear":
            return torch.lerp(first, second, share)
        return first if share <= 0.5 else second


class _Stalled(Exception):
    """There is no picture in time."""


class _Waiting:
    """Takes pictures as they are asked for, however long that takes."""

    def __init__(self, pictures: Iterator[tuple[float, Picture]]):
        self._pictures = pictures

    def take(self, until: float | None) -> tuple[float, Picture] | None:
        """The next one; None at the end."""
        return next(self._pictures, None)


class _InThread:
    """Takes pictures in a thread, one ahead, so that there can be an end to waiting."""

    def __init__(self, pictures: Iterator[tuple[float, Picture]]):
        self._pictures, self._ended = pictures, False
        self._ready: Queue[tuple[float, Picture] | BaseException | None] = Queue(1)
        self._thread: Thread | None = None

    def take(self, until: float | None) -> tuple[float, Picture] | None:
        """The next one; None at the end. Raises `_Stalled` where there is none in time."""
        if self._ended:
            return None
        if self._thread is None:
            self._thread = Thread(target=self._work, name="legato-drive", daemon=True)
            self._thread.start()
        try:
            one = self._ready.get(timeout=None if until is None else max(1e-3, until - monotonic()))
        except Empty:
            raise _Stalled from None
        self._ended = one is None or isinstance(one, BaseException)
        if isinstance(one, BaseException):
            raise one
        return one

    def _work(self) -> None:
        try:
            for one in self._pictures:
                self._ready.put(one)
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)
