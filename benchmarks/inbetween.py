"""How near do frames between keyframes come to the truth? Puppets that no training saw.

    python benchmarks/inbetween.py --checkpoint puppet-inbetween [NAME ...] [--student NAME] [--quick] [--json OUT]
    python benchmarks/inbetween.py --checkpoint puppet-inbetween --levels 0 2 3 6 --steps 0 1 2

Signing puppets with K given frames of T, evenly apart and uneven, from rest on and from anywhere in a sentence. PSNR of
the missing frames: cross-fade (linear), DIS optical flow, and refiners: each checkpoint as it was trained, with each
number of levels, and with each number of steps (calls of the model) at its own number of levels. Several checkpoints,
trained with other noise (`objective.mode`), say, stand side by side. Given frames have to come back bit for bit, or
there is no table.

Gains are means over all clips of all cases, of each clip against linear and flow on that clip, with the standard error
of such a mean. Time is CPU time of sampling, encoding and decoding included, and that of the model's calls alone; the
ways take turns case by case.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.data.puppets import random_puppet
from legato.generate import Ask, VideoGenerator
from legato.generate.refine import Refinement
from legato.generate.samplers import MultiLevel
from legato.motion.between_features import filled_linearly
from legato.motion.interpolate import FlowInterpolator

SIDE_PX = 64
CASES = tuple(itertools.product((4, 8), (16, 24, 33)))
PLACES = ("from rest", "anywhere")


@dataclass(frozen=True)
class Way:
    """A refiner and how it is asked; 0 is the checkpoint's own number."""

    checkpoint: str
    levels: int = 0
    steps: int = 0
    dtype: str = "float32"

    def __str__(self) -> str:
        name = Path(self.checkpoint)
        told = name.parent.name if name.name == "final" else name.name
        told += f", {self.levels} levels" * bool(self.levels) + f", {self.steps} steps" * bool(self.steps)
        return told + f", {self.dtype}" * (self.dtype != "float32")

    @property
    def weights(self) -> tuple[str, str]:
        return self.checkpoint, self.dtype

    def generator(self, loaded: VideoGenerator) -> VideoGenerator:
        if not self.levels:
            return loaded
        assert isinstance(loaded.objective, Refinement)
        return replace(loaded, objective=replace(loaded.objective, count=self.levels))


@dataclass(frozen=True)
class Case:
    """Clips with K of T frames given."""

    name: str
    pixels: torch.Tensor
    seconds: torch.Tensor
    text: list[str]
    known: torch.Tensor


def cases(count: int) -> Iterator[Case]:
    for place in PLACES:
        for keys, frames in CASES:
            pixels, seconds, text = clips(count, frames, keys * frames, anywhere=place == "anywhere")
            for uneven in (False, True):
                known = keyframes(count, frames, keys, uneven=uneven)
                name = f"{place} K={keys} T={frames}{' uneven' if uneven else ''}"
                yield Case(name, pixels, seconds, text, known)


def clips(count: int, frames: int, seed: int, *, anywhere: bool) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Pixels, seconds and texts of puppets with seeds of their own.

    Args:
        count: of clips.
        frames: of each.
        seed: of the first.
        anywhere: half of a sentence of up to four signs, or two seconds, from anywhere in it; otherwise all of one of
            one or two signs, or two seconds, from rest on.
    """
    pixels, seconds, text = [], [], []
    for number in range(count):
        numbers = torch.Generator().manual_seed(7_000_000 + 1000 * seed + number)
        puppet = random_puppet(numbers, most_signs=4 if anywhere else 2)
        span = min(puppet.seconds / 2 if anywhere else puppet.seconds, 2.0)
        times = torch.linspace(0, span, frames, dtype=torch.float64)
        if anywhere:
            times = times + (puppet.seconds - span) * torch.rand(1, generator=numbers, dtype=torch.float64)
        pixels.append(puppet.render(times, SIDE_PX, SIDE_PX))
        seconds.append(times)
        text.append(" ".join(puppet.text))
    return torch.stack(pixels), torch.stack(seconds), text


def keyframes(count: int, frames: int, keys: int, *, uneven: bool) -> torch.Tensor:
    """Which frames are given: both ends, and the rest evenly apart or drawn."""
    known = torch.zeros(count, frames, dtype=torch.bool)
    for row in range(count):
        if uneven:
            inner = 1 + torch.randperm(frames - 2, generator=torch.Generator().manual_seed(row))[: keys - 2]
            known[row, inner] = True
            known[row, [0, -1]] = True
        else:
            known[row, torch.linspace(0, frames - 1, keys).round().long()] = True
    return known


def flowed(case: Case) -> torch.Tensor:
    made = case.pixels.clone()
    interpolator = FlowInterpolator()
    for clip, out, times, row in zip(case.pixels, made, case.seconds, case.known, strict=True):
        places = row.nonzero().flatten().tolist()
        for a, b in itertools.pairwise(places):
            inside = range(a + 1, b)
            shares = [float((times[at] - times[a]) / (times[b] - times[a])) for at in inside]
            if shares:
                out[a + 1 : b] = interpolator(clip[a], clip[b], shares)
    return made


def psnr(made: torch.Tensor, case: Case) -> list[float]:
    """Of the missing frames of each clip, in dB."""
    rows = zip(made.double(), case.pixels.double(), ~case.known, strict=True)
    return [10 * math.log10(255**2 / float((a[row] - b[row]).square().mean().clamp_min(1e-9))) for a, b, row in rows]


def refined(case: Case, generator: VideoGenerator, steps: int, *, told: bool) -> torch.Tensor:
    ask = Ask(
        case.seconds,
        range(len(case.pixels)),
        text=case.text if told else None,
        given=pixels_to_signal(case.pixels),
        known=case.known,
    )
    made = signal_to_pixels(generator.sample(ask, MultiLevel(steps)))
    if not torch.equal(made[case.known], case.pixels[case.known]):
        raise SystemExit("a given frame was changed")
    return made


def timed_calls(model: torch.nn.Module) -> list[float]:
    """Grows with every call of a model by the CPU time that it took."""
    took: list[float] = []
    model.register_forward_pre_hook(lambda *_: took.append(-time.process_time()))

    def end(*_: Any) -> None:
        took[-1] += time.process_time()

    model.register_forward_hook(end)
    return took


def gain(rows: list[dict[str, Any]], name: str, other: str) -> tuple[float, float, float]:
    """Of one way over another in dB: mean over clips, its standard error, and the mean of the worst case."""
    apart = [[a - b for a, b in zip(row[name], row[other], strict=True)] for row in rows]
    every = list(itertools.chain.from_iterable(apart))
    spread = statistics.stdev(every) / math.sqrt(len(every)) if len(every) > 1 else math.nan
    return statistics.fmean(every), spread, min(statistics.fmean(case) for case in apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True)
    parser.add_argument("--student", help="asked for one step, and held against the first checkpoint")
    parser.add_argument("--levels", type=int, nargs="*", default=[0], help="0 is the checkpoint's own number")
    parser.add_argument("--steps", type=int, nargs="*", default=[0, 1], help="0 is one for each level")
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16", "float16"), default=["float32"])
    parser.add_argument("--text", action=argparse.BooleanOptionalAction, default=True, help="tell what is signed")
    parser.add_argument("--quick", action="store_true", help="8 clips a case instead of 32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    count = 8 if args.quick else 32
    ways = [Way(name, levels) for name in args.checkpoint for levels in args.levels]
    ways += [Way(name, steps=steps) for name in args.checkpoint for steps in args.steps]
    ways += [Way(args.student, steps=1)] if args.student else []
    ways = [replace(way, dtype=dtype) for dtype in args.dtype for way in dict.fromkeys(ways)]
    loaded = {
        (name, dtype): VideoGenerator.from_pretrained(name, dtype=getattr(torch, dtype))
        for name, dtype in {way.weights for way in ways}
    }
    rows: list[dict[str, Any]] = []
    spent: dict[str, list[float]] = {str(way): [] for way in ways}
    called: dict[str, list[float]] = {str(way): [] for way in ways}
    calls = {weights: timed_calls(made.model) for weights, made in loaded.items()}
    for case in cases(count):
        linear = signal_to_pixels(filled_linearly(pixels_to_signal(case.pixels), case.seconds, case.known))
        row: dict[str, Any] = {"case": case.name, "linear": psnr(linear, case), "flow": psnr(flowed(case), case)}
        for way in ways:
            calls[way.weights].clear()
            begun = time.process_time()
            made = refined(case, way.generator(loaded[way.weights]), way.steps, told=args.text)
            spent[str(way)].append((time.process_time() - begun) / count)
            called[str(way)].append(sum(calls[way.weights]) / count)
            row[str(way)] = psnr(made, case)
        rows.append(row)
        told = (f"{name} {statistics.fmean(found):.2f}" for name, found in row.items() if name != "case")
        print(case.name, *told, sep="; ", flush=True)
    names = ["linear", "flow", *spent]
    table = Table("PSNR of missing frames, dB", *names)
    for row in rows:
        table.add_row(row["case"], *(f"{statistics.fmean(row[name]):.2f}" for name in names))
    groups = {place: [row for row in rows if row["case"].startswith(place)] for place in PLACES}
    mean = {
        place: {name: statistics.fmean(statistics.fmean(row[name]) for row in own) for name in names}
        for place, own in groups.items()
    }
    for place in PLACES:
        table.add_row(f"{place}, mean", *(f"{mean[place][name]:.2f}" for name in names))
    Console(width=max(100, 22 * len(names))).print(table)
    others = ("linear", "flow", str(ways[0]))
    gains = {
        name: {place: {other: gain(own, name, other) for other in others} for place, own in groups.items()}
        for name in spent
    }
    for way in ways:
        mode = getattr(loaded[way.weights].objective, "mode", "none")
        over = "; ".join(
            f"{place} {m:+.2f} +- {s:.2f} over {o}, least {w:+.2f}"
            for place, found in gains[str(way)].items()
            for o, (m, s, w) in found.items()
        )
        times = []
        for what, each in (("a clip", spent), ("of it in the model", called)):
            took, first = (statistics.median(each[str(one)]) for one in (way, ways[0]))
            times.append(f"{1000 * took:.1f} ms {what}, {first / took:.1f} x as fast as {ways[0]}")
        print(f"{way} (noise {mode}): {over}; {'; '.join(times)}")
    save(
        args.json,
        {"cases": rows, "mean": mean, "gains": gains, "seconds_per_clip": spent, "model_seconds_per_clip": called},
        ways=[asdict(way) for way in ways],
        objectives={name: asdict(made.objective) for (name, _), made in loaded.items()},  # type: ignore[call-overload]
        clips=count,
        text=args.text,
    )


if __name__ == "__main__":
    main()
