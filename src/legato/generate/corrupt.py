"""Corruption by leaving frames out: what a refiner between keyframes learns to undo.

A *level* is a nested subset of frames: level 0 has all, the last only the outermost or given ones. A clip at a level
keeps the frames of the level; the rest is filled in between neighbours that are kept *at their times*, by `filled` or
`filled_linearly` of `legato.motion.between_features`, and may get noise. Two things are called noise elsewhere and are
kept apart here: how many frames are left (the level) and how strong the noise on the missing ones is (the amplitude).
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.errors import BadArgument, check_share

__all__ = [
    "Bisection", "Corruption", "FrameLevels", "RandomNested", "UniformStrides", "replaced_proposals",
    "time_to_nearest",
]  # fmt: skip

Clip = Float[Tensor, "batch time *features"]
Seconds = Float64[Tensor, "batch time"]
Kept = Bool[Tensor, "batch time"]


class FrameLevels(ABC):
    """A way to thin out frames, level by level, each a subset of the one before."""

    @abstractmethod
    def masks(self, given: Kept) -> Bool[Tensor, "levels batch time"]:
        """Frames that each level keeps; level 0 all, the last just the given ones.

        Args:
            given: frames that no level leaves out; at least the first and the last one, between which the rest lies.

        Raises:
            BadArgument: the first or the last frame of a clip is not given.
        """


def _check_given(given: Kept) -> None:
    if given.shape[1] < 2 or not bool((given[:, 0] & given[:, -1]).all()):
        raise BadArgument("the first and the last frame have to be given; there is nothing to fill in from otherwise")


def _nested(rank: Float[Tensor, "batch time"], given: Kept, count: int) -> Bool[Tensor, "levels batch time"]:
    """Levels that leave out more and more of the frames that are not given, those of highest rank first.

    The number of missing frames that are kept falls geometrically, so each level about halves them.
    """
    _batch, time = given.shape
    rank = torch.where(given, -torch.inf, rank)
    order = rank.argsort(1).argsort(1)  # position of each frame, the given ones first
    known = given.sum(1, keepdim=True)
    masks = [torch.ones_like(given)]
    for level in range(1, count):
        left = (time - known).double() * (2.0**-level if level < count - 1 else 0.0)
        masks.append(order < known + left.floor().long())
    return torch.stack(masks)


@dataclass(frozen=True)
class UniformStrides(FrameLevels):
    """Every 2nd frame, every 4th, every 8th ... beside the given ones."""

    def masks(self, given: Kept) -> Bool[Tensor, "levels batch time"]:
        """See `FrameLevels`."""
        _check_given(given)
        time = given.shape[1]
        at = torch.arange(time, device=given.device)
        masks, stride = [torch.ones_like(given)], 2
        while stride < time:
            masks.append(given | (at % stride == 0))
            stride *= 2
        return torch.stack([*masks, given])


@dataclass(frozen=True)
class Bisection(FrameLevels):
    """Endpoints first: each finer level halves the longest gaps, so the coarsest added frame lies in the middle.

    Attributes:
        count: of levels.
    """

    count: int = 5

    def masks(self, given: Kept) -> Bool[Tensor, "levels batch time"]:
        """See `FrameLevels`."""
        _check_given(given)
        ranks = torch.stack([self._ranks(row) for row in given.cpu()]).to(given.device)
        return _nested(ranks, given, self.count)

    @staticmethod
    def _ranks(given: Bool[Tensor, " time"]) -> Float[Tensor, " time"]:
        """When bisection would add each frame."""
        ranks = torch.zeros(len(given))
        known = given.nonzero().flatten().tolist()
        gaps, rank = list(itertools.pairwise(known)), 1.0
        while gaps:
            gaps.sort(key=lambda gap: gap[0] - gap[1])
            begin, end = gaps.pop(0)
            if end - begin < 2:
                continue
            middle = (begin + end) // 2
            ranks[middle], rank = rank, rank + 1
            gaps += [(begin, middle), (middle, end)]
        return ranks


@dataclass(frozen=True)
class RandomNested(FrameLevels):
    """Frames leave in random order.

    Attributes:
        numbers: what the order is drawn from.
        count: of levels.
    """

    numbers: torch.Generator
    count: int = 5

    def masks(self, given: Kept) -> Bool[Tensor, "levels batch time"]:
        """See `FrameLevels`."""
        _check_given(given)
        ranks = torch.rand(given.shape, generator=self.numbers, device="cpu").to(given.device)
        return _nested(ranks, given, self.count)


def time_to_nearest(seconds: Seconds, kept: Kept) -> Float64[Tensor, "batch time"]:
    """Seconds from each frame to the nearest kept one; 0 for kept frames."""
    apart = (seconds[:, :, None] - seconds[:, None]).abs()
    return apart.masked_fill(~kept[:, None], torch.inf).amin(2)


@dataclass(frozen=True)
class Corruption:
    """Leaves frames out, fills them in, and adds noise to what was filled in.

    Attributes:
        mode: `none`; `distance`: noise grows with the square root of the time to the nearest kept frame, relative to
            `reach_seconds`, up to the amplitude; `gaussian`: equal on all missing frames.
        amplitude: standard deviation of the noise, at most.
        reach_seconds: distance at which `distance` is at its full amplitude.
    """

    mode: str = "none"
    amplitude: float = 0.3
    reach_seconds: float = 0.5

    def __post_init__(self) -> None:
        if self.mode not in ("none", "distance", "gaussian"):
            raise BadArgument(f"mode is '{self.mode}'; expected none, distance or gaussian")
        if self.amplitude < 0 or not self.reach_seconds > 0:
            raise BadArgument(
                f"amplitude is {self.amplitude} and reach_seconds {self.reach_seconds}; expected 0 or more, and over 0"
            )

    def strength(self, seconds: Seconds, kept: Kept) -> Float[Tensor, "batch time"]:
        """Standard deviation of the noise on each frame; 0 on kept ones."""
        if self.mode == "none":
            return torch.zeros(kept.shape, device=kept.device)
        if self.mode == "gaussian":
            return torch.where(kept, 0.0, self.amplitude)
        share = (time_to_nearest(seconds, kept) / self.reach_seconds).clamp(max=1).sqrt()
        return (self.amplitude * share).float()

    def __call__(self, filled: Clip, seconds: Seconds, kept: Kept, draw: Callable[[], Clip] | None = None) -> Clip:
        """Add the noise to a clip that is filled in; kept frames stay as they are, bit for bit.

        Args:
            filled: from any interpolator.
            seconds: of each frame.
            kept: frames of the level.
            draw: gives unit normal noise of the clip's shape; any by default.
        """
        if self.mode == "none":
            return filled
        shape = (*kept.shape, *(1,) * (filled.ndim - 2))
        noise = (torch.randn(filled.shape) if draw is None else draw()).to(filled)
        noisy = filled + self.strength(seconds, kept).to(filled).view(shape) * noise
        return torch.where(kept.view(shape), filled, noisy)


def replaced_proposals(
    clip: Clip, proposed: Kept, made: Clip, share: float, numbers: torch.Generator | None = None
) -> Clip:
    """Scheduled sampling: keyframes that are proposals are, by chance, what another model made of them.

    Given keyframes are truth and never replaced.

    Args:
        clip: the true frames.
        proposed: which keyframes are proposals.
        made: the other model's frames.
        share: of proposals to replace.
        numbers: what is drawn from.

    Raises:
        BadArgument: the share is not between 0 and 1.
    """
    check_share(share=share)
    drawn = torch.rand(proposed.shape, generator=numbers).to(proposed.device) < share
    return torch.where((drawn & proposed).view(*proposed.shape, *(1,) * (clip.ndim - 2)), made, clip)
