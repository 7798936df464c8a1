"""Measures against the true video: PSNR, SSIM, LPIPS and tLP."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from legato.errors import MissingExtra
from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment

__all__ = ["FullReference", "PerceptualDifference"]

NO_REFERENCE = "no frame has a reference at its time"


@dataclass
class FullReference(Metric):
    """PSNR and SSIM of each frame against the reference frame at its time (torchmetrics; SSIM by Wang et al. 2004)."""

    psnr: Curve = field(default_factory=lambda: Curve("higher"))
    ssim: Curve = field(default_factory=lambda: Curve("higher"))
    missing: int = 0

    def add(self, moment: Moment) -> None:
        """Compare with the reference."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        if moment.reference is None:
            self.missing += 1
            return
        a, b = (m.frame.pixels[None].float() / 255 for m in (moment, moment.reference))
        error = float((a - b).square().mean())
        self.psnr.add(moment.seconds, min(100.0, -10 * math.log10(max(error, 1e-10))))
        if min(a.shape[-2:]) >= 11:
            similarity = structural_similarity_index_measure(a, b, data_range=1.0)
            assert isinstance(similarity, Tensor)
            self.ssim.add(moment.seconds, float(similarity))

    def result(self) -> list[Measurement]:
        """Means over the frames that have a reference."""
        note = NO_REFERENCE if not self.psnr.count else ""
        if self.missing and self.psnr.count:
            note = f"{self.missing} frames have no reference at their time and are left out"
        small = "" if self.ssim.count or note else "SSIM needs 11 pixels a side"
        return [
            Measurement(
                "psnr", self.psnr.mean, "dB", "higher", "Peak signal-to-noise ratio, 100 at most.", self.psnr,
                note=note, needs="reference",
            ),
            Measurement(
                "ssim", self.ssim.mean, "score", "higher", "Structural similarity.", self.ssim,
                note=note or small, needs="reference",
            ),
        ]  # fmt: skip


@dataclass
class PerceptualDifference(Metric):
    """LPIPS, and tLP: how far the perceptual step between neighbours is from the reference's.

    LPIPS: Zhang et al. 2018. tLP: Chu et al. 2020 (TecoGAN), 100 |LPIPS(x_(t-1), x_t) - LPIPS(y_(t-1), y_t)|.

    Args:
        distance: of two images `float32 (1, 3, height, width)`, -1 to 1; torchmetrics' LPIPS (AlexNet) where none is
            given, which needs torchvision and its weights.
    """

    distance: Callable[[Tensor, Tensor], Tensor] | None = None
    lpips: Curve = field(default_factory=Curve)
    tlp: Curve = field(default_factory=Curve)

    @cached_property
    def _distance(self) -> Callable[[Tensor, Tensor], Tensor]:
        if self.distance is not None:
            return self.distance
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            network: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex")
        except (ImportError, ModuleNotFoundError, OSError, RuntimeError) as error:
            raise MissingExtra(
                "LPIPS needs torchvision and its AlexNet weights; install them, or give a distance function"
            ) from error
        return network

    @torch.no_grad()
    def add(self, moment: Moment) -> None:
        """Compare with the reference, and the step with the reference's step."""
        true = moment.reference
        if true is None:
            return
        self.lpips.add(moment.seconds, self._between(moment, true))
        if moment.before is not None and true.before is not None:
            steps = [self._between(m.before, m) for m in (moment, true) if m.before is not None]
            self.tlp.add(moment.seconds, 100 * abs(steps[0] - steps[1]))

    def _between(self, a: Moment, b: Moment) -> float:
        one, other = (m.frame.pixels[None].float() / 127.5 - 1 for m in (a, b))
        return float(self._distance(one, other))

    def result(self) -> list[Measurement]:
        """Means over frames and over pairs."""
        return [
            Measurement(
                "lpips", self.lpips.mean, "distance", "lower", "Perceptual distance to the reference.", self.lpips,
                note="" if self.lpips.count else NO_REFERENCE, needs="reference",
            ),
            Measurement(
                "tlp", self.tlp.mean, "distance x 100", "lower",
                "How far the perceptual step between neighbours is from the reference's (tLP).", self.tlp,
                note="" if self.tlp.count else NO_REFERENCE, needs="reference",
            ),
        ]  # fmt: skip
