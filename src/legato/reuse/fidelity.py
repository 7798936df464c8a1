"""How close reused features are to the dense encoder's, and which threshold keeps them close."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.change import ChangeMeasure

__all__ = ["Calibration", "CosineTally", "calibrated_threshold", "token_cosines"]


def token_cosines(
    tokens: Float[Tensor, "tokens channels"], dense: Float[Tensor, "tokens channels"]
) -> Float[Tensor, " tokens"]:
    """Cosine of each token with the dense encoder's, in float32."""
    return F.cosine_similarity(tokens.float(), dense.float(), dim=-1)


@dataclass
class CosineTally:
    """Mean and quantiles of any number of cosines in constant memory (bins of 0.0001)."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(20001, dtype=torch.int64))
    total: float = 0.0

    def add(self, cosines: Tensor) -> None:
        """Count some cosines in."""
        bins = ((cosines.flatten().double() + 1) * 10_000).round().long().clamp(0, 20_000)
        self.counts += torch.bincount(bins, minlength=20_001)
        self.total += float(cosines.double().sum())

    @property
    def mean(self) -> float:
        """Mean of all cosines; 1 where there are none."""
        count = int(self.counts.sum())
        return self.total / count if count else 1.0

    def quantile(self, share: float) -> float:
        """The cosine that this share of all cosines lies at or under, to 0.0001; 1 where there are none."""
        running = self.counts.cumsum(0)
        if not running[-1]:
            return 1.0
        return float((running > share * running[-1] - 1e-9).float().argmax()) / 10_000 - 1


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        threshold: the largest change threshold that is expected to keep the promise.
        expected_cosine: mean token cosine expected at that threshold.
        promised_cosine: what was asked for.
        frames: how many frames were encoded densely for it.
    """

    threshold: float
    expected_cosine: float
    promised_cosine: float
    frames: int


@torch.inference_mode()
def calibrated_threshold(
    pictures: Sequence[Tensor],
    dense: Sequence[Tensor],
    *,
    measure: ChangeMeasure,
    patch_px: int,
    fidelity: float,
    context: float = 1.35,
) -> Calibration:
    """Find the threshold at which stale tokens stay as close to the dense encoder as promised.

    The policy is replayed on a few densely encoded frames without running the encoder: a token whose change
    exceeds the threshold takes the dense features of that frame, the others keep theirs, and the cosine to
    the dense features is averaged. Fresh tokens that look at stale neighbours are not in the replay; their
    share of the error is the factor `context` (measured, see docs/experiments.md).

    Args:
        pictures: a few frames in order, `uint8 (3, height, width)`, the encoder's size.
        dense: the dense encoder's patch tokens for each, `(tokens, channels)`.
        measure: the encoder's change measure.
        patch_px: side of a patch in pixels.
        fidelity: mean token cosine to keep, between 0 and 1.
        context: how much larger the true deviation is than the replay's.

    Raises:
        BadArgument: fidelity out of range, or fewer than two frames.
    """
    if not 0 < fidelity < 1:
        raise BadArgument(f"fidelity is {fidelity}; expected a mean token cosine between 0 and 1, for example 0.98")
    if len(pictures) < 2 or len(pictures) != len(dense):
        raise BadArgument(f"{len(pictures)} pictures and {len(dense)} dense results; expected two or more of each")
    units = [F.normalize(d.float(), dim=-1) for d in dense]
    ladder = [0.01 * 1.15**i for i in range(40)]

    def deviation(threshold: float) -> float:
        reference, held, total = pictures[0], units[0], 0.0
        for picture, fresh in zip(pictures[1:], units[1:], strict=True):
            selected = measure(picture, reference, patch_px) > threshold
            held = torch.where(selected.flatten()[:, None], fresh, held)
            pixels = selected.repeat_interleave(patch_px, 0).repeat_interleave(patch_px, 1)
            reference = torch.where(pixels, picture, reference)
            total += float((1 - (held * fresh).sum(-1)).mean())
        return context * total / (len(pictures) - 1)

    low, high = 0, len(ladder) - 1
    if deviation(ladder[0]) > 1 - fidelity:
        return Calibration(0.0, 1.0, fidelity, len(pictures))
    while low < high:
        middle = (low + high + 1) // 2
        if deviation(ladder[middle]) <= 1 - fidelity:
            low = middle
        else:
            high = middle - 1
    return Calibration(ladder[low], 1 - deviation(ladder[low]), fidelity, len(pictures))
