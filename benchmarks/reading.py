"""How fast is reading through `open_video`, against PyAV alone?

    python benchmarks/reading.py --videos clip.mp4 other.mkv --json reading.json

All ways of reading take turns in one process, with the codec's own threads; figures are frames per second, median
and interquartile range over the rounds, the median of each round's ratio to raw PyAV, and CPU time per frame, which
other load on the machine disturbs less. "raw" is `to_ndarray` as
PyAV documents it, "raw tuned" the best that we know to do with PyAV; "decode" makes no RGB, and so is the ceiling.
`--work-ms` spends time on every frame, as a model on another device would: then reading ahead pays.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
from about import save
from av.video.reformatter import VideoReformatter

import legato
from legato.video.prefetch import prefetched


def decode(path: Path) -> Iterator[object]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


def raw(path: Path) -> Iterator[object]:
    return (picture.to_ndarray(format="rgb24") for picture in decode(path))


def raw_tuned(path: Path) -> Iterator[object]:
    """With one scaler kept for all frames, and without its threads, which cost more than they bring."""
    scaler = VideoReformatter()
    return (scaler.reformat(picture, format="rgb24", threads=1).to_ndarray() for picture in decode(path))


def read(path: Path) -> Iterator[object]:
    with legato.open_video(path) as video:
        yield from video


def read_ahead(path: Path) -> Iterator[object]:
    with legato.open_video(path) as video:
        yield from prefetched(video)


WAYS: dict[str, Callable[[Path], Iterator[object]]] = {
    "decode": decode,
    "raw": raw,
    "raw tuned": raw_tuned,
    "read": read,
    "read ahead": read_ahead,
}


def run(way: Callable[[Path], Iterator[object]], path: Path, frames: int, work_seconds: float) -> tuple[float, float]:
    """Frames per second, and CPU milliseconds per frame, of all threads."""
    start, cpu_start, count = time.perf_counter(), time.process_time(), 0
    for _ in islice(way(path), frames):
        count += 1
        if work_seconds:
            time.sleep(work_seconds)
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - cpu_start) / count


def measure(path: Path, rounds: int, frames: int, work_seconds: float) -> dict[str, dict[str, float]]:
    """Median, quartiles and ratio to "raw" of every way; the order turns from round to round."""
    names = list(WAYS)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            speed, cost = run(WAYS[name], path, frames, work_seconds)
            if turn:  # the first round warms up
                speeds[name].append(speed)
                costs[name].append(cost)
    figures = {}
    for name, values in speeds.items():
        low, median, high = statistics.quantiles(values, n=4)
        ratios = [value / base for value, base in zip(values, speeds["raw"], strict=True)]
        figures[name] = {
            "median": median,
            "low": low,
            "high": high,
            "of_raw": statistics.median(ratios),
            "cpu_ms": statistics.median(costs[name]),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--work-ms", type=float, default=0.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{'frames per second':36}" + "".join(f"{name:>24}" for name in WAYS))
    results = {}
    for path in arguments.videos:
        figures = measure(path, arguments.rounds, arguments.frames, arguments.work_ms / 1000)
        with legato.open_video(path) as video:
            label = f"{path.name[:24]} {video.info.width}x{video.info.height}"
        cells = (f"{f['median']:.0f} ({f['low']:.0f}-{f['high']:.0f}) {f['of_raw']:.0%}" for f in figures.values())
        print(f"{label:36}" + "".join(f"{cell:>24}" for cell in cells))
        cells = (f"{f['cpu_ms']:.2f} ms CPU" for f in figures.values())
        print(f"{'':36}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
        results[str(path.name)] = figures
    settings = {"rounds": arguments.rounds, "frames": arguments.frames, "work_ms": arguments.work_ms}
    save(arguments.json, {"videos": results}, **settings)


if __name__ == "__main__":
    main()
