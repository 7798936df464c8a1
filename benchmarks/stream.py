"""What does a long video cost, made in five ways, and does it show where the pieces meet?

    python benchmarks/stream.py --checkpoint puppet-flow [--lengths 48 96 192] [--quick] [--json OUT]

A signing puppet's pose maps drive one model; every way makes the same number of calls on a frame's way from noise. Each
runs in a process of its own: peak memory above what is there before the first call, time per frame, time to the first
frame. Seams: second differences of the pixels, and of the tracked hands, in the frames next to a boundary over those
elsewhere (1: none); the same boundaries on the truth are the control. Hands: distance from the drive's, in the share of
frames where both are seen. Drift: mean level of the last second less that of the first.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import pixels_to_signal
from legato.data.puppets import hand_positions, random_puppet
from legato.generate import VideoGenerator
from legato.generate.driving import Drive
from legato.generate.rolling import RollingWindow
from legato.generate.strategies import (
    AllAtOnce,
    IndependentBatches,
    OverlappingBatches,
    SlidingWindow,
    Strategy,
    Streaming,
)
from legato.generate.stream import StreamAsk, drive_side_px

RATE = 24
CALLS = 8
DRIVE_GUIDANCE = 2.5
WINDOW = RollingWindow(windows=8, frames_per_window=3, context_frames=2)
WAYS: dict[str, Callable[[], Strategy]] = {
    "all at once": lambda: AllAtOnce(CALLS),
    "independent": lambda: IndependentBatches(24, CALLS),
    "overlap, discard": lambda: OverlappingBatches(24, 6, False, CALLS),
    "overlap, blend": lambda: OverlappingBatches(24, 6, True, CALLS),
    "overlap 12, blend": lambda: OverlappingBatches(24, 12, True, CALLS),
    "precomputed": lambda: SlidingWindow(WINDOW),
    "streaming": lambda: Streaming(WINDOW),
}


def driven(count: int) -> tuple[list[float], Any, str]:
    """Seconds of a puppet's own clock, which begins anew when its sentence is over; the puppet; its text."""
    puppet = random_puppet(torch.Generator().manual_seed(9_000_001), text="hello friend")
    return [(n / RATE) % puppet.seconds for n in range(count)], puppet, " ".join(puppet.text)


def poses(count: int, height: int, width: int) -> Iterator[tuple[float, torch.Tensor]]:
    times, puppet, _ = driven(count)
    for number, at in enumerate(times):
        yield number / RATE, pixels_to_signal(puppet.poses([at], height, width)[0])


class PeakMemory:
    """Watches this process's resident memory from a thread."""

    def __enter__(self) -> "PeakMemory":
        self._process, self._over = psutil.Process(), threading.Event()
        self.start = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss)


def apart(signal: torch.Tensor, boundaries: list[int]) -> float | None:
    """Mean second difference of the frames on both sides of each boundary over the mean of all others."""
    second = (signal[2:] - 2 * signal[1:-1] + signal[:-2]).flatten(1).abs().mean(1)  # of frames 1 to the last but one
    beside = torch.zeros(len(signal), dtype=torch.bool)
    for at in boundaries:
        beside[[at - 1, at]] = True
    beside, seen = beside[1:-1], second.isfinite()
    if not (beside & seen).any() or not (~beside & seen).any():
        return None
    return float(second[beside & seen].mean() / second[~beside & seen].mean())


def measure(name: str, checkpoint: str, count: int) -> dict[str, Any]:
    """One way at one length, in this process."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    generator = VideoGenerator.from_pretrained(checkpoint)
    times, puppet, text = driven(count)
    height, width = drive_side_px(generator)
    strategy, ask = WAYS[name](), StreamAsk(Fraction(RATE), text=text, drive_guidance=DRIVE_GUIDANCE)
    list(Streaming(RollingWindow(2, 2)).pieces(generator, ask, 2))  # libraries are loaded
    made, first = [], None
    with PeakMemory() as memory:
        begun = time.monotonic()
        for piece in strategy.pieces(generator, ask, count, Drive(poses(count, height, width))):
            first = first or time.monotonic() - begun
            made.append(piece)
        wall = time.monotonic() - begun
    frames, truth = torch.cat(made), puppet.render(times, generator.height, generator.width)
    hands, wanted = hand_positions(frames), hand_positions(truth)
    boundaries = strategy.boundaries(count)
    return {
        "peak_mib": (memory.most - memory.start) / 2**20,
        "seconds_per_frame": wall / count,
        "first_frame_seconds": first,
        "seam_pixels": apart(frames.float(), boundaries),
        "seam_pixels_truth": apart(truth.float(), boundaries),
        "seam_hands": apart(hands, boundaries),
        "hand_error": float((hands - wanted).norm(dim=-1).nanmean() / generator.height),
        "hands_seen": float(hands.isfinite().all(-1).float().mean()),
        "drift": float(frames[-RATE:].float().mean() - frames[:RATE].float().mean()),
        "pixels_mib": frames.numel() / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--lengths", type=int, nargs="*", default=[48, 192, 768])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--quick", action="store_true", help="48 and 96 frames")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FRAMES"), help="only that, as JSON; used within")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], args.checkpoint, int(args.one[1]))))
        return
    rows: dict[str, dict[str, Any]] = {}
    table = Table(
        "frames", "way", "peak MiB", "ms/frame", "first frame s", "seam (truth)", "hands", "hand error", "drift"
    )
    for count in (48, 96) if args.quick else args.lengths:
        for name in args.ways:
            words = [sys.executable, __file__, "--checkpoint", args.checkpoint, "--one", name, str(count)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                rows[f"{name}, {count}"] = {"failed": done.stderr.strip().splitlines()[-1:]}
                table.add_row(str(count), name, f"failed ({done.returncode})")
                continue
            one = rows[f"{name}, {count}"] = json.loads(done.stdout)
            seam = [f"{one[k]:.2f}" if one[k] else "-" for k in ("seam_pixels", "seam_pixels_truth", "seam_hands")]
            table.add_row(
                str(count), name, f"{one['peak_mib']:.0f}", f"{1000 * one['seconds_per_frame']:.1f}",
                f"{one['first_frame_seconds']:.2f}", f"{seam[0]} ({seam[1]})", seam[2],
                f"{one['hand_error']:.3f} ({one['hands_seen']:.0%})", f"{one['drift']:+.1f}",
            )  # fmt: skip
    Console(width=140).print(table)
    save(
        args.json,
        {"ways": rows},
        checkpoint=args.checkpoint,
        rate=RATE,
        calls=CALLS,
        window=repr(WINDOW),
        drive_guidance=DRIVE_GUIDANCE,
    )


if __name__ == "__main__":
    main()
