"""`legato inspect`: what a video is, whether its times can be trusted, and how coherent it is."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli import parse
from legato.cli.output import check_places, check_spared, tell, write_json
from legato.cli.progress import Span, progress
from legato.cli.watch import taken
from legato.errors import BadArgument, VideoError

if TYPE_CHECKING:
    from legato.clock import RateEstimator
    from legato.understand.inspection import Coherences, Inspection

__all__ = ["inspect", "inspect_file"]


def inspect(
    videos: Annotated[list[str], typer.Argument(help="Video files, patterns such as 'clips/*.mp4', or URLs.")],
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all numbers; - for standard output.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Only this span, as 2:5.5, 10: or :3.")] = None,
    estimate_rate: Annotated[
        bool, typer.Option("--estimate-rate", help="Also estimate the rate from the motion, for files that are silent.")
    ] = False,
    rate_estimator: Annotated[
        str | None,
        typer.Option(help="An estimator's folder or name; the bundled one by default."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")] = False,
) -> None:
    """Say what videos are: frame times, cuts, coherence, motion, kind of content, and what is wrong with them."""
    paths = parse.expanded(videos)
    span = parse.parsed_span(seconds)
    check_places({"--json": json_out})
    check_spared([*paths, rate_estimator], [("--json", json_out)])
    quiet = quiet or json_out == Path("-")
    estimator = None
    if estimate_rate or rate_estimator:
        from legato.clock import load_rate_estimator

        estimator = load_rate_estimator(rate_estimator)
    results: list[dict[str, Any]] = []
    for path in paths:
        try:
            found = inspect_file(path, span=span, max_frames=max_frames, quiet=quiet)
        except VideoError as error:
            if len(paths) == 1:
                raise
            results.append({"video": path, "error": str(error)})
            tell(error)
            continue
        results.append({"video": path, **found.summary()})
        if not quiet:
            show(path, found)
        if estimator is not None:
            results[-1]["estimated_rate"] = estimated = estimated_rate(path, estimator)
            if not quiet:
                low, high = estimated["interval"]
                typer.echo(f"estimated rate: {estimated['fps']:.3g} per second ({low:.3g} to {high:.3g})")
        if found.interrupted:
            break
    if json_out is not None:
        write_json(json_out, results if len(paths) > 1 else results[0])
    if results[-1].get("interrupted"):
        raise typer.Exit(130)
    if any("error" in result for result in results):
        raise typer.Exit(2)


def inspect_file(
    path: str, *, span: Span = (None, None), max_frames: int | None = None, quiet: bool = True
) -> "Inspection":
    """Inspect one video, or a span of it; an interrupt ends it early and keeps what was found.

    Raises:
        VideoError: it cannot be read.
        BadArgument: no frame lies in the span.
    """
    from legato.understand.inspection import SIDE_PX, Inspector
    from legato.video import open_reduced

    inspector, interrupted = Inspector(), False
    with open_reduced(path, SIDE_PX) as video:
        taken_frames = taken(video, span, max_frames)
        bar = progress(taken_frames, video.info, span, max_frames, quiet, seconds_of=lambda frame: frame.seconds)
        try:
            for frame in bar:
                inspector.add(frame)
        except KeyboardInterrupt:
            interrupted = True
        if not inspector.frames:
            if interrupted:
                raise KeyboardInterrupt
            raise BadArgument(
                f"no frame of {path} lies in the span asked for; its video begins at {video.info.start_seconds:g} s"
            )
        whole = span == (None, None) and max_frames is None and not interrupted
        return inspector.result(video, whole=whole, interrupted=interrupted)


def estimated_rate(path: str, model: "RateEstimator", windows: int = 8) -> dict[str, Any]:
    """The rate that the motion suggests, over windows spread over the first minute.

    Returns:
        `fps`, the median over windows, and `interval`, where the middle two thirds of what is thought of them lie.

    Raises:
        BadArgument: the video has only one frame.
    """
    from itertools import islice

    import torch

    from legato.video.read import open_reduced

    with open_reduced(path, 4 * model.side_px) as video:
        frames = [frame.pixels for frame in islice(video, 1800)]
    begins = torch.linspace(0, max(0, len(frames) - model.frames), windows).round().int().unique().tolist()
    said = [model.estimate(torch.stack(frames[begin : begin + model.frames])) for begin in begins]
    logs = torch.cat([one.log_interval for one in said])
    spread = float(torch.cat([one.spread for one in said]).median())
    middle = float(logs.median())
    return {"fps": math.exp(-middle), "interval": [math.exp(-middle - spread), math.exp(-middle + spread)]}


def show(path: str, found: "Inspection") -> None:
    """The table that a person wants to read, and the warnings below it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(title=Text(path), title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, told in rows(found):
        table.add_row(name, Text(told))
    console.print(table)
    for warning in found.warnings:
        console.print(Text.assemble(("! ", "bold yellow"), warning))
    console.print()


def rows(found: "Inspection") -> Iterator[tuple[str, str]]:
    """What the table says, line by line."""
    info, times, motion = found.info, found.times, found.motion
    if info:
        turned = f", turned by {info.rotation_degrees} degrees" if info.rotation_degrees else ""
        sound = ", with sound" if info.has_audio else ""
        size = f"{info.width}x{info.height}"
        yield "file", f"{info.codec} in {info.container.split(',')[0]}, {size}, {info.pixel_format}{turned}{sound}"
    part = "" if found.whole else ", interrupted" if found.interrupted else ", a part of the video"
    yield "frames", f"{found.frames} over {times.span_seconds:.3f} s from {found.start_seconds:g} s{part}"
    if times.rate and times.usual_rate:
        declared = f", declared {float(info.declared_rate):.5g}" if info and info.declared_rate else ""
        usual = f", mostly {times.usual_rate:.5g}" if abs(times.usual_rate / times.rate - 1) > 0.01 else ""
        yield "rate", f"{times.kind}, {times.rate:.5g} per second{usual}{declared}"
        milliseconds = [1000 * (s or 0) for s in (times.median_seconds, times.shortest_seconds, times.longest_seconds)]
        yield "interval", "median {:.2f} ms, shortest {:.2f} ms, longest {:.2f} ms".format(*milliseconds)
    yield "gaps", listed([f"{gap.seconds:.2f} s ({gap.length_seconds:.2f} s long)" for gap in times.gaps])
    yield "duplicates", f"{found.duplicates}" if found.duplicates else "none"
    yield "cuts", listed([f"{cut.seconds:.2f} s" for cut in found.cuts])
    for name, pairs in (("neighbours", found.neighbours), ("over 1/15 s", found.steps)):
        yield name, agreement(pairs)
    yield "motion", f"{motion.mean:.1%} of pixels change in 1/15 s, {motion.peak:.1%} at the peak"
    yield "looks like", found.content


def agreement(pairs: "Coherences") -> str:
    """Coherence in one line."""
    if pairs.correlation is None:
        return "no two frames to compare"
    return (
        f"correlation {pairs.correlation:.3f} (lowest {pairs.lowest_correlation:.3f}), "
        f"{pairs.coherent_share:.1%} coherent, {pairs.incoherent_share:.1%} incoherent, "
        f"{pairs.unchanged_share:.1%} of pixels unchanged"
    )


def listed(things: list[str], most: int = 5) -> str:
    """How many there are, and the first few."""
    if not things:
        return "none"
    return f"{len(things)}: {', '.join(things[:most])}{' ...' if len(things) > most else ''}"
