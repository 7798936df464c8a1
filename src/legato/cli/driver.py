"""What `legato stream` is driven by: pose maps out of a video file, or live from standard input."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legato.errors import BadArgument, CorruptVideo

if TYPE_CHECKING:
    from legato.generate.driving import Drive, DriveState
    from legato.generate.generator import VideoGenerator

__all__ = ["Driver"]

MOST_STRETCH = 0.02
MOST_PATIENCE_SECONDS = 86_400


@dataclass(frozen=True)
class Driver:
    """A drive as it is asked for.

    Attributes:
        path: a video, or `-` for standard input.
        pipe: what comes there, y4m or rgb24.
        fps: of its pictures; as they say themselves by default.
        between: see `Drive`.
        at_end: see `Drive`.
        patience_seconds: see `Drive`; it also says that the driver is live, so that a stream which is gone on with
            takes its pictures for the following ones.
        fit_to: a picture file with the reference's pose map.
        bridge_seconds: see `Drive`.
        warnings: what was wrong with its pictures so far, and what was done.

    Raises:
        BadArgument: an argument is outside its range.
    """

    path: Path
    pipe: str = "y4m"
    fps: float | None = None
    between: str = "nearest"
    at_end: str = "hold"
    patience_seconds: float | None = None
    fit_to: Path | None = None
    bridge_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from legato.video.pipe import PIPE_FORMATS

        if self.pipe not in PIPE_FORMATS:
            raise BadArgument(f"--drive-pipe is '{self.pipe}'; expected {' or '.join(PIPE_FORMATS)}")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise BadArgument(f"--drive-fps is {self.fps:g}; expected more than 0")
        if self.patience_seconds is not None and not 0 <= self.patience_seconds <= MOST_PATIENCE_SECONDS:
            raise BadArgument(
                f"--drive-patience is {self.patience_seconds:g}; expected 0 to {MOST_PATIENCE_SECONDS} seconds, or "
                "leave it out to wait without end"
            )
        if not 0 <= self.bridge_seconds < float("inf"):
            raise BadArgument(f"--bridge is {self.bridge_seconds:g}; expected 0 or more seconds")
        if self.bridge_seconds and self.fit_to is None:
            raise BadArgument("--bridge leads from the reference's pose to the drive's; give --reference-pose too")

    def drive(self, generator: "VideoGenerator", fps: float, before: "DriveState | None" = None) -> "Drive":
        """The pictures at the size that the generator takes.

        Args:
            generator: that is driven.
            fps: of what it makes.
            before: what a saved stream had of its drive.

        Raises:
            BadArgument: they are of another shape.
            VideoError: they cannot be read.
        """
        from legato.generate.driving import Drive
        from legato.generate.stream import drive_side_px

        size_px = drive_side_px(generator)
        fit_to = None if self.fit_to is None else self._picture(self.fit_to, size_px)
        if self.path == Path("-"):
            coming = self._piped(size_px, fps)
        else:
            coming = self._filed(size_px)
        if before is not None and self.patience_seconds is not None:
            coming = _after(coming, float(before.seconds[-1]))
        return Drive(
            coming,
            between=self.between,
            at_end=self.at_end,
            patience_seconds=None if self.patience_seconds is None else float(self.patience_seconds),
            fit_to=fit_to,
            bridge_seconds=float(self.bridge_seconds),
        )

    def _piped(self, size_px: tuple[int, int], fps: float) -> Iterator[tuple[float, Any]]:
        from fractions import Fraction

        from legato.data.batch import pixels_to_signal
        from legato.video.read_pipe import PipeReader

        try:
            source: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - standard input stays open
        except OSError as error:
            raise BadArgument("--drive is -, and standard input is closed; pipe pictures into it") from error
        rate = self.fps if self.fps is not None or self.pipe == "y4m" else fps
        exact = None if rate is None else Fraction(rate).limit_denominator(1001)
        reader = PipeReader(source, form=self.pipe, size_px=size_px, rate=exact)
        _check_shape("-", reader.width, reader.height, size_px)
        taken = 0
        try:
            for frame in reader:
                yield frame.seconds, pixels_to_signal(frame.pixels)
                taken += 1
        except CorruptVideo as error:  # a camera that is switched off seldom ends with a whole picture
            if not taken:
                raise
            self.warnings.append(f"the drive is over after {taken} pictures: {error}")

    def _filed(self, size_px: tuple[int, int]) -> Iterator[tuple[float, Any]]:
        from legato.data.batch import pixels_to_signal
        from legato.video import open_video

        video = open_video(self.path, size_px=size_px)
        info = video.info
        try:
            _check_shape(self.path, info.width, info.height, size_px)
        except BadArgument:
            video.close()
            raise

        def pictures() -> Iterator[tuple[float, Any]]:
            with video:
                number, own, longest = -1, 0.0, 0.0
                for number, frame in enumerate(video):
                    before, own = own, frame.seconds - info.start_seconds
                    longest = max(longest, own - before)
                    yield own if self.fps is None else number / self.fps, pixels_to_signal(frame.pixels.contiguous())
                if video.frames_lost or video.frames_concealed:
                    self.warnings.append(
                        f"the drive {self.path} is damaged: {video.frames_lost} pictures could not be decoded and "
                        f"{video.frames_concealed} are partly made up; what is missing was held"
                    )
                elif missing := info.missing(number + 1, info.start_seconds + own, own / max(1, number), longest):
                    self.warnings.append(f"the drive {self.path} {missing}; it may be cut short: copy it again")

        return pictures()

    def _picture(self, path: Path, size_px: tuple[int, int]) -> Any:
        from torch.nn import functional as F

        from legato.data.batch import pixels_to_signal
        from legato.video.still import read_picture

        pixels = read_picture(path)
        _check_shape(path, pixels.shape[-1], pixels.shape[-2], size_px)
        return F.interpolate(pixels_to_signal(pixels)[None], size_px, mode="area")[0]


def _check_shape(path: Path | str, width: int, height: int, size_px: tuple[int, int]) -> None:
    """Raise where pictures would be stretched."""
    rows, columns = size_px
    if abs(width * rows - height * columns) > MOST_STRETCH * width * rows:
        raise BadArgument(
            f"driving pictures of {path} are {width}x{height}; this checkpoint takes the shape of {columns}x{rows}: "
            "crop them"
        )


def _after(coming: Iterator[tuple[float, Any]], last: float) -> Iterator[tuple[float, Any]]:
    """Pictures whose first one follows a time as the second follows the first."""
    try:
        begin, picture = next(coming)
        later, another = next(coming)
    except StopIteration:
        return
    shift = last + (later - begin) - begin
    yield begin + shift, picture
    yield later + shift, another
    for at, picture in coming:
        yield at + shift, picture
