"""Which tokens to recompute: small immutable objects that compose, such as `MaxAge(Threshold(0.05), seconds=2)`."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from legato.errors import BadArgument, check_share
from legato.motion.change import dilate, hierarchical_priority
from legato.reuse.plan import Look

__all__ = ["Hierarchical", "MaxAge", "Policy", "RandomFraction", "Threshold", "TopFraction"]

Selection = Bool[Tensor, "rows columns"]


class Policy(ABC):
    """Selects the tokens to recompute. Holds no state: what it needs to know is in the look."""

    @abstractmethod
    def select(self, look: Look) -> Selection:
        """Return which tokens to recompute, `bool (rows, columns)`."""


@dataclass(frozen=True)
class Threshold(Policy):
    """Recompute every token whose change exceeds a threshold.

    Attributes:
        value: change above which a token is recomputed, in the units of the encoder's change measure.
        dilation: also recompute neighbours within this many tokens of one that changed by more than
            `strong` times the threshold: what moved there changes what they see.
        strong: how many times the threshold counts as a strong change.
    """

    value: float
    dilation: int = 0
    strong: float = 1.0

    def __post_init__(self) -> None:
        if self.value < 0 or self.dilation < 0:
            raise BadArgument(f"threshold {self.value} and dilation {self.dilation} must not be negative")

    def select(self, look: Look) -> Selection:
        """Return the tokens over the threshold and the neighbours of the strong ones."""
        selected = look.change > self.value
        if self.dilation:
            selected |= dilate(look.change > self.value * self.strong, self.dilation)
        return selected


def most_urgent(priority: Float[Tensor, "rows columns"], count: int) -> Selection:
    """Select up to `count` tokens of highest priority, never one of priority 0."""
    flat = priority.flatten()
    best = flat.topk(min(count, len(flat))).indices
    selected = torch.zeros_like(flat, dtype=torch.bool)
    selected[best] = flat[best] > 0
    return selected.view_as(priority)


@dataclass(frozen=True)
class TopFraction(Policy):
    """Recompute the given share of tokens: those that changed most; fewer where fewer changed."""

    fraction: float

    def __post_init__(self) -> None:
        check_share(fraction=self.fraction)

    def select(self, look: Look) -> Selection:
        """Return the tokens of largest change."""
        return most_urgent(look.change, round(self.fraction * look.change.numel()))


@dataclass(frozen=True)
class Hierarchical(Policy):
    """Hand a token budget out by coarse-to-fine priority.

    Attributes:
        fraction: the budget, a share of all tokens; fewer are recomputed where fewer changed.
        weights: what the coarse, middle and fine scale count; see `hierarchical_priority`.
        above: change under which a token is left alone whatever its surroundings do.
    """

    fraction: float
    weights: tuple[float, float, float] = (1.0, 2.0, 4.0)
    above: float = 0.0

    def __post_init__(self) -> None:
        check_share(fraction=self.fraction)

    def select(self, look: Look) -> Selection:
        """Return the tokens of highest priority within the budget."""
        priority = hierarchical_priority(look.change, self.weights) * (look.change > self.above)
        return most_urgent(priority, round(self.fraction * look.change.numel()))


@dataclass(frozen=True)
class RandomFraction(Policy):
    """Recompute a random share of the tokens each frame: the baseline that a policy has to beat.

    The draw depends on the seed and the frame's time alone, so it repeats.
    """

    fraction: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(fraction=self.fraction)

    def select(self, look: Look) -> Selection:
        """Return a random selection."""
        generator = torch.Generator().manual_seed(self.seed + round(look.seconds * 1e6))
        priority = torch.rand(look.change.shape, generator=generator) + 1e-6
        return most_urgent(priority, round(self.fraction * look.change.numel()))


@dataclass(frozen=True)
class MaxAge(Policy):
    """Wrap a policy so that no token gets older than a limit, refreshing a few each frame.

    Attention carries what happens in one place to every token, so a held token goes stale by what happens
    elsewhere more than by time. A token's age therefore counts both: it is used up after `seconds` in which
    nothing happens, or after `turnover` pictures' worth of recomputed tokens however soon that is, or by the two
    in proportion. So a busy stream is refreshed at a higher pace than a still one, for a fixed part of its cost.

    Every token has its own moment within each such period, spread evenly over the period and scattered over
    the grid; it is refreshed when the moment passes. So none is ever older than the limit at any frame rate,
    and the refreshing costs a few tokens each frame instead of all at once, also where the pace changes.

    Attributes:
        policy: what else is recomputed.
        seconds: the age that no token exceeds.
        turnover: how many pictures' worth of tokens may be recomputed meanwhile; infinite to count time alone.
    """

    policy: Policy
    seconds: float
    turnover: float = math.inf

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise BadArgument(f"the age limit is {self.seconds} s; expected more than 0")
        if not self.turnover > 1:
            raise BadArgument(
                f"the turnover is {self.turnover} pictures; expected more than 1, as the refreshed tokens count too"
            )

    def select(self, look: Look) -> Selection:
        """Return the wrapped selection and the tokens whose moment passed since their last recomputation."""
        golden = 0.6180339887498949
        phase = (torch.arange(look.change.numel(), dtype=torch.float64) * golden).remainder(1).view_as(look.change)
        now = (look.seconds / self.seconds + look.turnover / self.turnover + phase).floor()
        then = (look.recomputed_at / self.seconds + look.turnover_at / self.turnover + phase).floor()
        return self.policy.select(look) | (now > then)
