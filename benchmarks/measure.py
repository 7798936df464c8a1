"""How fast `legato measure` is, what reacts to which fault, and whether cheats rank below their originals.

    python -m benchmarks.measure speed --videos CLIP [CLIP ...]
    python -m benchmarks.measure matrix --videos CLIP [CLIP ...]
    python -m benchmarks.measure cheats --videos DIR
    python -m benchmarks.measure playback --videos DIR
    python -m benchmarks.measure memory

`speed` reads each clip through the default metrics, controls included, at the analysis size. `matrix` gives each
measure's change under each fault, in units of its spread over the sound clips. `cheats` freezes, nearly freezes
(each frame 95 % the first one; every fourth frame held) and shuffles each clip and compares coherence scores.
`playback` plays each clip at half, twice and three times its speed and says how the measured speed follows.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from benchmarks.about import save
from tests import faults

from legato.cli.measure import ANALYSIS_SIDE_PX
from legato.metrics import DEFAULT_METRICS, measure_frames
from legato.video import Frame, open_reduced

FAULTS: dict[str, Callable[[list[Frame]], list[Frame]]] = {
    "flicker 6 Hz": lambda c: faults.brightness_flicker(c, 6, 0.1),
    "jitter": lambda c: faults.jitter(c, 0.005),
    "seam / 12": lambda c: faults.seams(c, 12, 0.05),
    "freeze": lambda c: faults.freeze(c, 20, 12),
    "dropped": lambda c: faults.dropped(c, [25, 26, 27], leave_gap=False),
    "gap": lambda c: faults.dropped(c, [25, 26, 27], leave_gap=True),
    "ghost": lambda c: faults.ghost(c, 0.4),
    "colour": lambda c: faults.colour_drift(c, 0.06),
    "blur": lambda c: faults.resharpened(c, 1.0),
    "2 x speed": lambda c: faults.played(c, 2.0),
    "time jitter": lambda c: faults.time_jitter(c, 0.4),
    "shuffled": faults.shuffled,
}


def speed(paths: list[Path], rounds: int) -> list[dict[str, object]]:
    rows = []
    for path in paths:
        rates = []
        for _ in range(rounds):
            with open_reduced(path, ANALYSIS_SIDE_PX) as video:
                started = time.perf_counter()
                found = measure_frames(video, controls=True)
                rates.append(found.frames / (time.perf_counter() - started))
                size = f"{video.info.width}x{video.info.height}"
        rows.append({"clip": path.stem, "size": size, "frames": found.frames, "fps": statistics.median(rates)})
        print(f"{path.stem:34s} {size:>10s} {found.frames:5d} frames  {rows[-1]['fps']:6.1f} frames/s", flush=True)
    return rows


def matrix(paths: list[Path]) -> dict[str, dict[str, float]]:
    clips = [faults.loaded(str(path)) for path in paths]
    sound = [values_of(clip) for clip in clips]
    changes: dict[str, dict[str, list[float]]] = {}
    for fault, make in FAULTS.items():
        for clip, usual in zip(clips, sound, strict=True):
            for name, value in values_of(make(clip)).items():
                if value is not None and usual.get(name) is not None:
                    changes.setdefault(name, {}).setdefault(fault, []).append(value - usual[name])
    table = {}
    for name, row in changes.items():
        spread = max(float(np.std([v[name] for v in sound if v.get(name) is not None])), 1e-9)
        floor = max(spread, 0.02 * abs(float(np.mean([v[name] for v in sound if v.get(name) is not None]))), 1e-6)
        table[name] = {fault: float(np.median(deltas)) / floor for fault, deltas in row.items()}
    print("| measure | " + " | ".join(FAULTS) + " |")
    print("|---|" + "---|" * len(FAULTS))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(sign(row.get(fault)) for fault in FAULTS) + " |")
    return table


def sign(change: float | None) -> str:
    if change is None or abs(change) < 0.5:
        return ""
    mark = "+" if change > 0 else "−"
    return mark * (1 if abs(change) < 2 else 2 if abs(change) < 10 else 3)


def values_of(frames: list[Frame]) -> dict[str, float | None]:
    return {m.name: m.value for m in measure_frames(frames).measurements}


def cheats(paths: list[Path]) -> dict[str, dict[str, float]]:
    rows, wrong = {}, 0
    for path in paths:
        clip = faults.loaded(str(path), most=90)
        first = faults.image_of(clip[0])
        versions = {
            "original": clip,
            "frozen": [faults.with_pixels(f, first) for f in clip],
            "nearly frozen": [faults.with_pixels(f, 0.95 * first + 0.05 * faults.image_of(f)) for f in clip],
            "held by 4": [faults.with_pixels(f, faults.image_of(clip[i // 4 * 4])) for i, f in enumerate(clip)],
            "shuffled": faults.shuffled(clip),
        }
        order = {"order": DEFAULT_METRICS["order"]}
        scores = {k: measure_frames(v, order, cuts=None)["coherence_score"].value or 0.0 for k, v in versions.items()}
        right = all(scores["original"] > score for kind, score in scores.items() if kind != "original")
        wrong += not right
        rows[path.stem] = scores
        told = "  ".join(f"{kind} {score:.3f}" for kind, score in scores.items())
        print(f"{path.stem:34s} {told}  {'' if right else 'WRONG'}", flush=True)
    print(f"{len(rows) - wrong} of {len(rows)} clips rank above all their cheats")
    return rows


def playback(paths: list[Path]) -> dict[str, dict[str, float]]:
    rows = {}
    for path in paths:
        clip = faults.loaded(str(path))

        def measured(frames: list[Frame]) -> float:
            return measure_frames(frames, {"speed": DEFAULT_METRICS["speed"]})["speed"].value or 0.0

        usual = measured(clip)
        rows[path.stem] = {f"{s:g} x": measured(faults.played(clip, s)) / usual for s in (0.5, 2.0, 3.0) if usual}
        print(f"{path.stem:34s} " + "  ".join(f"{s} {ratio:.2f}" for s, ratio in rows[path.stem].items()), flush=True)
    for speed in ("0.5 x", "2 x", "3 x"):
        ratios = np.quantile([row[speed] for row in rows.values() if row], [0, 0.25, 0.5, 0.75, 1])
        print(f"{speed}: lowest, quartiles and highest " + ", ".join(f"{ratio:.2f}" for ratio in ratios))
    return rows


def memory() -> dict[str, float]:
    """Peak memory after 200 and after 2,000 frames of 640 x 360."""
    frames = faults.moving_scene(seconds=2, height=360, width=640)

    def endless(count: int) -> Iterator[Frame]:
        for number in range(count):
            yield Frame(frames[number % len(frames)].pixels, number, frames[0].time_base * frames[1].pts)

    peaks = {}
    for count in (200, 2000):
        measure_frames(islice(endless(count), count), cuts=None)
        peaks[f"{count} frames"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak after {count} frames: {peaks[f'{count} frames']:.0f} MiB", flush=True)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["speed", "matrix", "cheats", "playback", "memory"])
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    suffixes = {".mp4", ".mkv", ".avi", ".webm"}
    paths = sorted(
        file
        for place in args.videos
        for file in (place.rglob("*") if place.is_dir() else [place])
        if file.suffix in suffixes
    )
    asked = {
        "speed": lambda: speed(paths, args.rounds),
        "matrix": lambda: matrix(paths),
        "cheats": lambda: cheats(paths),
        "playback": lambda: playback(paths),
    }
    result = asked[args.question]() if args.question in asked else memory()
    videos = [path.name for path in paths]
    save(args.json, {args.question: result}, videos=videos, rounds=args.rounds, side_px=ANALYSIS_SIDE_PX)


if __name__ == "__main__":
    main()
