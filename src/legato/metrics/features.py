"""Measures on an encoder's features: does the subject stay what it is, do features tremble?"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment
from legato.video.frames import Frame

__all__ = ["FeatureConsistency"]


@dataclass
class FeatureConsistency(Metric):
    """Subject consistency as in VBench, per shot, and feature flicker over a third of a second.

    VBench (Huang et al. 2023), `subject_consistency.py`: for each frame after the first the mean of its cosine to
    the frame before and to the first one, negatives counted as 0; here the first one is that of the shot. VBench
    uses DINO ViT-B/16, here it is what `embed` gives, and figures of different encoders do not compare. Feature
    flicker is the standard deviation of the unit features about their mean within a window: the root mean square
    length.

    Args:
        embed: maps a frame to one vector.
        window_seconds: of the flicker.
    """

    embed: Callable[[Frame], Tensor]
    window_seconds: float = 1 / 3
    curve: Curve = field(default_factory=lambda: Curve("higher"))
    flicker: Curve = field(default_factory=Curve)
    adjacent: float = 0.0
    first: Tensor | None = None
    recent: deque[tuple[float, Tensor]] = field(default_factory=deque)

    def add(self, moment: Moment) -> None:
        """Embed the frame and compare."""
        now = F.normalize(self.embed(moment.frame).detach().float().flatten(), dim=0)
        if moment.before is None or self.first is None:
            self.first = now
            self.recent.clear()
        else:
            to_last = max(0.0, float(now @ self.recent[-1][1]))
            self.adjacent += to_last
            self.curve.add(moment.seconds, (to_last + max(0.0, float(now @ self.first))) / 2)
        self.recent.append((moment.seconds, now))
        while moment.seconds - self.recent[0][0] > self.window_seconds + 1e-6:
            self.recent.popleft()
        if len(self.recent) >= 3 and moment.seconds - self.recent[0][0] >= self.window_seconds / 2:
            window = torch.stack([vector for _, vector in self.recent])
            spread = (window - window.mean(0)).square().sum(1).mean().sqrt()
            self.flicker.add(moment.seconds, float(spread))

    def result(self) -> list[Measurement]:
        """Consistency, its adjacent part, and flicker."""
        note = "" if self.curve.count else "no two frames of one shot"
        count = max(1, self.curve.count)
        values, limit = self.flicker.points[1], 0.1
        over = float(np.mean(values > limit)) if len(values) else 0.0
        warning = f"over {limit} in {over:.0%} of the time: smooth the features over time, or encode at a higher rate"
        return [
            Measurement(
                "subject_consistency", self.curve.mean, "cosine", "higher",
                "How much each frame's features agree with those of the frame before and of the shot's first.",
                self.curve, note=note, needs="encoder",
            ),
            Measurement(
                "adjacent_consistency", self.adjacent / count if self.curve.count else None, "cosine", "higher",
                "How much neighbouring frames' features agree.", note=note, needs="encoder",
            ),
            Measurement(
                "feature_flicker", self.flicker.mean, "unit length", "lower",
                "How much features tremble within a third of a second.", self.flicker, limit=limit,
                note=("no third of a second with three frames" if not self.flicker.count else warning if over else ""),
                needs="encoder",
            ),
        ]  # fmt: skip
