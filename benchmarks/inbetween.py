"""How near do frames between keyframes come to the truth? Puppets that no training saw.

    python benchmarks/inbetween.py --checkpoint puppet-inbetween [--student NAME] [--quick] [--json OUT]

Signing puppets with K given frames of T, evenly apart and uneven. PSNR of the missing frames: cross-fade (linear), DIS
optical flow, the refiner with each number of levels, its one-step student; wall time per clip. Given frames have to
come back bit for bit.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.data.puppets import random_puppet
from legato.generate import Ask, VideoGenerator
from legato.generate.samplers import MultiLevel
from legato.motion.between_features import filled_linearly
from legato.motion.interpolate import FlowInterpolator

SIDE_PX = 64
CASES = ((4, 17), (4, 33), (8, 17), (8, 33))


def clips(count: int, frames: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Pixels, seconds and texts of puppets with seeds of their own."""
    pixels, seconds, text = [], [], []
    for number in range(count):
        puppet = random_puppet(torch.Generator().manual_seed(7_000_000 + 1000 * seed + number), most_signs=2)
        times = torch.linspace(0, min(puppet.seconds, 2.0), frames, dtype=torch.float64)
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


def flowed(pixels: torch.Tensor, seconds: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    made = pixels.clone()
    interpolator = FlowInterpolator()
    for clip, out, times, row in zip(pixels, made, seconds, known, strict=True):
        places = row.nonzero().flatten().tolist()
        for a, b in itertools.pairwise(places):
            inside = range(a + 1, b)
            shares = [float((times[at] - times[a]) / (times[b] - times[a])) for at in inside]
            if shares:
                out[a + 1 : b] = interpolator(clip[a], clip[b], shares)
    return made


def psnr(made: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor) -> float:
    """Mean over clips of the PSNR of the missing frames, in dB."""
    rows = []
    for a, b, row in zip(made.double(), truth.double(), counts, strict=True):
        rows.append(10 * torch.log10(255**2 / (a[row] - b[row]).square().mean().clamp_min(1e-9)))
    return float(torch.stack(rows).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--student")
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 2, 0], help="0 is the checkpoint's own number")
    parser.add_argument("--text", action=argparse.BooleanOptionalAction, default=True, help="tell what is signed")
    parser.add_argument("--quick", action="store_true", help="8 clips a case instead of 32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    count = 8 if args.quick else 32
    refiners = {f"refiner, {n or 'all'} levels": (args.checkpoint, n) for n in args.levels}
    if args.student:
        refiners["student, one step"] = (args.student, 1)
    loaded = {name: VideoGenerator.from_pretrained(name) for name, _ in refiners.values()}
    rows: dict[str, dict[str, Any]] = {}
    for keys, frames in CASES:
        pixels, seconds, text = clips(count, frames, keys * frames)
        signal = pixels_to_signal(pixels)
        for uneven in (False, True):
            known = keyframes(count, frames, keys, uneven=uneven)
            case: dict[str, Any] = {
                "linear": psnr(signal_to_pixels(filled_linearly(signal, seconds, known)), pixels, ~known),
                "flow": psnr(flowed(pixels, seconds, known), pixels, ~known),
            }
            for name, (checkpoint, levels) in refiners.items():
                ask = Ask(seconds, range(count), text=text if args.text else None, given=signal, known=known)
                begun = time.monotonic()
                made = signal_to_pixels(loaded[checkpoint].sample(ask, MultiLevel(levels)))
                case[f"{name}: seconds per clip"] = (time.monotonic() - begun) / count
                if not torch.equal(made[known], pixels[known]):
                    raise SystemExit(f"{name} changed a given frame")
                case[name] = psnr(made, pixels, ~known)
            rows[f"K={keys} T={frames}{' uneven' if uneven else ''}"] = case
    names = ["linear", "flow", *refiners]
    table = Table("PSNR of missing frames, dB", *names)
    for case_name, case in rows.items():
        table.add_row(case_name, *(f"{case[name]:.2f}" for name in names))
    mean = {name: sum(case[name] for case in rows.values()) / len(rows) for name in names}
    table.add_row("mean", *(f"{mean[name]:.2f}" for name in names))
    Console(width=140).print(table)
    for name in refiners:
        each = [case[f"{name}: seconds per clip"] for case in rows.values()]
        print(f"{name}: {1000 * sum(each) / len(each):.0f} ms per clip")
    save(args.json, {"cases": rows, "mean": mean}, checkpoint=args.checkpoint, clips=count)


if __name__ == "__main__":
    main()
