"""Train `footage-inbetween`: a small network that corrects optical flow between frames of real footage.

    python recipes/footage_inbetween.py cache --videos DIR [DIR ...]
    python recipes/footage_inbetween.py train

`cache` takes two frames of a clip, 2 to 8 apart, one as far before them and one or two between them, lets
`FlowInterpolator` find out what it can, and keeps windows of all that; clips are read at 144 and at 288 rows, and never
across a cut. Some are synthetic.
`train` goes on where it was stopped. Its loss is what is measured: the mean, over windows, of how many decibels the
result is nearer to the true frame than that of flow alone; where it is further away, that counts twice, and so it
does where it is further away than a cross-fade.
"""

import argparse
import json
import math
import zlib
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from loop import fit
from rich.progress import track
from torch import Tensor

from legato.data.scenes import random_scene
from legato.motion.footage_refiner import FootageRefiner, clues_of, weights_of
from legato.motion.interpolate import FlowInterpolator, Neighbour
from legato.motion.moving import UNSEEN, Mixture, MovingPair
from legato.motion.warp import places_of, sampled
from legato.video import open_video
from legato.video.pixels import rows_of_pixels

# Never trained on: every face clip (likeness rights), and whole clips of each other kind.
HELD_OUT_FOLDERS = {"talking"}
HELD_OUT = {
    "vtest", "sam2_05_default_juggle", "tokenflow_woman-running", "intel_bottle-detection",
    "again", "book", "brother", "milk", "sister", "walk",
    "bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted",
}  # fmt: skip
CUTS = {"moviepy_big_buck_bunny_0_30": (283, 376, 551)}
ROWS, COLUMNS = 144, 192  # of a window
HEIGHTS = (144, 288)
# bytes of a pixel: both pictures and the true one; where to look in both, as float16; belief, sharpness, trust; where
# both are seen
TRUE, MOTIONS, SHARES, SEEN = slice(6, 9), slice(9, 17), slice(17, 21), slice(21, 23)
BACKWARDS = [3, 4, 5, 0, 1, 2, 6, 7, 8, *range(13, 17), *range(9, 13), 17, 18, 20, 19, 22, 21]  # time reversed
KEPT = 0.32  # of the corrections: by clips left out, half gains nearly as much as all; less risks less
LEAST_SQUARE = 0.1 / 255**2  # a tenth of a squared grey level: what rounding hides


def clips(folders: list[Path]) -> list[Path]:
    found = sorted(p for f in folders for p in f.rglob("*") if p.suffix in {".mp4", ".mkv", ".avi", ".webm"})
    return [p for p in found if p.stem not in HELD_OUT and p.parent.name not in HELD_OUT_FOLDERS]


# --- cache


def shrunk(picture: Tensor, height: int) -> Tensor:
    width = max(round(picture.shape[2] * height / picture.shape[1] / 2) * 2, COLUMNS)
    small = cv2.resize(rows_of_pixels(picture), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)


def frames_of(path: Path, height: int, most: int = 160) -> list[Tensor]:
    with open_video(path) as video:
        width = max(round(video.info.width * height / video.info.height / 2) * 2, COLUMNS)
    with open_video(path, size_px=(height, width)) as video:
        return [frame.pixels for frame in islice(video, most)]


def window(
    pair: MovingPair, true: Tensor, share: float, numbers: np.random.Generator
) -> tuple[np.ndarray, tuple[bool, bool, bool, bool]]:
    """A window of what is known of a pair, of two the one where more differs, and which sides are the frame's."""
    mixture = pair.mixture(share)
    rows, columns = pair.grid
    trust = [sampled(plane, motion) for plane, motion in zip(pair.trust, mixture.motions, strict=True)]
    seen = []
    for motion in mixture.motions:
        x, y = np.moveaxis(motion + places_of(rows, columns), -1, 0)
        seen.append(((x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)).astype(np.uint8))
    motion = np.dstack(mixture.motions).astype(np.float16).view(np.uint8)
    shares = np.rint(255 * np.dstack([mixture.moved, mixture.sharpness, *trust])).clip(0, 255).astype(np.uint8)
    whole = np.dstack([*pair.small, rows_of_pixels(true), motion, shares, *seen])
    most = columns - COLUMNS
    corners = [
        (int(numbers.integers(rows - ROWS + 1)), int(numbers.choice([0, most, numbers.integers(most + 1)])))
        for _ in range(2)
    ]
    top, left = max(corners, key=lambda at: pair.apart[at[0] : at[0] + ROWS, at[1] : at[1] + COLUMNS].mean())
    edges = (top == 0, top + ROWS == rows, left == 0, left + COLUMNS == columns)
    return whole[top : top + ROWS, left : left + COLUMNS], edges


def cache(folders: list[Path], out: Path, each: int, each_sign: int, scenes: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    windows, edges, shares, names = [], [], [], []

    def keep(pair: MovingPair, true: Tensor, share: float, name: str) -> None:
        found, sides = window(pair, true, share, numbers)
        windows.append(np.ascontiguousarray(found))
        edges.append(sides)
        shares.append(share)
        names.append(name)

    for path in track(clips(folders), "clips"):
        numbers = np.random.default_rng(zlib.crc32(path.stem.encode()))
        count = each_sign if path.parent.name == "signs" else each
        large = frames_of(path, max(HEIGHTS))

        def cut_between(begin: int, end: int, name: str = path.stem) -> bool:
            return any(begin < cut <= end for cut in CUTS.get(name, ()))

        for height in HEIGHTS:
            pictures = [shrunk(picture, height) for picture in large]
            for _ in range(count // len(HEIGHTS) // 2):
                stride = int(numbers.integers(2, 9))
                if len(pictures) <= stride:
                    continue
                begin = int(numbers.integers(len(pictures) - stride))
                if cut_between(begin, begin + stride):
                    continue
                end, around = begin + stride, []
                if begin >= stride and not cut_between(begin - stride, begin):
                    around.append(Neighbour(pictures[begin - stride], -1.0))
                if end + stride < len(pictures) and not cut_between(end, end + stride):
                    around.append(Neighbour(pictures[end + stride], 2.0))
                pair = FlowInterpolator().pair(pictures[begin], pictures[end], around)
                for at in numbers.choice(np.arange(1, stride), min(2, stride - 1), replace=False).tolist():
                    keep(pair, pictures[begin + at], at / stride, path.stem)
    numbers = np.random.default_rng(0)
    for number in track(range(scenes), "scenes"):
        drawn = torch.Generator().manual_seed(number)
        scene = random_scene(drawn, things=4, speed=float(numbers.uniform(0.2, 2.0)))
        share = float(numbers.uniform(0.1, 0.9))
        between = 1 + Fraction(share).limit_denominator(100) / 10
        times = [Fraction(9, 10), Fraction(1), between, Fraction(11, 10), Fraction(12, 10)]
        before, first, true, second, after = scene.render([float(time) for time in times], ROWS, COLUMNS)
        pair = FlowInterpolator().pair(first, second, [Neighbour(before, -1.0), Neighbour(after, 2.0)])
        keep(pair, true, float((times[2] - 1) * 10), "scenes")
    np.save(out / "windows.npy", np.stack(windows))
    (out / "windows.json").write_text(
        json.dumps({"edges": [[bool(e) for e in s] for s in edges], "shares": shares, "names": names})
    )
    print(f"{len(windows)} windows of {len(set(names))} sources")


# --- train


@dataclass
class Places:
    """Places of windows: what the network sees there, what it corrects, and what it mixes.

    Attributes:
        clues: `(windows, places, clues)`.
        weights: `(windows, places, 4)`.
        sharpness: `(windows, places)`.
        seen: of both pictures, 1 or 0, `(windows, places, 2)`.
        pictures: both moved, softly and sharply, both as they are, and the true one, 0 to 1, `(windows, places, 7, 3)`.
        shares: of the way, `(windows, 1)`.
    """

    clues: Tensor
    weights: Tensor
    sharpness: Tensor
    seen: Tensor
    pictures: Tensor
    shares: Tensor

    def some(self, rows: Tensor) -> "Places":
        return Places(*(getattr(self, field.name)[rows] for field in fields(self)))


def places_in(raw: np.ndarray, outside: np.ndarray, share: float, count: int, numbers: np.random.Generator) -> list:
    """Values of `Places` for one window, at places that need nothing from beyond it."""
    motions = np.dsplit(np.ascontiguousarray(raw[..., MOTIONS]).view(np.float16).astype(np.float32), 2)
    motions = tuple(np.ascontiguousarray(motion) for motion in motions)
    pictures = tuple(np.ascontiguousarray(raw[..., n : n + 3]) for n in (0, 3))
    moved, sharpness, *trust = (
        np.ascontiguousarray(raw[..., n]).astype(np.float32) / np.float32(255) for n in range(SHARES.start, SHARES.stop)
    )
    near = np.full(moved.shape, 1 - share, dtype=np.float32)
    mixture = Mixture(motions, near, near, moved, sharpness)
    clues = clues_of(pictures, motions, (trust[0], trust[1]), mixture, share, trust_is_moved=True)
    found, inside = [], np.ones(moved.shape, dtype=bool)
    for picture, motion in zip(pictures, motions, strict=True):
        at = motion + places_of(*moved.shape)
        found += [
            cv2.remap(picture, at, None, way, borderMode=cv2.BORDER_REPLICATE)
            for way in (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
        ]
        beyond = (at[..., 1] < 2, at[..., 1] > ROWS - 3, at[..., 0] < 2, at[..., 0] > COLUMNS - 3)
        for side, over in zip(outside, beyond, strict=True):
            inside &= ~(over & side)
    y, x = inside.nonzero()
    chosen = numbers.integers(len(y), size=count) if len(y) else np.zeros(count, dtype=int)
    y, x = (y[chosen], x[chosen]) if len(y) else (chosen, chosen)
    mixed = np.stack([*found, *pictures, raw[..., TRUE]], 2)[y, x].astype(np.float32) / 255
    return [
        clues[y, x], weights_of(mixture)[y, x], sharpness[y, x], raw[..., SEEN][y, x].astype(np.float32), mixed,
        np.array([share], dtype=np.float32),
    ]  # fmt: skip


def places_of_all(out: Path, count: int) -> Places:
    """Places of all windows, each forwards and backwards in time."""
    windows = np.load(out / "windows.npy", mmap_mode="r")
    told = json.loads((out / "windows.json").read_text())
    numbers = np.random.default_rng(0)
    columns: list[list[np.ndarray]] = [[] for _ in fields(Places)]
    for window, edges, share in zip(track(windows, "places"), told["edges"], told["shares"], strict=True):
        for raw, at in ((window, share), (window[..., BACKWARDS], 1 - share)):
            for column, value in zip(columns, places_in(raw, ~np.array(edges), at, count, numbers), strict=True):
                column.append(value)
    return Places(*(torch.from_numpy(np.stack(column)) for column in columns))


def put_together(places: Places, weights: Tensor, sharpness: Tensor) -> Tensor:
    """As `MovingPair.picture`."""
    soft, sharp = places.pictures[..., [0, 2], :], places.pictures[..., [1, 3], :]
    moved = torch.lerp(soft, sharp, sharpness[..., None, None])
    near = weights[..., :2] * (places.seen + UNSEEN)
    moved = (near[..., None] * moved).sum(-2) / (near.sum(-1, keepdim=True) + 1e-6)
    faded = (weights[..., 2:, None] * places.pictures[..., 4:6, :]).sum(-2)
    return weights[..., :2].sum(-1, keepdim=True) * moved + faded


def decibels(model: FootageRefiner, places: Places) -> tuple[Tensor, Tensor]:
    """By how much each window comes nearer to the true frame than by flow alone, and than by a cross-fade."""
    first, second, true = places.pictures[..., 4:, :].unbind(-2)
    plain = put_together(places, places.weights, places.sharpness)
    refined = put_together(places, *model(places.clues, places.weights, places.sharpness))
    faded = torch.lerp(first, second, places.shares[..., None])
    errors = [(made - true).square().mean((1, 2)) + LEAST_SQUARE for made in (plain, faded, refined)]
    flow, fade, own = (10 / math.log(10) * error.log() for error in errors)
    return flow - own, fade - own


def train(out: Path, steps: int, count: int, places: int, rate: float) -> None:
    torch.manual_seed(0)
    kept = out / "places.pt"
    if not kept.exists():
        torch.save(vars(places_of_all(out, places)), kept)
    every = Places(**torch.load(kept, weights_only=True))
    model = FootageRefiner()

    def step(number: int) -> tuple[Tensor, float]:
        rows = torch.randint(len(every.clues), (count,), generator=torch.Generator().manual_seed(number))
        gain, over_fade = decibels(model, every.some(rows))
        return -(gain + gain.clamp(max=0) + over_fade.clamp(max=0)).mean(), float(gain.detach().mean())

    fit(model, out, steps, step, name="decibels over flow", rate=rate, weight_decay=0.01)
    with torch.no_grad():
        for parameter in model.said.parameters():
            parameter *= KEPT
    model.save_pretrained(out / "final")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cache", "train"])
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("build/footage-inbetween"))
    parser.add_argument("--each", type=int, default=120, help="windows of each clip")
    parser.add_argument("--each-sign", type=int, default=16, help="of each clip in a folder called signs")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--count", type=int, default=48, help="windows in a batch")
    parser.add_argument("--places", type=int, default=256, help="of each window")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "cache":
        cache(args.videos, args.out, args.each, args.each_sign, args.scenes)
    else:
        train(args.out, args.steps, args.count, args.places, args.rate)


if __name__ == "__main__":
    main()
