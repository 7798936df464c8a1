"""What reuse costs where it cannot gain: looking alone, noise that changes everything, and memory over length.

    python benchmarks/limits.py --model build/vit-s14 --layer 9 --size 392 --json OUT.json

- look: change, noise, cut and plan on 1280 x 720 frames, one thread, with and without resizing;
- noise: every frame new random pixels; dense and reuse take turns on the same frames;
- memory: peak resident memory of watching 100 and 2,000 frames, each in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
import transformers
from about import save

from legato.data.scenes import Disc, Linear, Scene, Texture
from legato.reuse import ReuseEncoder
from legato.reuse.track import Track, fitted
from legato.understand.watch import watch
from legato.video import Frame


def frame_of(image: np.ndarray, index: int) -> Frame:
    return Frame(torch.from_numpy(image).permute(2, 0, 1), index, Fraction(1, 30))


def look_ms(encoder: ReuseEncoder, *, resize: bool, count: int = 60) -> dict[str, float]:
    """A textured disc that crosses a 720p picture; median and 95th percentile over frames.

    Without `resize` the picture comes at the encoder's size, as the decoder gives it to `legato watch`.
    """
    disc = Disc(Linear(start=(0.1, 0.5), velocity=(0.3, 0.0)), radius=0.2, texture=Texture(seed=1))
    scene = Scene(things=(disc,), background=Texture(seed=2))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    track: Track | None = None
    spent = []
    for index in range(count):
        image = scene.render([index / 30], 720, 1280)[0].permute(1, 2, 0).contiguous().numpy()
        frame = frame_of(image, index)
        if not resize:
            frame = Frame(fitted(frame, encoder.size_px), frame.pts, frame.time_base)
        sight = encoder.lookout.look(frame, track)
        track = sight.track
        spent.append(sight.look_seconds * 1000)
    return {"median": float(np.median(spent[1:])), "p95": float(np.percentile(spent[1:], 95))}


def noise_ratio(encoder: ReuseEncoder, count: int = 120) -> dict[str, float]:
    """Dense time over reuse time on pure noise, 1 or less by nature; median and quartiles over frames."""
    random = np.random.default_rng(0)
    state, ratios = None, []
    for index in range(count):
        frame = frame_of(random.integers(0, 256, (*encoder.size_px, 3), dtype=np.uint8), index)

        def reuse(frame: Frame = frame) -> float:
            nonlocal state
            started = time.perf_counter()
            out = encoder(frame, state)
            spent = time.perf_counter() - started
            state = out.state
            return spent

        def dense(frame: Frame = frame) -> float:
            started = time.perf_counter()
            encoder.dense(frame)
            return time.perf_counter() - started

        first, second = (dense, reuse) if index % 2 else (reuse, dense)
        spent = {first: first(), second: second()}
        if index >= 4:
            ratios.append(spent[dense] / spent[reuse])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {"median": float(middle), "quartiles": [float(low), float(high)]}


def long_stream(count: int, side_px: int) -> Iterator[Frame]:
    """A small bright square that wanders over a still picture."""
    ground = np.random.default_rng(0).integers(60, 120, (side_px, side_px, 3), dtype=np.uint8)
    for index in range(count):
        image = ground.copy()
        at = (index * 3) % (side_px - 20)
        image[at : at + 20, at : at + 20] = 250
        yield frame_of(image, index)


def peak_mebibytes(frames: int) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--memory-of", str(frames)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="legato-tiny")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if args.memory_of:
        encoder = ReuseEncoder.from_pretrained("legato-tiny")
        for _ in watch(long_stream(args.memory_of, encoder.size_px[0]), encoder):
            pass
        # not ru_maxrss, which a child process takes over from its parent
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(line.split()[1]) / 1024)
        return
    size = {"size_px": (args.size, args.size)} if args.size else {}
    encoder = ReuseEncoder.from_pretrained(args.model, layer=args.layer, **size)
    result = {
        "noise_dense_over_reuse": noise_ratio(encoder),
        "look_720p_ms": look_ms(encoder, resize=False),
    }
    result["look_720p_with_resizing_ms"] = look_ms(encoder, resize=True)
    result["peak_mebibytes"] = {str(n): peak_mebibytes(n) for n in (100, 2000)}
    print(json.dumps(result, indent=1))
    save(args.json, result, model=args.model, layer=args.layer, size=args.size, seed=0)


if __name__ == "__main__":
    main()
