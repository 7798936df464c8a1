"""How a long video of a signing puppet looks, from a few numbers of each frame: seams, drift, hands that follow."""

import statistics
from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from legato.data.puppets import Puppet, hand_positions

__all__ = ["PuppetJudge"]


@dataclass
class PuppetJudge:
    """Looks at frames one by one and keeps a few numbers of each: seams, drift, and how well the drive is followed.

    Attributes:
        puppet: that drives.
        height: of frames.
        width: of frames.
        rate: of frames.
        driven: whether hands can be held against the puppet's.
    """

    puppet: Puppet
    height: int
    width: int
    rate: Fraction
    driven: bool = True
    count: int = 0
    _last: list[Tensor] = field(default_factory=list)
    _second: "array[float]" = field(default_factory=lambda: array("d"))  # numbers: tensors would litter the heap
    _colour: "array[float]" = field(default_factory=lambda: array("d"))
    _hands: "array[float]" = field(default_factory=lambda: array("d"))
    _truth: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def add(self, pixels: UInt8[Tensor, "3 height width"]) -> None:
        """Take the next frame."""
        frame = pixels.float()
        self._last = [*self._last[-2:], frame]
        if len(self._last) == 3:
            a, b, c = self._last
            self._second.append(float((c - 2 * b + a).abs().mean()))
        self._colour.extend((frame.mean((1, 2)) / 255).tolist())
        self._hands.extend((hand_positions(pixels[None])[0] / self.height).flatten().tolist())
        self.count += 1

    def figures(self, boundaries: list[int]) -> dict[str, Any]:
        """All of it.

        `seam` is the mean second difference of pixels in the frames beside a boundary over the mean elsewhere,
        `seam_hands` the same of tracked hands, `seam_hands_truth` of the puppet's own. `colour_drift` is how much the
        mean colour of the last sentence differs from that of the first, less what the puppet's does: the largest of
        three channels, as a share of their range. `hand_error` is a share of the height, where both hands are seen.
        `hand_speed` is in heights a second, and `speed_variation` how much that differs from sentence to sentence: the
        standard deviation of the sentences' means over their mean.
        """
        hands = torch.tensor(self._hands, dtype=torch.float64).view(-1, 2, 2)
        second = torch.tensor([torch.nan, *self._second, torch.nan])
        told: dict[str, Any] = {"seam": _beside(second, boundaries), "seam_hands": _moves(hands, boundaries)}
        colour = torch.tensor(self._colour, dtype=torch.float32).view(-1, 3)
        own = [self._of_truth(number) for number in range(self.count)]
        sentence = min(self.count // 2, max(1, round(self.puppet.seconds * float(self.rate))))
        if self.driven:
            colour = colour - torch.stack([mean for _, mean in own])
            wanted = torch.stack([places for places, _ in own])
            error = (hands - wanted).norm(dim=-1).mean(-1)
            told["seam_hands_truth"] = _moves(wanted, boundaries)
            told["hand_error"] = _mean(error)
            told["hand_error_first"], told["hand_error_last"] = _mean(error[:sentence]), _mean(error[-sentence:])
        speed = (hands[1:] - hands[:-1]).norm(dim=-1).mean(-1) * float(self.rate)
        means = [mean for part in speed.split(sentence) if len(part) == sentence and (mean := _mean(part)) is not None]
        told["hand_speed_first"], told["hand_speed_last"] = _mean(speed[:sentence]), _mean(speed[-sentence:])
        told["speed_variation"] = statistics.stdev(means) / statistics.mean(means) if len(means) > 1 else None
        told["hands_seen"] = float(hands.isfinite().all(-1).all(-1).float().mean())
        drift = colour[-sentence:].mean(0) - colour[:sentence].mean(0)
        return told | {"colour_drift": float(drift.abs().max())}

    def _of_truth(self, number: int) -> tuple[Tensor, Tensor]:
        """Hands and mean colour of the puppet itself; a sentence's frames are reckoned once."""
        at = round(float(number / self.rate) % self.puppet.seconds, 2)
        if at not in self._truth:
            pixels = self.puppet.render([at], self.height, self.width)
            self._truth[at] = (hand_positions(pixels)[0] / self.height, pixels[0].float().mean((1, 2)) / 255)
        return self._truth[at]


def _beside(second: Float[Tensor, " time"], boundaries: list[int]) -> float | None:
    """Mean over the frames on both sides of each boundary over the mean of all others; None without one of the two."""
    beside = torch.zeros(len(second), dtype=torch.bool)
    for at in boundaries:
        beside[[at - 1, at]] = True
    seen = second.isfinite()
    if not (beside & seen).any() or not (~beside & seen).any():
        return None
    return float(second[beside & seen].mean() / second[~beside & seen].mean())


def _moves(hands: Float[Tensor, "time 2 2"], boundaries: list[int]) -> float | None:
    second = (hands[2:] - 2 * hands[1:-1] + hands[:-2]).norm(dim=-1).mean(-1)
    return _beside(torch.cat([second.new_full((1,), torch.nan), second, second.new_full((1,), torch.nan)]), boundaries)


def _mean(errors: Tensor) -> float | None:
    seen = errors[errors.isfinite()]
    return float(seen.mean()) if len(seen) else None
