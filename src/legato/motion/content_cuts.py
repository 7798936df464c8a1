"""Cut detectors of one rule each: colours differ, features differ, or features confirm what colours propose.

They decide on two frames alone, so a flash counts as two cuts; `legato.motion.cuts.AdaptiveCuts` waits and sees.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.cuts import Cut, CutDetector, CutStep
from legato.video.frames import Frame
from legato.video.pixels import pixels_of_rows, rows_of_pixels, shrunk

__all__ = [
    "ConfirmedCuts",
    "ConfirmedState",
    "FeatureCuts",
    "FeatureState",
    "HistogramCuts",
    "HistogramState",
    "histogram_distance",
]

Picture = UInt8[Tensor, "3 height width"]
Embed = Callable[[Frame], Tensor]


def histogram_distance(a: Picture, b: UInt8[Tensor, "3 other_height other_width"]) -> float:
    """Bhattacharyya distance of two pictures' HSV histograms (8 x 8 x 8 bins): 0 the same colours, 1 none shared.

    sqrt(1 - sum sqrt(p q)) as in OpenCV's `HISTCMP_BHATTACHARYYA`; positions play no part. The pictures may differ
    in size.
    """
    return _bhattacharyya(_histogram(a), _histogram(b))


@dataclass(frozen=True)
class HistogramState:
    """Frames seen, and the last one's colour histogram."""

    seen: int
    histogram: Float[Tensor, "bins"]


@dataclass(frozen=True)
class HistogramCuts:
    """A cut wherever the colours of neighbouring frames differ by more than `threshold`.

    Cheap and crude: a flash counts as two cuts, and two shots of like colours as one.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise BadArgument(f"threshold is {self.threshold}; a histogram distance lies between 0 and 1")

    def step(self, frame: Frame, state: HistogramState | None = None) -> CutStep[HistogramState]:
        """Compare the frame's colours with those of the one before; the score is their distance."""
        histogram = _histogram(frame.pixels)
        if state is None:
            return CutStep(HistogramState(1, histogram), 0.0, False, None)
        score = _bhattacharyya(state.histogram, histogram)
        return _decided(HistogramState(state.seen + 1, histogram), frame, score, score > self.threshold)

    def finish(self, state: HistogramState) -> None:
        """Nothing is ever left waiting."""


# --- features


@dataclass(frozen=True)
class FeatureState:
    """Frames seen, and the last one's embedding."""

    seen: int
    embedding: Float[Tensor, "features"]


@dataclass(frozen=True)
class FeatureCuts:
    """A cut wherever the embeddings of neighbouring frames have a cosine under `below_cosine`.

    Args:
        embed: maps a frame to one vector, for example a vision encoder's pooled output.
        below_cosine: measure it for your encoder and layer. The mean of a DINOv2 ViT-S/14's layer-9 tokens stays over
            0.98 from frame to frame and falls to 0.58-0.83 on cuts, for which 0.9 would do.
    """

    embed: Embed
    below_cosine: float = 0.7

    def step(self, frame: Frame, state: FeatureState | None = None) -> CutStep[FeatureState]:
        """Compare the frame's embedding with that of the one before; the score is 1 - cosine."""
        embedding = self.embed(frame).detach().flatten().clone()
        if state is None:
            return CutStep(FeatureState(1, embedding), 0.0, False, None)
        cosine = _cosine(state.embedding, embedding)
        return _decided(FeatureState(state.seen + 1, embedding), frame, 1 - cosine, cosine < self.below_cosine)

    def finish(self, state: FeatureState) -> None:
        """Nothing is ever left waiting."""


@dataclass(frozen=True)
class ConfirmedState:
    """Frames seen, the proposer's own state, and the last frame, shrunk."""

    seen: int
    proposer: Any
    last: Frame


@dataclass(frozen=True)
class ConfirmedCuts:
    """Something cheap proposes a cut, features confirm it: `embed` runs on proposals alone, on both sides of them.

    Args:
        embed: maps a frame (as small as `side_px` on its longer side) to one vector.
        proposer: a detector; what counts is what it proposes.
        below_cosine: a proposal is a cut if the embeddings' cosine is under this.
        side_px: longer side of the picture that the state keeps of the last frame.
    """

    embed: Embed
    proposer: CutDetector = HistogramCuts()
    below_cosine: float = 0.7
    side_px: int = 256

    def step(self, frame: Frame, state: ConfirmedState | None = None) -> CutStep[ConfirmedState]:
        """Let the proposer look, and the features where it proposes; the score is the proposer's."""
        small = replace(frame, pixels=pixels_of_rows(shrunk(rows_of_pixels(frame.pixels), self.side_px)))
        proposal = self.proposer.step(frame, state.proposer if state else None)
        seen = state.seen + 1 if state else 1
        different = False
        if state is not None and proposal.proposed:
            different = _cosine(self.embed(state.last), self.embed(small)) < self.below_cosine
        return _decided(ConfirmedState(seen, proposal.state, small), frame, proposal.score, different)

    def finish(self, state: ConfirmedState) -> None:
        """Nothing is ever left waiting."""


# --- parts


def _decided(state: Any, frame: Frame, score: float, cut: bool) -> CutStep[Any]:
    """The step of a detector that proposes and confirms in one."""
    return CutStep(state, score, cut, Cut(state.seen - 1, frame.seconds) if cut else None)


def _histogram(pixels: Picture) -> Float[Tensor, "bins"]:
    _, height, width = pixels.shape
    some = pixels.detach().cpu().numpy()[:, :: max(height // 128, 1), :: max(width // 128, 1)]
    rgb = np.ascontiguousarray(some.transpose(1, 2, 0))
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 8, 8], [0, 180, 0, 256, 0, 256]).ravel()
    return torch.from_numpy(counts / counts.sum())


def _bhattacharyya(p: Float[Tensor, "bins"], q: Float[Tensor, "bins"]) -> float:
    return math.sqrt(max(1 - float((p * q).sqrt().sum()), 0.0))


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a.detach().flatten().float(), b.detach().flatten().float(), dim=0))
