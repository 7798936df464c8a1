"""`legato retime`: a video at another frame rate, or at another speed."""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli import parse
from legato.cli.output import check_places, check_spared, write_json
from legato.cli.progress import progress
from legato.errors import BadArgument
from legato.files import local_path

if TYPE_CHECKING:
    from legato.motion.cuts import Cut, CutDetector, CutStep
    from legato.motion.interpolate import Interpolator
    from legato.motion.retime import Retimed
    from legato.video import Frame, Video
    from legato.video.speed import SpeedCurve

__all__ = ["retime", "retime_video"]

MOST_THREADS = 4  # each holds a frame and a few pictures
MOST_FRAMES = 10_000_000  # two days at 60 frames a second
NANOSECOND = Fraction(1, 10**9)
SOON = 1000  # frames at a rate: if any two are too close for a format, two of these are
STILL_INTERVALS = 5  # of the frames before: a last frame that lasts longer is worth a word
COARSE_TICK = Fraction(1, 1000)  # files with such times may have been told a rate that was made of a rounded interval


def retime(
    video: Annotated[str, typer.Argument(help="A video file or URL; of variable rate, too.")],
    out: Annotated[Path, typer.Option(help="The new video: .mp4, .mov, .mkv, .webm or .gif.")],
    fps: Annotated[
        str | None, typer.Option("--fps", "--target-fps", help="Frames per second: 60, 23.976 or 24000/1001.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Source time over output time, as '0:1,1:0.25' (seconds:speed, linear between).")
    ] = None,
    times: Annotated[
        str | None, typer.Option(help="Frames at these seconds of the video instead, as '0,0.1,0.25' or 1/3.")
    ] = None,
    interpolator: Annotated[
        str, typer.Option(help="What fills in frames: flow, linear, footage-inbetween, or a folder of such a refiner.")
    ] = "flow",
    threads: Annotated[int, typer.Option(help="Gaps filled at a time; 0: one for each core, up to four.")] = 0,
    cuts: Annotated[bool, typer.Option("--cuts/--no-cuts", help="Look for cuts, and mix nothing across them.")] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Keep the sound, where it still fits.")] = True,
    lossless: Annotated[bool, typer.Option("--lossless", help="Keep every pixel (large; not for browsers).")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="What was made; - for standard output.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Bring a video to any frame rate or speed, by frames at exact times."""
    check_places({"--out": out, "--json": json_out})
    check_spared([video, interpolator], [("--json", json_out)])
    told = retime_video(
        video,
        out,
        parse.parsed_interpolator(interpolator),
        times=None if times is None else parse.parsed_times(times),
        threads=threads,
        rate=None if fps is None else parse.parsed_rate(fps),
        curve=None if speed is None else parse.parsed_speed(speed),
        cuts=cuts,
        lossless=lossless,
        sound=sound,
        quiet=quiet or json_out == Path("-"),
    )
    if json_out is not None:
        write_json(json_out, told)
    if json_out != Path("-"):
        pace = "at times of their own" if told["fps"] is None else f"at {told['fps']:g} fps"
        made = ", ".join(f"{count} {origin}" for origin, count in told["origins"].items() if count)
        typer.echo(
            f"{out}: {told['frames']} frames, {told['duration_seconds']:.2f} s {pace} ({made}; "
            f"{len(told['cuts'])} cuts); sound: {told['sound']}; made in {told['wall_seconds']:.1f} s"
        )
    for warning in told["warnings"]:
        typer.echo(f"! {warning}", err=True)


def retime_video(
    path: str,
    out: Path,
    interpolator: "Interpolator",
    *,
    rate: Fraction | None = None,
    curve: "SpeedCurve | None" = None,
    times: Sequence[Fraction] | None = None,
    threads: int = 0,
    cuts: bool = True,
    lossless: bool = False,
    sound: bool = True,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write the retimed video, and return what was made.

    Args:
        path: of the source.
        out: where it goes.
        interpolator: what fills in frames.
        rate: frames per second; None: as many as the source declares, or has where its times contradict that.
        curve: source seconds over output seconds; None: as they are.
        times: of the frames, in source seconds, in place of rate and curve.
        threads: gaps filled at a time; 0: one for each core, up to four.
        cuts: whether shots are kept apart.
        lossless: whether pixels are kept as they are.
        sound: whether it is kept where it fits.
        quiet: no progress bar.

    Raises:
        BadArgument: nothing to change or a contradiction, a source without a rate where one is needed, times beyond its
            end, more frames than anyone could want, or a file onto itself.
        UnsupportedOutput: a kind of file that is not written.
        VideoError: the source cannot be read, or the file not written.
    """
    import time

    import torch

    from legato.motion.cuts import AdaptiveCuts
    from legato.motion.retime import retimed, shown_at
    from legato.understand.inspection import Damage
    from legato.video import write_video
    from legato.video.prefetch import prefetched
    from legato.video.write import check_times

    if rate is None and curve is None and times is None:
        raise BadArgument(
            "nothing says what to change; give --fps, as 60, --speed, as 0:1,1:0.25, or --times, as 0,0.1"
        )
    if times is not None and (rate or curve):
        raise BadArgument("--times says when each frame is, and --fps and --speed would say so, too; use one of them")
    if threads < 0:
        raise BadArgument(f"--threads is {threads}; expected 1 or more, or 0 for one for each core")
    if out.exists() and (source := local_path(path)).exists() and out.samefile(source):
        raise BadArgument(f"--out is {out}, the video itself; give the new video another name")
    begun = time.monotonic()
    with square_pixels(path) as video:
        rate = rate or (declared_rate(video) if times is None else video.info.declared_rate)
        if rate is None and times is None:
            raise BadArgument(f"{path} declares no frame rate; say how many frames to write with --fps")
        begin, end = span_of(video)
        if rate and times is None and end is not None:
            check_count(end - begin, rate, curve)
        detector = Noting(AdaptiveCuts())
        account = Account()
        asked, shown, base, last = times_of(begin, rate, curve, times)
        steps = retimed(
            account.sources(prefetched(video)),
            asked,
            interpolator,
            cuts=detector if cuts else None,
            end=end,
            threads=threads or min(os.cpu_count() or 1, MOST_THREADS),
        )
        made = account.made(steps)
        if times is not None:
            made = all_of(made, times)
        bar = progress(made, video.info, (None, None), None, quiet, seconds_of=lambda frame: frame.seconds)
        frames = shown_at(bar, shown, base)
        fate = fate_of_sound(video, out, wanted=sound, moved=curve is not None or begin < 0, picked=times is not None)
        audio_from = path if fate == "copied" else None
        soon = list(times) if times is not None else list(itertools.islice(ticks(rate or Fraction(1)), SOON))
        looked_at = max(base, NANOSECOND)  # stamps in a finer base need not fit into 64 bits
        check_times(out, torch.tensor([round(at / looked_at) for at in soon]), looked_at)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_video(frames, out, lossless=lossless, audio_from=audio_from, last_seconds=last)
        took = time.monotonic() - begun
        damage = Damage(video.frames_lost, video.frames_concealed, video.times_repaired)
        return {
            "video": path,
            "out": str(out),
            "fps": None if times is not None or rate is None else float(rate),
            "source_frames": account.source_frames,
            "frames": account.frames,
            "duration_seconds": float(times[-1] + last - times[0] if times is not None else account.frames * last),
            "origins": account.origins,
            "cuts": [cut.seconds for cut in detector.found],
            "sound": fate,
            "interpolator": repr(interpolator),
            "frames_lost": damage.frames_lost,
            "frames_concealed": damage.frames_concealed,
            "times_repaired": damage.times_repaired,
            "warnings": [*damage.warnings, *account.cut_short(end)],
            "wall_seconds": took,
            "frames_per_second": account.frames / took,
        }


class Account:
    """Counts frames as they pass, and keeps the times of the last two that are read."""

    def __init__(self) -> None:
        self.source_frames = 0
        self.whole = False
        self.last: tuple[Frame, Frame | None] | None = None
        self.origins = {"source": 0, "interpolated": 0, "held": 0}

    @property
    def frames(self) -> int:
        """Frames made so far."""
        return sum(self.origins.values())

    def sources(self, frames: "Iterable[Frame]") -> "Iterator[Frame]":
        """Frames that are read."""
        for frame in frames:
            self.source_frames += 1
            self.last = frame, self.last and self.last[0]
            yield frame
        self.whole = True

    def cut_short(self, declared_end: Fraction | None) -> Iterator[str]:
        """A warning, where the source ends long before it should."""
        from legato.motion.retime import end_of

        if not self.whole or self.last is None or declared_end is None:
            return
        last, before = self.last
        if declared_end > end_of(last, before, declared_end):
            yield (
                f"The file declares {float(declared_end):.3f} s, but its last frame is at {last.seconds:.3f} s. It may "
                "be cut short; copy it again."
            )
        elif before is not None and declared_end - last.time > STILL_INTERVALS * (last.time - before.time):
            yield (
                f"The last frame, at {last.seconds:.3f} s, is held up to {float(declared_end):.3f} s, where the file "
                "says that it ends. If nothing was to stand still there, it was cut short; copy it again."
            )

    def made(self, steps: "Iterable[Retimed]") -> "Iterator[Frame]":
        """Frames that are made."""
        for step in steps:
            self.origins[step.origin] += 1
            yield step.frame


class Noting:
    """A cut detector that keeps what another one finds."""

    def __init__(self, detector: "CutDetector") -> None:
        self.detector = detector
        self.found: list[Cut] = []

    def step(self, frame: "Frame", state: Any | None = None) -> "CutStep[Any]":
        """Look at the next frame."""
        step = self.detector.step(frame, state)
        self._note(step.confirmed)
        return step

    def finish(self, state: Any) -> "Cut | None":
        """End the stream."""
        cut = self.detector.finish(state)
        self._note(cut)
        return cut

    def _note(self, cut: "Cut | None") -> None:
        if cut is not None:
            self.found.append(cut)


def square_pixels(path: str) -> "Video":
    """The video as it is to be seen: files written here know no pixels that are not square."""
    from legato.video import open_video

    video = open_video(path)
    aspect = video.info.sample_aspect_ratio
    if aspect == 1:
        return video
    video.close()
    return open_video(path, size_px=(video.info.height, max(2, round(video.info.width * aspect / 2) * 2)))


def declared_rate(video: "Video") -> Fraction | None:
    """Frames per second that the file declares; where it rounds times coarsely, if these bear it out."""
    import numpy as np

    from legato.video.frame_times import measured_times

    declared, tick = video.info.declared_rate, video.info.time_base
    if declared is None or tick < COARSE_TICK or "://" in video.info.path:
        return declared
    seconds = np.asarray(video.table().pts, dtype=np.float64) * float(tick)
    return measured_times(seconds, float(tick)).believed_rate(declared, float(tick))


def span_of(video: "Video") -> tuple[Fraction, Fraction | None]:
    """When the first frame is shown, and when the last one ends, if the file says so; exact again."""
    info = video.info
    begin = round(Fraction(info.start_seconds) / info.time_base) * info.time_base
    if info.duration_seconds is None:
        return begin, None
    return begin, begin + round(Fraction(info.duration_seconds) / info.time_base) * info.time_base


def check_count(length: Fraction, rate: Fraction, curve: "SpeedCurve | None") -> None:
    """Refuse to write more frames than anyone could want, before work.

    Raises:
        BadArgument: there would be over `MOST_FRAMES`.
    """
    longest = MOST_FRAMES / rate
    if length > (curve.world(longest) if curve else longest):
        slowed = " and this speed" if curve else ""
        raise BadArgument(
            f"{float(length):g} s of video at {float(rate):g} fps{slowed} are over {MOST_FRAMES} frames; ask for fewer"
        )


def ticks(rate: Fraction) -> Iterator[Fraction]:
    """Times of frames at a constant rate, for ever."""
    return (number / rate for number in itertools.count())


def times_of(
    begin: Fraction, rate: Fraction | None, curve: "SpeedCurve | None", times: Sequence[Fraction] | None
) -> tuple[Iterable[Fraction], Iterable[Fraction], Fraction, Fraction]:
    """Times of frames in the source, when they are shown, a time base that holds those, and how long the last lasts.

    Args:
        begin: of the source.
        rate: frames per second; may be missing if there are times.
        curve: source seconds over output seconds, if not as they are.
        times: of each frame, instead.
    """
    from legato.video.write import LONE_FRAME_SECONDS

    if times is not None:
        base = Fraction(1, math.lcm(*(at.denominator for at in times)))
        usual = 1 / rate if rate else LONE_FRAME_SECONDS
        return times, times, base, times[-1] - times[-2] if len(times) > 1 else usual
    assert rate is not None
    from_second = max(begin, Fraction(0))
    return (
        (begin + (curve.world(at) if curve else at) for at in ticks(rate)),
        (from_second + at for at in ticks(rate)),
        Fraction(1, from_second.denominator * rate.numerator),
        1 / rate,
    )


def all_of(frames: "Iterable[Frame]", times: Sequence[Fraction]) -> "Iterator[Frame]":
    """The frames.

    Raises:
        BadArgument: they end before the times do.
    """
    made = 0
    for frame in frames:
        yield frame
        made += 1
    if made < len(times):
        raise BadArgument(f"--times has {float(times[made]):g} s, and the video ends before that; leave it out")


def fate_of_sound(video: "Video", out: Path, *, wanted: bool, moved: bool, picked: bool = False) -> str:
    """What becomes of the sound, in words."""
    info = video.info
    if not info.has_audio:
        return "none"
    if not wanted:
        return "dropped, as asked"
    if moved:
        return "dropped, since the pictures no longer keep its time"
    if picked:
        return "dropped, since frames were picked by their times"
    if out.suffix.lower() == ".gif":
        return "dropped, since a GIF holds none"
    if "://" in info.path and info.duration_seconds is None:
        return "dropped, since it is a live stream's"
    return "copied"
