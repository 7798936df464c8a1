"""Bad input ends in an error that says what is wrong; damage on the way is skipped, and counted."""

import re
import socket
import struct
import wave
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from legato import open_video
from legato.errors import (
    CorruptVideo,
    EmptyVideo,
    NotAVideo,
    NoVideoStream,
    VideoError,
    VideoNotFound,
    VideoTooLarge,
)
from tests.conftest import paint


def test_no_such_file(tmp_path):
    with pytest.raises(VideoNotFound, match=r"there is no file .*nowhere\.mp4"):
        open_video(tmp_path / "nowhere.mp4")
    with pytest.raises(FileNotFoundError):
        open_video(str(tmp_path / "nowhere.mp4"))


def test_an_address_that_does_not_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/clip.mp4", f"rtsp://127.0.0.1:{port}/live"):
        with pytest.raises(VideoNotFound, match=rf"{re.escape(address)} cannot be opened"):
            open_video(address)


def test_what_is_not_a_video(tmp_path):
    contents = {
        "empty.mp4": b"",
        "notes.txt": b"hello, world\n" * 50,
        "notes.mp4": b"hello, world\n" * 50,
        "noise.mp4": np.random.default_rng(0).bytes(20000),
        "zeros.mkv": bytes(10000),
        "picture.png": cv2.imencode(".png", paint(0))[1].tobytes(),
        "picture.jpg": cv2.imencode(".jpg", paint(0))[1].tobytes(),
        "picture.mp4": cv2.imencode(".png", paint(0))[1].tobytes(),
    }
    told = {
        "empty.mp4": "empty",
        "notes.txt": "text file",
        "picture.png": "single picture",
        "picture.mp4": "single picture",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NotAVideo, match=told.get(name, "not a video|single picture")) as raised:
            open_video(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
    with pytest.raises(NotAVideo, match="is a folder"):
        open_video(tmp_path)


def test_sound_only(tmp_path, make_clip):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(NoVideoStream, match="only audio"):
        open_video(tmp_path / "sound.wav")


def test_a_cover_picture_is_no_video(tmp_path, make_clip):
    path = tmp_path / "song.mkv"
    with av.open(str(make_clip(sound_seconds=0.5))) as source, av.open(str(path), "w") as output:
        sound = output.add_stream_from_template(source.streams.audio[0])
        output.add_attachment("cover.jpg", "image/jpeg", cv2.imencode(".jpg", paint(0))[1].tobytes())
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = sound
                output.mux(packet)
    with pytest.raises(NoVideoStream, match="audio"):
        open_video(path)


def test_a_stream_without_frames(make_clip, tmp_path):
    clip = make_clip("clip.mp4", 5, container_options={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(clip[: clip.index(b"moof") - 4])
    with pytest.raises(EmptyVideo, match="without a single frame"):
        open_video(empty)


def test_not_one_frame_decodes(make_clip, tmp_path):
    data = bytearray(make_clip("clip.mp4", 5, container_options={"movflags": "faststart"}).read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = b"\xff" * (len(data) - start)
    (tmp_path / "dead.mp4").write_bytes(data)
    with pytest.raises(CorruptVideo, match="not one frame"):
        open_video(tmp_path / "dead.mp4")


def test_an_absurd_size_is_refused_before_it_is_allocated(make_clip, tmp_path):
    clip = make_clip("small.gif", 2, codec="gif", pixel_format="rgb8", time_base=Fraction(1, 100)).read_bytes()
    for width, height in ((20000, 100), (65535, 65535), (16000, 16000)):
        path = tmp_path / f"{width}.gif"
        path.write_bytes(clip[:6] + struct.pack("<HH", width, height) + clip[10:])
        with pytest.raises(VideoTooLarge, match="16384 pixels a side"):
            open_video(path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_file_cut_short_gives_the_frames_before_the_cut(make_clip, tmp_path, name):
    options = {"container_options": {"movflags": "faststart"}} if name == "clip.mp4" else {}
    path = make_clip(name, 40, g="5", bf="0", **options)
    with open_video(path) as video:
        whole = list(video)
    data = path.read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(data[: len(data) * 2 // 3])
    with open_video(cut) as video:
        frames = list(video)
        assert 10 < len(frames) < 40
        assert [frame.pts for frame in frames] == [frame.pts for frame in whole[: len(frames)]]


@pytest.mark.parametrize("name", ["holes.mp4", "holes.mkv"])
def test_packets_beyond_decoding_are_skipped_and_counted(make_holes, name):
    numbers = [i for i in range(40) if i not in (14, 24)]
    with open_video(make_holes(name, (14, 24), 1.0)) as video:
        for _ in range(2):  # each pass counts afresh
            frames = list(video)
            assert [round(frame.seconds * 25) for frame in frames] == numbers
            assert (video.frames_lost, video.frames_concealed, video.times_repaired) == (2, 0, 0)
        next(iter(video))
        assert video.frames_lost == 0
        for i in (37, 0, 13, 14, 23):
            assert video[i].pts == video.at(frames[i].seconds).pts == frames[i].pts
        assert video.at(Fraction(14, 25)).pts == frames[13].pts  # the lost frame's time still shows the one before
        span = video.between(Fraction(10, 25), Fraction(20, 25))
        assert [round(frame.seconds * 25) for frame in span] == [10, 11, 12, 13, 15, 16, 17, 18, 19]


def test_a_time_in_damaged_footage_is_right_before_any_pass(make_holes):
    with open_video(make_holes("holes.mp4", (14, 24), 1.0)) as video:
        assert [round(video.at(Fraction(i, 25)).seconds * 25) for i in (30, 24, 14, 15)] == [30, 23, 13, 15]


def test_frames_that_are_partly_made_up_are_given_and_counted(make_holes):
    with open_video(make_holes("scratched.mkv", (14, 24), 0.5)) as video:
        assert len(list(video)) == 40
        assert video.frames_lost == 0
        assert video.frames_concealed > 0


def test_every_cut_of_a_file_without_its_index_is_a_video_error(make_clip, tmp_path):
    data = make_clip().read_bytes()
    path = tmp_path / "cut.mp4"
    for end in range(0, data.index(b"moov"), 500):
        path.write_bytes(data[:end])
        with pytest.raises(VideoError):
            open_video(path)
