"""How exact and how fast is each optical flow, against the exact motion of synthetic worlds?

    python benchmarks/flow.py --json flow.json

Worlds of textured discs and bars, some turning, before a panning background, at several speeds and intervals. EPE is
the mean distance between found and exact displacement over visible pixels, in pixels of the input; "moving" is over
the discs and bars alone, "edges" within 4 px of an outline; outliers are those off by more than 3 px and 5 % (as KITTI
counts). Methods take turns in one process, warmed up; times are median and interquartile range per pair, CPU time
beside them because other load on the machine disturbs it less. "none" says that nothing moves.

The worlds are smoother than nature and free of noise; `--noise` adds some.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from about import save
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from legato.data.scenes import Motion, random_scene
from legato.errors import MissingExtra
from legato.motion.flow import DisFlow, FarnebackFlow, FlowEstimator, LucasKanadeFlow, NvidiaFlow

SIZES = {"360p": (360, 640), "720p": (720, 1280)}
SPEEDS = (0.1, 0.4, 1.0)  # frame sizes per second
INTERVALS = (1 / 30, 1 / 10)  # seconds


def still(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.zeros(2, *first.shape[1:])


ESTIMATORS: dict[str, FlowEstimator] = {
    "none": still,
    "DIS ultrafast": DisFlow("ultrafast"),
    "DIS fast (default)": DisFlow(),
    "DIS medium": DisFlow("medium"),
    "DIS medium, full size": DisFlow("medium", max_side_px=4096),
    "Farneback": FarnebackFlow(),
    "Lucas-Kanade": LucasKanadeFlow(),
    "NVIDIA hardware": NvidiaFlow(),
}


def pairs(size_px: tuple[int, int], seeds: int, noise: float) -> list[tuple[torch.Tensor, torch.Tensor, Motion]]:
    made = []
    for seed in range(seeds):
        for speed in SPEEDS:
            for interval in INTERVALS:
                scene = random_scene(torch.Generator().manual_seed(seed), speed=speed)
                start = 0.3 + 0.1 * seed
                pictures = scene.render([start, start + interval], *size_px)
                grain = noise * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
                first, second = (pictures + grain).round().clamp(0, 255).to(torch.uint8)
                made.append((first, second, scene.motion(start, start + interval, *size_px)))
    return made


def errors(flow: torch.Tensor, truth: Motion) -> dict[str, float]:
    error = (flow - truth.flow).norm(dim=0)
    layer = truth.layer[None].float()
    edge = (F.max_pool2d(layer, 9, 1, 4) != -F.max_pool2d(-layer, 9, 1, 4))[0]
    visible, moving = truth.visible, truth.visible & (truth.layer > 0)
    outlier = (error > 3) & (error > 0.05 * truth.flow.norm(dim=0))
    return {
        "epe": float(error[visible].mean()),
        "epe_moving": float(error[moving].mean()),
        "epe_edges": float(error[visible & edge].mean()),
        "outliers": float(outlier[visible].float().mean()),
    }


def timed(estimate: FlowEstimator, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    flow = estimate(first, second)
    return flow, 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - cpu_started)


def measure(size_px: tuple[int, int], seeds: int, noise: float) -> dict[str, dict[str, float]]:
    scores: dict[str, list[dict[str, float]]] = {}
    made = pairs(size_px, seeds, noise)
    absent = set()
    for name, estimate in ESTIMATORS.items():
        try:
            estimate(*made[0][:2])
        except MissingExtra:
            absent.add(name)
    for first, second, truth in track(made, description=f"{size_px[1]}x{size_px[0]}", transient=True):
        for name, estimate in ESTIMATORS.items():
            if name not in absent:
                flow, wall_ms, cpu_ms = timed(estimate, first, second)
                scores.setdefault(name, []).append(errors(flow, truth) | {"ms": wall_ms, "cpu_ms": cpu_ms})
    return {name: summary(rows) for name, rows in scores.items()}


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    means = {key: statistics.fmean(row[key] for row in rows) for key in ("epe", "epe_moving", "epe_edges", "outliers")}
    low, middle, high = np.percentile([row["ms"] for row in rows], [25, 50, 75]).tolist()
    cpu = statistics.median(row["cpu_ms"] for row in rows)
    return means | {"ms_median": middle, "ms_quartile_1": low, "ms_quartile_3": high, "cpu_ms_median": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation in grey levels")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console()
    results = {}
    for size, size_px in SIZES.items():
        results[size] = measure(size_px, args.seeds, args.noise)
        table = Table(
            Column("flow", no_wrap=True),
            "EPE px",
            "moving",
            "edges",
            "outliers",
            "ms (quartiles)",
            "CPU ms",
            title=size,
        )
        for name, row in results[size].items():
            table.add_row(
                name,
                f"{row['epe']:.2f}",
                f"{row['epe_moving']:.2f}",
                f"{row['epe_edges']:.2f}",
                f"{row['outliers']:.1%}",
                f"{row['ms_median']:.0f} ({row['ms_quartile_1']:.0f}-{row['ms_quartile_3']:.0f})",
                f"{row['cpu_ms_median']:.0f}",
            )
        console.print(table)
    settings = {"seeds": args.seeds, "noise": args.noise, "speeds": SPEEDS, "intervals_seconds": INTERVALS}
    save(args.json, {"results": results}, **settings)


if __name__ == "__main__":
    main()
