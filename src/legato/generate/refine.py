"""Refining what lies between keyframes: the objective of a model that undoes filling in.

A clip whose keyframes are given is filled in between them at their times, and the model says the clean clip. At the
coarsest level only the given frames are kept; each finer level keeps more of what the model said before, fills in the
rest anew, and asks again. Given frames are never touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.data.batch import ClipBatch
from legato.errors import BadArgument, check_share
from legato.generate.corrupt import (
    Bisection,
    Corruption,
    FrameLevels,
    RandomNested,
    UniformStrides,
    replaced_proposals,
)
from legato.generate.objectives import NoiseLevels, Objective, Say, Task, framewise
from legato.motion.between_features import filled_linearly

__all__ = ["Refinement", "keyframe_content", "random_keyframes", "with_detail"]

Video = Float[Tensor, "batch time channels height width"]
Seconds = Float64[Tensor, "batch time"]
Kept = Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class Refinement(Objective):
    """The model undoes filling in.

    It is told, as the noise of each frame, 0 for frames that are kept and level / (count - 1) for those that are filled
    in; as `known`, which frames are given; as `drive`, the given frames before and after each frame.

    Attributes:
        prediction: whether the model says the `clean` clip or the `correction` to what is filled in. With a new
            model, whose output is zero, a correction leaves the filled-in clip as it is.
        order: in which frames leave: `bisection`, `strides` or `random`; see `legato.generate.corrupt`.
        count: of levels, with bisection and random order.
        mode: of the noise on filled-in frames, see `Corruption`.
        amplitude: see there.
        reach_seconds: see there.
        fewest: keyframes of a clip in training, its ends included.
        most: the same.
        self_fed: share of batches in which kept frames that are not given are what the model itself made of the
            coarsest level: such frames are proposals, and it has to learn not to trust them.
        distilled: learn from a teacher (`training.teacher`) what it makes in all its levels, in one step from any state
            on its way there (after Song et al. 2023, "Consistency Models").
    """

    prediction: str = "correction"
    order: str = "bisection"
    count: int = 4
    mode: str = "none"
    amplitude: float = 0.3
    reach_seconds: float = 0.5
    fewest: int = 2
    most: int = 8
    self_fed: float = 0.25
    distilled: bool = False

    def __post_init__(self) -> None:
        if self.prediction not in ("clean", "correction"):
            raise BadArgument(f"prediction is '{self.prediction}'; expected clean or correction")
        if self.order not in ("bisection", "strides", "random"):
            raise BadArgument(f"order is '{self.order}'; expected bisection, strides or random")
        if self.count < 2 or not 2 <= self.fewest <= self.most:
            raise BadArgument(
                f"count is {self.count}, keyframes are {self.fewest} to {self.most}; expected two levels or more, and "
                "from two keyframes up"
            )
        check_share(self_fed=self.self_fed)
        self.corruption  # noqa: B018 - its own checks

    @property
    def corruption(self) -> Corruption:
        """Noise on what is filled in."""
        return Corruption(self.mode, self.amplitude, self.reach_seconds)

    def levels(self, numbers: torch.Generator | None = None) -> FrameLevels:
        """The order in which frames leave."""
        if self.order == "strides":
            return UniformStrides()
        if self.order == "random":
            return RandomNested(numbers or torch.Generator().manual_seed(0), self.count)
        return Bisection(self.count)

    def task(self, batch: ClipBatch, levels: NoiseLevels, known: float, numbers: torch.Generator, say: Say) -> Task:
        """See `Objective`; noise levels and given frames are its own, and it guesses nothing from noise."""
        del levels, known
        clean, seconds = batch.frames, batch.seconds
        b, t = seconds.shape
        given = random_keyframes(b, t, self.fewest, self.most, numbers).to(clean.device)
        masks = self.levels(numbers).masks(given)
        last = len(masks) - 1
        if self.distilled:
            return self._taught(clean, seconds, masks, numbers, say)
        level = torch.randint(1, last + 1, (b,), generator=numbers).to(clean.device)
        kept = masks[level, torch.arange(b, device=clean.device)]
        always = {"known": given, "drive": keyframe_content(clean, given)}
        draw, source = partial(torch.randn, clean.shape, generator=numbers), clean
        if last > 1 and float(torch.rand(1, generator=numbers)) < self.self_fed:
            coarse, noise = self.corrupted(clean, seconds, given, torch.full_like(level, last) / last, draw)
            made = self.clean(say(coarse, {"noise": noise, **always}), coarse, noise)
            source = replaced_proposals(clean, ~given, made, 1.0, numbers)
        x, noise = self.corrupted(source, seconds, kept, level / last, draw)
        return Task(
            x,
            {"noise": noise, **always},
            ~given,
            self._target(clean, x),
            torch.ones_like(noise),
        )

    def _taught(
        self,
        clean: Video,
        seconds: Seconds,
        masks: Bool[Tensor, "levels batch time"],
        numbers: torch.Generator,
        say: Say,
    ) -> Task:
        """The teacher's way from the given frames to its clip; the task is to get there from a state on it."""
        last = len(masks) - 1
        given = masks[-1]
        always = {"known": given, "drive": keyframe_content(clean, given)}
        draw = partial(torch.randn, clean.shape, generator=numbers)
        way, made = [], clean
        for level in range(last, 0, -1):
            share = torch.full((len(clean),), level / last, device=clean.device)
            x, noise = self.corrupted(made, seconds, masks[level], share, draw)
            way.append((x, noise))
            made = torch.where(framewise(given), clean, self.clean(say(x, {"noise": noise, **always}), x, noise))
        at = int(torch.randint(last, (1,), generator=numbers)) if float(torch.rand(1, generator=numbers)) < 0.5 else 0
        x, noise = way[at]
        return Task(
            x,
            {"noise": noise, **always},
            ~given,
            self._target(made, x),
            torch.ones_like(noise),
        )

    def corrupted(
        self,
        clip: Video,
        seconds: Seconds,
        kept: Kept,
        level: Float[Tensor, " batch"],
        draw: Callable[[], Video] | None = None,
    ) -> tuple[Video, Float[Tensor, "batch time"]]:
        """A clip filled in between its kept frames, and what the model is told as noise.

        Args:
            clip: its kept frames are looked at.
            seconds: of each frame.
            kept: frames of the level.
            level: of each clip, over 0 to 1.
            draw: see `Corruption`.
        """
        x = self.corruption(filled_linearly(clip, seconds, kept), seconds, kept, draw)
        return x, torch.where(kept, 0.0, level[:, None].to(x))

    def _target(self, clean: Video, x: Video) -> Video:
        """What the model should say to mean the clip; see `clean`."""
        return clean if self.prediction == "clean" else clean - x

    def clean(self, output: Video, x: Video, noise: Float[Tensor, "batch time"]) -> Video:
        """See `Objective`."""
        return output if self.prediction == "clean" else x + output


def random_keyframes(batch: int, time: int, fewest: int, most: int, numbers: torch.Generator) -> Kept:
    """Which frames are given in training: the ends and some between, evenly apart in half of the clips."""
    count = torch.randint(min(fewest, time), min(most, time) + 1, (batch,), generator=numbers)
    rank = torch.rand(batch, time, generator=numbers)
    rank[:, 0] = rank[:, -1] = -1
    scattered = rank.argsort(1).argsort(1) < count[:, None]
    even = torch.zeros(batch, time, dtype=torch.bool)
    for row, keys in zip(even, count.tolist(), strict=True):
        row[torch.linspace(0, time - 1, keys).round().long()] = True
    return torch.where(torch.rand(batch, 1, generator=numbers) < 0.5, even, scattered)


def keyframe_content(clip: Video, given: Kept) -> Float[Tensor, "batch time two_channels height width"]:
    """Of each frame the given frame before it (or it itself) and the one after it, channel after channel."""
    at = torch.arange(given.shape[1], device=given.device)
    last = given.shape[1] - 1
    before = torch.where(given, at, 0).cummax(1).values
    after = torch.where(given, at, last).flip(1).cummin(1).values.flip(1)
    rows = torch.arange(len(clip), device=clip.device)[:, None]
    return torch.cat([clip[rows, before], clip[rows, after]], 2)


def with_detail(
    made: Video,
    shown: Video,
    again: Video,
    seconds: Seconds,
    kept: Kept,
    wanted: Kept,
    counts: Float[Tensor, "batch time"] | None = None,
    sure: float = 0.3,
    sharpness: float = 0.02,
) -> Video:
    """Made frames with the detail that an autoencoder loses, from keyframes that show the same at the same place.

    What decoding lost of a keyframe is added to a made frame as far as the two agree there, each decoded. Of the four
    keyframes nearest in time those count that agree best: what an arm uncovers is seen in another of them.

    Args:
        made: decoded from the refined latents, -1 to 1.
        shown: the keyframes, anything elsewhere.
        again: the keyframes, encoded and decoded, anything elsewhere.
        seconds: of each frame.
        kept: which frames are keyframes.
        wanted: which frames are to have detail; the others come back as they are.
        counts: how far each keyframe counts beside the others, over 0 to 1; all alike by default.
        sure: mean difference over the channels from which nothing is added.
        sharpness: by how much less difference a keyframe counts e times as much as another.
    """
    out = made.clone()
    share = 1 / _sums_around(torch.ones_like(made[0, :1, 0]))  # of one place within 3 x 3, which the frame cuts off
    weights = kept.to(made) if counts is None else counts.to(made)
    for clip, pictures, decoded, times, keys, frames, weight in zip(
        out, shown, again, seconds.cpu(), kept.cpu(), wanted.cpu(), weights.log()[..., None, None], strict=True
    ):
        decoded, key_times = decoded[keys], times[keys]
        lost, few = pictures[keys] - decoded, min(4, len(key_times))
        weight = weight[keys]
        if not few:
            continue
        for at in frames.nonzero()[:, 0].tolist():  # picture by picture: all that is looked at stays in the caches
            first = int((key_times - times[at]).abs().topk(few, largest=False).indices.min())
            near = slice(first, first + few)  # keyframes nearest in time follow each other
            apart = _sums_around((decoded[near] - clip[at]).abs_().mean(1)).mul_(share)
            shares = (weight[near] - apart / sharpness).softmax(0).mul_((1 - apart / sure).clamp_(min=0))
            clip[at] += (lost[near] * shares[:, None]).sum(0)
    return out


def _sums_around(planes: Float[Tensor, "planes height width"]) -> Float[Tensor, "planes height width"]:
    """Sums over 3 x 3 places, of those within the frame; several times as fast as `avg_pool2d` on a CPU."""
    for axis in (-2, -1):
        length = planes.shape[axis]
        total = planes.clone()
        total.narrow(axis, 1, length - 1).add_(planes.narrow(axis, 0, length - 1))
        total.narrow(axis, 0, length - 1).add_(planes.narrow(axis, 1, length - 1))
        planes = total
    return planes
