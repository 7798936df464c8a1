"""What a denoiser is trained to say: one interface over flow matching, diffusion and equilibrium matching.

A noise level runs from 0 (clean) to 1 (noise alone), for each sample or each frame. Objectives set the model a task for
a batch of clean clips (`task`), and read a clean clip out of what it says (`clean`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.data.batch import ClipBatch
from legato.errors import BadArgument, check_finite, check_share
from legato.generate.equilibrium import EquilibriumMatching

__all__ = [
    "Diffusion",
    "Equilibrium",
    "FlowMatching",
    "NoiseLevels",
    "NoiseObjective",
    "Objective",
    "Task",
    "best_guess",
    "framewise",
    "likely",
    "masked_mean",
    "random_known",
    "random_levels",
]

Video = Float[Tensor, "batch time channels height width"]
Noise = Float[Tensor, "batch time"]
Stride = Float[Tensor, "batch time 1 1 1"]
Seconds = Float64[Tensor, "batch time"]
Peers = Float[Tensor, "peers time channels height width"]
Say = Callable[[Video, dict[str, Tensor]], Video]
"""What the model says of frames, told more than the batch's own conditions."""


@dataclass(frozen=True)
class NoiseLevels:
    """How noise levels are drawn in training.

    Attributes:
        equal: share of clips whose frames have one level.
        independent: share of clips in which each frame has its own.
        staircase: share of clips whose level rises in steps from the first frames to the last, as in a rolling window;
            in half of them stairs slope up from step to step, up to a ramp without any.
        mean: of the logit of a level, which is normal.
        std: of the same.
    """

    equal: float = 1.0
    independent: float = 0.0
    staircase: float = 0.0
    mean: float = 0.4
    std: float = 1.3

    def __post_init__(self) -> None:
        shares = (self.equal, self.independent, self.staircase)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not self.std > 0:
            raise BadArgument(
                f"shares of levels are {shares} and std {self.std}; expected shares that sum to 1 and a positive std"
            )


def random_levels(levels: NoiseLevels, batch: int, time: int, numbers: torch.Generator) -> Noise:
    """Draw noise levels for training."""
    normal = torch.randn(batch, time, generator=numbers)
    own = torch.sigmoid(levels.mean + levels.std * normal)
    kind = torch.rand(batch, 1, generator=numbers)
    steps = torch.randint(2, 9, (batch, 1), generator=numbers)
    phase, slope = torch.rand(batch, 1, generator=numbers), 2 * torch.rand(batch, 1, generator=numbers) - 1
    place = torch.arange(time)[None] * steps / time
    stair = ((place.floor() + phase + slope.clamp_min(0) * (place.frac() - 0.5)) / steps).clamp(0, 1)
    drawn = torch.where(kind < levels.equal, own[:, :1].expand(batch, time), own)
    return torch.where(kind >= levels.equal + levels.independent, stair, drawn)


def random_known(batch: int, time: int, share: float, numbers: torch.Generator) -> Bool[Tensor, "batch time"]:
    """Which frames are given: none, or the first one to four, or some anywhere; never all."""
    draw = torch.rand(batch, 3, generator=numbers)
    first = torch.arange(time)[None] < 1 + (draw[:, 1:2] * min(4, time - 1)).floor()
    anywhere = torch.rand(batch, time, generator=numbers) < 0.4 * draw[:, 1:2]
    known = torch.where(draw[:, 2:] < 0.6, first, anywhere) & (draw[:, :1] < share)
    known[:, -1] &= ~known.all(1)
    return known


@dataclass(frozen=True, eq=False)
class Task:
    """What the model is set for a batch.

    Attributes:
        x: what it sees.
        told: of it: `noise`, `known`, `drive`, as a denoiser takes them.
        counts: frames whose error counts.
        target: what it should say.
        weight: of each frame's mean square error.
    """

    x: Video
    told: dict[str, Tensor]
    counts: Bool[Tensor, "batch time"]
    target: Video
    weight: Noise


class Objective(ABC):
    """A training objective and what its model's output means."""

    hidden: bool = False
    """Whether the model is told no noise level."""

    @abstractmethod
    def task(self, batch: ClipBatch, levels: NoiseLevels, known: float, numbers: torch.Generator, say: Say) -> Task:
        """A task drawn at random.

        Args:
            batch: clean clips, in what the model works in.
            levels: how noise levels are drawn.
            known: share of clips some of whose frames are given.
            numbers: what is drawn from, on the CPU.
            say: asks the model itself, without gradients.
        """

    @abstractmethod
    def clean(self, output: Video, x: Video, noise: Noise) -> Video:
        """The clean clip that the model's output implies."""


class NoiseObjective(Objective):
    """An objective that mixes clean clips with noise."""

    def shares(self, noise: Noise) -> tuple[Noise, Noise]:
        """How much of the clean clip and how much unit noise are mixed at the levels."""
        return 1 - noise, noise

    def noised(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """The mixture of clean clip and unit noise at the levels."""
        a, s = self.shares(noise)
        return framewise(a) * clean + framewise(s) * epsilon

    @abstractmethod
    def target(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """What the model should say; linear in clean clip and noise."""

    def weight(self, noise: Noise) -> Noise:
        """Of each frame's mean square error, by its level."""
        return torch.ones_like(noise)

    def task(self, batch: ClipBatch, levels: NoiseLevels, known: float, numbers: torch.Generator, say: Say) -> Task:
        """See `Objective`; with peers the target is that of the best guess (Xu et al. 2023, "Stable target field")."""
        clean, peers = batch.frames, batch.peers
        b, t = batch.seconds.shape
        noise = random_levels(levels, b, t, numbers)
        if self.hidden:  # one level for a clip
            noise = noise[:, :1].expand(b, t)
        given = random_known(b, t, known, numbers).to(clean.device)
        epsilon = torch.randn(clean.shape, generator=numbers).to(clean.device)
        noise = noise.to(clean.device)
        x = torch.where(framewise(given), clean, self.noised(clean, epsilon, noise))
        told = {} if self.hidden else {"noise": torch.where(given, 0.0, noise)}
        if known:
            told["known"] = given
        target = self.target(clean, epsilon, noise)
        if peers is not None:
            a, s = self.shares(noise)
            guess = best_guess(x, torch.cat([clean, peers]), a, s)
            implied = (x - framewise(a) * guess) / framewise(s).clamp_min(1e-3)
            pinned = given.any(1)[:, None, None, None, None]  # its peers have other frames there
            target = torch.where(pinned, target, self.target(guess, implied, noise))
        return Task(x, told, ~given, target, self.weight(noise))


def best_guess(x: Video, clips: Peers, a: Noise, s: Noise) -> Video:
    """The mean of what could be under the noise, each clip counted by how likely it makes what is seen.

    Args:
        x: a times one of the clips plus s times unit noise.
        clips: drawn from what could be.
        a: share of the clean clip in each frame.
        s: of the noise.
    """
    return (likely(x, clips, a, s) @ clips.flatten(1)).view_as(x)


def likely(x: Video, clips: Peers, a: Noise, s: Noise) -> Float[Tensor, "batch peers"]:
    """How likely each clip is the one under the noise, out of all; see `best_guess`."""
    s = s.clamp_min(1e-3)
    seen = (framewise(a / s.square()) * x).flatten(1) @ clips.flatten(1).T
    sizes = clips.square().flatten(2).sum(2)
    return (seen - 0.5 * (a / s).square() @ sizes.T).softmax(1)


@dataclass(frozen=True)
class FlowMatching(NoiseObjective):
    """x = (1 - s) clean + s noise; the velocity dx/ds is noise - clean (Lipman et al. 2023; Liu et al. 2023).

    The error is that of the velocity in both cases (Li and He 2025: a small model predicts the clean sample better).

    Attributes:
        prediction: whether the model says the `clean` clip or the `velocity`.
        least_noise: levels under it count as it, where a velocity is computed from a clean prediction.
        shift: of a sampler's steps, see `legato.generate.samplers.Euler`; a model that was trained on much noise, since
            few numbers decide a clip of many, is to be sampled with finer steps there.
        fresh_above: of a sampler, see the same.
        seconds_guidance: of sampling, where an `Ask` says none: a small model says a little less of the rate than it
            knows.
    """

    prediction: str = "clean"
    least_noise: float = 0.1
    shift: float = 1.0
    fresh_above: float = 1.0
    seconds_guidance: float = 1.0

    def __post_init__(self) -> None:
        _check_prediction(self.prediction, ("clean", "velocity"))
        if not self.shift > 0:
            raise BadArgument(f"objective.shift is {self.shift}; expected more than 0, 1 for even steps")
        check_share(**{"objective.fresh_above": self.fresh_above})
        check_finite(**{"objective.seconds_guidance": self.seconds_guidance})

    def target(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """See `NoiseObjective`."""
        return clean if self.prediction == "clean" else epsilon - clean

    def weight(self, noise: Noise) -> Noise:
        """See `NoiseObjective`."""
        if self.prediction == "clean":
            return 1 / noise.clamp_min(self.least_noise).square()
        return super().weight(noise)

    def clean(self, output: Video, x: Video, noise: Noise) -> Video:
        """See `Objective`."""
        return output if self.prediction == "clean" else x - framewise(noise) * output

    def velocity(self, output: Video, x: Video, noise: Noise) -> Video:
        """dx/ds at the levels; 0 where a frame is clean."""
        if self.prediction == "velocity":
            return output
        level = framewise(noise)
        return torch.where(level > 0, (x - output) / level.clamp_min(1e-3), 0.0)

    def stride(self, before: Noise, after: Noise) -> Stride:
        """How far a step to lower levels goes, frame by frame; for `stepped`."""
        if self.prediction == "velocity":
            return framewise(after - before)
        return framewise((before - after) / before.clamp_min(1e-3))

    def stepped(self, output: Video, x: Video, stride: Stride) -> Video:
        """x + (after - before) dx/ds, the step of a stride, in few operations."""
        if self.prediction == "velocity":
            return x + stride * output
        return torch.lerp(x, output.to(x.dtype), stride)


@dataclass(frozen=True)
class Diffusion(NoiseObjective):
    """Denoising diffusion over 1,000 steps of diffusers' `DDPMScheduler` (Ho et al. 2020; v: Salimans and Ho 2022).

    A noise level s stands for step round(999 s).

    Attributes:
        prediction: `epsilon`, `v` or the `clean` clip.
        schedule: diffusers' name of the betas' schedule.
    """

    prediction: str = "v"
    schedule: str = "squaredcos_cap_v2"

    def __post_init__(self) -> None:
        _check_prediction(self.prediction, ("epsilon", "v", "clean"))

    @cached_property
    def scheduler_options(self) -> dict[str, Any]:
        """What any of diffusers' schedulers needs to know."""
        names = {"epsilon": "epsilon", "v": "v_prediction", "clean": "sample"}
        return {
            "num_train_timesteps": 1000,
            "beta_schedule": self.schedule,
            "prediction_type": names[self.prediction],
            "clip_sample": False,
        }

    @cached_property
    def _alphas(self) -> Tensor:
        from diffusers import DDPMScheduler

        scheduler: Any = DDPMScheduler(**self.scheduler_options)
        alphas: Tensor = scheduler.alphas_cumprod
        return alphas

    def shares(self, noise: Noise) -> tuple[Noise, Noise]:
        """See `NoiseObjective`."""
        alphas = self._alphas.to(noise.device)[(999 * noise).round().long()]
        return alphas.sqrt(), (1 - alphas).sqrt()

    def noised(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """See `Objective`; frames of level 0 stay clean."""
        return torch.where(framewise(noise) > 0, super().noised(clean, epsilon, noise), clean)

    def target(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """See `NoiseObjective`."""
        a, s = map(framewise, self.shares(noise))
        return {"epsilon": epsilon, "v": a * epsilon - s * clean, "clean": clean}[self.prediction]

    def weight(self, noise: Noise) -> Noise:
        """See `NoiseObjective`; the clean prediction is weighted like v."""
        if self.prediction == "clean":
            return 1 / self.shares(noise)[1].clamp_min(0.1).square()
        return super().weight(noise)

    def clean(self, output: Video, x: Video, noise: Noise) -> Video:
        """See `Objective`."""
        a, s = map(framewise, self.shares(noise))
        if self.prediction == "epsilon":
            return (x - s * output) / a.clamp_min(1e-3)
        return a * x - s * output if self.prediction == "v" else output


@dataclass(frozen=True)
class Equilibrium(NoiseObjective):
    """Equilibrium matching: the model says a field that is told no noise level.

    Attributes:
        matching: the field; gamma is 1 - noise.
    """

    matching: EquilibriumMatching = field(default_factory=EquilibriumMatching)

    hidden = True

    def target(self, clean: Video, epsilon: Video, noise: Noise) -> Video:
        """See `NoiseObjective`."""
        return (clean - epsilon) * framewise(self.matching.magnitude(1 - noise))

    def clean(self, output: Video, x: Video, noise: Noise) -> Video:
        """See `Objective`; the level has to be known for it."""
        level = framewise(noise)
        return x + output * level / framewise(self.matching.magnitude(1 - noise)).clamp_min(1e-6)


def masked_mean(error: Noise, counts: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The mean over the frames that count."""
    return (error * counts).sum() / counts.sum().clamp_min(1)


def framewise(values: Tensor) -> Tensor:
    """Values of frames `(batch, time)` shaped to go with videos."""
    return values[:, :, None, None, None]


def _check_prediction(given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise BadArgument(f"prediction is '{given}'; expected one of {', '.join(known)}")
