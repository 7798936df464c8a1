"""Does reading survive damaged files? Small clips of many formats are damaged by seed and read in workers.

    python benchmarks/fuzz.py --files 1200 --json fuzz.json

Each damaged file has to end, within 10 s, in frames with rising times or in a `VideoError`, and random access has
to find the frames that iterating has found. A crash, a hang or any other exception is a failure, and makes the
exit status 1. "astray" counts files in which random access before any pass finds other frames than iterating.
"""

import argparse
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue

import av
import numpy as np

LIMIT_SECONDS = 10.0
MAX_FRAMES = 200  # of a file with damaged counts or duplicated blocks
MAX_PIXELS = 2**28  # of all frames of a file together
MEMORY_BYTES = 6 * 2**30
FRAMES, HEIGHT, WIDTH = 24, 64, 96


@dataclass(frozen=True)
class Format:
    name: str
    container: str
    codec: str
    pixel_format: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    container_options: tuple[tuple[str, str], ...] = ()


FORMATS = (
    Format("h264.mp4", "mp4", "libx264", options=(("g", "8"),)),
    Format("h264-fragments.mp4", "mp4", "libx264", "yuv444p", (("g", "8"),), (("movflags", "frag_keyframe"),)),
    Format("h264.mkv", "matroska", "libx264", options=(("g", "8"),)),
    Format("h264.ts", "mpegts", "libx264", options=(("g", "8"),)),
    Format("h264.h264", "h264", "libx264", options=(("g", "8"),)),
    Format("hevc10.mp4", "mp4", "libx265", "yuv420p10le", (("x265-params", "log-level=none:keyint=8"),)),
    Format("vp9.webm", "webm", "libvpx-vp9", options=(("g", "8"), ("cpu-used", "8"))),
    Format("mpeg4.avi", "avi", "mpeg4", options=(("g", "8"), ("bf", "2"))),
    Format("mjpeg.avi", "avi", "mjpeg", "yuvj420p"),
    Format("mpeg2.mpg", "mpeg", "mpeg2video", options=(("g", "8"), ("bf", "2"))),
    Format("ffv1.mkv", "matroska", "ffv1", "yuv422p"),
    Format("palette.gif", "gif", "gif", "rgb8"),
)


def make_clip(kind: Format, path: Path) -> None:
    """Writes a small clip with uneven times, with PyAV alone."""
    base = Fraction(1, 25) if kind.container in ("avi", "mpeg") else Fraction(1, 100)
    noise = np.random.default_rng(1).integers(0, 60, (HEIGHT, WIDTH, 3))
    with av.open(str(path), "w", format=kind.container, container_options=dict(kind.container_options)) as output:
        stream = output.add_stream(kind.codec, rate=25, options=dict(kind.options), time_base=base)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, kind.pixel_format
        stream.codec_context.time_base = base
        for i in range(FRAMES):
            rgb = np.roll(noise, 3 * i, axis=1) + 5 * i
            rgb[10:30, 2 * i : 2 * i + 20] = 220
            picture = av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")
            picture.pts, picture.time_base = (i if base == Fraction(1, 25) else 4 * i + i % 3), base
            output.mux(stream.encode(picture))
        output.mux(stream.encode())


def flip(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    data[rng.integers(0, len(data), rng.integers(1, 33))] ^= rng.integers(1, 256, dtype=np.uint8)
    return data


def flip_header(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    data[rng.integers(0, min(len(data), 1024), rng.integers(1, 9))] = rng.integers(0, 256, dtype=np.uint8)
    return data


def flip_tail(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    data[-rng.integers(1, min(len(data), 2048), rng.integers(1, 9))] = rng.integers(0, 256, dtype=np.uint8)
    return data


def saturate(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The largest number where a length, a count or a size may stand."""
    at = rng.integers(0, min(len(data), 2048))
    data[at : at + rng.integers(2, 9)] = 255
    return data


def truncate(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return data[: rng.integers(1, len(data))]


def blank(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start, end = np.sort(rng.integers(0, len(data), 2))
    data[start : min(end, start + 4096)] = 0
    return data


def scramble(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start = rng.integers(0, len(data))
    block = data[start : start + rng.integers(1, 2048)]
    block[:] = rng.integers(0, 256, len(block), dtype=np.uint8)
    return data


def cut_out(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start, end = np.sort(rng.integers(0, len(data), 2))
    return np.concatenate([data[:start], data[min(end, start + 4096) :]])


def splice(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the file, then the other half from somewhere else."""
    return np.concatenate([data[: rng.integers(1, len(data))], data[rng.integers(0, len(data)) :]])


def duplicate(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start, end = np.sort(rng.integers(0, len(data), 2))
    return np.concatenate([data[:end], data[start:]])


DAMAGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    flip, flip_header, flip_tail, saturate, truncate, blank, scramble, cut_out, splice, duplicate,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A damaged file, made again by `damaged` from its seed and number, and what came of reading it."""

    number: int
    seed: int
    format: str
    damage: str
    outcome: str
    seconds: float
    peak_mib: int

    @property
    def failed(self) -> bool:
        return self.outcome.startswith(("crash", "hang", "wrong"))


def damaged(clean: bytes, seed: int, number: int) -> tuple[str, bytes]:
    """Name of the damage and the damaged bytes of file `number`."""
    damage = DAMAGES[number // len(FORMATS) % len(DAMAGES)]
    rng = np.random.default_rng([seed, number])
    return damage.__name__, damage(np.frombuffer(clean, np.uint8).copy(), rng).tobytes()


def examine(path: str) -> str:
    """Reads a file as a user would; what came of it, in a few words. `wrong: ...` is a failure."""
    import legato
    from legato.errors import VideoError

    try:
        with legato.open_video(path) as video:
            frames, pixels = [], 0
            for frame in video:
                if frames and frame.time <= frames[-1].time:
                    return "wrong: times fall"
                frames.append(frame)
                pixels += frame.height * frame.width
                if len(frames) >= MAX_FRAMES or pixels > MAX_PIXELS:
                    return "endless"
            outcome = "damage skipped" if video.frames_lost else "times repaired" if video.times_repaired else "whole"
            places = (len(frames) // 2, len(frames) - 1, 0)
            if any(video[at].pts != frames[at].pts for at in places):
                return "wrong: an index finds another frame"
            if any(video.at(frames[at].seconds).pts != frames[at].pts for at in places):
                return "wrong: a time finds another frame"
            half = video.between(frames[places[0]].time, frames[-1].time + 1)
            if [frame.pts for frame in half] != [frame.pts for frame in frames[places[0] :]]:
                return "wrong: a span finds other frames"
        with legato.open_video(path) as video:
            found = [video.at(frames[at].seconds).pts for at in places]
            if found != [frames[at].pts for at in places]:
                return "wrong: astray without damage" if outcome == "whole" else "astray"
        return outcome
    except VideoError as error:
        return type(error).__name__
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"


def work() -> None:
    """Worker: a path a line in, an outcome a line out."""
    import resource

    import legato  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        outcome = examine(line.strip())
        print(json.dumps([outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]), flush=True)


class Worker:
    """A process that reads files, replaced when one of them brings it down."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, path: Path) -> tuple[str, int]:
        """Outcome for a file, and the worker's peak memory so far in MiB."""
        process = self._process = self._process or self._start()
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        if not select.select([process.stdout], [], [], LIMIT_SECONDS)[0]:
            self.stop()
            return "hang", 0
        answer = process.stdout.readline()
        if not answer:
            status = process.wait()
            self.stop()
            return f"crash: {signal.Signals(-status).name if status < 0 else f'exit {status}'}", 0
        outcome, peak_mib = json.loads(answer)
        return outcome, peak_mib

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert process.stdout.readline() == b"ready\n"
        return process

    def stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate()


def fuzz(files: int, seed: int, folder: Path, workers: int = 1, first: int = 0) -> Iterator[Case]:
    """Damages and reads `files` files, in order of their numbers; those that fail stay in `folder`."""
    clean = {}
    for kind in FORMATS:
        make_clip(kind, folder / kind.name)
        clean[kind.name] = (folder / kind.name).read_bytes()
    pool: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(workers):
        pool.put(Worker())

    def run(number: int) -> Case:
        kind = FORMATS[number % len(FORMATS)]
        damage, data = damaged(clean[kind.name], seed, number)
        path = folder / f"{seed}-{number}-{kind.name}"
        path.write_bytes(data)
        worker = pool.get()
        start = time.perf_counter()
        outcome, peak_mib = worker.read(path)
        case = Case(number, seed, kind.name, damage, outcome, time.perf_counter() - start, peak_mib)
        pool.put(worker)
        if not case.failed:
            path.unlink()
        return case

    try:
        with ThreadPoolExecutor(workers) as threads:
            yield from threads.map(run, range(first, first + files))
    finally:
        while not pool.empty():
            pool.get().stop()


def print_table(cases: list[Case]) -> None:
    """Formats down, outcomes across."""
    outcomes = sorted({case.outcome.partition(":")[0] for case in cases})
    print(f"{'':20}" + "".join(f"{outcome:>16}" for outcome in outcomes))
    for kind in FORMATS:
        counts = Counter(case.outcome.partition(":")[0] for case in cases if case.format == kind.name)
        print(f"{kind.name:20}" + "".join(f"{counts[outcome] or '':>16}" for outcome in outcomes))
    slowest = max(cases, key=lambda case: case.seconds)
    print(f"\n{len(cases)} files; slowest {slowest.seconds:.2f} s; peak memory {max(c.peak_mib for c in cases)} MiB")
    for case in cases:
        if case.failed:
            print(f"FAILED {case.seed}-{case.number}-{case.format} ({case.damage}): {case.outcome}")


def main() -> int:
    """Runs the fuzz; 1 if any file failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1200)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to run one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder to leave failing files in")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cases = list(fuzz(arguments.files, arguments.seed, folder, arguments.workers, arguments.first))
    print_table(cases)
    failed = [case for case in cases if case.failed]
    if arguments.json:
        report = {
            "versions": {"python": platform.python_version(), "av": av.__version__, "ffmpeg": av.ffmpeg_version_info},
            "seed": arguments.seed,
            "files": len(cases),
            "failed": len(failed),
            "outcomes": Counter(case.outcome.partition(":")[0] for case in cases),
            "cases": [asdict(case) for case in cases],
        }
        arguments.json.write_text(json.dumps(report, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    if "--worker" in sys.argv:
        work()
    else:
        sys.exit(main())
