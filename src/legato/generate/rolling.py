"""Endless video from one queue: windows of frames at staggered noise levels, the oldest of which is clean next.

After Ruhe et al. 2024, "Rolling Diffusion Models", and Kim et al. 2024, "FIFO-Diffusion". A tick pushes a window of
noise, lowers the whole queue by one stair, and pops the window that has come to level 0. The queue fills up in the
first ticks, so nothing is made that is not shown, and no window is cut off from its neighbours by a batch's border.
"""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.errors import BadArgument, StateMismatch, check_at_least, check_share
from legato.generate.appearance import Appearance, Kept
from legato.generate.objectives import FlowMatching
from legato.generate.samplers import Denoiser, Euler, flow_step, noise_at
from legato.generate.saved import load_values, save_values

__all__ = ["RollingState", "RollingWindow", "Telling", "Tick", "View", "inferring"]

Video = Float[Tensor, "batch time channels height width"]
Seconds = Float64[Tensor, "batch time"]
Times = Float64[Tensor, "batch shown"]
Levels = Float[Tensor, "batch time"]
Drive = Float[Tensor, "batch time drive_channels drive_height drive_width"]


@dataclass(frozen=True, eq=False)
class View:
    """What one tick shows the denoiser beside noisy frames and levels.

    Attributes:
        latents: clean frames kept in view and of the context, then the queue before its first step.
        seconds: of each frame, from the first of them: no number here grows with the stream.
        known: frames that are clean, all at the front; not to be written to.
        drive: conditioning pictures, or None where no frame has one.
        driven: which frames have one.
    """

    latents: Video
    seconds: Seconds
    known: Bool[Tensor, "batch time"]
    drive: Drive | None
    driven: Bool[Tensor, "batch time"]


Telling = Callable[[View], Denoiser]
"""Gives the denoiser of a tick: a model with text, guidance and the view's conditions filled in.

Neither may write to what it is given: ticks share some of it.
"""


@dataclass(frozen=True, eq=False)
class RollingState:
    """Everything that a rolling window keeps between two ticks. Treat it as a value: it never changes.

    Its tensors are parts of what the last tick had in view, which stays as long as they do.

    Attributes:
        latents: clean context frames, then the queue from its oldest frame to its newest.
        seconds: of each, on the stream's own clock.
        context: how many frames at the front are clean.
        drive: conditioning pictures of the same frames, or None.
        driven: which frames have one.
        kept: clean frames that stay in view.
        seeds: of each stream's noise.
        ticks: done so far.
    """

    latents: Video
    seconds: Seconds
    context: int
    drive: Drive | None
    driven: Bool[Tensor, "batch time"]
    kept: Kept
    seeds: tuple[int, ...]
    ticks: int = 0

    def __repr__(self) -> str:
        frames = self.latents.shape[1]
        clean = f"{len(self.kept)} kept, {self.context} clean" if len(self.kept) else f"{self.context} clean"
        return f"RollingState(after {self.ticks} ticks: {clean}, {frames - self.context} noisy frames)"

    @property
    def nbytes(self) -> int:
        """Memory of its tensors."""
        own = [v for v in vars(self).values() if isinstance(v, Tensor)]
        return sum(tensor.untyped_storage().nbytes() for tensor in (*own, *self.kept.tensors))

    def to(self, device: str | torch.device) -> "RollingState":
        """The same on a device."""
        if self.latents.device == torch.device(device):
            return self
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, (Tensor, Kept)) else v for k, v in vars(self).items()}
        return RollingState(**moved)

    @property
    def values(self) -> dict[str, Any]:
        """It as plain values, which `from_values` reads; tensors without what they are part of."""
        own = {name: v.clone() if isinstance(v, Tensor) else v for name, v in vars(self).items()}
        return own | {"kept": dict(vars(self.kept))}

    def save(self, path: str | Path) -> None:
        """Write it to a file, complete or not at all; `load` goes on from there to the same frames."""
        save_values(path, self.values)

    @classmethod
    def load(cls, path: str | Path) -> "RollingState":
        """Read what `save` wrote.

        Raises:
            BadArgument: the file is missing or holds something else.
        """
        return cls.from_values(load_values(path), path)

    @classmethod
    def from_values(cls, values: dict[str, Any], place: str | Path) -> "RollingState":
        """A state of plain values.

        Raises:
            BadArgument: they are those of something else.
        """
        if set(values) != {f.name for f in fields(cls)}:
            raise BadArgument(f"{place} is not the state of a rolling window; it holds {', '.join(sorted(values))}")
        return cls(**values | {"seeds": tuple(values["seeds"]), "kept": Kept.from_values(values["kept"], place)})


@dataclass(frozen=True, eq=False)
class Tick:
    """What a tick gives.

    Attributes:
        state: to go on from.
        latents: of the window that has become clean; no frames while the queue fills up.
        seconds: of its frames.
    """

    state: RollingState
    latents: Video
    seconds: Seconds


@dataclass(frozen=True)
class RollingWindow:
    """A queue of windows, each one stair noisier than the one before it.

    The first frame comes out of tick number `windows`, and a driving frame shows `windows` x `frames_per_window` frames
    after it was taken, less its place in its window. A window meets `windows` x `steps` calls of the denoiser on its
    way; each call sees all windows, so a frame costs `steps` x `windows` denoised frames, as when sampled all at once.

    Attributes:
        windows: in the queue.
        frames_per_window: latent frames that come out of a tick.
        steps: calls of the denoiser a tick.
        context_frames: shown frames that stay in view, clean and known.
        levels: `windows` x `steps` + 1 noise levels from 1 falling to 0 that every window goes through; even stairs by
            default.
        appearance: frames that stay in view for ever; none by default.
        fresh_above: noise is drawn anew in steps from levels above it, see `Euler`; never by default. What nothing
            drives comes to rest without it: a queue that shows itself nothing new goes on with that.
        slope: how far levels rise within a window, from 0, where the queue is a staircase, to 1, where it is a ramp: a
            window's last frames are then hardly further than the next one's first, and go on with them.

    Raises:
        BadArgument: an argument is outside its range.
    """

    windows: int = 4
    frames_per_window: int = 4
    steps: int = 1
    context_frames: int = 0
    levels: Sequence[float] | None = None
    appearance: Appearance = Appearance()  # noqa: RUF009 - immutable
    fresh_above: float = 1.0
    slope: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(1, windows=self.windows, frames_per_window=self.frames_per_window, steps=self.steps)
        check_at_least(0, context_frames=self.context_frames)
        check_share(fresh_above=self.fresh_above, slope=self.slope)
        if self.levels is None:
            return
        object.__setattr__(self, "levels", given := tuple(self.levels))
        falling = all(a > b for a, b in itertools.pairwise(given))
        count = self.windows * self.steps + 1
        if len(given) != count or given[0] != 1 or given[-1] != 0 or not falling:
            raise BadArgument(f"levels are {list(given)}; expected {count} numbers that fall from 1 to 0")

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "RollingWindow":
        """Of the plain values that `dataclasses.asdict` gives, from a file or a pipe."""
        return cls(**values | {"appearance": Appearance(**values["appearance"])})

    @property
    def schedule(self) -> tuple[float, ...]:
        """The levels that every window goes through, where it has no slope."""
        return tuple(Euler(self.windows * self.steps).schedule() if self.levels is None else self.levels)

    @property
    def frame_schedules(self) -> list[list[float]]:
        """The levels that each frame of a window goes through, by its place in it."""
        return [
            [_level_at(self.schedule, place) for place in self._places(frame)]
            for frame in range(self.frames_per_window)
        ]

    def _places(self, frame: int) -> list[float]:
        """Of a frame of a window, where in the schedule it is after each step."""
        size, steps = self.frames_per_window, self.steps
        after = [0.0]  # each tick
        for tick in range(1, self.windows + 1):
            left = max(0, (self.windows - tick) * size + frame - (size - 1)) / ((self.windows - 1) * size + 1)
            even = tick * steps
            after.append(even + self.slope * (self.windows * steps * (1 - left) - even))
        between = ([a + (b - a) * step / steps for step in range(steps)] for a, b in itertools.pairwise(after))
        return [*itertools.chain.from_iterable(between), after[-1]]

    @property
    def most_frames(self) -> int:
        """The most frames that a call of the denoiser sees; a state keeps its tensors, beside those kept in view."""
        return self.appearance.most_frames + self.context_frames + self.windows * self.frames_per_window

    def begin(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int],
        *,
        given: Video | None = None,
        seconds: Seconds | None = None,
        device: str | torch.device = "cpu",
    ) -> RollingState:
        """The state before the first tick.

        Args:
            seeds: one for each stream of the batch.
            shape: channels, height and width of a latent frame.
            given: clean frames to go on from, of which the last `context_frames` count, one at least, and as many as
                are kept in view.
            seconds: of those.
            device: where to keep it.

        Raises:
            BadArgument: given frames without seconds, or frames of another shape.
        """
        if (given is None) != (seconds is None):
            raise BadArgument("frames to go on from come with their seconds; pass given and seconds, or neither")
        batch = len(seeds)
        if given is None or seconds is None:
            given, seconds = torch.zeros(batch, 0, *shape), torch.zeros(batch, 0, dtype=torch.float64)
        if given.shape[0] != batch or given.shape[2:] != shape:
            raise BadArgument(f"given frames are {tuple(given.shape)}; expected {batch} streams of {shape} frames")
        last = slice(max(0, given.shape[1] - max(1, self.context_frames)), None)
        latents = given[:, last].to(device, copy=True)
        context = latents.shape[1]
        times = seconds[:, last].to(device, copy=True)
        none = torch.zeros(batch, context, dtype=torch.bool, device=device)
        kept = self.appearance.begin(given.to(device))
        return RollingState(latents, times, context, None, none, kept, tuple(seeds))

    def tick(
        self,
        state: RollingState,
        seconds: Float64[Tensor, "batch window"],
        telling: Telling,
        objective: FlowMatching,
        drive: Float[Tensor, "batch window drive_channels drive_height drive_width"] | None = None,
    ) -> Tick:
        """Push a window, lower the queue by a stair, and pop the oldest window if it is clean.

        Args:
            state: left as it is.
            seconds: of the pushed window's frames, on the stream's own clock, after all frames before.
            telling: gives the denoiser.
            objective: of its training.
            drive: conditioning pictures of the pushed window.

        Raises:
            BadArgument: the window has another number of frames, or times that do not rise.
            StateMismatch: the state was made by another rolling window.
        """
        with inferring():
            return self._ticked(state, seconds, telling, objective, drive)

    def _ticked(
        self, state: RollingState, seconds: Seconds, telling: Telling, objective: FlowMatching, drive: Drive | None
    ) -> Tick:
        self._check(state, seconds)
        device, queued, kept = state.latents.device, min(state.ticks + 1, self.windows), len(state.kept)
        seconds = seconds.to(device)
        times = self._times(state, seconds)
        view = self._view(state, seconds, times, None if drive is None else drive.to(device))
        denoiser, x = telling(view), view.latents
        steps = _steps(self, objective, len(seconds), kept + state.context, queued, device)
        for number, (before, after, stride) in enumerate(steps, state.ticks * self.steps + 1):
            if self.fresh_above < 1:
                fresh = self._fresh(state, times, number).to(x)
                x = flow_step(objective, denoiser, x, before, after, fresh, self.fresh_above)
            else:
                x = objective.stepped(denoiser(x, before), x, stride)
        end = state.context
        if queued == self.windows:
            end += self.frames_per_window
        begin = max(0, end - self.context_frames) if end > state.context else 0
        left, made = slice(kept + begin, None), slice(kept + state.context, kept + end)
        latents = x[:, made].clone()
        new = RollingState(
            x[:, left],
            times[:, left],
            end - begin,
            None if view.drive is None else view.drive[:, left],
            view.driven[:, left],
            self.appearance.after(state.kept, x, view.drive, view.driven, range(kept + state.context, kept + end)),
            state.seeds,
            state.ticks + 1,
        )
        return Tick(new, latents, times[:, made].clone())

    def _times(self, state: RollingState, seconds: Seconds) -> Times:
        """Of all in view: when what is kept is shown, then the stream's own."""
        if not len(state.kept):
            return torch.cat([state.seconds, seconds], 1)
        following = state.seconds if state.seconds.shape[1] > 1 else torch.cat([state.seconds, seconds], 1)
        return torch.cat([self.appearance.seconds(state.kept, following), state.seconds, seconds], 1)

    def _view(self, state: RollingState, seconds: Seconds, times: Times, drive: Drive | None) -> View:
        """What is kept, then the context, the queue, and a window of noise; seconds from the first of them."""
        kept, batch, length = state.kept, *seconds.shape
        shape = (state.latents.shape[2], state.latents.shape[3], state.latents.shape[4])
        noise = noise_at(seconds, shape, state.seeds).to(seconds.device)
        latents = torch.cat([kept.latents, state.latents, noise], 1)
        pushed = _first(batch, 0 if drive is None else length, length, seconds.device)
        driven = torch.cat([kept.driven, state.driven, pushed], 1)
        known = _first(batch, len(kept) + state.context, latents.shape[1], seconds.device)
        pictures = _joined([(kept.drive, len(kept)), (state.drive, state.latents.shape[1]), (drive, length)])
        return View(latents, times - times[:, :1], known, pictures, driven)

    def _fresh(
        self, state: RollingState, times: Seconds, number: int
    ) -> Float[Tensor, "batch view channels height width"]:
        """Noise of all frames in view for a step, by its number; those kept need none."""
        channels, height, width = state.latents.shape[2:]
        noise = noise_at(times[:, len(state.kept) :], (channels, height, width), state.seeds, number)
        return torch.cat([torch.zeros(len(times), len(state.kept), channels, height, width), noise], 1)

    def _check(self, state: RollingState, seconds: Tensor) -> None:
        if seconds.shape[1] != self.frames_per_window:
            raise BadArgument(f"{seconds.shape[1]} frames pushed; a window here has {self.frames_per_window}")
        noisy = state.latents.shape[1] - state.context
        if noisy != min(state.ticks, self.windows - 1) * self.frames_per_window or len(seconds) != len(state.seeds):
            raise StateMismatch(
                f"{state} of {len(state.seeds)} streams does not belong to {len(seconds)} streams in {self.windows} "
                f"windows of {self.frames_per_window} frames; go on with the window that made it"
            )
        for last, pushed in zip(state.seconds[:, -1:].tolist(), seconds.tolist(), strict=True):
            if not all(earlier < later for earlier, later in itertools.pairwise([*last, *pushed])):
                raise BadArgument(f"times of pushed frames, {pushed}, do not rise from those before them")


def inferring() -> AbstractContextManager[Any]:
    """Inference mode, unless it is on already: to turn it on right after a model's call takes a while."""
    return nullcontext() if torch.is_inference_mode_enabled() else torch.inference_mode()


@lru_cache(maxsize=64)
def _steps(
    window: RollingWindow, objective: FlowMatching, batch: int, clean: int, queued: int, device: torch.device
) -> tuple[tuple[Levels, Levels, Float[Tensor, "batch time 1 1 1"]], ...]:
    """Of each step of a tick: levels of all in view before and after it, and its stride; not to be written to."""
    schedules, ages = window.frame_schedules, reversed(range(queued))
    begins = [(frame, age * window.steps) for age in ages for frame in schedules]
    rows = [[frame[begin + step] for frame, begin in begins] for step in range(window.steps + 1)]
    levels = [torch.tensor([[0.0] * clean + row], device=device).expand(batch, -1) for row in rows]
    return tuple((before, after, objective.stride(before, after)) for before, after in itertools.pairwise(levels))


def _level_at(schedule: Sequence[float], place: float) -> float:
    """Of levels after each step, the one at a place between steps."""
    step = min(int(place), len(schedule) - 2)
    return schedule[step] + (place - step) * (schedule[step + 1] - schedule[step])


@lru_cache(maxsize=64)
def _first(batch: int, count: int, frames: int, device: torch.device) -> Bool[Tensor, "batch frames"]:
    """Marks the first frames of each sample; not to be written to."""
    return (torch.arange(frames, device=device) < count).expand(batch, -1)


def _joined(stretches: list[tuple[Tensor | None, int]]) -> Drive | None:
    """Conditioning pictures of stretches of so many frames, blank where one has none; None where all have none."""
    there = [pictures for pictures, _ in stretches if pictures is not None]
    if not there:
        return None
    old, new = there[0], there[-1]
    if old.shape[2:] != new.shape[2:]:
        raise BadArgument(f"driving pictures are {tuple(new.shape[2:])}; those before were {tuple(old.shape[2:])}")
    batch, *shape = old.shape[0], *old.shape[2:]
    every = [old.new_zeros(batch, count, *shape) if told is None else told for told, count in stretches]
    return torch.cat(every, 1)
