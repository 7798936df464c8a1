"""Do generated motions spread as the data's do? Equilibrium matching against flow matching at equal compute.

    python benchmarks/trajectories.py --checkpoints build/physics-flow/final build/physics-eqm/final [--json OUT]

Straight lines of 16 frames at 30 a second. A tracked path is a vector of 32 coordinates. For each checkpoint: Frechet
distance of such vectors to the data's (mean and covariance, in frame sizes squared), the share of the data's modes that
samples fall into (a mode is one of 8 headings x 3 thirds of the speeds), calls of the model and seconds to a sample.
`data` is another draw of the data: the floor.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import signal_to_pixels
from legato.data.physics import KINDS, random_trial, track
from legato.generate import Ask, VideoGenerator
from legato.generate.equilibrium import GradientDescent, Nesterov, PublishedNesterov
from legato.generate.objectives import Equilibrium
from legato.generate.samplers import FieldDescent, Sampler, default_sampler

FRAMES, RATE = 16, 30.0


def paths_of(clips: torch.Tensor) -> np.ndarray:
    """Tracked paths `(clips, 32)`; those in which the disc is lost for more than a quarter are left out."""
    rows = []
    for clip in clips:
        places = track(clip).numpy()
        seen = np.isfinite(places[:, 0])
        if seen.mean() < 0.75:
            continue
        at = np.arange(len(places))
        rows.append(np.concatenate([np.interp(at, at[seen], places[seen, axis]) for axis in (0, 1)]))
    return np.array(rows)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two normal distributions (Dowson and Landau 1982)."""
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = np.cov(a.T), np.cov(b.T)
    values = np.linalg.eigvals(first @ second).real.clip(min=0)
    return float(mean + np.trace(first) + np.trace(second) - 2 * np.sqrt(values).sum())


def modes(paths: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """Heading and third of speed of each path, as one number."""
    way = np.stack([paths[:, FRAMES - 1] - paths[:, 0], paths[:, -1] - paths[:, FRAMES]], 1)
    heading = ((np.arctan2(way[:, 1], way[:, 0]) / (2 * math.pi)) % 1 * 8).astype(int)
    return heading * 3 + np.searchsorted(speeds, np.linalg.norm(way, axis=1))


def true_paths(count: int, first: int) -> np.ndarray:
    seconds = torch.arange(FRAMES, dtype=torch.float64) / RATE
    made = [random_trial(torch.Generator().manual_seed(first + n), "line", 1.0).path(seconds) for n in range(count)]
    return torch.stack(made).transpose(1, 2).flatten(1).numpy()


def samplers_of(generator: VideoGenerator) -> dict[str, Sampler]:
    if not isinstance(generator.objective, Equilibrium):
        return {"": default_sampler(generator.objective)}
    return {
        "descent": FieldDescent(100, GradientDescent(0.02)),
        "nesterov": FieldDescent(100, Nesterov(0.017, 0.3)),
        "published": FieldDescent(100, PublishedNesterov(0.017, 0.3)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    truth = true_paths(4000, 0)
    lengths = np.hypot(truth[:, 15] - truth[:, 0], truth[:, 31] - truth[:, 16])
    thirds = np.percentile(lengths, [100 / 3, 200 / 3])
    all_modes = set(modes(truth, thirds).tolist())
    other = true_paths(args.count, 10_000)
    rows: dict[str, Any] = {"data": {"frechet": frechet(other, truth), "modes": 1.0, "tracked": 1.0}}
    for name in args.checkpoints:
        generator = VideoGenerator.from_pretrained(name)
        for kind, sampler in samplers_of(generator).items():
            begun, clips = time.monotonic(), []
            for begin in range(0, args.count, 50):
                seeds = range(begin, min(begin + 50, args.count))
                seconds = (torch.arange(FRAMES, dtype=torch.float64) / RATE).repeat(len(seeds), 1)
                ask = Ask(seconds, seeds, labels=torch.full((len(seeds),), KINDS.index("line")))
                clips.append(signal_to_pixels(generator.sample(ask, sampler)))
            paths = paths_of(torch.cat(clips))
            found = set(modes(paths, thirds).tolist()) if len(paths) else set()
            rows[f"{name} {kind}".strip()] = {
                "frechet": frechet(paths, truth) if len(paths) > 40 else math.nan,
                "modes": len(found & all_modes) / len(all_modes),
                "tracked": len(paths) / args.count,
                "sampler": repr(sampler),
                "seconds_per_clip": (time.monotonic() - begun) / args.count,
            }
    table = Table("", "Frechet distance", "modes", "tracked", "s per clip")
    for name, row in rows.items():
        each = f"{row['seconds_per_clip']:.2f}" if "seconds_per_clip" in row else ""
        table.add_row(name, f"{row['frechet']:.4f}", f"{row['modes']:.0%}", f"{row['tracked']:.0%}", each)
    Console().print(table)
    save(args.json, {"rows": rows}, count=args.count)


if __name__ == "__main__":
    main()
