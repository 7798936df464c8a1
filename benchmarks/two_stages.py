"""What do sparse keyframes and a refiner save against generating every frame, and what do they cost?

    python benchmarks/two_stages.py --checkpoint puppet-flow --refiner puppet-inbetween --guidance 2 --json two.json

Signs asked for by word, `--count` clips of each made together: every frame generated; and a frame every so many seconds
generated and the rest filled in by the refiner, as `legato generate --keyframe-seconds` does it, without and with
`--smooth`. A call costs something however few tokens it is shown, so more clips at a time save more. Counted are the
tokens that denoisers are shown in all calls, and CPU time, encoding and decoding included; the ways take turns word by
word, after a first word that does not count. Judged are signs recognised by their tracked hands (as in `order.py`),
hands found, the mean difference of neighbouring frames, the flicker of made frames (how far each lies from the mean of
its neighbours moved to it, in grey levels), and their detail (mean square of horizontal differences).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from about import save
from order import durations, score
from rich.console import Console
from rich.table import Table
from stand_in import SIZES, enlarged

from legato.cli.generate import check_refines, filled, keyframes_of, steadied
from legato.data.batch import signal_to_pixels
from legato.data.vocabulary import VOCABULARY
from legato.generate import Ask, VideoGenerator
from legato.generate.samplers import default_sampler
from legato.generate.work import counted
from legato.motion.flow import DisFlow
from legato.motion.warp import sampled
from legato.video import Timeline
from legato.video.pixels import rows_of_pixels


@dataclass
class Found:
    """What one way made of all words, `count` clips of each after the other, and what it spent on each word."""

    clips: list[torch.Tensor] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def flicker(clip: torch.Tensor) -> float:
    """Mean difference of each frame from the mean of its neighbours, moved to it along the flow."""
    pictures, estimate = [rows_of_pixels(picture) for picture in clip], DisFlow("finest")
    apart = []
    for at in range(1, len(clip) - 1):
        flows = [estimate(clip[at], clip[n]).permute(1, 2, 0).contiguous().numpy() for n in (at - 1, at + 1)]
        around = [sampled(pictures[n].astype(np.float32), f) for n, f in zip((at - 1, at + 1), flows, strict=True)]
        apart.append(float(np.abs(cv2.addWeighted(around[0], 0.5, around[1], 0.5, 0) - pictures[at]).mean()))
    return statistics.fmean(apart)


def detail(clip: torch.Tensor) -> float:
    return float(clip.float().diff(dim=-1).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="puppet-flow")
    parser.add_argument("--refiner", default="puppet-inbetween")
    parser.add_argument("--keyframe-seconds", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.3])
    parser.add_argument("--smooth", type=float, default=0.04, help="seconds")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=len(VOCABULARY), help="the first so many")
    parser.add_argument("--count", type=int, default=1, help="clips of each word, made together")
    parser.add_argument("--size", choices=list(SIZES), help="of an untrained first stage, for its time alone")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = enlarged(VideoGenerator.from_pretrained(args.checkpoint), args.size)
    refiner, sampler = VideoGenerator.from_pretrained(args.refiner), default_sampler(generator.objective)
    check_refines(args.refiner, refiner, generator)
    found: dict[str, Found] = {}

    def spend(name: str, make: Callable[[], torch.Tensor], *, counts: bool) -> torch.Tensor:
        with counted(generator.model) as first, counted(refiner.model) as second:
            begun = time.process_time()
            clips = make()
            took = time.process_time() - begun
        if counts:
            row = found.setdefault(name, Found())
            row.clips.extend(clips)
            row.tokens.append(first.tokens + second.tokens)
            row.seconds.append(took)
        return clips

    def generated(times: Timeline, word: str, seed: int) -> torch.Tensor:
        seeds = range(seed * args.count, (seed + 1) * args.count)
        seconds = times.seconds.repeat(args.count, 1)
        ask = Ask(seconds, seeds, text=(word,) * args.count, guidance=args.guidance)
        return signal_to_pixels(generator.sample(ask, sampler))

    def two_stages(world: Timeline, every: float, word: str, seed: int) -> torch.Tensor:
        keys = keyframes_of(world, every)
        return filled(generated(keys, word, seed), keys, world, refiner, word)

    if args.words < 2:
        parser.error("--words is under 2; what is saved is told with its spread over words")
    words = list(VOCABULARY)[: args.words]
    lengths = [Fraction(seconds).limit_denominator(1000) for seconds in durations(0)[: len(words)]]
    worlds = [Timeline.constant(seconds=length, rate=args.fps) for length in lengths]
    for number, (word, world) in enumerate([(words[0], worlds[0]), *zip(words, worlds, strict=True)]):
        seed, counts = max(number - 1, 0), number > 0
        spend("every frame", lambda: generated(world, word, seed), counts=counts)  # noqa: B023 - called at once
        for every in args.keyframe_seconds:
            name = f"keyframes every {every:g} s"
            clips = spend(name, lambda: two_stages(world, every, word, seed), counts=counts)  # noqa: B023
            if counts:
                steady = steadied(clips, world, keyframes_of(world, every), args.smooth)
                found.setdefault(f"{name}, smoothed", Found()).clips.extend(steady)
        print(word, flush=True)
    table = Table("", "tokens saved", "CPU time saved", "recognised", "hands", "frame difference", "flicker", "detail")
    rows: dict[str, dict[str, Any]] = {}
    base = found["every frame"]
    seconds = [world.seconds for world in worlds for _ in range(args.count)]
    spoken = [word for word in words for _ in range(args.count)]
    for name, way in found.items():
        judged = score(way.clips, seconds, spoken)  # type: ignore[arg-type] - of many lengths
        row: dict[str, Any] = {key: judged[key] for key in ("recognised", "tracked", "frame_difference")}
        row |= {
            "flicker": statistics.fmean(map(flicker, way.clips)),
            "detail": statistics.fmean(map(detail, way.clips)),
        }
        told = ["", ""]
        if way.tokens:
            row["tokens_saved"] = 1 - sum(way.tokens) / sum(base.tokens)
            row["time_saved"] = [1 - own / full for own, full in zip(way.seconds, base.seconds, strict=True)]
            low, middle, high = statistics.quantiles(row["time_saved"], n=4)
            told = [f"{row['tokens_saved']:.0%}", f"{middle:.0%} ({low:.0%} to {high:.0%})"]
        shares = [f"{row[key]:.0%}" for key in ("recognised", "tracked")]
        table.add_row(name, *told, *shares, *(f"{row[key]:.2f}" for key in ("frame_difference", "flicker", "detail")))
        rows[name] = row
    Console(width=140).print(table)
    save(args.json, {"ways": rows}, checkpoint=args.checkpoint, refiner=args.refiner, guidance=args.guidance,
         fps=args.fps, count=args.count, size=args.size, smooth_seconds=args.smooth)  # fmt: skip


if __name__ == "__main__":
    main()
