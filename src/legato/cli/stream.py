"""`legato stream`: video without end, frame by frame as it is made, in bounded memory."""

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from legato.cli import parse
from legato.cli.load import Device, Dtype, load_generator
from legato.cli.output import check_places, check_spared, tell, write_json
from legato.errors import BadArgument, check_at_least, check_finite, check_share

if TYPE_CHECKING:
    from legato.generate.driving import Drive, DriveState
    from legato.generate.generator import VideoGenerator
    from legato.generate.rolling import RollingWindow
    from legato.generate.stream import VideoStream
    from legato.generate.stream_state import VideoStreamState
    from legato.video import Frames

__all__ = ["stream"]

LEAST = {"windows": 1, "frames_per_window": 1, "steps": 1, "context": 0, "sink": 0, "keyframes": 0}
BETWEEN, AT_END = ("nearest", "linear"), ("hold", "end")


def stream(
    checkpoint: Annotated[str, typer.Option(help="Name of a bundled generator, a folder, or a name on the hub.")],
    text: Annotated[
        str | None,
        typer.Option(help="What is to be seen, for generators that read text; said over and over by those that can."),
    ] = None,
    label: Annotated[str | None, typer.Option("--class", help="Number or name of a class.")] = None,
    drive: Annotated[
        Path | None, typer.Option(help="A video of pose maps that leads, at any rate; - for standard input.")
    ] = None,
    drive_pipe: Annotated[
        str, typer.Option(help="What comes on standard input: y4m, or rgb24 of the size that the checkpoint takes.")
    ] = "y4m",
    drive_fps: Annotated[
        str | None,
        typer.Option(help="Driving pictures per second; the state's, their own times, or --fps for rgb24, otherwise."),
    ] = None,
    drive_between: Annotated[
        str | None, typer.Option(help="Between driving pictures: nearest or linear; nearest, or the state's.")
    ] = None,
    drive_end: Annotated[
        str | None, typer.Option(help="When the drive is over: hold its last picture, or end; hold, or the state's.")
    ] = None,
    drive_patience: Annotated[
        float | None,
        typer.Option(
            help="Seconds to wait for a live drive that stalls, then hold its picture; without end otherwise."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A picture, or a video to go on from at its times; text alone begins with its own."),
    ] = None,
    reference_pose: Annotated[
        Path | None, typer.Option(help="The reference's pose map: the drive is brought to its place and size.")
    ] = None,
    bridge: Annotated[
        float,
        typer.Option(help="Seconds from the reference's pose to the drive's first one, made before the first frame."),
    ] = 0.0,
    seconds: Annotated[float | None, typer.Option(help="How much to make.")] = None,
    frames: Annotated[int | None, typer.Option(help="How many frames to make, instead of --seconds.")] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Until Ctrl-C or the end of the drive.")] = False,
    fps: Annotated[str | None, typer.Option(help="Frames per second, as 24 or 30000/1001; 24, or the state's.")] = None,
    windows: Annotated[int | None, typer.Option(help="In the queue; 6, 4 without a drive, or the state's.")] = None,
    frames_per_window: Annotated[
        int | None, typer.Option(help="Latent frames made at a time; 8, or the state's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Calls of the model for those; 1, 8 without a drive, or the state's.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Shown latent frames kept in view; 2, 4 without a drive, or the state's.")
    ] = None,
    sink: Annotated[
        int | None, typer.Option(help="First frames, or the reference's, kept in view for ever; 1, or the state's.")
    ] = None,
    keyframes: Annotated[int | None, typer.Option(help="Most later frames kept so too; 0, or the state's.")] = None,
    novelty: Annotated[
        float | None, typer.Option(help="How unlike all kept frames those are, over 0, at most 2; 0.3, or the state's.")
    ] = None,
    fresh_above: Annotated[
        float | None,
        typer.Option(
            help="Draw noise anew at levels above this, 0 to 1 (never); 0 without a drive, else 1, or the state's."
        ),
    ] = None,
    slope: Annotated[
        float | None,
        typer.Option(help="How far levels of noise rise within a window, 0 to 1; 0, or the state's."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Over 1 the text or class counts more.")] = None,
    drive_guidance: Annotated[
        float | None, typer.Option(help="Over 1 the drive counts more, for twice the work.")
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    seed: Annotated[int | None, typer.Option(help="Of the noise; 0, or the state's.")] = None,
    out: Annotated[Path, typer.Option(help="A video, playable while it grows; - for standard output.")] = Path(
        "live.mp4"
    ),
    pipe: Annotated[str, typer.Option(help="What goes to standard output: y4m or rgb24.")] = "y4m",
    state: Annotated[
        Path | None,
        typer.Option(help="Where to save what it takes to go on, now and then; OUT.state by default, while OUT grows."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from a saved state.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="What was made, as JSON; - for standard output.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Stream video as it is made: any length, constant memory, exact times."""
    from dataclasses import replace

    import torch

    from legato.cli.driver import Driver
    from legato.cli.stream_session import Session
    from legato.generate.stream import DRIVEN, UNDRIVEN
    from legato.generate.stream_state import VideoStreamState
    from legato.video.pipe import PIPE_FORMATS
    from legato.video.write import check_growing

    if sum((seconds is not None, frames is not None, forever)) != 1:
        raise BadArgument("how much? Give one of --seconds, --frames and --forever")
    if resume is not None and reference is not None:
        raise BadArgument("--resume goes on from a state, which has its own frames in view; leave --reference out")
    if out == Path("-") and json == Path("-"):
        raise BadArgument("--out and --json cannot both go to standard output; give one of them a file")
    words = {
        "--pipe": (pipe, PIPE_FORMATS),
        "--drive-between": (drive_between, BETWEEN),
        "--drive-end": (drive_end, AT_END),
    }
    for option, (word, known) in words.items():
        if word is not None and word not in known:
            raise BadArgument(f"{option} is '{word}'; expected {' or '.join(known)}")
    guided = {"--guidance": guidance, "--drive-guidance": drive_guidance}
    check_finite(**{option: value for option, value in guided.items() if value is not None})
    if out != Path("-"):
        check_growing(out)
    if frames is not None and frames < 1:
        raise BadArgument(f"--frames is {frames}; expected at least 1")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise BadArgument(f"--seconds is {seconds:g}; expected more than 0; without end it is --forever")
    if state == Path("-"):
        raise BadArgument("--state is -; a state goes to a file, which is replaced now and then")
    place = state or _state_beside(out)
    check_places({"--out": out, "--state": place, "--json": json})
    check_spared([checkpoint, drive, reference, reference_pose], [("--out", out), ("--state", place), ("--json", json)])
    check_spared([resume], [("--out", out), ("--json", json)])
    if resume is not None and out.is_file():
        raise BadArgument(f"{out} is there, and what goes on would take its place; name another file with --out")
    again = resume is not None and place is not None and os.path.realpath(place) == os.path.realpath(resume)
    begun = None if resume is None else VideoStreamState.load(resume)
    chosen = _settings(
        begun,
        _values(Fraction(24), UNDRIVEN if drive is None else DRIVEN, 0),
        fps=None if fps is None else parse.parsed_rate(fps),
        windows=windows,
        frames_per_window=frames_per_window,
        steps=steps,
        context=context,
        sink=sink,
        keyframes=keyframes,
        novelty=novelty,
        fresh_above=fresh_above,
        slope=slope,
        seed=seed,
    )
    asked = {"drive_fps": drive_fps, "drive_between": drive_between, "drive_end": drive_end}
    notes = ({} if begun is None else begun.notes) | {name: value for name, value in asked.items() if value is not None}
    driver = None
    if drive is not None:
        rate, among, end = notes.get("drive_fps"), notes.get("drive_between", "nearest"), notes.get("drive_end", "hold")
        led = None if rate is None else float(parse.parsed_rate(rate, "--drive-fps"))
        driver = Driver(drive, drive_pipe, led, among, end, drive_patience, reference_pose, bridge)
    elif reference_pose is not None or bridge:
        option = "--bridge" if reference_pose is None else "--reference-pose"
        raise BadArgument(f"{option} fits a drive to the reference; give --drive too")
    else:
        usual = {"--drive-pipe": (drive_pipe, "y4m"), "--drive-fps": (drive_fps, None),
                 "--drive-between": (drive_between, None), "--drive-end": (drive_end, None),
                 "--drive-patience": (drive_patience, None), "--drive-guidance": (drive_guidance, None)}  # fmt: skip
        for option, (said, unsaid) in usual.items():
            if said != unsaid:
                raise BadArgument(f"{option} is {said}, and there is no drive; give --drive too, or leave it out")
    generator = load_generator(checkpoint, device, dtype)
    if begun is not None:
        _check_fits(begun, generator, checkpoint)
        if begun.drive is not None and driver is None:
            raise BadArgument(
                "the saved stream is driven; give --drive too: the same file, or what follows on it with "
                "--drive-patience"
            )
    anew: dict[str, Any] = {
        "text": text,
        "label": parse.class_number(label, generator.classes),
        "guidance": guidance,
        "drive_guidance": drive_guidance,
    }
    leading = (
        None
        if driver is None
        else driver.drive(generator, float(chosen["fps"]), None if begun is None else begun.drive)
    )
    running = _stream(generator, begun, chosen, anew, leading)
    count = _count(seconds, frames, running.ask.rate)
    start = begun
    if begun is not None and begun.drive is not None and leading is not None:  # there may be more of it now
        start = replace(begun, drive=leading.continued(begun.drive))
    if start is None and reference is not None:
        start = running.begin(_reference(reference, generator, running))
    elif start is None:
        start = running.begin(running.own_reference() if drive is None else None)
    if place is not None and place.is_file() and not again:
        place.unlink()  # that of another stream would lie beside this one's file
    session = Session(place, quiet, count, running.ask.rate)
    with torch.inference_mode():
        whole = session.run(running.frames(replace(start, notes=notes), count), out, pipe)
    if whole and state is None and place is not None and not again:  # nobody asked for it, nothing is missing
        place.unlink(missing_ok=True)
        place = None
    told = session.told() | {
        "file": str(out),
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "text": running.ask.text,
        "drive": None if drive is None else str(drive),
        "seed": running.ask.seed,
        "guidance": running.ask.guidance,
        "drive_guidance": running.ask.drive_guidance,
        "fps": float(running.ask.rate),
        "windows": running.window.windows,
        "frames_per_window": running.window.frames_per_window,
        "steps": running.window.steps,
        "context_frames": running.window.context_frames,
        "sink_frames": running.window.appearance.sink_frames,
        "keyframes": running.window.appearance.keyframes,
        "state": None if place is None else str(place),
        "complete": whole,
        "warnings": [] if driver is None else driver.warnings,
    }
    if begun is not None and leading is not None and session.latest is not None:
        told["warnings"] += _skipped(begun.drive, leading, session.latest.window.drive)
    for warning in told["warnings"]:
        tell(warning)
    if json is not None:
        write_json(json, told)
    if json != Path("-"):
        typer.echo(session.summary(str(out), whole), err=out == Path("-"))
    if session.failed is not None:
        raise session.failed
    if session.stopped and count is not None and not whole:
        raise typer.Exit(130)  # as of what Ctrl-C has ended; a stream without end has no other end


def _settings(
    begun: "VideoStreamState | None", usual: dict[str, Any], **asked: Fraction | float | int | None
) -> dict[str, Any]:
    """Numbers as asked for, else those of the state, else the usual ones.

    Raises:
        BadArgument: one is outside its range, or differs from the state's.
    """
    for name, value in asked.items():
        if isinstance(value, int) and name in LEAST:
            check_at_least(LEAST[name], **{parse.option(name): value})
    novelty = asked["novelty"]
    if novelty is not None and not 0 < novelty <= 2:
        raise BadArgument(f"--novelty is {novelty:g}; expected more than 0 and at most 2")
    shares = {parse.option(name): asked[name] for name in ("fresh_above", "slope")}
    check_share(**{name: float(value) for name, value in shares.items() if value is not None})
    if begun is None:
        return {name: usual[name] if value is None else value for name, value in asked.items()}
    has = _values(begun.ask.rate, begun.window, begun.ask.seed)
    for name, value in asked.items():
        if value is not None and value != has[name]:
            option = parse.option(name)
            raise BadArgument(
                f"{option} is {float(value):g} and the saved stream's is {float(has[name]):g}; leave it out"
            )
    return has


def _values(rate: Fraction, window: "RollingWindow", seed: int) -> dict[str, Any]:
    """What the options say, by name."""
    return {
        "fps": rate,
        "windows": window.windows,
        "frames_per_window": window.frames_per_window,
        "steps": window.steps,
        "context": window.context_frames,
        "sink": window.appearance.sink_frames,
        "keyframes": window.appearance.keyframes,
        "novelty": window.appearance.novelty,
        "fresh_above": window.fresh_above,
        "slope": window.slope,
        "seed": seed,
    }


def _check_fits(begun: "VideoStreamState", generator: "VideoGenerator", checkpoint: str) -> None:
    """Raise where a saved stream was made by another kind of model."""
    stride_px, model = generator.latents.stride_px, cast(Any, generator.model)
    has = (int(model.channels), generator.height // stride_px, generator.width // stride_px)
    saved = tuple(begun.rolling.latents.shape[2:])
    shown = {tuple(picture.shape[1:]) for picture in begun.ready}
    if saved != has or shown - {(generator.height, generator.width)}:
        raise BadArgument(
            f"the saved stream is of another checkpoint: its frames are {saved} latents, those of {checkpoint} {has}"
        )


def _stream(
    generator: "VideoGenerator",
    begun: "VideoStreamState | None",
    chosen: dict[str, Any],
    anew: dict[str, Any],
    drive: "Drive | None",
) -> "VideoStream":
    """The stream, new or gone on with; text, class and guidance that are given anew count from here on."""
    from dataclasses import replace

    from legato.generate.appearance import Appearance
    from legato.generate.rolling import RollingWindow
    from legato.generate.stream import VideoStream
    from legato.generate.stream_state import StreamAsk

    if begun is None:
        ask = StreamAsk(chosen["fps"], seed=chosen["seed"])
        window = RollingWindow(
            chosen["windows"],
            chosen["frames_per_window"],
            chosen["steps"],
            context_frames=chosen["context"],
            appearance=Appearance(chosen["sink"], chosen["keyframes"], chosen["novelty"]),
            fresh_above=chosen["fresh_above"],
            slope=chosen["slope"],
        )
    else:
        ask, window = begun.ask, begun.window
    ask = replace(ask, **{name: value for name, value in anew.items() if value is not None})
    return VideoStream(generator, ask, window, drive)


def _skipped(before: "DriveState | None", drive: "Drive", after: "DriveState | None") -> list[str]:
    """A warning where a stream was gone on with and every picture of its drive lay before that."""
    if before is None or before.ended or drive.used or after is None or not after.ended:
        return []
    return [
        f"the drive has no picture after {float(before.seconds[-1]):g} s, where the saved stream was; with "
        "--drive-patience its pictures are taken for those that follow"
    ]


def _reference(path: Path, generator: "VideoGenerator", running: "VideoStream") -> "Frames":
    """A picture, so that the first frame is shown at second 0, or the last frames of a video at their times."""
    from collections import deque

    import torch

    from legato.errors import VideoError
    from legato.video import Frames, open_video
    from legato.video.still import PICTURE_ENDINGS, read_picture

    try:
        picture = read_picture(path)
    except VideoError:
        if path.suffix.lower() in PICTURE_ENDINGS:
            raise
        picture = None
    if picture is not None:
        return running.reference(picture)
    with open_video(path) as video:
        last = deque(video, maxlen=running.reference_frames)
        pts = torch.tensor([frame.pts for frame in last])
        return Frames(torch.stack([frame.pixels for frame in last]), pts, last[-1].time_base)


def _state_beside(out: Path) -> Path | None:
    """Where the state of a stream goes that says no place for it; nowhere if no file is written."""
    return None if out == Path("-") or (out.exists() and not out.is_file()) else out.with_name(f"{out.name}.state")


def _count(seconds: float | None, frames: int | None, rate: "Fraction") -> int | None:
    """How many frames to make."""
    import math

    if seconds is None:
        return frames
    return max(1, math.ceil(Fraction(seconds).limit_denominator(10**6) * rate))
