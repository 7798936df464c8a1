"""Writing video with exact times.

| ending         | codec | times                                  | odd sizes                           |
|----------------|-------|----------------------------------------|-------------------------------------|
| .mp4 .m4v .mov | H.264 | exact in the first frame's time base * | 4:4:4, which not every player shows |
| .mkv           | H.264 | to the nearest millisecond             | 4:4:4, which not every player shows |
| .webm          | VP9   | to the nearest millisecond             | as any other                        |
| .gif           | GIF   | to the nearest 1/100 s, shifted to 0   | as any other                        |

* or to the nearest microsecond, where that base has a denominator over 2**31 - 1, as floats have.

Pictures are stored as BT.709, limited range, and tagged so; 4:2:0 keeps one colour sample for four pixels. Lossless
files are H.264 in RGB, which FFmpeg and what builds on it reads, and telephones and browsers do not.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import Int64
from torch import Tensor

from legato.errors import BadArgument, UnsupportedOutput, VideoError
from legato.files import replacing_file
from legato.video.decode import Source
from legato.video.frames import Frame, Frames

__all__ = ["LONE_FRAME_SECONDS", "check_ending", "check_growing", "check_times", "write_video"]

_BT709, _RGB = 1, 0
_MIN_TIMESCALE, _MAX_TIMESCALE = 1000, 2**31 - 1
_MICROSECOND = Fraction(1, 1_000_000)
LONE_FRAME_SECONDS = Fraction(1, 25)
"""How long a frame is shown that no other says it of."""
# Chroma is averaged over the pixels it stands for, and nothing is rounded down on the way.
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True)
class _Kind:
    """What a file name ending stands for."""

    container: str
    codec: str
    crf: int | None
    time_base: Fraction | None = None  # None: as the frames have it
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    most_ticks: int = 2**31 - 1  # that a frame can be shown for

    def time_base_for(self, wanted: Fraction) -> Fraction:
        if self.time_base is not None:
            return self.time_base
        ticks = wanted.denominator
        if ticks > _MAX_TIMESCALE:
            return _MICROSECOND
        return Fraction(1, ticks * max(1, _MIN_TIMESCALE // ticks))  # room for durations between the times

    def without_loss(self) -> "_Kind":
        return replace(self, codec="libx264rgb", crf=0)

    def pixel_format_for(self, frame: Frame) -> str:
        if self.codec == "gif":
            return "pal8"
        if self.codec == "libx264rgb":
            return "rgb24"
        odd = frame.width % 2 or frame.height % 2
        return "yuv444p" if odd and self.codec == "libx264" else "yuv420p"


# Without B-frames decoding times are presentation times, and each frame's duration, the last one's too, stands in
# the file as it is.
_MP4 = _Kind("mp4", "libx264", 18, codec_options={"bf": "0"}, container_options={"movflags": "+faststart"})
# What a player can follow is what ends in a keyframe, one a second; the encoder must not hold frames back.
_AT_ONCE = {"libx264": {"tune": "zerolatency"}, "libvpx-vp9": {"lag-in-frames": "0", "deadline": "realtime"}}
_FRAGMENTS = {"movflags": "frag_keyframe+delay_moov+default_base_moof"}
_GROWING = {"mp4": _FRAGMENTS, "mov": _FRAGMENTS, "matroska": {"cluster_time_limit": "1000"}}
_GROWING["webm"] = _GROWING["matroska"]
# Sound often starts a little before 0; by default FFmpeg would then move everything, the pictures too.
_KEEP_TIMES = {"avoid_negative_ts": "disabled"}
_KINDS = {
    ".gif": _Kind("gif", "gif", None, Fraction(1, 100), most_ticks=2**16 - 1),
    ".m4v": _MP4,
    ".mkv": _Kind("matroska", "libx264", 18, Fraction(1, 1000), container_options=_KEEP_TIMES),
    ".mov": replace(_MP4, container="mov"),
    ".mp4": _MP4,
    ".webm": _Kind("webm", "libvpx-vp9", 24, Fraction(1, 1000), {"row-mt": "1", "cpu-used": "4"}, _KEEP_TIMES),
}


def check_ending(path: str | Path) -> None:
    """Raise `UnsupportedOutput` where `write_video` knows no format by the path's ending: before long work."""
    _kind_of(Path(path))


def check_growing(path: str | Path) -> None:
    """Raise `UnsupportedOutput` where `write_video` cannot write a file that is played while it grows."""
    if _kind_of(Path(path)).codec == "gif":
        raise UnsupportedOutput(f"{path}: a GIF cannot be played while it grows; write .mp4")


def check_times(path: str | Path, pts: Int64[Tensor, " time"], time_base: Fraction) -> None:
    """Raise where `write_video` would not write frames at these times: before long work.

    Args:
        path: see `write_video`.
        pts: of the frames.
        time_base: of those.

    Raises:
        UnsupportedOutput: another ending.
        BadArgument: times start before 0, or are too close or too far apart for the format.
    """
    path = Path(path)
    kind, times = _kind_of(path), [int(at) * time_base for at in pts]
    if times and times[0] < 0:
        raise BadArgument(f"the first frame is at {float(times[0]):g} s; files start at 0 or later: shift the times")
    base, zero = kind.time_base_for(time_base), _zero(kind, times[0]) if times else Fraction(0)
    for earlier, later in itertools.pairwise(times):
        if round((later - zero) / base) <= round((earlier - zero) / base):
            raise BadArgument(
                f"frames at {float(earlier):.10g} s and {float(later):.10g} s are too close for {path.suffix} files, "
                f"whose times are whole steps of {base} s; write .mp4, which keeps any time exactly"
            )
        _check_length(kind, round((later - zero) / base) - round((earlier - zero) / base), earlier, base)


def _check_length(kind: _Kind, ticks: int, seconds: Fraction, base: Fraction) -> None:
    if ticks > kind.most_ticks:
        instead = "; write .mkv" if kind.container != "matroska" else ""
        raise BadArgument(
            f"the frame at {float(seconds):g} s is shown for {float(ticks * base):g} s; with times in steps of "
            f"{base} s this file holds at most {float(kind.most_ticks * base):g} s{instead}"
        )


def _zero(kind: _Kind, first: Fraction) -> Fraction:
    return first if kind.codec == "gif" else Fraction(0)


def _kind_of(path: Path) -> _Kind:
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UnsupportedOutput(f"{path} ends in {path.suffix or 'nothing'!r}; expected one of {', '.join(_KINDS)}")
    return kind


def write_video(
    frames: Frames | Iterable[Frame],
    path: str | Path,
    *,
    audio_from: str | Path | None = None,
    crf: int | None = None,
    lossless: bool = False,
    last_seconds: int | float | Fraction | None = None,
    growing: bool = False,
) -> None:
    """Writes frames with their exact times; the ending of `path` picks the format (see the module's table).

    Frames are taken one by one and never all held. The file is written under another name in the same folder
    and takes its place when it is whole; after an error or an interrupt nothing is left behind. A growing file is
    the opposite: it stands under its own name from the first frame on, players can follow it, and whatever ends the
    writing, all but about its last second is there.

    Args:
        frames: of one size, times rising from 0 or later.
        path: ends in .mp4, .m4v, .mov, .mkv, .webm or .gif.
        audio_from: a file whose sound is copied along, packet by packet as it is, with its own times.
        crf: quality of the codec, lower is better and larger; None is 18 for H.264 and 24 for VP9.
        lossless: whether every pixel comes back as it is; in files of H.264 only.
        last_seconds: how long the last frame is shown; None: as long as the one before it, 0.04 s for a
            frame alone.
        growing: write straight to `path`, playable while it grows (MP4 in fragments); not for a GIF. The encoder
            looks at no later frames then, so a file takes some more bytes.

    Raises:
        UnsupportedOutput: another ending, what the format does not hold (sound, losslessness), or a GIF that grows.
        BadArgument: no frames, sizes that change, times that fall, start before 0, or are too close for
            the format.
        VideoError: the file cannot be written, or `audio_from` holds no sound or cannot be read.
        FileNotWritten: the file cannot take its place.
    """
    path = Path(path)
    kind = _kind_of(path)
    if kind.codec == "gif" and audio_from is not None:
        raise UnsupportedOutput(f"{path}: a GIF holds no sound; leave audio_from out, or write .mp4")
    if lossless:
        if kind.codec != "libx264":
            raise UnsupportedOutput(f"{path}: {path.suffix} files are never lossless here; write .mp4, .mov or .mkv")
        if crf is not None:
            raise BadArgument(f"crf is {crf}, but a lossless file has none; leave one of the two out")
        kind = kind.without_loss()
    if growing:
        check_growing(path)
    if crf is not None and not (kind.crf and 0 <= crf <= 51):
        raise BadArgument(f"crf is {crf}; expected 0 to 51, and none for a GIF")
    if last_seconds is not None and not last_seconds > 0:
        raise BadArgument(f"last_seconds is {last_seconds}; expected a time over 0")
    if path.is_dir() or not path.parent.is_dir():
        raise VideoError(f"{path} cannot be written: it is a folder, or its folder does not exist; make that first")
    shown = _timed(frames, kind, None if last_seconds is None else Fraction(last_seconds))
    with contextlib.ExitStack() as stack:
        first = next(shown)
        part = path if growing else stack.enter_context(replacing_file(path))
        sound = None if audio_from is None else stack.enter_context(contextlib.closing(_Sound(audio_from)))
        output = stack.enter_context(contextlib.closing(_Output(part, path, kind, first, crf, growing)))
        if sound is not None:
            output.add_sound(sound)
        for one in itertools.chain([first], shown):
            output.put(one)
        output.finish()


@dataclass(frozen=True)
class _Shown:
    """A frame with its stamps in the time base of the file.

    Attributes:
        frame: what is shown.
        time_base: of the stamps.
        pts: when.
        duration: how long, in whole units of the time base.
        seconds: how long, exactly.
    """

    frame: Frame
    time_base: Fraction
    pts: int
    duration: int
    seconds: Fraction


def _timed(frames: Iterable[Frame], kind: _Kind, last: Fraction | None) -> Iterator[_Shown]:
    """Stamps each frame as soon as the next one says how long it is shown."""
    ahead = iter(frames)
    frame = next(ahead, None)
    if frame is None:
        raise BadArgument("there are no frames to write; give at least one")
    if frame.time < 0:
        raise BadArgument(f"the first frame is at {frame.seconds} s; files start at 0 or later: shift the times")
    base, size = kind.time_base_for(frame.time_base), (frame.height, frame.width)
    zero = _zero(kind, frame.time)
    seconds, duration = LONE_FRAME_SECONDS, max(1, round(LONE_FRAME_SECONDS / base))
    pts = round((frame.time - zero) / base)
    for coming in ahead:
        if (coming.height, coming.width) != size:
            raise BadArgument(
                f"{coming} follows frames of {size[1]}x{size[0]}; all frames of a file have one size: bring them to "
                "one, or write a file for each"
            )
        coming_pts = round((coming.time - zero) / base)
        if coming_pts <= pts:
            raise BadArgument(
                f"{coming} does not come after {frame} in steps of {base} s, the finest of this file; sort the "
                "frames, or write .mp4, which keeps any time exactly"
            )
        seconds, duration = coming.time - frame.time, coming_pts - pts
        _check_length(kind, duration, frame.time, base)
        yield _Shown(frame, base, pts, duration, seconds)
        frame, pts = coming, coming_pts
    if last is not None:
        seconds, duration = last, max(1, round(last / base))
    _check_length(kind, duration, frame.time, base)
    yield _Shown(frame, base, pts, duration, seconds)


class _Sound:
    """The packets of all audio streams of a file, taken in step with the pictures."""

    def __init__(self, place: str | Path) -> None:
        self.place = place
        self._container = Source(place).open_container()
        self.streams = self._container.streams.audio
        if not self.streams:
            self.close()
            raise VideoError(f"{place} holds no sound; leave audio_from out")
        self._packets = self._demux()
        self._ahead = next(self._packets, None)

    def until(self, seconds: Fraction | None = None) -> Iterator[av.Packet]:
        """The packets up to a time, or all that are left."""
        while self._ahead is not None and (seconds is None or _start_of(self._ahead) <= seconds):
            yield self._ahead
            self._ahead = next(self._packets, None)

    def _demux(self) -> Iterator[av.Packet]:
        return (packet for packet in self._container.demux(self.streams) if packet.size)

    def close(self) -> None:
        self._container.close()


def _start_of(packet: av.Packet) -> Fraction:
    stamp = packet.pts if packet.dts is None else packet.dts
    return (stamp or 0) * packet.time_base


class _Output:
    """An open file: encodes pictures, and lays them and the sound down in order of time."""

    def __init__(self, part: Path, path: Path, kind: _Kind, first: _Shown, crf: int | None, growing: bool) -> None:
        self._path = path
        self._durations: dict[int, int] = {}
        self._sound: _Sound | None = None
        self._sound_streams: dict[int, Any] = {}
        frame = first.frame
        options = dict(kind.codec_options)
        if kind.crf is not None:
            options["crf"] = str(kind.crf if crf is None else crf)
        rate = (1 / first.seconds).limit_denominator(1001)
        container_options = dict(kind.container_options)
        if kind.container in ("mp4", "mov"):  # where pictures start is rounded to this, by default to milliseconds
            container_options["movie_timescale"] = str(first.time_base.denominator)
        if growing:
            options |= _AT_ONCE[kind.codec] | {"g": str(max(1, round(rate)))}
            container_options |= _GROWING[kind.container] | {"flush_packets": "1"}
        with self._reporting():
            self._container = av.open(f"file:{part}", "w", format=kind.container, container_options=container_options)
            self._stream = self._container.add_stream(
                kind.codec, rate=max(rate, Fraction(1, 1001)), options=options, time_base=first.time_base
            )
            self._stream.width, self._stream.height = frame.width, frame.height
            self._stream.pix_fmt = kind.pixel_format_for(frame)
            context = self._stream.codec_context
            context.time_base = first.time_base
            if kind.codec == "gif":
                self._prepare: Callable[[VideoFrame], VideoFrame] = _palettes(frame.width, frame.height)
            elif kind.codec == "libx264rgb":
                self._prepare = _as_it_is
                context.colorspace, context.color_range = _RGB, ColorRange.JPEG
            else:
                self._prepare = chroma(self._stream.pix_fmt)
                context.colorspace = context.color_primaries = context.color_trc = _BT709
                context.color_range = ColorRange.MPEG

    def add_sound(self, sound: _Sound) -> None:
        for stream in sound.streams:
            try:
                self._sound_streams[stream.index] = self._container.add_stream_from_template(stream)
            except (ValueError, av.FFmpegError) as error:
                raise self._no_such_sound(sound) from error
        with self._reporting():
            try:
                self._container.start_encoding()
            except av.ArgumentError as error:  # some formats find out when their header is written
                raise self._no_such_sound(sound) from error
        self._sound = sound

    def _no_such_sound(self, sound: _Sound) -> UnsupportedOutput:
        names = " and ".join(dict.fromkeys(stream.codec_context.name for stream in sound.streams))
        return UnsupportedOutput(
            f"{self._path.suffix} files hold no {names} sound, which {sound.place} has; write .mkv, which holds any, "
            "or leave the sound out"
        )

    def put(self, shown: _Shown) -> None:
        self._durations[shown.pts] = shown.duration
        frame = shown.frame
        # Not `contiguous`, which leaves a side of one pixel any stride.
        pixels = frame.pixels.permute(1, 2, 0).flatten().view(frame.height, frame.width, 3).cpu().numpy()
        with self._reporting():
            picture = self._prepare(VideoFrame.from_numpy_buffer(pixels, "rgb24"))
            picture.pts, picture.time_base = shown.pts, shown.time_base
            self._lay(self._stream.encode(picture))

    def finish(self) -> None:
        """Lays down what the encoder still holds and the rest of the sound, and closes the file."""
        with self._reporting():
            self._lay(self._stream.encode(None))
            self._lay_sound(None)
            self._container.close()

    def close(self) -> None:
        """Gives the file up, unless it is finished."""
        with contextlib.suppress(av.FFmpegError):
            self._container.close()

    def _lay(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._lay_sound(_start_of(packet))
            self._container.mux(packet)

    def _lay_sound(self, until: Fraction | None) -> None:
        for packet in self._sound.until(until) if self._sound else ():
            packet.stream = self._sound_streams[packet.stream.index]
            self._container.mux(packet)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise VideoError(
                f"{self._path} cannot be written: {error.strerror}; check the folder, the free space and the frame size"
            ) from error


def _as_it_is(picture: VideoFrame) -> VideoFrame:
    return picture


def chroma(pixel_format: str, matrix: Colorspace = Colorspace.ITU709) -> Callable[[VideoFrame], VideoFrame]:
    """Turns RGB into luma and chroma of limited range, BT.709 unless another matrix is asked for."""
    reformatter = VideoReformatter()

    def prepare(picture: VideoFrame) -> VideoFrame:
        return reformatter.reformat(
            picture,
            format=pixel_format,
            dst_colorspace=matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=_ACCURATE,
        )

    return prepare


def _palettes(width: int, height: int) -> Callable[[VideoFrame], VideoFrame]:
    """Gives each picture 256 colours of its own, in an ordered dither that stands still where the picture does."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=_MICROSECOND)
    split, choose = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=3"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    count = itertools.count()

    def prepare(picture: VideoFrame) -> VideoFrame:
        picture.pts, picture.time_base = next(count), _MICROSECOND
        graph.push(picture)
        return graph.pull()

    return prepare
