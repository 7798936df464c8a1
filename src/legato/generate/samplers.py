"""From noise to clips: descents along what a denoiser says, with given frames left as they are."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.errors import BadArgument, check_at_least
from legato.generate.equilibrium import Descent, Nesterov
from legato.generate.objectives import Diffusion, Equilibrium, FlowMatching, Objective, framewise
from legato.generate.refine import Refinement
from legato.motion.between_features import filled_linearly

__all__ = [
    "DiffusersSampler",
    "Euler",
    "FieldDescent",
    "Heun",
    "MultiLevel",
    "Sampler",
    "Start",
    "default_sampler",
    "noise_at",
]

Video = Float[Tensor, "batch time channels height width"]
Denoiser = Callable[[Video, Float[Tensor, "batch time"]], Video]
"""What the model says of noisy frames and their levels, all other conditions filled in."""


@dataclass(frozen=True)
class Start:
    """Where sampling starts.

    Attributes:
        noise: unit normal.
        given: frames that are known, anything elsewhere.
        known: which those are.
        seconds: of each frame.
        seeds: of each clip, by which noise is drawn along the way.
        proposed: see `Ask`.
    """

    noise: Video
    given: Video
    known: Bool[Tensor, "batch time"]
    seconds: Float64[Tensor, "batch time"]
    seeds: Sequence[int]
    proposed: Float[Tensor, "batch time"] | None = None

    def fresh(self, draw: int) -> Video:
        """Unit normal noise for a step, other than that of all other steps."""
        _, _, *shape = self.noise.shape
        return noise_at(self.seconds, tuple(shape), self.seeds, draw).to(self.noise.device)

    def kept(self, x: Video) -> Video:
        """The clip with the given frames in their places, bit for bit."""
        return torch.where(self.known[:, :, None, None, None], self.given, x)

    def levels(self, level: float | Tensor) -> Float[Tensor, "batch time"]:
        """One level for all frames but the given ones, which are clean."""
        return torch.where(self.known, 0.0, torch.as_tensor(level, dtype=torch.float32, device=self.noise.device))


def noise_at(
    seconds: Float64[Tensor, "batch time"], shape: tuple[int, ...], seeds: Sequence[int], draw: int = 0
) -> Float[Tensor, "batch time channels height width"]:
    """Unit normal noise in which a frame's own time is the number that it is drawn by.

    So the same seed gives frames at equal seconds equal noise at any frame rate.

    Args:
        seconds: of each frame.
        shape: channels, height and width of a frame.
        seeds: of each sample.
        draw: which of a frame's noises.
    """
    numbers, noise = torch.Generator(), torch.empty(*seconds.shape, *shape)
    for clip, seed, times in zip(noise, seeds, seconds.tolist(), strict=True):
        own = seed * 6364136223846793005 + draw * 2862933555777941757 + 1
        for frame, at in zip(clip, times, strict=True):
            frame.normal_(generator=numbers.manual_seed((own + round(at * 1e6) * 1442695040888963407) % (1 << 62)))
    return noise


class Sampler(ABC):
    """Goes from noise to a clip in steps."""

    @abstractmethod
    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """The clip after each step; the last is the result.

        Raises:
            BadArgument: the sampler is not for this objective.
        """

    def __call__(self, denoiser: Denoiser, objective: Objective, start: Start) -> Video:
        """The result."""
        x = start.noise
        for x in self.steps(denoiser, objective, start):  # noqa: B007 - the last one counts
            pass
        return x


def _flow(objective: Objective, sampler: Sampler) -> FlowMatching:
    if not isinstance(objective, FlowMatching):
        raise BadArgument(f"{type(sampler).__name__} samples flow matching; this model was trained otherwise")
    return objective


def flow_step(
    objective: FlowMatching,
    denoiser: Denoiser,
    x: Video,
    before: Float[Tensor, "batch time"],
    after: Float[Tensor, "batch time"],
    fresh: Video | None = None,
    above: float = 0.0,
) -> Video:
    """One Euler step from levels to lower levels, frame by frame: x + (after - before) v.

    Given fresh noise, frames at levels over `above` get as much of it in the place of theirs as leaves the mixture as
    noisy as it should be: what stays of the old is the ratio of the noise-to-signal ratios after and before, as in DDPM
    (Song et al. 2021, DDIM with eta 1).
    """
    output = denoiser(x, before)
    if fresh is None:
        return objective.stepped(output, x, objective.stride(before, after))
    velocity = objective.velocity(output, x, before)
    clean, noise = x - framewise(before) * velocity, x + framewise(1 - before) * velocity
    ratio = after * (1 - before) / (before * (1 - after)).clamp_min(1e-6)
    stays = framewise(torch.where(before > above, ratio, 1.0))
    renewed = stays * noise + (1 - stays.square()).clamp_min(0).sqrt() * fresh
    return framewise(1 - after) * clean + framewise(after) * renewed


@dataclass(frozen=True)
class Euler(Sampler):
    """Straight steps along the flow, evenly from level 1 to 0.

    Attributes:
        count: of steps.
        shift: more than 1 takes finer steps where there is much noise (Esser et al. 2024, time shift).
        fresh_above: noise is drawn anew in steps from levels above it (Karras et al. 2022, S_min); 1 draws none. What
            was done wrong there counts less, and the model sees noise as it was trained on, whatever it said before.
    """

    count: int = 30
    shift: float = 1.0
    fresh_above: float = 1.0

    def __post_init__(self) -> None:
        _check_count(self.count)

    def schedule(self) -> list[float]:
        """Levels from 1 down to 0."""
        even = [1 - k / self.count for k in range(self.count + 1)]
        return [self.shift * s / (1 + (self.shift - 1) * s) for s in even]

    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """See `Sampler`."""
        flow = _flow(objective, self)
        x, levels = start.kept(start.noise), self.schedule()
        for number, (before, after) in enumerate(itertools.pairwise(levels), start=1):
            fresh = start.fresh(number) if before > self.fresh_above else None
            x = start.kept(flow_step(flow, denoiser, x, start.levels(before), start.levels(after), fresh))
            yield x


@dataclass(frozen=True)
class Heun(Sampler):
    """Euler's steps corrected by the velocity at their end: two calls a step, the last step is Euler's.

    Attributes:
        count: of steps.
        shift: see `Euler`.
    """

    count: int = 15
    shift: float = 1.0

    def __post_init__(self) -> None:
        _check_count(self.count)

    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """See `Sampler`."""
        flow = _flow(objective, self)
        x, levels = start.kept(start.noise), Euler(self.count, self.shift).schedule()
        for before, after in itertools.pairwise(levels):
            here = start.levels(before)
            velocity = flow.velocity(denoiser(x, here), x, here)
            ahead = start.kept(x + (after - before) * velocity)
            if after > 0:
                there = start.levels(after)
                velocity = (velocity + flow.velocity(denoiser(ahead, there), ahead, there)) / 2
            x = start.kept(x + (after - before) * velocity)
            yield x


@dataclass(frozen=True)
class DiffusersSampler(Sampler):
    """One of diffusers' schedulers, for models trained by diffusion.

    Attributes:
        count: of steps, up to the 1,000 of the training; 999 for `dpm`, which divides by nothing at the last.
        name: `ddim`, `ddpm` (which draws noise anew in every step) or `dpm` (DPM-Solver++ multistep).
    """

    count: int = 30
    name: str = "ddim"

    def __post_init__(self) -> None:
        _check_count(self.count)
        most = 999 if self.name == "dpm" else 1000
        if self.count > most:
            raise BadArgument(f"{self.count} steps; {self.name} takes up to {most}: give fewer")
        if self.name not in ("ddim", "ddpm", "dpm"):
            raise BadArgument(f"there is no sampler '{self.name}'; expected ddim, ddpm or dpm")

    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """See `Sampler`."""
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

        if not isinstance(objective, Diffusion):
            raise BadArgument(f"{self.name} samples diffusion; this model was trained otherwise")
        options = dict(objective.scheduler_options)
        if self.name == "dpm":
            options.pop("clip_sample")
            scheduler: Any = DPMSolverMultistepScheduler(**options)
        else:
            scheduler = DDIMScheduler(**options, timestep_spacing="trailing")
        scheduler.set_timesteps(self.count)
        x = start.kept(start.noise)
        for number, at in enumerate(scheduler.timesteps.tolist(), start=1):
            output = denoiser(x, start.levels(at / 999))
            # DDIM with eta 1 is DDPM (Song et al. 2021).
            extra = {"eta": 1.0, "variance_noise": start.fresh(number)} if self.name == "ddpm" else {}
            x = start.kept(scheduler.step(output, at, x, **extra).prev_sample)
            yield x


@dataclass(frozen=True)
class FieldDescent(Sampler):
    """Follows the field of equilibrium matching.

    Attributes:
        count: of steps.
        descent: how; see `legato.generate.equilibrium`.
    """

    count: int = 100
    descent: Descent = Nesterov(step_size=0.017, momentum=0.3)  # noqa: RUF009 - immutable

    def __post_init__(self) -> None:
        _check_count(self.count)

    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """See `Sampler`; one result, after all steps."""
        if not isinstance(objective, Equilibrium):
            raise BadArgument("a field's descent samples equilibrium matching; this model was trained otherwise")
        hidden = start.levels(1.0)

        def field(x: Video) -> Video:
            return torch.where(start.known[:, :, None, None, None], 0.0, denoiser(x, hidden))

        yield start.kept(self.descent(field, start.kept(start.noise), self.count))


@dataclass(frozen=True)
class MultiLevel(Sampler):
    """From the given frames to the clip, level by level; proposals are evidence at every level, and are refined too.

    A proposal of confidence c lies so far on the way from what is filled in without it to what it shows, is said to be
    noisy for the rest of that way, and what is made of it is drawn back by c: at 0 it counts for nothing.

    Attributes:
        count: of levels, each a call of the model; the objective's where it is 0. 1 is one step from the coarsest.
    """

    count: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, levels=self.count)

    def steps(self, denoiser: Denoiser, objective: Objective, start: Start) -> Iterator[Video]:
        """See `Sampler`."""
        if not isinstance(objective, Refinement):
            raise BadArgument("levels of frames refine between keyframes; this model was trained otherwise")
        masks = objective.levels().masks(start.known)
        last = len(masks) - 1
        calls = min(self.count or last, last)
        levels = [last - round(k * last / calls) for k in range(calls)]
        made, proposed, sure = start.given, torch.zeros_like(start.known), torch.zeros_like(start.levels(0.0))
        if start.proposed is not None:
            proposed, sure = ~start.proposed.isnan(), start.proposed.nan_to_num()
        stays = framewise(sure)
        for level in levels:
            share = torch.full((len(made),), level / last, device=made.device)
            kept = masks[level]
            shown = torch.where(framewise(kept), made, filled_linearly(made, start.seconds, kept))
            evident = torch.where(framewise(proposed), torch.lerp(shown, start.given, stays), made)
            x, noise = objective.corrupted(evident, start.seconds, kept | proposed, share, partial(start.fresh, level))
            noise = torch.where(proposed & ~kept, share[:, None] * (1 - sure), noise)
            made = start.kept(objective.clean(denoiser(x, noise), x, noise))
            yield torch.where(framewise(proposed), torch.lerp(made, start.given, stays), made)


def default_sampler(objective: Objective, count: int | None = None) -> Sampler:
    """What fits the objective, with so many steps; its usual number by default."""
    if isinstance(objective, FlowMatching):
        return Euler(Euler.count if count is None else count, objective.shift, objective.fresh_above)
    kinds: dict[type[Objective], type[DiffusersSampler | FieldDescent | MultiLevel]] = {
        Diffusion: DiffusersSampler, Equilibrium: FieldDescent, Refinement: MultiLevel,
    }  # fmt: skip
    kind = kinds[type(objective)]
    return kind() if count is None else kind(count)


def _check_count(count: int) -> None:
    if count < 1:
        raise BadArgument(f"{count} steps; expected at least 1")
