"""Signing puppets at 15, 30 and 60 frames a second, side by side: the picture in the README.

    python benchmarks/sheets.py --checkpoint puppet-flow --out docs/images/puppets.png [--words hello book]

For each word three rows, one seed: generated at 15, 30 and 60 frames a second, and of each the frames at equal seconds.
Prints the share of all generated frames in which both hands are tracked.
"""

import argparse
from pathlib import Path

import torch

from legato.data.batch import signal_to_pixels
from legato.data.puppets import hand_positions
from legato.generate import Ask, VideoGenerator
from legato.report.sheets import contact_sheet

RATES = (15, 30, 60)
SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", nargs="+", default=["hello", "book"])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    rows, tracked = [], []
    for number, word in enumerate(args.words):
        for rate in RATES:
            every = rate // RATES[0]
            seconds = torch.arange(SHOWN * every, dtype=torch.float64)[None] / rate
            ask = Ask(seconds, [args.seed + number], text=[word], guidance=args.guidance)
            clip = signal_to_pixels(generator.sample(ask))
            tracked.append(hand_positions(clip[0]).isfinite().all(-1).all(-1))
            rows.append(clip[0, ::every])
    contact_sheet(args.out, torch.stack(rows), torch.arange(SHOWN, dtype=torch.float64) / RATES[0])
    print(f"{args.out}: both hands are tracked in {float(torch.cat(tracked).float().mean()):.0%} of the frames")


if __name__ == "__main__":
    main()
