"""Reading video: every frame with its exact time, in order or at random."""

import contextlib
import itertools
import re
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from legato.errors import BadArgument, CorruptVideo, EmptyVideo, VideoError
from legato.video.decode import MAX_SIDE_PX, Decoding, Source
from legato.video.frames import Frame, Frames
from legato.video.picture import Darkroom, matrix_of, orientation_of
from legato.video.seek import Locate, PictureTable, Seeker

__all__ = ["Video", "VideoInfo", "open_reduced", "open_video"]

Seconds = int | float | Fraction
LEAST_MISSING_SECONDS = 0.5  # sound may be that much longer than the pictures


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video, and what its first frame shows.

    Attributes:
        path: the path or URL as it was given.
        container: FFmpeg's name of the container format, for example `mov,mp4,m4a,3gp,3g2,mj2`.
        codec: the decoder, for example `h264`.
        pixel_format: how the codec stores pixels, for example `yuv420p10le`.
        color_matrix: the matrix used on the way to RGB, for example `bt709`.
        width: columns of pixels as displayed, after rotation; not stretched by the aspect ratio.
        height: rows of pixels as displayed, after rotation.
        sample_aspect_ratio: width over height of one stored pixel; 1 for square ones.
        rotation_degrees: counterclockwise turn applied for display: 0, 90, 180 or 270.
        mirrored: whether the picture is mirrored left to right before that turn.
        time_base: seconds per unit of the frames' `pts`, exact.
        declared_rate: frames per second that the file claims on average; frames need not keep to it.
        start_seconds: time of the first frame.
        duration_seconds: length that the file declares, from its first frame to the end of the last, None when
            it does not.
        frames_declared: number of frames that the file declares, None when it does not.
        has_audio: whether there is sound beside the video.
    """

    path: str
    container: str
    codec: str
    pixel_format: str
    color_matrix: str
    width: int
    height: int
    sample_aspect_ratio: Fraction
    rotation_degrees: int
    mirrored: bool
    time_base: Fraction
    declared_rate: Fraction | None
    start_seconds: float
    duration_seconds: float | None
    frames_declared: int | None
    has_audio: bool

    def missing(self, frames: int, last_seconds: float, usual_seconds: float, longest_seconds: float) -> str | None:
        """What the file declares and did not give, in words; None where nothing is missing that shows.

        Frames that an edit list hides are declared, and nobody misses them.

        Args:
            frames: that it gave.
            last_seconds: time of the last one.
            usual_seconds: how long frames are shown.
            longest_seconds: how long one was.
        """
        length, last = self.duration_seconds, last_seconds - self.start_seconds
        if self.frames_declared is not None:
            hidden = length is not None and length <= last + 1.5 * usual_seconds
            whole = frames >= self.frames_declared or hidden
            return None if whole else f"declares {self.frames_declared} frames, but gives {frames}"
        if length is None or length <= last + longest_seconds + LEAST_MISSING_SECONDS:
            return None
        return f"declares {length:.4g} s, but its last frame is at {last:.4g} s"


def open_video(
    path_or_url: str | Path,
    *,
    size_px: tuple[int, int] | None = None,
    stream: int = 0,
    table: PictureTable | None = None,
) -> "Video":
    """Opens a video and decodes its first frame.

    Args:
        path_or_url: a file, or a URL such as `rtsp://...` or `https://...`.
        size_px: (height, width) of the frames, scaled in the same step as the colour conversion; None keeps
            the size of the file.
        stream: which video stream, counted from 0; cover pictures do not count.
        table: what `Video.table` gave for this stream before, so that random access need not find it again.

    Raises:
        VideoNotFound: no such file, or the URL does not answer.
        NotAVideo: a folder, an empty file, text, a single picture, or nothing that FFmpeg knows.
        NoVideoStream: sound or subtitles only.
        EmptyVideo: a video stream without a frame.
        CorruptVideo: not one frame can be decoded.
        VideoTooLarge: frames over 16384 pixels a side or 2**27 pixels in all.
        BadArgument: `size_px` or `stream` is out of range.
    """
    if size_px is not None and not all(0 < side <= MAX_SIDE_PX for side in size_px):
        raise BadArgument(f"size_px is {size_px}; expected (height, width), each from 1 to {MAX_SIDE_PX}")
    if stream < 0:
        raise BadArgument(f"stream is {stream}; expected 0 or more")
    return Video(Source(path_or_url, stream), size_px, table)


def open_reduced(path_or_url: str | Path, side_px: int) -> "Video":
    """`open_video`, with frames scaled while decoding so that no side is over `side_px`; a URL keeps its size.

    Raises:
        VideoError: as `open_video`.
    """
    video = open_video(path_or_url)
    longer = max(video.size_px)
    if longer <= side_px or "://" in str(path_or_url):  # a camera may not let us in twice
        return video
    video.close()
    height, width = (max(2, round(side * side_px / longer)) for side in video.size_px)
    return open_video(path_or_url, size_px=(height, width))


class Video:
    """An open video; use `open_video` to get one, and `with` to close it.

    Iterating gives all frames from the start, each time in a fresh pass, so that two loops over one video do
    not disturb each other. The pixels of a frame are one contiguous buffer of (height, width, 3) bytes:
    `frame.pixels.permute(1, 2, 0).numpy()` is an image for OpenCV (in RGB order) without a copy.

    Frames keep the times of the file, also where they start at another time than 0. Damage does not end a
    pass: packets that cannot be decoded are left out and counted in `frames_lost`; frames of which the decoder
    made up a part are given, as players show them, and counted in `frames_concealed`.

    Random access (`at`, an index, `between`) gives the frames that iterating gives. The first use reads
    through the packets once, without decoding, unless a complete pass has been made; frames are then reached
    by seeking, or in a damaged file by decoding from the start. Before a complete pass the packets are
    believed, and in a damaged file they may promise frames that turn out to be beyond decoding.

    Attributes:
        info: what the file says about itself.
    """

    def __init__(
        self, source: Source, size_px: tuple[int, int] | None = None, table: PictureTable | None = None
    ) -> None:
        self._size_px = size_px
        self._source = source
        self._seeker = Seeker(source, table)
        self._darkroom = Darkroom(size_px)
        self._running: weakref.WeakSet[Generator[Frame, None, None]] = weakref.WeakSet()
        self._closed = False
        self._latest = opening = Decoding(source)
        self._opening: Decoding | None = opening
        try:
            first = opening.peek()
            if first is None:
                raise _no_frames(opening)
            self.info = _describe(opening, *first)
        except BaseException:
            opening.close()
            raise

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the frames it gives."""
        return self._size_px or (self.info.height, self.info.width)

    @property
    def frames_lost(self) -> int:
        """Packets that could not be decoded, and are left out, so far in the last pass from the start."""
        return self._latest.frames_lost

    @property
    def frames_concealed(self) -> int:
        """Frames that the decoder marked as partly made up, so far in the last pass from the start."""
        return self._latest.frames_concealed

    @property
    def times_repaired(self) -> int:
        """Missing, repeated or falling times replaced so far in the last pass from the start."""
        return self._latest.times_repaired

    @property
    def times_made_up(self) -> int:
        """Those of the repaired times for which the file gives no decoding time either."""
        return self._latest.times_made_up

    def __iter__(self) -> Iterator[Frame]:
        return self._developed(self._from_start())

    def between(self, start_seconds: Seconds, end_seconds: Seconds) -> Iterator[Frame]:
        """Frames with times from `start_seconds` up to, but not including, `end_seconds`.

        Raises:
            BadArgument: the end comes before the start.
            VideoError: a live stream, which has no random access.
        """
        if not float(start_seconds) <= float(end_seconds):
            raise BadArgument(f"the span from {start_seconds} to {end_seconds} s runs backwards; swap the two")
        self._check_random_access()
        start_clock, end_clock = self._clock_like(start_seconds), self._clock_like(end_seconds)
        pictures = self._seeker.pictures(lambda times: bisect_left(times, start_seconds, key=start_clock))
        return self._developed(itertools.takewhile(lambda shown: end_clock(shown[1]) < end_seconds, pictures))

    def at(self, seconds: Seconds) -> Frame:
        """The frame on show at a time: the last one whose time is not after `seconds`.

        A float stands for all times that round to it, so that `video.at(frame.seconds)` is that frame.

        Raises:
            BadArgument: `seconds` lies before the first frame.
            VideoError: a live stream, which has no random access.
        """
        clock = self._clock_like(seconds)

        def locate(times: Sequence[int]) -> int:
            shown = bisect_right(times, seconds, key=clock) - 1
            if shown < 0 or seconds != seconds:
                raise BadArgument(
                    f"nothing is on show at {seconds} s; {self.info.path} starts at {self.info.start_seconds} s"
                )
            return shown

        return self._fetch(locate)

    def __getitem__(self, at: int) -> Frame:
        """The frame at a place in the order of iteration; negative ones count from the end.

        Raises:
            IndexError: there are fewer frames.
            VideoError: a live stream, which has no random access.
        """

        def locate(times: Sequence[int]) -> int:
            if not -len(times) <= at < len(times):
                raise IndexError(f"there is no frame {at} in {self.info.path}, which has {len(times)}")
            return at % len(times)

        return self._fetch(locate)

    def table(self) -> PictureTable:
        """The presentation times of all frames, without their pixels.

        They are read off the packets where these look sound. Elsewhere everything is decoded, and `frames_lost`,
        `times_repaired` and the like then tell of that complete pass.

        Raises:
            VideoError: a live stream, which has no random access.
        """
        self._check_random_access()
        known = self._seeker.sound_table()
        if known is None:
            self._latest = decoding = Decoding(self._source)
            with contextlib.closing(decoding):
                for _ in self._seeker.watch(decoding):
                    pass
            known = self._seeker.sound_table()
        assert known is not None
        return known

    def read(self, max_frames: int | None = None) -> Frames:
        """All frames from the start, or the first `max_frames`, at once.

        Raises:
            BadArgument: `max_frames` is under 1.
            VideoError: the picture changes its size on the way; give `size_px` to `open_video`.
        """
        if max_frames is not None and max_frames < 1:
            raise BadArgument(f"max_frames is {max_frames}; expected 1 or more, or None for all")
        with contextlib.closing(self._developed(self._from_start())) as run:
            frames = list(itertools.islice(run, max_frames))
        if not frames:
            raise _no_frames(self._latest)
        first = frames[0]
        for frame in frames:
            if frame.pixels.shape != first.pixels.shape:
                raise VideoError(
                    f"{self.info.path} changes from {first.width}x{first.height} to {frame.width}x{frame.height} at "
                    f"{frame.seconds:g} s; give size_px=(height, width) to open_video to read it in one size"
                )
        pixels = torch.stack([frame.pixels.permute(1, 2, 0) for frame in frames]).permute(0, 3, 1, 2)
        return Frames(pixels, torch.tensor([frame.pts for frame in frames]), first.time_base)

    def close(self) -> None:
        """Frees the file; loops that are still running end before their next frame."""
        self._closed = True
        for running in list(self._running):
            with contextlib.suppress(ValueError):  # it runs in another thread, and will see the flag
                running.close()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.close()
        self._seeker.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info = self.info
        rate = f", {float(info.declared_rate):g} per second" if info.declared_rate else ""
        length = f", {info.duration_seconds:.3f} s" if info.duration_seconds is not None else ""
        return f"Video({info.path!r}, {info.codec}, {info.width}x{info.height}{rate}{length})"

    def _from_start(self) -> Iterator[tuple[VideoFrame, int]]:
        """Pictures of a pass from the start; the first one goes on from the picture that opening has decoded."""
        self._check_open()
        decoding, self._opening = self._opening or Decoding(self._source), None
        self._latest = decoding
        with contextlib.closing(decoding):
            yield from self._seeker.watch(decoding, remember=not self._source.is_url)

    def _developed(self, pictures: Iterator[tuple[VideoFrame, int]]) -> Generator[Frame, None, None]:
        run = self._develop(pictures)
        self._running.add(run)
        return run

    def _develop(self, pictures: Iterator[tuple[VideoFrame, int]]) -> Generator[Frame, None, None]:
        darkroom = Darkroom(self._size_px)
        for picture, pts in pictures:
            if self._closed:
                return
            yield self._frame(darkroom, picture, pts)

    def _fetch(self, locate: Locate) -> Frame:
        self._check_random_access()
        return self._frame(self._darkroom, *self._seeker.picture(locate))

    def _frame(self, darkroom: Darkroom, picture: VideoFrame, pts: int) -> Frame:
        pixels = torch.from_numpy(darkroom.develop(picture)).permute(2, 0, 1)
        return Frame(pixels, pts, self.info.time_base, picture.key_frame)

    def _check_random_access(self) -> None:
        self._check_open()
        if self._source.is_url and self.info.duration_seconds is None:
            raise VideoError(f"{self.info.path} is a live stream; iterate over it, or record it first")

    def _check_open(self) -> None:
        if self._closed:
            raise VideoError(f"{self.info.path} is closed; open it again")

    def _clock_like(self, seconds: Seconds) -> Callable[[int], Fraction | float]:
        """Turns pts into seconds of the kind that they are compared with: a float stands for all that rounds to it."""
        base = self.info.time_base
        if isinstance(seconds, float):
            return lambda pts: float(pts * base)
        return lambda pts: pts * base


def _describe(decoding: Decoding, picture: VideoFrame, pts: int) -> VideoInfo:
    container, stream, base = decoding.container, decoding.stream, decoding.time_base
    turns, mirrored = orientation_of(picture)
    width, height = picture.width, picture.height
    return VideoInfo(
        path=str(decoding.source.place),
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=picture.format.name,
        color_matrix=matrix_of(picture),
        width=height if turns % 2 else width,
        height=width if turns % 2 else height,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1),
        rotation_degrees=90 * turns,
        mirrored=mirrored,
        time_base=base,
        declared_rate=stream.average_rate or None,
        start_seconds=float(pts * base),
        duration_seconds=_declared_seconds(container, stream, base, pts),
        frames_declared=stream.frames or None,
        has_audio=bool(container.streams.audio),
    )


def _declared_seconds(container: InputContainer, stream: VideoStream, base: Fraction, first_pts: int) -> float | None:
    """How long the pictures are shown, as the file says."""
    length = None if stream.duration is None else stream.duration * base
    if length is None and container.duration is not None:
        length = Fraction(container.duration, av.time_base)
    if "matroska" not in container.format.name:
        return None if length is None else float(length)
    # Matroska says when all ends, sound and pictures, not how long it is; of each stream its tags may say so.
    by_ffmpeg = container.metadata.get("ENCODER", container.metadata.get("encoder", "")).startswith("Lavf")
    by_mkvmerge = any(name.startswith("_STATISTICS_WRITING_APP") for name in stream.metadata)
    tagged = _tagged_duration(stream, own=by_ffmpeg)
    if tagged is not None and by_mkvmerge and not by_ffmpeg:
        return float(tagged)  # mkvmerge says how long, FFmpeg until when
    end = tagged or length
    return None if end is None else float(end - first_pts * base)


def _tagged_duration(stream: VideoStream, *, own: bool) -> Fraction | None:
    """What a stream's tags say, such as `DURATION: 00:00:02.040000000`; those that FFmpeg copied do not count."""
    for name, value in stream.metadata.items():
        if own and name.upper() != "DURATION":
            continue
        told = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", value.strip("\0 "))
        if told and re.fullmatch(r"duration(-.*)?", name, re.IGNORECASE):
            hours, minutes, seconds = (Fraction(part) for part in told.groups())
            return 3600 * hours + 60 * minutes + seconds
    return None


def _no_frames(decoding: Decoding) -> VideoError:
    place, lost = decoding.source.place, decoding.frames_lost
    if decoding.size_refused:
        return decoding.source.too_large("a frame size out of bounds")
    if lost:
        return CorruptVideo(
            f"{place}: not one frame could be decoded ({lost} packets failed, the last one with: "
            f"{decoding.last_error}); the file is cut short or damaged: copy or record it again"
        )
    return EmptyVideo(f"{place} has a video stream without a single frame; record it again")
