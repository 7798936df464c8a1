"""`legato inbetween`: from pictures at their seconds to the video between them."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli import parse
from legato.cli.load import Device, Dtype, load_generator
from legato.cli.output import check_places, check_spared, write_json
from legato.errors import BadArgument

if TYPE_CHECKING:
    from torch import Tensor

    from legato.generate.storyboard import Key, Storyboard
    from legato.video import Frame

__all__ = ["inbetween"]

MOST_THREADS = 4


def inbetween(
    storyboard: Annotated[
        Path | None, typer.Argument(help="YAML: a list of pictures with time, image, perhaps confidence and text.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="A given picture, as 0.8=b.png; it never changes.")] = None,
    proposal: Annotated[
        list[str] | None, typer.Option(help="A picture that may be refined, with its confidence, as 1.2=c.png:0.6.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A refiner: a bundled name, a folder, or a name on the hub; none by default.")
    ] = None,
    interpolator: Annotated[
        str | None,
        typer.Option(help="Without a checkpoint: flow (the default), linear, or footage-inbetween for real footage."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What is to be seen, for refiners that read text.")] = None,
    fps: Annotated[str, typer.Option(help="Frames per second; any: 24, 23.976 or 24000/1001.")] = "24",
    levels: Annotated[int, typer.Option(help="Of the refiner, each a call of the model; 0 for its own number.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    seed: Annotated[int, typer.Option(help="Of the refiner's noise, if it has any.")] = 0,
    smooth: Annotated[
        float, typer.Option(help="Average made frames along their motion over about so many seconds, 0.04; 0: don't.")
    ] = 0.0,
    out: Annotated[Path, typer.Option(help="A video, or numbered pictures as frames/%05d.png.")] = Path("between.mp4"),
    lossless: Annotated[bool, typer.Option("--lossless", help="Keys come back from a video bit for bit.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also a contact sheet (PNG).")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="What was made, as JSON; - for standard output.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fill in the video between pictures; keys stay as they are, bit for bit (as RGB of 8 bits)."""
    import time

    import torch

    from legato.generate.between_keys import between_keys, refined_between_keys, stamps_base
    from legato.motion.smooth import check_reach, smoothed
    from legato.report.sheets import check_sheet, contact_sheet, sheet_columns
    from legato.video import write_video
    from legato.video.still import check_numbered, is_pattern, left_out, write_pictures
    from legato.video.write import check_ending, check_times

    rate = parse.parsed_rate(fps)
    if checkpoint is not None and interpolator is not None:
        raise BadArgument(f"--interpolator {interpolator} is for going without --checkpoint; leave one of the two out")
    way = parse.parsed_interpolator(interpolator or "flow")
    if levels < 0:
        raise BadArgument(f"--levels is {levels}; expected 0 or more")
    if checkpoint is None and (text or levels or seed or (device, dtype) != ("cpu", "float32")):
        raise BadArgument(
            "--text, --levels, --seed, --device and --dtype are for what --checkpoint names; name a refiner, or leave "
            "them out: an interpolator runs on the processor, in float32"
        )
    if ("%" in out.name or out.suffix.lower() == ".png") and not is_pattern(out):
        raise BadArgument(f"--out is {out}; numbered pictures are PNG files, as frames/%05d.png")
    if not is_pattern(out):
        check_ending(out)
    if smooth:
        check_reach(smooth)
    if sheet is not None:
        check_sheet(sheet)
    check_places({"--out": out, "--sheet": sheet, "--json": json})
    board = _board(storyboard, key or [], proposal or []).on_grid(rate)
    if checkpoint is None and board.text:
        raise BadArgument(f"{storyboard} has a text, which refiners read; name one with --checkpoint, or leave it out")
    timeline = board.timeline(rate)
    files = [one.file for one in board.keys if one.file]
    if is_pattern(out):
        _check_grid(board, rate)
        check_numbered(out, len(timeline), files)
    else:
        base = stamps_base(timeline)
        check_times(out, timeline.pts(base), base)
    check_spared(
        [storyboard, *files, checkpoint, interpolator],
        [("--out", None if is_pattern(out) else out), ("--sheet", sheet), ("--json", json)],
    )
    beyond = [(one.file, held) for one in board.keys if one.given and one.file and (held := left_out(one.file))]
    for file, held in beyond[:1]:
        more = f" (one of {len(beyond)} such pictures);" if beyond[1:] else ";"
        typer.echo(f"note: {file} has {held}{more} a picture comes back as RGB of 8 bits, without that", err=True)
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    begun = time.monotonic()
    if checkpoint is None:
        frames = between_keys(board, timeline, way, threads=threads)
    else:
        generator = load_generator(checkpoint, device, dtype)
        frames = refined_between_keys(board, timeline, generator, levels=levels, seed=seed, text=text)
    if smooth:
        stays = board.given(timeline, proposals=checkpoint is None)
        frames = smoothed(frames, stays, reach_seconds=smooth, threads=threads)
    chosen = sheet_columns(len(timeline)) if sheet else []
    shown: list[Tensor] = []
    with _shown("filling in", quiet) as told:
        passing = _passing(frames, len(timeline), told, chosen, shown)
        if is_pattern(out):
            write_pictures(passing, out)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_video(passing, out, lossless=lossless, last_seconds=1 / rate)
    took = time.monotonic() - begun
    if sheet is not None:
        contact_sheet(sheet, torch.stack(shown)[None], timeline.seconds[chosen])
    facts = {
        "file": str(out),
        "frames": len(timeline),
        "seconds": timeline.seconds.tolist(),
        "keys": [{"seconds": float(k.time), "confidence": k.confidence} for k in board.keys],
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "interpolator": None if checkpoint else interpolator or "flow",
        "smooth_seconds": smooth,
        "wall_seconds": took,
    }
    if json is not None:
        write_json(json, facts)
    if json != Path("-"):
        span = float(timeline.span)
        typer.echo(
            f"{out}: {len(timeline)} frames, {span:.2f} s between {len(board.keys)} pictures, made in {took:.1f} s"
        )


@contextmanager
def _shown(doing: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar, and what is to be called with the share that is done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(doing, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _passing(
    frames: "Iterable[Frame]", count: int, told: Callable[[float], None], chosen: list[int], kept: "list[Tensor]"
) -> "Iterator[Frame]":
    """The frames; says how far they are, and keeps the pictures of those chosen."""
    for number, frame in enumerate(frames):
        if number in chosen:
            kept.append(frame.pixels)
        told((number + 1) / count)
        yield frame


def _check_grid(board: "Storyboard", rate: Fraction) -> None:
    """Refuse pictures that numbered pictures have no time for.

    Raises:
        BadArgument: one does not lie at a frame of the rate.
    """
    first = board.keys[0].time
    for key in board.keys:
        steps = (key.time - first) * rate
        if steps.denominator > 1:
            near = first + max(1, round(steps)) / rate
            raise BadArgument(
                f"the picture at {float(key.time):g} s is not an even step at {float(rate):g} fps, and numbered "
                f"pictures have no times: move it to {near} s, or write a video"
            )


def _board(path: Path | None, keys: list[str], proposals: list[str]) -> "Storyboard":
    from legato.generate.storyboard import Storyboard, read_storyboard
    from legato.video.still import PICTURE_ENDINGS

    if path is not None:
        if keys or proposals:
            raise BadArgument("a storyboard file and --key or --proposal both name pictures; use one of them")
        if path.suffix.lower() in PICTURE_ENDINGS:
            raise BadArgument(f"{path} is a picture; give each with its time, as --key 0={path}")
        return read_storyboard(path)
    if not keys and not proposals:
        raise BadArgument("there are no pictures; give --key SECONDS=PICTURE twice or more, or a storyboard file")
    given = [_key("--key", written, given=True) for written in keys]
    proposed = [_key("--proposal", written, given=False) for written in proposals]
    for option, named in (("--key", given), ("--proposal", proposed)):
        for a, b in itertools.pairwise(named):
            if b.time < a.time:
                raise BadArgument(
                    f"{option} has a picture at {float(b.time):g} s after one at {float(a.time):g} s; name them in the "
                    "order of time"
                )
    return Storyboard(tuple(sorted(given + proposed, key=lambda one: one.time)))


def _key(name: str, written: str, *, given: bool) -> "Key":
    from legato.generate.storyboard import Key, exact_seconds
    from legato.video.still import read_picture

    time, sign, rest = written.partition("=")
    place, colon, confidence = (rest, "", "1") if given else rest.rpartition(":")
    try:
        if not sign or not place or (not given and not colon):
            raise ValueError
        seconds, share = exact_seconds(time), float(confidence)
    except ValueError:
        form = "0.8=picture.png" if given else "0.8=picture.png:0.5"
        raise BadArgument(f"{name} is '{written}'; expected seconds and a picture, as {form} (up to 1e9 s)") from None
    if not given and share == 1:
        raise BadArgument(f"{name} '{written}' has confidence 1; a picture that is certain is a --key")
    return Key(seconds, read_picture(place), share, file=Path(place))
