"""Do generated puppets sign in the right order? Hands tracked, signs recognised by time warping.

    python benchmarks/order.py --checkpoints build/order-none/final build/order-rotary/final [--json OUT]

Each checkpoint (recipes/order.yaml, trained on equal budgets) signs every word of the vocabulary `--seeds` times, from
rest to rest. For each: the share recognised as the word asked for; the share whose beginning, middle and end come in
order; the share of frames with both hands tracked; mean difference of neighbouring frames, and the warping error
between them. `truth` is rendered puppets.
"""

import argparse
import statistics
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import signal_to_pixels
from legato.data.puppets import hand_positions, random_puppet
from legato.data.recognition import recognise
from legato.data.vocabulary import VOCABULARY
from legato.generate import Ask, VideoGenerator
from legato.generate.samplers import default_sampler
from legato.metrics import measure_frames
from legato.metrics.warping import WarpingError
from legato.video import Frame

FRAMES = 24


def durations(seed: int) -> list[float]:
    """Whole seconds of each word's clip, at random signing rates."""
    return [
        random_puppet(torch.Generator().manual_seed(90_000 + 100 * seed + n), text=word).seconds
        for n, word in enumerate(VOCABULARY)
    ]


def score(clips: torch.Tensor, seconds: torch.Tensor, words: list[str]) -> dict[str, float]:
    right, ordered, tracked, differences, warping = [], [], [], [], []
    for clip, times, word in zip(clips, seconds, words, strict=True):
        found = recognise(hand_positions(clip), word)
        right.append(found is not None and found.word == word)
        ordered.append(found is not None and found.ordered)
        tracked.append(0.0 if found is None else found.tracked)
        differences.append(float(clip.float().diff(dim=0).abs().mean()))
        warping.append(warping_error(clip, times))
    return {
        "recognised": statistics.fmean(right),
        "ordered": statistics.fmean(ordered),
        "tracked": statistics.fmean(tracked),
        "frame_difference": statistics.fmean(differences),
        "warping_error": statistics.fmean(warping),
    }


def warping_error(clip: torch.Tensor, times: torch.Tensor) -> float:
    large = clip.repeat_interleave(2, -1).repeat_interleave(2, -2)
    frames = [
        Frame(pixels, round(at * 1e6), Fraction(1, 1_000_000)) for pixels, at in zip(large, times.tolist(), strict=True)
    ]
    return measure_frames(frames, {"warping": WarpingError}, cuts=None)["warping_error"].value or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    words = [word for _ in range(args.seeds) for word in VOCABULARY]
    lengths = [length for seed in range(args.seeds) for length in durations(seed)]
    seconds = torch.stack([torch.linspace(0, length, FRAMES, dtype=torch.float64) for length in lengths])
    truth = [random_puppet(torch.Generator().manual_seed(n), text=word) for n, word in enumerate(words)]
    rendered = torch.stack([p.render(torch.linspace(0, p.seconds, FRAMES, dtype=torch.float64), 64, 64) for p in truth])
    rows: dict[str, Any] = {"truth": score(rendered, seconds, words)}
    for name in args.checkpoints:
        generator = VideoGenerator.from_pretrained(name)
        clips = []
        for begin in range(0, len(words), 28):
            part = slice(begin, begin + 28)
            ask = Ask(seconds[part], range(begin, begin + 28), text=words[part], guidance=args.guidance)
            clips.append(signal_to_pixels(generator.sample(ask, default_sampler(generator.objective))))
        rows[name] = score(torch.cat(clips), seconds, words)
    table = Table("", "recognised", "in order", "hands tracked", "frame difference", "warping error")
    for name, row in rows.items():
        shares = [f"{row[key]:.0%}" for key in ("recognised", "ordered", "tracked")]
        table.add_row(name, *shares, f"{row['frame_difference']:.2f}", f"{row['warping_error']:.4f}")
    Console().print(table)
    save(args.json, {"checkpoints": rows}, seeds=args.seeds, guidance=args.guidance)


if __name__ == "__main__":
    main()
