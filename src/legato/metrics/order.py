"""Whether time runs in order: neighbours have to be more alike than frames further apart."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment
from legato.video.pixels import shrunk

__all__ = ["Order"]

SIDE_PX = 96


@dataclass
class Order(Metric):
    """The coherence score: how much of what changes within a quarter of a second builds up in order.

    With D(k) the mean square difference of frames k apart (values 0 to 255), for one frame and for about a quarter of a
    second, each as the root mean square over the video, so that one large step weighs more than four small ones:
    (D(1/4 s) - D(1)) / (D(1/4 s) + noise). Coherent motion builds up, so that neighbours are far more alike than frames
    apart: near 1. Flicker, jitter and shuffled frames change as much from one frame to the next as over a quarter of a
    second: near 0. So does a frozen video, where nothing builds up, since the noise, 4 levels squared, is all there is.
    Small pictures (96 px) are compared, per shot.
    """

    lag_seconds: float = 0.25
    noise_levels: float = 2.0
    recent: deque[tuple[float, np.ndarray]] = field(default_factory=deque)
    curve: Curve = field(default_factory=lambda: Curve("higher"))
    near: float = 0.0
    far: float = 0.0

    def add(self, moment: Moment) -> None:
        """Compare with the frame before and with the one a quarter of a second ago."""
        if moment.before is None:
            self.recent.clear()
        now = shrunk(moment.small, SIDE_PX).astype(np.float32)
        self.recent.append((moment.seconds, now))
        while len(self.recent) > 2 and moment.seconds - self.recent[1][0] >= self.lag_seconds - 1e-6:
            self.recent.popleft()
        if len(self.recent) < 3 or moment.seconds - self.recent[0][0] < self.lag_seconds - 1e-6:
            return
        near = float(np.square(now - self.recent[-2][1]).mean())
        far = float(np.square(now - self.recent[0][1]).mean())
        self.near, self.far = self.near + near**2, self.far + far**2
        self.curve.add(moment.seconds, self._score(near, far))

    def _score(self, near: float, far: float) -> float:
        return (far - near) / (far + self.noise_levels**2)

    def result(self) -> list[Measurement]:
        """The score over the whole video."""
        about = (
            "How much of what changes builds up in order: near 1 for smooth motion, near 0 for shuffled frames, for "
            "flicker, and for a video that stands still."
        )
        if not self.curve.count:
            note = f"no shot lasts {self.lag_seconds:g} s with three frames"
            return [Measurement("coherence_score", None, "score", "higher", about, note=note)]
        count = self.curve.count
        score = self._score(math.sqrt(self.near / count), math.sqrt(self.far / count))
        return [Measurement("coherence_score", score, "score", "higher", about, self.curve)]
