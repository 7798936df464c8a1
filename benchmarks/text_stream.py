"""Does a stream by text alone go on signing, and the word that it is told? Signs in it, found and recognised.

    python benchmarks/text_stream.py --checkpoint puppet-flow [--words 7] [--seconds 60] [--json OUT]

Each word is streamed from a picture of a puppet at rest. A sign is a stretch between two at which both hands hang where
they did at the beginning; it is recognised by time warping of the tracked hands, as in order.py. Said over and over at
a usual rate a word makes some 27 signs a minute. The table has signs a minute and the share that is the right one, over
the first and the last third, and the share of frames in which both hands are seen. `truth` are the puppets themselves.
"""

import argparse
import itertools
import statistics
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.puppets import Puppet, hand_positions, random_puppet
from legato.data.recognition import recognise
from legato.data.vocabulary import VOCABULARY
from legato.generate import VideoGenerator
from legato.generate.appearance import Appearance
from legato.generate.rolling import RollingWindow
from legato.generate.stream import UNDRIVEN, VideoStream
from legato.generate.stream_state import StreamAsk

RATE, SIDE_PX = 24, 64
NEAR = 0.07  # of the frame: so near to where they hung do hands rest
SHORTEST_SECONDS = 0.4


def signs(hands: torch.Tensor, rest: torch.Tensor) -> Iterator[slice]:
    """Stretches between rests, with a frame of rest on both sides."""
    resting = ((hands - rest).norm(dim=-1) < NEAR).all(1)
    at = resting.nonzero()[:, 0].tolist()
    for before, after in itertools.pairwise(at):
        if after - before > SHORTEST_SECONDS * RATE:
            yield slice(max(0, before - 1), after + 2)


def judged(hands: torch.Tensor, rest: torch.Tensor, word: str) -> dict[str, float]:
    """Signs a minute and how many of them are right; hands as fractions of the frame."""
    found = [recognise(hands[part]) for part in signs(hands, rest)]
    right = [one is not None and one.word == word for one in found]
    return {
        "signs_per_minute": len(found) / (len(hands) / RATE / 60),
        "right_per_minute": sum(right) / (len(hands) / RATE / 60),
        "seen": float(hands.isfinite().all(-1).all(-1).float().mean()),
    }


def streamed(
    generator: VideoGenerator, window: RollingWindow, puppet: Puppet, args: argparse.Namespace
) -> torch.Tensor:
    ask = StreamAsk(Fraction(RATE), args.seed, text=puppet.text[0], guidance=args.guidance)
    stream = VideoStream(generator, ask, window)
    begun = stream.begin(stream.reference(puppet.render([0.0], SIDE_PX, SIDE_PX)[0]))
    frames = stream.frames(begun, round(args.seconds * RATE))
    return torch.cat([hand_positions(made.frame.pixels[None]) for made in frames]) / SIDE_PX


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True)
    parser.add_argument("--words", type=int, default=7, help="every so-manieth of the vocabulary, so many")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--windows", type=int, default=UNDRIVEN.windows)
    parser.add_argument("--frames-per-window", type=int, default=UNDRIVEN.frames_per_window)
    parser.add_argument("--steps", type=int, default=UNDRIVEN.steps)
    parser.add_argument("--context", type=int, default=UNDRIVEN.context_frames)
    parser.add_argument("--sink", type=int, default=UNDRIVEN.appearance.sink_frames)
    parser.add_argument("--fresh-above", type=float, default=UNDRIVEN.fresh_above)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    window = RollingWindow(
        args.windows, args.frames_per_window, args.steps, context_frames=args.context,
        appearance=Appearance(args.sink), fresh_above=args.fresh_above,
    )  # fmt: skip
    words = list(VOCABULARY)[:: max(1, len(VOCABULARY) // args.words)][: args.words]
    puppets = [random_puppet(torch.Generator().manual_seed(70_000 + n), text=word) for n, word in enumerate(words)]
    rows: dict[str, Any] = {}
    for name in ("truth", *args.checkpoint):
        generator = None if name == "truth" else VideoGenerator.from_pretrained(name)
        parts: dict[str, list[dict[str, float]]] = {"first": [], "last": []}
        for puppet in puppets:
            if generator is None:
                times = torch.arange(round(args.seconds * RATE), dtype=torch.float64) / RATE % puppet.seconds
                hands = puppet.hands(times).float()
            else:
                hands = streamed(generator, window, puppet, args)
            rest, third = puppet.hands([0.0])[0].float(), len(hands) // 3
            parts["first"].append(judged(hands[:third], rest, puppet.text[0]))
            parts["last"].append(judged(hands[-third:], rest, puppet.text[0]))
        rows[name] = {
            part: {key: statistics.fmean(row[key] for row in found) for key in found[0]}
            for part, found in parts.items()
        }
    table = Table("", "signs a minute, first and last third", "of the word", "hands seen")
    for name, row in rows.items():
        first, last = row["first"], row["last"]
        cells = [
            f"{first['signs_per_minute']:.1f}, {last['signs_per_minute']:.1f}",
            f"{first['right_per_minute']:.1f}, {last['right_per_minute']:.1f}",
            f"{first['seen']:.0%}, {last['seen']:.0%}",
        ]
        table.add_row(name, *cells)
    Console().print(table)
    save(args.json, {"checkpoints": rows}, **{key: value for key, value in vars(args).items() if key != "json"})


if __name__ == "__main__":
    main()
