"""One pass over a file: packets in, pictures out in order of their times, damage skipped and counted."""

import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from legato.errors import (
    BadArgument,
    NotAVideo,
    NoVideoStream,
    VideoError,
    VideoNotFound,
    VideoTooLarge,
)

__all__ = ["MAX_PIXELS", "MAX_SIDE_PX", "Decoding", "Packet", "RisingClock", "Source"]

MAX_SIDE_PX = 16384
MAX_PIXELS = 2**27

_TIMEOUT_SECONDS = 10.0
_SEEK_MARGIN_SECONDS = 1
# A demuxer that fails this often without one packet in between has nothing more to give.
_MAX_FAILURES = 16
# AVFMT_FLAG_GENPTS, which PyAV sets: FFmpeg makes up missing times without a word, and wrong ones for B-frames.
_INVENT_TIMES = 1
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# FFmpeg shows text files as teletype art; that is not what a user who passes a text file wants.
_TEXT_ART = {"adf", "bin", "idf", "tty", "xbin"}


@dataclass(frozen=True)
class Packet:
    """What a packet says about its picture, without decoding it."""

    pts: int | None
    key: bool
    corrupt: bool
    hidden: bool


@dataclass(frozen=True)
class Source:
    """Where a video comes from and which of its streams is meant.

    Attributes:
        place: a path, or a URL with `://` in it.
        stream: which video stream, counted from 0; cover pictures do not count.
    """

    place: str | Path
    stream: int = 0

    @property
    def is_url(self) -> bool:
        """Whether `place` goes to FFmpeg as a URL rather than as a local path."""
        return isinstance(self.place, str) and _URL.match(self.place) is not None

    def open(self) -> tuple[InputContainer, VideoStream]:
        """Opens the container and picks the video stream.

        Raises:
            VideoError: of the kind that fits what is wrong.
        """
        container = self.open_container()
        try:
            return container, self._pick_stream(container)
        except VideoError:
            container.close()
            raise

    def open_container(self) -> InputContainer:
        """Opens the container, whatever streams it holds.

        Raises:
            VideoError: of the kind that fits what is wrong.
        """
        if not self.is_url:
            self._check_file()
        try:
            return av.open(
                str(self.place) if self.is_url else f"file:{self.place}",
                mode="r",
                timeout=_TIMEOUT_SECONDS,
                metadata_errors="replace",
                options={"max_pixels": str(MAX_PIXELS)},
            )
        except av.FFmpegError as error:
            raise self._opening_failed(error) from error

    def _check_file(self) -> None:
        path = Path(self.place)
        if not path.exists():
            raise VideoNotFound(f"there is no file {path}; check the path")
        if path.is_dir():
            raise NotAVideo(f"{path} is a folder; expected a video file: pass one of the files in it")
        if not path.is_file():
            raise NotAVideo(f"{path} is not a regular file; expected a video file or a URL such as rtsp://...")
        if path.stat().st_size == 0:
            raise NotAVideo(f"{path} is empty (0 bytes); expected a video file: copy or record it again")

    def _opening_failed(self, error: av.FFmpegError) -> VideoError:
        late = isinstance(error, av.error.ExitError)
        why = f"no answer within {_TIMEOUT_SECONDS:g} s" if late else error.strerror or type(error).__name__
        if self.is_url:
            return VideoNotFound(f"{self.place} cannot be opened: {why}; check the address and the network")
        if not os.access(self.place, os.R_OK):
            return VideoError(f"{self.place} may not be read: {why}; change its permissions")
        return NotAVideo(
            f"{self.place} is not a video that FFmpeg can open: {why}; expected a container such as mp4, mkv, "
            "webm, avi or gif, and a whole one: a file cut short before its index cannot be opened"
        )

    def _pick_stream(self, container: InputContainer) -> VideoStream:
        name = container.format.name
        if name in _TEXT_ART:
            raise NotAVideo(f"{self.place} is a text file; expected a video")
        if name.endswith("_pipe") or name == "image2":
            raise NotAVideo(
                f"{self.place} is a single picture ({name}); expected a video: read pictures with cv2.imread or PIL"
            )
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            others = sorted({str(stream.type) for stream in container.streams}) or ["no streams"]
            raise NoVideoStream(f"{self.place} holds no video, only {', '.join(others)}; expected a video stream")
        if self.stream >= len(streams):
            raise BadArgument(
                f"stream is {self.stream}, but {self.place} has {len(streams)} video stream(s); "
                f"use 0 to {len(streams) - 1}"
            )
        stream = streams[self.stream]
        if stream.codec_context is None:
            raise NotAVideo(f"{self.place} holds a video codec that this build of FFmpeg cannot decode; convert it")
        self.check_size(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        return stream

    def check_size(self, width: int, height: int) -> None:
        """Refuses a picture size that only a damaged or hostile file would declare.

        Raises:
            VideoTooLarge: over `MAX_SIDE_PX` on a side or `MAX_PIXELS` in all.
        """
        if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
            raise self.too_large(f"frames of {width}x{height}")

    def too_large(self, what: str) -> VideoTooLarge:
        """The error for a frame size that is beyond the limits."""
        return VideoTooLarge(
            f"{self.place} declares {what}; legato decodes up to {MAX_SIDE_PX} pixels a side and {MAX_PIXELS} in all: "
            "scale it down, or check whether the file is damaged"
        )


class RisingClock:
    """Passes presentation times through as they are, and repairs those that do not rise.

    A missing time becomes the decoding time where that rises, else one frame after the last. A time that
    repeats the last one is put half a frame after it. Where times fall back for good (two recordings
    joined) the later ones are shifted so that they go on one frame after the last.

    Args:
        frame_ticks: one frame at the declared rate, in units of the time base.
    """

    _LIMIT = 2**62  # beyond this is damage, and would not leave room in 64 bits to go on rising

    def __init__(self, frame_ticks: int) -> None:
        self._frame_ticks = frame_ticks
        self._last: int | None = None
        self._shift = 0
        self.repaired = 0
        self.made_up = 0

    def read(self, pts: int | None, dts: int | None) -> int:
        """The time to use for the next picture."""
        now = self._next(pts if _sane(pts) else None, dts if _sane(dts) else None)
        self.repaired += now != pts
        self.made_up += now not in (pts, dts)
        self._last = now
        return now

    def _next(self, pts: int | None, dts: int | None) -> int:
        last = self._last
        native = dts if pts is None else pts
        if last is None:
            return 0 if native is None else native
        if native is None:
            return last + self._frame_ticks
        for candidate in (native, native + self._shift):
            if candidate > last:
                return candidate
        if native == last:
            return last + max(1, self._frame_ticks // 2)
        self._shift = last + self._frame_ticks - native
        return last + self._frame_ticks


def _sane(stamp: int | None) -> bool:
    return stamp is not None and abs(stamp) < RisingClock._LIMIT


class Decoding:
    """One pass over a source; iterate over it for (picture, pts), pts rising.

    Packets that cannot be demuxed or decoded are skipped and counted in `frames_lost`. Pictures of which the
    decoder had to make up a part come like any others, since with several threads it is chance which of them it
    marks; those that are marked are counted in `frames_concealed`.

    Attributes:
        time_base: seconds per unit of pts.
        position: pts of the picture given last; None before the first, or after a jump.
        from_start: whether no jump has been made.
        frames_lost: packets left out so far.
        frames_concealed: pictures so far that are partly made up.
        size_refused: whether the decoder turned the declared frame size down.
        last_error: what FFmpeg said of the packet left out last.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.container, self.stream = source.open()
        self.container.flags &= ~_INVENT_TIMES
        self.time_base = Fraction(self.stream.time_base or Fraction(1, 90000))
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self._frame_ticks = max(1, round(1 / (rate * self.time_base)))
        self.frames_lost = 0
        self.frames_concealed = 0
        self.from_start = True
        self.size_refused = False
        self.last_error = ""
        self._begin(self._demux())

    def _begin(self, packets: Iterator[av.Packet]) -> None:
        self._clock = RisingClock(self._frame_ticks)
        self._peeked: tuple[VideoFrame, int] | None = None
        self.position: int | None = None
        self._pictures = self._decode(packets)

    @property
    def damaged(self) -> bool:
        """Whether anything had to be left out, made up or repaired so far."""
        return self.frames_lost + self.frames_concealed + self.times_repaired > 0

    @property
    def times_repaired(self) -> int:
        """Presentation times that were missing or did not rise so far."""
        return self._clock.repaired

    @property
    def times_made_up(self) -> int:
        """Those of the repaired times that are not the decoding time either, so that nothing in the file says them."""
        return self._clock.made_up

    def __iter__(self) -> Iterator[tuple[VideoFrame, int]]:
        return self

    def __next__(self) -> tuple[VideoFrame, int]:
        peeked, self._peeked = self._peeked, None
        picture, self.position = next(self._pictures) if peeked is None else peeked
        return picture, self.position

    def peek(self) -> tuple[VideoFrame, int] | None:
        """The next picture, which stays the next one; None at the end."""
        if self._peeked is None:
            self._peeked = next(self._pictures, None)
        return self._peeked

    def skip_to(self, pts: int) -> bool:
        """Leaves out the pictures before `pts`; whether one at just that time comes next."""
        while (coming := self.peek()) is not None and coming[1] < pts:
            next(self)
        return coming is not None and coming[1] == pts

    def packets(self) -> Iterator[Packet]:
        """What the packets say, in order of decoding, without decoding them; uses up the pass."""
        for packet in self._demux():
            yield Packet(packet.pts, packet.is_keyframe, packet.is_corrupt, packet.is_discard)

    def jump(self, key_pts: int) -> None:
        """Goes on from the key frame at `key_pts`; there is no next picture where that cannot be sought."""
        self._pictures.close()
        self.from_start = False
        self._begin(self._packets_from(key_pts))

    def _packets_from(self, key_pts: int) -> Iterator[av.Packet]:
        # Some containers are sought by decoding time, which is before `key_pts`: those overshoot at first.
        for margin in (0, round(_SEEK_MARGIN_SECONDS / self.time_base)):
            try:
                self.container.seek(key_pts - margin, stream=self.stream)
            except (av.FFmpegError, OverflowError):
                continue
            packets = self._demux()
            for packet in packets:
                if packet.pts == key_pts:
                    return chain([packet], packets)
                if packet.dts is not None and packet.dts > key_pts:
                    break
        return iter(())

    def close(self) -> None:
        """Frees the file and the decoder."""
        self._pictures.close()
        self.container.close()

    def _demux(self) -> Iterator[av.Packet]:
        failures = 0
        while failures < _MAX_FAILURES:
            try:
                for packet in self.container.demux(self.stream):
                    failures = 0
                    if packet.size:  # an empty one would tell the decoder that the stream is over
                        yield packet
                return
            except av.error.ExitError as error:
                raise VideoError(
                    f"{self.source.place} has sent nothing for {_TIMEOUT_SECONDS:g} s; open it again"
                ) from error
            except av.FFmpegError as error:
                failures += 1
                self._lose(error)

    def _decode(self, packets: Iterator[av.Packet]) -> Generator[tuple[VideoFrame, int], None, None]:
        for packet in packets:
            yield from self._pictures_of(packet)
        yield from self._pictures_of(None)

    def _pictures_of(self, packet: av.Packet | None) -> Iterator[tuple[VideoFrame, int]]:
        try:
            pictures = self.stream.decode(packet)
        except MemoryError as error:
            raise VideoTooLarge(f"{self.source.place}: not enough memory to decode its frames") from error
        except av.FFmpegError as error:
            self._lose(error)
            self.size_refused |= isinstance(error, av.error.ArgumentError) and not self.stream.codec_context.width
            return
        for picture in pictures:
            self.frames_concealed += picture.is_corrupt
            self.source.check_size(picture.width, picture.height)
            yield picture, self._clock.read(picture.pts, picture.dts)

    def _lose(self, error: av.FFmpegError) -> None:
        self.frames_lost += 1
        self.last_error = error.strerror or type(error).__name__
