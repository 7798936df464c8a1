"""What a stream does beside its model and its decoder: processor time of each tick, taken apart within one run.

    python -m benchmarks.stream_overhead --checkpoint puppet-flow --frames 2000
    python -m benchmarks.stream_overhead --checkpoint puppet-flow --frames 400 --size S

A call of the denoiser is the model with guidance, times and levels filled in; decoding ends with pixels. Every way of
making a video does both. The rest is the stream's own: noise, times, driving pictures (which lie ready here),
conditions, what is kept in view, states, and frames as they are handed out. One thread; median and quartiles over
ticks with a full queue. `--size` puts a model of that size, untrained, in the place of the checkpoint's: what it says
means nothing, and takes the time that it takes.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from benchmarks.about import save
from benchmarks.stand_in import SIZES, enlarged

from legato.generate import VideoGenerator, stream
from legato.generate.driving import Drive
from legato.generate.stream import DRIVEN, VideoStream, drive_side_px
from legato.generate.stream_state import StreamAsk

PARTS = ("denoiser", "decoding", "rest")


def driven_stream(
    name: str, size: str | None, windows: int, frames_per_window: int, steps: int, drive_guidance: float
) -> VideoStream:
    generator = enlarged(VideoGenerator.from_pretrained(name), size)
    channels = int(getattr(generator.model, "drive_channels", 0))
    text = " ".join(generator.words[:2]) if getattr(generator.model, "text", None) is not None else None
    ask = StreamAsk(Fraction(24), text=text or None, drive_guidance=drive_guidance if channels else 1.0)
    drive = None
    if channels:
        ready = (torch.rand(64, channels, *drive_side_px(generator)) * 2 - 1).unbind()
        drive = Drive((number / 24, ready[number % len(ready)]) for number in itertools.count())
    window = replace(DRIVEN, windows=windows, frames_per_window=frames_per_window, steps=steps)
    return VideoStream(generator, ask, window, drive)


def spent_by_tick(running: VideoStream, frames: int) -> list[dict[str, float]]:
    """Processor milliseconds of each tick with a full queue, and of handing out the frames that it made."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **options: Any) -> Any:
            begun = time.process_time()
            made = call(*args, **options)
            spent[name] += time.process_time() - begun
            return made

        return inner

    generator: Any = running.generator
    telling = generator.denoiser
    generator.denoiser = lambda *told: timed("denoiser", telling(*told))
    generator.latents.decode_next = timed("decoding", generator.latents.decode_next)
    stream.whole_values = timed("decoding", stream.whole_values)  # type: ignore[attr-defined]
    stream._shown = timed("decoding", stream._shown)
    rows: list[dict[str, float]] = []
    begun: float | None = None
    for made in running.frames(running.begin(), frames):
        if made.shown < len(made.window.ready):
            continue
        now = time.process_time()
        if begun is not None:
            rest = now - begun - spent["denoiser"] - spent["decoding"]
            rows.append({name: 1000 * value for name, value in (spent | {"rest": rest}).items()})
        spent.update(dict.fromkeys(PARTS, 0.0))
        begun = time.process_time()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", choices=list(SIZES))
    parser.add_argument("--windows", type=int, default=DRIVEN.windows)
    parser.add_argument("--frames-per-window", type=int, default=DRIVEN.frames_per_window)
    parser.add_argument("--steps", type=int, default=1, help="calls of the denoiser a tick")
    parser.add_argument("--drive-guidance", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    running = driven_stream(
        args.checkpoint, args.size, args.windows, args.frames_per_window, args.steps, args.drive_guidance
    )
    with torch.inference_mode():  # as `legato stream` does: a tick has not to turn it on
        rows = spent_by_tick(running, args.frames)
    for name in PARTS:
        low, middle, high = statistics.quantiles([row[name] for row in rows], n=4)
        print(f"{name}: {middle:.2f} ms a tick (quartiles {low:.2f} to {high:.2f}), {len(rows)} ticks")
    shares = [row["rest"] / row["denoiser"] for row in rows]
    low, middle, high = statistics.quantiles(shares, n=4)
    print(f"rest over denoiser: {middle:.1%} (quartiles {low:.1%} to {high:.1%})")
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    save(args.json, {"ticks": rows}, **settings)


if __name__ == "__main__":
    main()
