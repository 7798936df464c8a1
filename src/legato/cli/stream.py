"""`legato stream`: video without end, frame by frame as it is made, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli.output import write_json
from legato.errors import BadArgument

if TYPE_CHECKING:
    from fractions import Fraction

    from legato.generate.driving import Drive
    from legato.generate.generator import VideoGenerator
    from legato.generate.stream import Made, VideoStream, VideoStreamState
    from legato.video import Frame, Frames

__all__ = ["stream"]

SAVE_EVERY_SECONDS = 5.0
EARLY_FRAMES = 100  # by then all that a stream loads and keeps is there
USUAL = {
    "fps": 24.0, "windows": 4, "frames_per_window": 4, "steps": 1, "context": 0, "sink": 1, "keyframes": 0,
    "novelty": 0.3, "seed": 0,
}  # fmt: skip


def stream(
    checkpoint: Annotated[str, typer.Option(help="Name of a bundled generator, a folder, or a name on the hub.")],
    text: Annotated[str | None, typer.Option(help="What is to be seen, for generators that read text.")] = None,
    label: Annotated[str | None, typer.Option("--class", help="Number or name of a class.")] = None,
    drive: Annotated[Path | None, typer.Option(help="A video of pose maps that leads, at any rate.")] = None,
    drive_between: Annotated[str, typer.Option(help="Between driving pictures: nearest or linear.")] = "nearest",
    drive_end: Annotated[str, typer.Option(help="When the drive is over: hold its last picture, or end.")] = "hold",
    reference: Annotated[Path | None, typer.Option(help="A picture or a video to go on from.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How much to make.")] = None,
    frames: Annotated[int | None, typer.Option(help="How many frames to make, instead of --seconds.")] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Until Ctrl-C or the end of the drive.")] = False,
    fps: Annotated[float | None, typer.Option(help="Frames per second; 24, or the state's.")] = None,
    windows: Annotated[int | None, typer.Option(help="In the queue; 4, or the state's.")] = None,
    frames_per_window: Annotated[int | None, typer.Option(help="Frames made at a time; 4, or the state's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Calls of the model for those; 1, or the state's.")] = None,
    context: Annotated[int | None, typer.Option(help="Shown frames kept in view; 0, or the state's.")] = None,
    sink: Annotated[
        int | None, typer.Option(help="First frames, or the reference's, kept in view for ever; 1, or the state's.")
    ] = None,
    keyframes: Annotated[int | None, typer.Option(help="Most later frames kept so too; 0, or the state's.")] = None,
    novelty: Annotated[
        float | None, typer.Option(help="How unlike all kept frames those are, 0 to 1; 0.3, or the state's.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Over 1 the text or class counts more.")] = None,
    drive_guidance: Annotated[
        float | None, typer.Option(help="Over 1 the drive counts more, for twice the work.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise; 0, or the state's.")] = None,
    out: Annotated[Path, typer.Option(help="A video, playable while it grows; - for standard output.")] = Path(
        "live.mp4"
    ),
    pipe: Annotated[str, typer.Option(help="What goes to standard output: y4m or rgb24.")] = "y4m",
    state: Annotated[Path | None, typer.Option(help="Where to save what it takes to go on, now and then.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from a saved state.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="What was made, as JSON; - for standard output.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Stream video as it is made: any length, constant memory, exact times."""
    from legato.cli.generate import class_number
    from legato.generate.generator import VideoGenerator
    from legato.generate.stream import VideoStreamState
    from legato.video.pipe import PIPE_FORMATS

    if sum((seconds is not None, frames is not None, forever)) != 1:
        raise BadArgument("how much? Give one of --seconds, --frames and --forever")
    if resume is not None and reference is not None:
        raise BadArgument("--resume goes on from a state, which has its own frames in view; leave --reference out")
    if out == Path("-") and json == Path("-"):
        raise BadArgument("--out and --json cannot both go to standard output; give one of them a file")
    if pipe not in PIPE_FORMATS:
        raise BadArgument(f"--pipe is '{pipe}'; expected {' or '.join(PIPE_FORMATS)}")
    begun = None if resume is None else VideoStreamState.load(resume)
    chosen = _settings(
        begun,
        fps=fps,
        windows=windows,
        frames_per_window=frames_per_window,
        steps=steps,
        context=context,
        sink=sink,
        keyframes=keyframes,
        novelty=novelty,
        seed=seed,
    )
    generator = VideoGenerator.from_pretrained(checkpoint)
    anew: dict[str, Any] = {
        "text": text,
        "label": class_number(label, generator.classes),
        "guidance": guidance,
        "drive_guidance": drive_guidance,
    }
    running = _stream(generator, begun, chosen, anew, _drive(drive, drive_between, drive_end, generator))
    start = begun or running.begin(None if reference is None else _reference(reference, generator, running))
    count = _count(seconds, frames, running.ask.rate)
    session = Session(state, quiet, count, running.ask.rate)
    whole = session.run(running.frames(start, count), out, pipe)
    told = session.told() | {
        "file": str(out),
        "checkpoint": checkpoint,
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
        "state": None if state is None else str(state),
        "complete": whole,
    }
    if json is not None:
        write_json(json, told)
    if json != Path("-"):
        typer.echo(session.summary(str(out), whole), err=out == Path("-"))


@dataclass
class Session:
    """One run: passes frames on, counts, shows how it goes, saves the state, and ends when it is asked to.

    Attributes:
        place: where the state goes; nowhere for None.
        quiet: no progress.
        count: of frames that are asked for; None without end.
        rate: frames per second.
    """

    place: Path | None
    quiet: bool
    count: int | None
    rate: "Fraction"
    made: int = 0
    stopped: bool = False
    latest: "VideoStreamState | None" = None
    began: float = 0.0
    first_seconds: float | None = None
    saved: float = 0.0
    marked: "tuple[int, VideoStreamState] | None" = None
    early_bytes: int | None = None
    peak_bytes: int = 0
    _tell: Callable[[], None] = field(default=lambda: None, repr=False)

    def run(self, coming: "Iterator[Made]", out: Path, pipe: str) -> bool:
        """Write what comes; whether all of it was wanted and made.

        The first Ctrl-C ends the stream after the frame at hand, with a whole file and a saved state; a second one
        ends it at once.
        """
        import contextlib
        import signal
        import time

        from legato.video import write_video
        from legato.video.pipe import write_pipe

        self.began = self.saved = time.monotonic()
        previous = signal.getsignal(signal.SIGINT)

        def stop(*_: object) -> None:
            self.stopped = True
            signal.signal(signal.SIGINT, previous)

        with contextlib.ExitStack() as stack:
            if previous is not None:
                signal.signal(signal.SIGINT, stop)
                stack.callback(signal.signal, signal.SIGINT, previous)
            stack.callback(self.save)
            stack.enter_context(self._progress())
            passing = self._passing(coming)
            if out == Path("-"):
                sink: Any = stack.enter_context(open(1, "wb", buffering=0, closefd=False))
                return write_pipe(passing, sink, rate=self.rate, form=pipe) and not self.stopped
            out.parent.mkdir(parents=True, exist_ok=True)
            write_video(passing, out, growing=True, last_seconds=1 / self.rate)
            return not self.stopped

    def save(self) -> None:
        """Save the state after the last frame that was passed on."""
        if self.place is not None and self.latest is not None:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self.latest.save(self.place)

    def told(self) -> dict[str, Any]:
        """Figures of the run."""
        wall = self._wall()
        return {
            "frames": self.made,
            "seconds": float(self.made / self.rate),
            "wall_seconds": wall,
            "first_frame_seconds": self.first_seconds,
            "real_time_factor": float(self.made / self.rate) / wall if wall else None,
            "rss_bytes_after_100_frames": self.early_bytes,
            "peak_rss_bytes": self.peak_bytes,
            "state_bytes": None if self.latest is None else self.latest.nbytes,
        }

    def summary(self, out: str, whole: bool) -> str:
        """One line on the run."""
        ended = "" if whole else ", ended early"
        return f"{'standard output' if out == '-' else out}: {self._line()}{ended}"

    def _passing(self, coming: "Iterator[Made]") -> "Iterator[Frame]":
        for one in coming:
            if self.first_seconds is None:
                self.first_seconds = self._wall()
            yield one.frame
            self.made += 1  # it is written now: the writer has asked for the next
            self.latest = one.state
            self._tell()
            self._save_now_and_then()
            if self.stopped:
                return

    def _save_now_and_then(self) -> None:
        """Save a state over a second of video back: a file that is killed lacks about its last second."""
        import time

        assert self.latest is not None
        if self.place is None or time.monotonic() - self.saved < SAVE_EVERY_SECONDS:
            return
        if self.marked is not None and self.made - self.marked[0] <= self.rate + 2:
            return
        if self.marked is not None:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self.marked[1].save(self.place)
        self.marked, self.saved = (self.made, self.latest), time.monotonic()

    def _progress(self) -> Any:
        import psutil
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        process = psutil.Process()
        console = Console(stderr=True)
        bar = Progress(
            TextColumn("streaming"),
            BarColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=console,
            disable=self.quiet or not console.is_terminal,
            transient=True,
        )
        task = bar.add_task("", total=self.count, told="")

        def tell() -> None:
            used = process.memory_info().rss
            self.early_bytes = used if self.made == EARLY_FRAMES else self.early_bytes
            self.peak_bytes = max(self.peak_bytes, used)
            bar.update(task, completed=self.made, told=self._line())

        self._tell = tell
        return bar

    def _line(self) -> str:
        shown, wall = float(self.made / self.rate), self._wall()
        factor = shown / wall if wall else 0.0
        return f"{self.made} frames, {shown:.2f} s, {factor:.2f} x real time, {self.peak_bytes / 2**20:.0f} MiB"

    def _wall(self) -> float:
        import time

        return time.monotonic() - self.began


def _settings(begun: "VideoStreamState | None", **asked: float | int | None) -> dict[str, Any]:
    """Numbers as asked for, else those of the state, else the usual ones.

    Raises:
        BadArgument: one differs from the state's.
    """
    from fractions import Fraction

    if begun is None:
        return {name: USUAL[name] if value is None else value for name, value in asked.items()}
    has = {
        "fps": begun.ask.rate,
        "windows": begun.window.windows,
        "frames_per_window": begun.window.frames_per_window,
        "steps": begun.window.steps,
        "context": begun.window.context_frames,
        "sink": begun.window.appearance.sink_frames,
        "keyframes": begun.window.appearance.keyframes,
        "novelty": begun.window.appearance.novelty,
        "seed": begun.ask.seed,
    }
    for name, value in asked.items():
        exact = Fraction(value).limit_denominator(1001) if name == "fps" and value is not None else value
        if value is not None and exact != has[name]:
            option = "--" + name.replace("_", "-")
            raise BadArgument(f"{option} is {value:g} and the saved stream's is {float(has[name]):g}; leave it out")
    return has


def _stream(
    generator: "VideoGenerator",
    begun: "VideoStreamState | None",
    chosen: dict[str, Any],
    anew: dict[str, Any],
    drive: "Drive | None",
) -> "VideoStream":
    """The stream, new or gone on with; text, class and guidance that are given anew count from here on."""
    from dataclasses import replace
    from fractions import Fraction

    from legato.generate.appearance import Appearance
    from legato.generate.rolling import RollingWindow
    from legato.generate.stream import StreamAsk, VideoStream

    if not chosen["fps"] > 0:
        raise BadArgument(f"--fps is {chosen['fps']:g}; expected more than 0")
    if begun is None:
        ask = StreamAsk(Fraction(chosen["fps"]).limit_denominator(1001), seed=chosen["seed"])
        window = RollingWindow(
            chosen["windows"],
            chosen["frames_per_window"],
            chosen["steps"],
            context_frames=chosen["context"],
            appearance=Appearance(chosen["sink"], chosen["keyframes"], chosen["novelty"]),
        )
    else:
        ask, window = begun.ask, begun.window
    ask = replace(ask, **{name: value for name, value in anew.items() if value is not None})
    return VideoStream(generator, ask, window, drive)


def _drive(path: Path | None, between: str, at_end: str, generator: "VideoGenerator") -> "Drive | None":
    """Pictures of a video with their seconds from its first one."""
    from legato.data.batch import pixels_to_signal
    from legato.generate.driving import Drive
    from legato.generate.stream import drive_side_px
    from legato.video import open_video

    if path is None:
        return None
    height, width = drive_side_px(generator)
    video = open_video(path, size_px=(height, width))
    info = video.info
    if abs(info.width * height - info.height * width) > 0.02 * info.width * height:
        video.close()
        raise BadArgument(
            f"--drive {path} is {info.width}x{info.height}; this checkpoint takes pictures of the shape of {width}x"
            f"{height}: crop the video"
        )

    def pictures() -> Iterator[Any]:
        with video:
            for frame in video:
                yield frame.seconds - info.start_seconds, pixels_to_signal(frame.pixels.contiguous())

    return Drive(pictures(), between=between, at_end=at_end)


def _reference(path: Path, generator: "VideoGenerator", running: "VideoStream") -> "Frames":
    """A picture one interval before second 0, or the last frames of a video at their times."""
    from collections import deque

    import torch

    from legato.errors import VideoError
    from legato.video import Frames, open_video
    from legato.video.still import read_picture

    try:
        picture = read_picture(path)
    except VideoError:
        picture = None
    if picture is not None:
        rate = running.ask.rate
        return Frames(picture[None], torch.tensor([-rate.denominator]), 1 / (rate * rate.denominator))
    with open_video(path) as video:
        wanted = max(1, running.window.context_frames, running.window.appearance.sink_frames)
        last = deque(video, maxlen=wanted)
        pts = torch.tensor([frame.pts for frame in last])
        return Frames(torch.stack([frame.pixels for frame in last]), pts, last[-1].time_base)


def _count(seconds: float | None, frames: int | None, rate: "Fraction") -> int | None:
    """How many frames to make."""
    import math
    from fractions import Fraction

    if frames is not None and frames < 1:
        raise BadArgument(f"--frames is {frames}; expected at least 1")
    if seconds is None:
        return frames
    if not 0 < seconds < float("inf"):
        raise BadArgument(f"--seconds is {seconds:g}; expected more than 0")
    return math.ceil(Fraction(seconds).limit_denominator(10**6) * rate)
