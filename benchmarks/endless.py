"""Whether a stream stays as small and as fast as it began: memory and time a frame over a long run of a reduced model.

    python -m benchmarks.endless --frames 100000
    python -m benchmarks.endless --frames 20000 --latents wan

A small random `VideoDiT`, driven, with every bank full (context, sink, keyframes), in the latents of a small random
autoencoder: of single frames, or of diffusers' Wan, whose decoder keeps caches. Frames are thrown away. Resident
memory and what malloc has given out (Linux) are read every hundredth of the run.
"""

import argparse
import ctypes
import itertools
import statistics
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import psutil
import torch
from benchmarks.about import save
from torch import Tensor, nn

from legato.generate import FlowMatching, VideoDiT, VideoGenerator
from legato.generate.appearance import Appearance
from legato.generate.driving import Drive
from legato.generate.latents import DiffusersLatents, Latents, TinyAutoencoder
from legato.generate.rolling import RollingWindow
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk

SIDE_PX = 16
EARLY_FRAMES = 100


def tiny() -> Latents:
    return TinyAutoencoder(4, (8, 8), 2).requires_grad_(False)


def wan() -> Latents:
    from diffusers import AutoencoderKLWan

    plain = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    return DiffusersLatents(AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **plain))


LATENTS = {"tiny": tiny, "wan": wan}


def endless_stream(latents: Latents) -> VideoStream:
    cells = SIDE_PX // latents.stride_px
    model = VideoDiT(latents.channels, patch_px=cells, width=32, depth=1, heads=2, drive_channels=1, text_bytes=8)
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.1)
    generator = VideoGenerator(model.eval(), FlowMatching(), SIDE_PX, SIDE_PX, latents=latents)
    patterns = torch.rand(64, 1, cells, cells)

    def pictures() -> Iterator[tuple[float, Tensor]]:
        for number in itertools.count():
            yield number / 24, patterns[number * 29 % len(patterns)]

    window = RollingWindow(3, 8, context_frames=2, appearance=Appearance(sink_frames=1, keyframes=4, novelty=0.01))
    return VideoStream(generator, StreamAsk(Fraction(24), text="on"), window, Drive(pictures()))


def allocated_bytes() -> int | None:
    """What malloc has given out and not got back; None where the C library does not say."""
    try:
        told = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return None

    class Info(ctypes.Structure):
        _fields_ = [(f"word_{number}", ctypes.c_size_t) for number in range(10)]  # the fifth and the eighth count

    told.restype = Info
    info = told()
    return int(info.word_4 + info.word_7)  # mapped by themselves, and out of arenas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--latents", choices=sorted(LATENTS), default="tiny")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    running, process = endless_stream(LATENTS[args.latents]()), psutil.Process()
    every = max(EARLY_FRAMES, args.frames // 100)
    rows, begun = [], time.process_time()
    for number, made in enumerate(running.frames(running.begin(), args.frames), start=1):
        if number != EARLY_FRAMES and number % every:
            continue
        spent, begun = time.process_time() - begun, time.process_time()
        since = number - (rows[-1]["frame"] if rows else 0)
        sizes = {"rss": process.memory_info().rss, "allocated": allocated_bytes(), "state": made.state.nbytes}
        rows.append({"frame": number, "cpu_ms_per_frame": 1000 * spent / since, **sizes})
        begun = time.process_time()
    kept = made.state.rolling
    print(f"state: {kept}, {made.state.nbytes} bytes; at most {running.window.most_frames} latent frames in view")
    early = rows[0]
    for name in ("rss", "allocated", "state"):
        if early[name] is None:
            continue
        most, last = max(row[name] for row in rows), rows[-1][name]
        told = f"{early[name] / 2**20:.2f} MiB after {EARLY_FRAMES}, {last / 2**20:.2f} after {args.frames}"
        print(f"{name}: {told} ({last / early[name] - 1:+.2%}), at most {most / early[name] - 1:+.2%}")
    tenths = [rows[i : i + len(rows) // 10] for i in range(0, len(rows), max(1, len(rows) // 10))]
    medians = [statistics.median(row["cpu_ms_per_frame"] for row in part) for part in tenths if part]
    print("CPU ms a frame, median of each tenth: " + ", ".join(f"{value:.2f}" for value in medians))
    save(args.json, {"rows": rows}, frames=args.frames, latents=args.latents, most_frames=running.window.most_frames)


if __name__ == "__main__":
    main()
