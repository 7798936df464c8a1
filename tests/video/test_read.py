"""Reading in order: times, sizes, rotation, and the shape of what comes out."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
import torch

from legato import open_video
from legato.errors import BadArgument, VideoError
from legato.video import open_reduced
from tests.conftest import paint

UNEVEN = [Fraction(n, 30000) for n in (0, 1001, 2002, 5005, 5006, 9009, 9999, 30000)]


def close_to(pixels: torch.Tensor, picture: np.ndarray, levels: float = 6) -> bool:
    """Whether decoded pixels are the painted picture, up to what lossy coding and 4:2:0 do on average."""
    return np.abs(pixels.permute(1, 2, 0).numpy().astype(float) - picture).mean() < levels


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(5)])
def test_uneven_times_are_kept_whatever_they_start_from(make_clip, name, start):
    step = Fraction(1, 1000) if name == "clip.mkv" else Fraction(1, 30000)
    times = [round((time + start) / step) * step for time in UNEVEN[:4] + UNEVEN[5:]]
    with open_video(make_clip(name, times, bf="2", g="4")) as video:
        frames = list(video)
        first = frames[0].time
        if name != "clip.ts":  # which starts at a time of its own
            assert first == start
            assert video.info.start_seconds == float(start)
        assert [frame.time - first for frame in frames] == [time - times[0] for time in times]
        assert all(close_to(frame.pixels, paint(i)) for i, frame in enumerate(frames))
        assert (video.frames_lost, video.times_repaired) == (0, 0)


def test_frames_one_tick_apart_are_told_apart(make_clip):
    with open_video(make_clip(times=UNEVEN, time_base=Fraction(1, 30000))) as video:
        assert [frame.time for frame in video] == UNEVEN


def test_two_loops_do_not_disturb_each_other(make_clip):
    with open_video(make_clip(times=6)) as video:
        pairs = list(zip(video, video, strict=True))
        assert len(pairs) == 6
        assert all(a.pts == b.pts and torch.equal(a.pixels, b.pixels) for a, b in pairs)
        assert len(list(video)) == 6


def test_pixels_are_an_opencv_image_without_a_copy(make_clip):
    for width in (64, 70):  # rows with and without padding in the decoder
        with open_video(make_clip(size_px=(48, width))) as video:
            frame = next(iter(video))
            image = frame.pixels.permute(1, 2, 0).numpy()
            assert image.flags.c_contiguous
            assert image.ctypes.data == frame.pixels.data_ptr()
            assert cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).shape == (48, width)


def test_frames_stay_as_they_were_while_reading_goes_on(make_clip):
    with open_video(make_clip(times=30)) as video:
        kept = [(frame, frame.pixels.clone()) for frame in video]
    assert all(torch.equal(frame.pixels, copy) for frame, copy in kept)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_and_mirroring_are_applied(make_clip, degrees, mirrored):
    stored = paint(3)
    path = make_clip(pictures=[stored] * 3, times=3, rotation_degrees=degrees, mirrored=mirrored)
    shown = np.rot90(stored, degrees // 90)
    shown = shown[:, ::-1] if mirrored else shown
    with open_video(path) as video:
        frame = next(iter(video))
        assert (video.info.height, video.info.width) == shown.shape[:2] == (frame.height, frame.width)
        assert close_to(frame.pixels, shown)
    with open_video(path, size_px=(40, 20)) as video:
        frame = next(iter(video))
        assert (frame.height, frame.width) == (40, 20)
        assert close_to(frame.pixels, cv2.resize(shown, (20, 40), interpolation=cv2.INTER_AREA), 12)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [
        ("libx264", "yuv444p", "clip.mp4"),
        ("libvpx-vp9", "yuv420p", "clip.webm"),
        ("ffv1", "yuv420p", "clip.mkv"),
        ("mjpeg", "yuvj420p", "clip.avi"),
    ],
)
def test_odd_sizes_keep_every_column_and_row(make_clip, codec, pixel_format, name):
    base = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 1000)
    path = make_clip(name, 4, (47, 63), codec=codec, pixel_format=pixel_format, time_base=base)
    with open_video(path) as video:
        frames = list(video)
        assert len(frames) == 4
        assert {(frame.height, frame.width) for frame in frames} == {(47, 63)}
        assert close_to(frames[2].pixels, paint(2, (47, 63)))


def test_size_px_scales_to_just_that_size(make_clip):
    with open_video(make_clip(times=3), size_px=(24, 33)) as video:
        frames = video.read()
        assert frames.pixels.shape == (3, 3, 24, 33)
        assert close_to(frames[1].pixels, cv2.resize(paint(1), (33, 24), interpolation=cv2.INTER_AREA), 12)
        assert (video.info.height, video.info.width) == (48, 64)


@pytest.mark.parametrize(("side_px", "size_px"), [(64, (48, 64)), (100, (48, 64)), (32, (24, 32)), (33, (25, 33))])
def test_reduced_frames_have_no_side_over_the_bound_and_are_never_enlarged(make_clip, side_px, size_px):
    path = make_clip(times=2)
    with open_reduced(path, side_px) as video:
        assert video.size_px == size_px
        assert next(iter(video)).pixels.shape == (3, *size_px)
        assert (video.info.height, video.info.width) == (48, 64)
    with open_reduced(path.as_uri(), 32) as video:  # of a URL, which may be a camera, as they are
        assert video.size_px == (48, 64)


def test_read_gives_all_frames_or_the_first_ones(make_clip):
    with open_video(make_clip(times=UNEVEN, time_base=Fraction(1, 30000))) as video:
        assert [frame.time for frame in video.read()] == UNEVEN
        assert [frame.time for frame in video.read(max_frames=3)] == UNEVEN[:3]
        with pytest.raises(BadArgument, match="max_frames is 0"):
            video.read(max_frames=0)


def test_info_says_what_the_file_is(make_clip):
    path = make_clip(sound_seconds=0.4, codec_attributes={"sample_aspect_ratio": Fraction(4, 3)})
    with open_video(path) as video:
        info = video.info
        assert (info.path, info.codec, info.pixel_format) == (str(path), "h264", "yuv420p")
        assert (info.width, info.height, info.sample_aspect_ratio) == (64, 48, Fraction(4, 3))
        assert (info.declared_rate, info.frames_declared) == (25, 10)
        assert info.duration_seconds == pytest.approx(0.4, abs=0.05)
        assert info.has_audio
        assert "64x48" in repr(video)
    with open_video(make_clip("silent.mp4")) as video:
        assert not video.info.has_audio


def test_times_that_do_not_rise_are_repaired_and_counted(make_clip, tmp_path):
    first = make_clip("a.ts", [Fraction(i, 25) for i in range(5)], bf="0")
    second = make_clip("b.ts", [Fraction(i, 10) for i in range(5)], bf="0")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with open_video(joined) as video:
        times = [frame.time for frame in video]
        assert len(times) == 10
        steps = [b - a for a, b in pairwise(times)]
        assert min(steps) > 0
        assert steps[:4] == [Fraction(1, 25)] * 4
        assert steps[5:] == [Fraction(1, 10)] * 4  # the second part keeps its own pace
        assert (video.times_repaired, video.times_made_up) == (5, 5)
        assert [video[i].time for i in (9, 0, 6)] == [times[9], times[0], times[6]]
        assert video.at(float(times[7])).time == times[7]


def test_missing_times_go_on_at_the_declared_rate(make_clip):
    with open_video(make_clip("bare.h264", 8, container="h264", bf="0")) as video:
        times = [frame.time for frame in video]
        assert times == [Fraction(i, 25) for i in range(8)]
        assert video.times_repaired == 8
        assert video[5].time == times[5]


def test_a_change_of_size_goes_on_but_cannot_be_read_at_once(make_clip, tmp_path):
    joined = tmp_path / "joined.ts"
    parts = make_clip("a.ts", 4, bf="0"), make_clip("b.ts", 4, (32, 96), bf="0")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(joined) as video:
        assert [(frame.height, frame.width) for frame in video] == [(48, 64)] * 4 + [(32, 96)] * 4
        with pytest.raises(VideoError, match=r"changes from 64x48 to 96x32.*size_px"):
            video.read()
    with open_video(joined, size_px=(48, 64)) as video:
        assert video.read().pixels.shape == (8, 3, 48, 64)


def test_a_second_video_stream_is_read_on_request(make_clip, tmp_path):
    both = tmp_path / "both.mkv"
    sources = [av.open(str(make_clip(f"{i}.mkv", 3, size))) for i, size in enumerate([(48, 64), (32, 32)])]
    with av.open(str(both), "w") as output:
        streams = [output.add_stream_from_template(source.streams.video[0]) for source in sources]
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    with open_video(both, stream=1) as video:
        assert (video.info.height, video.info.width, len(list(video))) == (32, 32, 3)
    with pytest.raises(BadArgument, match="has 2 video stream"):
        open_video(both, stream=2)


def test_closing_ends_loops_and_further_use_says_so(make_clip):
    video = open_video(make_clip())
    loop = iter(video)
    next(loop)
    video.close()
    assert list(loop) == []
    video.close()
    for use in (lambda: next(iter(video)), lambda: video[0], lambda: video.at(0), video.read):
        with pytest.raises(VideoError, match="closed"):
            use()


def test_bad_arguments_are_told(make_clip):
    path = make_clip()
    with pytest.raises(BadArgument, match="size_px"):
        open_video(path, size_px=(0, 10))
    with pytest.raises(BadArgument, match="stream"):
        open_video(path, stream=-1)


@pytest.mark.parametrize("by", ["ffmpeg", "mkvmerge", "ffmpeg from mkvmerge"])
def test_a_matroska_tag_says_until_when_or_by_mkvmerge_how_long(make_clip, tmp_path, by):
    source = make_clip("source.mkv", [Fraction(1, 2) + Fraction(n, 25) for n in range(25)], time_base=Fraction(1, 1000))
    path = tmp_path / "a.mkv"
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        copied = output.add_stream_from_template(container.streams.video[0])
        if by != "ffmpeg":
            copied.metadata["_STATISTICS_WRITING_APP"] = "mkvmerge v80"
            copied.metadata["DURATION-eng"] = "00:00:01.000000000" if by == "mkvmerge" else "01:00:00.000000000"
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    if by == "mkvmerge":
        path.write_bytes(path.read_bytes().replace(b"Lavf", b"mkvm"))
    with open_video(path) as video:
        assert video.info.start_seconds == pytest.approx(0.5)
        assert video.info.duration_seconds == pytest.approx(1.0, abs=2e-3)


def test_frames_that_an_edit_list_hides_are_not_missed(make_clip, tmp_path):
    source, cut = make_clip("a.mp4", 40), tmp_path / "cut.mp4"
    with av.open(str(source)) as container, av.open(str(cut), "w") as output:
        stream = container.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                shift = round(Fraction(5, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copied
                output.mux(packet)
    with open_video(cut) as video:
        times = [frame.seconds for frame in video]
        assert len(times) == 35 < (video.info.frames_declared or 0)
        assert video.info.missing(35, times[-1], 0.04, 0.04) is None
        for longest in (0.04, 5.0):  # a long pause says nothing of the end
            assert video.info.missing(20, times[19], 0.04, longest) == "declares 40 frames, but gives 20"
