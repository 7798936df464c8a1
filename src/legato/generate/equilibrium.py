"""Equilibrium Matching: a field without a noise level whose rest points are data, and descents along it.

Wang and Du 2025, "Equilibrium Matching: Generative Modeling with Implicit Energy-Based Models". A sample
x_g = g x + (1 - g) e lies between noise e (g = 0) and datum x (g = 1); g is hidden from the model, whose target is
(x - e) c(g), a field that points to the data and fades out on the way.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import BadArgument

__all__ = ["Descent", "EquilibriumMatching", "GradientDescent", "Nesterov", "PublishedNesterov"]

Sample = Float[Tensor, "batch *shape"]
Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EquilibriumMatching:
    """The training objective.

    Attributes:
        fade_from: a; from this share of the way on the field fades out linearly.
        strength: lambda; length of the field before.
    """

    fade_from: float = 0.8
    strength: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.fade_from < 1 or not self.strength > 0:
            raise BadArgument(
                f"fade_from is {self.fade_from} and strength {self.strength}; expected 0 <= fade_from < 1 and a "
                "positive strength"
            )

    def magnitude(self, gamma: Tensor) -> Tensor:
        """c(g) = lambda min(1, (1 - g) / (1 - a)): constant, then down to 0 at the data."""
        return self.strength * ((1 - gamma) / (1 - self.fade_from)).clamp(max=1.0)

    def pair(self, clean: Sample, noise: Sample, gamma: Float[Tensor, " batch"]) -> tuple[Sample, Sample]:
        """What the model sees and what it is to say.

        Args:
            clean: data.
            noise: standard normal, of the same shape.
            gamma: how far each sample is on its way from noise to datum, 0 to 1.

        Returns:
            x_g, and the target (x - e) c(g).
        """
        g = gamma.view(-1, *(1,) * (clean.ndim - 1)).to(clean.dtype)
        return g * clean + (1 - g) * noise, (clean - noise) * self.magnitude(g)

    @property
    def largest_stable_step(self) -> float:
        """Descent is stable near data only below this step: 2 (1 - a) / lambda."""
        return 2 * (1 - self.fade_from) / self.strength


class Descent(ABC):
    """Follows a field from noise to data."""

    @abstractmethod
    def __call__(self, field: Field, start: Sample, steps: int) -> Sample:
        """Take steps along the field.

        Args:
            field: the model, of the sample alone.
            start: noise; it stays as it is.
            steps: how many.
        """


def _checked(step_size: float, momentum: float = 0.0) -> None:
    if not step_size > 0 or not 0 <= momentum < 1:
        raise BadArgument(
            f"step size {step_size} and momentum {momentum}; expected a positive step and 0 <= momentum < 1"
        )


@dataclass(frozen=True)
class GradientDescent(Descent):
    """x <- x + eta f(x)."""

    step_size: float = 0.003

    def __post_init__(self) -> None:
        _checked(self.step_size)

    def __call__(self, field: Field, start: Sample, steps: int) -> Sample:
        """See `Descent`."""
        x = start
        for _ in range(steps):
            x = x + self.step_size * field(x)
        return x


@dataclass(frozen=True)
class Nesterov(Descent):
    """x_(k+1) = y_k + eta f(y_k) with the look-ahead point y_k = x_k + mu (x_k - x_(k-1))."""

    step_size: float = 0.003
    momentum: float = 0.35

    def __post_init__(self) -> None:
        _checked(self.step_size, self.momentum)

    def __call__(self, field: Field, start: Sample, steps: int) -> Sample:
        """See `Descent`."""
        last, x = start, start
        for _ in range(steps):
            ahead = x + self.momentum * (x - last)
            last, x = x, ahead + self.step_size * field(ahead)
        return x


@dataclass(frozen=True)
class PublishedNesterov(Descent):
    """The published code's variant: x <- x + eta f(x + eta mu m) with m the field of the step before."""

    step_size: float = 0.003
    momentum: float = 0.35

    def __post_init__(self) -> None:
        _checked(self.step_size, self.momentum)

    def __call__(self, field: Field, start: Sample, steps: int) -> Sample:
        """See `Descent`."""
        x, last = start, torch.zeros_like(start)
        for _ in range(steps):
            last = field(x + self.step_size * self.momentum * last)
            x = x + self.step_size * last
        return x
