"""Encode clips once, for the recipes that train on them.

    python recipes/bank.py physics
    python recipes/bank.py puppets
    python recipes/bank.py stretches
    python recipes/bank.py sentences
    python recipes/bank.py signs

`physics`: discs at even and uneven rates, up to a second of each, so that how fast they go has nothing to do with how
often they are seen; every other frame of 30 a second makes 15. `puppets`: the first seconds of sentences of one or two
signs, with pose maps; `stretches`: seconds from anywhere in sentences of up to four, or from their beginning, with some
in which nothing moves. `sentences`: whole ones, from rest to rest, and stretches of ones said over and over, with pose
maps; `signs`: of one sign, without them. Each goes to build/NAME-bank, encoded by the autoencoder in
build/WORLD-latents/final.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from legato.data.bank import write_bank
from legato.data.synthetic import Physics, Puppets
from legato.generate.latents import load_latents

KINDS = ("line", "line", "bounce", "swing", "turn")
SOURCES = {
    "physics": ("physics", Physics(64, 992, (31,), (30.0, 60.0), uneven=0.4, unknown=0.0, kinds=KINDS, seed=1)),
    "puppets": ("puppets", Puppets(64, 576, (48,), (0.8, 3.2), drive=1.0, drive_px=16, anywhere=0.0, seed=2)),
    "stretches": (
        "puppets",
        Puppets(64, 576, (48,), (0.8, 3.2), most_signs=4, drive=1.0, drive_px=16, anywhere=0.7, still=0.06, seed=11),
    ),
    "sentences": (
        "puppets",
        Puppets(64, 576, (48,), whole=True, most_signs=2, drive=1.0, drive_px=16, spans=(0.8, 3.2), again=0.4, seed=7),
    ),
    "signs": ("puppets", Puppets(64, 960, (24,), whole=True, most_signs=1, seed=5)),
}
BATCHES = {"physics": 3600, "puppets": 500, "stretches": 1400, "sentences": 480, "signs": 150}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(SOURCES))
    parser.add_argument("--out", type=Path, help="build/NAME-bank by default")
    parser.add_argument("--batches", type=int)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world, source = SOURCES[args.name]
    latents = load_latents({"kind": "tiny", "folder": f"build/{world}-latents/final"}, Path())
    out, batches = args.out or Path(f"build/{args.name}-bank"), args.batches or BATCHES[args.name]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(str(out), total=batches)
        write_bank(source, latents.encode, out, batches, told=lambda done: bar.update(task, completed=done))
    print(out)


if __name__ == "__main__":
    main()
