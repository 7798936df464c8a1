"""What is written reads back: times, sizes, colours, sound; and nothing half-written stays behind."""

import os
import stat
import weakref
from fractions import Fraction
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest
import torch

from legato import Frame, Frames, open_video, write_video
from legato.errors import BadArgument, NoVideoStream, UnsupportedOutput, VideoError, VideoNotFound
from legato.video.write import check_times
from tests.conftest import paint


def painted(times, size_px=(48, 64), time_base=None):
    base = time_base or Fraction(1, max(time.denominator for time in times))
    pixels = torch.stack([torch.from_numpy(paint(i, size_px)).permute(2, 0, 1) for i in range(len(times))])
    return Frames(pixels, torch.tensor([round(time / base) for time in times]), base)


UNEVEN_30000 = [Fraction(n, 30000) for n in (0, 1001, 2002, 5005, 5006, 9009, 9999, 30000)]
UNEVEN_1000 = [Fraction(n, 1000) for n in (0, 33, 67, 70, 71, 500, 1000, 2000)]
UNEVEN_100 = [Fraction(n, 100) for n in (0, 3, 7, 9, 30, 50, 100, 200)]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("clip.mp4", UNEVEN_30000),
        ("clip.mov", UNEVEN_30000),
        ("clip.MP4", [Fraction(i, 2**31 - 1) for i in (0, 70_000_000, 150_000_000)]),
        ("clip.mkv", UNEVEN_1000),
        ("clip.webm", UNEVEN_1000),
        ("clip.gif", UNEVEN_100),
    ],
)
@pytest.mark.parametrize("size_px", [(48, 64), (47, 63)])
def test_times_and_sizes_come_back_exactly(tmp_path, name, times, size_px):
    frames = painted(times, size_px)
    write_video(frames, tmp_path / name)
    with open_video(tmp_path / name) as video:
        read = video.read()
        assert [frame.time for frame in read] == times
        assert read.pixels.shape == frames.pixels.shape
        assert (read.pixels.float() - frames.pixels.float()).abs().mean() < 8
        assert video.times_repaired == 0


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
def test_a_later_start_is_kept(tmp_path, name):
    for start in (7, Fraction(77, 24)) if name.endswith("mp4") else (7,):
        times = [time + start for time in UNEVEN_1000]
        write_video(painted(times, time_base=Fraction(1, 24000)), tmp_path / name)
        with open_video(tmp_path / name) as video:
            assert [frame.time for frame in video] == times
            assert video.info.start_seconds == pytest.approx(float(start), abs=1e-6)


@pytest.mark.parametrize("size_px", [(1, 1), (1, 5), (4, 1)])
def test_a_side_may_be_one_pixel(tmp_path, size_px):
    pixels = torch.randint(0, 256, (3, *size_px, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_video(Frames(pixels.permute(0, 3, 1, 2), torch.arange(3), Fraction(1, 10)), tmp_path / "a.mp4", lossless=True)
    with open_video(tmp_path / "a.mp4") as video:
        assert torch.equal(video.read().pixels, pixels.permute(0, 3, 1, 2))


def test_a_gif_starts_at_zero(tmp_path):
    write_video(painted([time + 7 for time in UNEVEN_100]), tmp_path / "clip.gif")
    with open_video(tmp_path / "clip.gif") as video:
        assert [frame.time for frame in video] == UNEVEN_100


@pytest.mark.parametrize(
    ("name", "base", "longest"), [("clip.gif", Fraction(1, 100), 655.35), ("clip.mp4", Fraction(1, 10**6), 2147.48)]
)
def test_a_frame_is_shown_no_longer_than_the_file_can_say(tmp_path, name, base, longest):
    for seconds in (int(longest), int(longest) + 1):
        frames = painted([Fraction(0), Fraction(seconds)], time_base=base)
        if seconds < longest:
            write_video(frames, tmp_path / name)
            with open_video(tmp_path / name) as video:
                assert [frame.time for frame in video] == [0, seconds]
            continue
        with pytest.raises(BadArgument, match=rf"shown for {seconds} s; .* at most {longest}.*write \.mkv"):
            check_times(tmp_path / name, frames.pts, base)
        with pytest.raises(BadArgument, match=rf"shown for {seconds} s"):
            write_video(frames, tmp_path / name)
        with pytest.raises(BadArgument, match=rf"shown for {seconds} s"):
            write_video(frames[:1], tmp_path / name, last_seconds=seconds)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm", "clip.gif"])
def test_the_last_frame_is_shown_as_long_as_asked(tmp_path, name):
    times = [Fraction(0), Fraction(1, 10), Fraction(3, 10)]
    for last_seconds, length in ((None, 0.5), (Fraction(7, 10), 1.0), (2, 2.3)):
        write_video(painted(times), tmp_path / name, last_seconds=last_seconds)
        with open_video(tmp_path / name) as video:
            assert video.info.duration_seconds == pytest.approx(length, abs=0.002)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
@pytest.mark.parametrize("growing", [False, True])
def test_the_rate_is_declared_as_it_is(tmp_path, name, growing):
    for rate in (Fraction(24), Fraction(30), Fraction(60), Fraction(24000, 1001)):
        frames = painted([n / rate for n in range(5)], time_base=Fraction(1, rate.numerator))
        write_video(frames, tmp_path / name, last_seconds=1 / rate, growing=growing)
        with open_video(tmp_path / name) as video:
            assert video.info.declared_rate == rate


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_one_frame_is_a_video(tmp_path, name):
    write_video(painted([Fraction(0)], time_base=Fraction(1, 100)), tmp_path / name)
    with open_video(tmp_path / name) as video:
        assert len(list(video)) == 1
        assert video.info.duration_seconds == pytest.approx(0.04, abs=0.001)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
@pytest.mark.parametrize("size_px", [(48, 64), (47, 63)])
@pytest.mark.parametrize("colour", [(200, 30, 40), (20, 180, 60), (30, 60, 220), (255, 255, 255), (0, 0, 0)])
def test_colours_come_back(tmp_path, name, size_px, colour):
    pixels = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(3, 3, *size_px)
    write_video(Frames(pixels, torch.arange(3), Fraction(1, 10)), tmp_path / name, crf=4)
    with open_video(tmp_path / name) as video:
        assert video.info.color_matrix == "bt709"
        assert (video.read().pixels.float() - pixels).abs().max() <= 4


def test_lower_crf_is_nearer_to_the_pictures(tmp_path):
    noise = torch.randint(0, 256, (4, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames = Frames(noise, torch.arange(4), Fraction(1, 10))
    errors = []
    for crf in (5, 45):
        write_video(frames, tmp_path / "clip.mp4", crf=crf)
        with open_video(tmp_path / "clip.mp4") as video:
            errors.append((video.read().pixels.float() - noise).abs().mean())
    assert errors[0] < errors[1] - 5


def test_frames_are_taken_one_by_one(tmp_path):
    alive, most = weakref.WeakSet(), 0

    def stream():
        nonlocal most
        for i in range(200):
            frame = Frame(torch.from_numpy(paint(i)).permute(2, 0, 1), i, Fraction(1, 25))
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    write_video(stream(), tmp_path / "clip.mp4")
    assert most <= 4
    with open_video(tmp_path / "clip.mp4") as video:
        assert len(list(video)) == 200


def test_a_video_can_be_written_straight_from_another(make_clip, tmp_path):
    times = [Fraction(3) + time for time in UNEVEN_30000]
    with open_video(make_clip("source.mp4", times, time_base=Fraction(1, 30000))) as video:
        write_video(video, tmp_path / "copy.mp4")
    with open_video(tmp_path / "copy.mp4") as video:
        assert [frame.time for frame in video] == times


def sound_of(path):
    with av.open(str(path)) as container:
        return [(bytes(packet), packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov"])
def test_sound_is_copied_bit_for_bit(make_clip, tmp_path, name):
    source = make_clip("source.mp4", 25, sound_seconds=1.5)
    with open_video(source) as video:
        write_video(video, tmp_path / name, audio_from=source)
    copied, original = sound_of(tmp_path / name), sound_of(source)
    assert [data for data, _ in copied] == [data for data, _ in original]
    assert len(original) > 20
    assert max(abs(a[1] - b[1]) for a, b in zip(copied, original, strict=True)) <= Fraction(1, 1000)
    with open_video(tmp_path / name) as video:
        assert video.info.has_audio
        assert [frame.time for frame in video] == [Fraction(i, 25) for i in range(25)]


def test_sound_may_come_from_a_file_without_pictures(make_clip, tmp_path):
    clip, alone = make_clip("source.mp4", 5, sound_seconds=1), tmp_path / "sound.m4a"
    with av.open(str(clip)) as source, av.open(str(alone), "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    write_video(painted(UNEVEN_1000), tmp_path / "clip.mp4", audio_from=alone)
    assert [data for data, _ in sound_of(tmp_path / "clip.mp4")] == [data for data, _ in sound_of(alone)]
    with pytest.raises(NoVideoStream):
        open_video(alone)


def test_sound_that_does_not_fit_or_is_not_there_is_told(make_clip, tmp_path):
    frames, sound = painted(UNEVEN_1000), make_clip("sound.mp4", 3, sound_seconds=0.5)
    with pytest.raises(UnsupportedOutput, match=r"hold no aac.*write \.mkv"):
        write_video(frames, tmp_path / "clip.webm", audio_from=sound)
    with pytest.raises(UnsupportedOutput, match="GIF holds no sound"):
        write_video(frames, tmp_path / "clip.gif", audio_from=sound)
    with pytest.raises(VideoError, match="holds no sound"):
        write_video(frames, tmp_path / "clip.mp4", audio_from=make_clip("silent.mp4", 3))
    with pytest.raises(VideoNotFound):
        write_video(frames, tmp_path / "clip.mp4", audio_from=tmp_path / "nowhere.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["silent.mp4", "sound.mp4"]
    wide = [Frame(torch.zeros(3, 16, 17_000, dtype=torch.uint8), n, Fraction(1, 25)) for n in range(2)]
    with pytest.raises(VideoError, match=r"wide.mp4 cannot be written.*the frame size"):
        write_video(wide, tmp_path / "wide.mp4", audio_from=sound)


def test_an_unknown_ending_lists_the_known_ones(tmp_path):
    for name in ("clip.avi", "clip"):
        with pytest.raises(UnsupportedOutput, match=r"\.gif, \.m4v, \.mkv, \.mov, \.mp4, \.webm"):
            write_video(painted(UNEVEN_1000), tmp_path / name)


@pytest.mark.parametrize("failure", [RuntimeError("model failed"), KeyboardInterrupt(), BadArgument("wrong")])
@pytest.mark.parametrize("frames_before", [0, 1, 40])
def test_after_a_failure_the_old_file_stands_and_no_half_one(tmp_path, failure, frames_before):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the old one")

    def stream():
        yield from painted([Fraction(i, 25) for i in range(frames_before)] or UNEVEN_100)[:frames_before]
        raise failure

    with pytest.raises(type(failure)):
        write_video(stream(), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"the old one"


def test_frames_that_cannot_be_written_are_told(tmp_path):
    path = tmp_path / "clip.mp4"

    def frame(seconds, size_px=(48, 64)):
        return Frame(torch.from_numpy(paint(0, size_px)).permute(2, 0, 1), round(seconds * 10000), Fraction(1, 10000))

    with pytest.raises(BadArgument, match="no frames"):
        write_video([], path)
    with pytest.raises(BadArgument, match="one size"):
        write_video([frame(0), frame(1, (32, 64))], path)
    with pytest.raises(BadArgument, match="does not come after"):
        write_video([frame(1), frame(1)], path)
    with pytest.raises(BadArgument, match="start at 0 or later"):
        write_video([frame(-1), frame(1)], path)
    with pytest.raises(BadArgument, match=r"does not come after.*write \.mp4"):
        write_video([frame(0), frame(0.0004)], tmp_path / "clip.mkv")
    with pytest.raises(BadArgument, match="crf"):
        write_video([frame(0)], path, crf=99)
    with pytest.raises(BadArgument, match="last_seconds"):
        write_video([frame(0)], path, last_seconds=0)
    with pytest.raises(VideoError, match="folder"):
        write_video([frame(0)], tmp_path / "nowhere" / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_time_bases_may_differ_from_frame_to_frame(tmp_path):
    frames = [Frame(torch.from_numpy(paint(i)).permute(2, 0, 1), 1, Fraction(i, 100)) for i in range(1, 5)]
    write_video(frames, tmp_path / "clip.mp4")
    with open_video(tmp_path / "clip.mp4") as video:
        assert [frame.time for frame in video] == [Fraction(i, 100) for i in range(1, 5)]


def test_whole_seconds_as_a_time_base_leave_room_for_the_last_duration(tmp_path):
    for times in ([Fraction(0)], [Fraction(0), Fraction(1), Fraction(5)]):
        write_video(painted(times, time_base=Fraction(1)), tmp_path / "clip.mp4", last_seconds=0.5)
        with open_video(tmp_path / "clip.mp4") as video:
            assert [frame.time for frame in video] == times
            assert video.info.duration_seconds == float(times[-1]) + 0.5


def test_times_made_of_floats_are_kept_to_the_microsecond(tmp_path):
    times = [Fraction(0.1 * i) for i in range(5)]
    write_video(painted(times, time_base=Fraction(1, 2**60)), tmp_path / "clip.mp4")
    with open_video(tmp_path / "clip.mp4") as video:
        assert all(abs(frame.time - time) <= Fraction(1, 2_000_000) for frame, time in zip(video, times, strict=True))


def test_the_callers_pixels_are_left_alone(tmp_path):
    frames = painted(UNEVEN_100)
    before = frames.pixels.clone()
    for name in ("clip.mp4", "clip.gif"):
        write_video(frames, tmp_path / name)
    assert torch.equal(frames.pixels, before)
    assert np.array_equal(frames[0].pixels.permute(1, 2, 0).numpy(), paint(0))


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_a_lossless_file_gives_every_pixel_back(tmp_path: Path, ending: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, 33, 47), generator=numbers, dtype=torch.uint8)
    frames = Frames(pixels, torch.arange(4), Fraction(1, 10))
    write_video(frames, tmp_path / f"a{ending}", lossless=True)
    with open_video(tmp_path / f"a{ending}") as video:
        assert torch.equal(video.read().pixels, pixels)


def test_what_cannot_be_lossless_is_refused(tmp_path: Path) -> None:
    frames = Frames(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2), Fraction(1, 10))
    with pytest.raises(UnsupportedOutput, match="never lossless"):
        write_video(frames, tmp_path / "a.webm", lossless=True)
    with pytest.raises(BadArgument, match="a lossless file has none"):
        write_video(frames, tmp_path / "a.mp4", lossless=True, crf=20)


def follow(path):
    """How many frames a player finds in a file that may still grow."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.webm"])
def test_a_growing_file_plays_while_it_grows_and_is_whole_in_the_end(tmp_path, name):
    path, seen = tmp_path / name, {}

    def stream():
        for i in range(100):
            if i in (60, 90):
                seen[i] = follow(path)
            yield Frame(torch.from_numpy(paint(i)).permute(2, 0, 1), i + 250, Fraction(1, 25))

    write_video(stream(), path, growing=True)
    assert 25 <= seen[60] < 60
    assert seen[60] + 20 <= seen[90] < 90
    with open_video(path) as video:
        assert [frame.time for frame in video] == [Fraction(i + 250, 25) for i in range(100)]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_was_written_of_a_growing_file_plays_after_an_error(tmp_path):
    def stream():
        for i in range(40):
            yield Frame(torch.from_numpy(paint(i)).permute(2, 0, 1), i, Fraction(1, 25))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(stream(), tmp_path / "clip.mp4", growing=True)
    assert follow(tmp_path / "clip.mp4") == 39


def test_a_gif_does_not_grow(tmp_path):
    with pytest.raises(UnsupportedOutput, match="while it grows"):
        write_video(painted([Fraction(0)], time_base=Fraction(1, 100)), tmp_path / "clip.gif", growing=True)
    assert not list(tmp_path.iterdir())


def test_a_link_stays_and_leads_to_the_video(tmp_path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    write_video(painted(UNEVEN_1000), tmp_path / "link.mp4")
    assert (tmp_path / "link.mp4").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.mp4", "real.mp4"]


def test_a_pipe_stays_a_pipe_and_gets_the_video(tmp_path):
    pipe, got = tmp_path / "a.mkv", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_video(painted(UNEVEN_1000), pipe)
    reader.join(timeout=10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "read.mkv").write_bytes(got[0])
    assert follow(tmp_path / "read.mkv") == len(UNEVEN_1000)
