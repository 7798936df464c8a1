"""Frames from pipes: what was sent, at its times, as soon as it is there."""

import io
import os
from fractions import Fraction
from io import RawIOBase

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument, CorruptVideo
from legato.video import Frame
from legato.video.pipe import write_pipe
from legato.video.read_pipe import PipeReader


def pixels(number: int, height: int = 10, width: int = 14) -> Tensor:
    """Smooth colours, so that halved chroma hardly counts."""
    down, across = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    rows = [60 + 100 * down + 0 * across, 80 + 90 * across + 0 * down, 40.0 * number + 20 * down * across]
    return torch.stack(rows).to(torch.uint8)


def sent(form: str, count: int = 3) -> bytes:
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as sink:
        write_pipe((Frame(pixels(n), n, Fraction(1, 30)) for n in range(count)), sink, rate=Fraction(30), form=form)
    with os.fdopen(read, "rb") as source:
        return source.read()


def piped(told: bytes) -> RawIOBase:
    """A pipe with something in it that nobody writes to any more."""
    read, write = os.pipe()
    os.write(write, told)
    os.close(write)
    return os.fdopen(read, "rb", buffering=0)


@pytest.mark.parametrize("form", ["y4m", "rgb24"])
def test_what_was_written_is_read_at_its_times(form: str) -> None:
    frames = list(PipeReader(piped(sent(form)), form=form, size_px=(10, 14), rate=Fraction(30)))
    assert [frame.time for frame in frames] == [Fraction(n, 30) for n in range(3)]
    for number, frame in enumerate(frames):
        assert int((frame.pixels.int() - pixels(number).int()).abs().max()) <= (2 if form == "y4m" else 0)


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "gray"])
def test_every_layout_that_ffmpeg_writes_and_odd_sizes_are_read(layout: str) -> None:
    held = io.BytesIO()
    with av.open(held, "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=25)
        stream.width, stream.height, stream.pix_fmt = 13, 9, layout
        for number in range(2):
            rows = np.ascontiguousarray(pixels(number, 9, 13).permute(1, 2, 0).numpy())
            picture = av.VideoFrame.from_ndarray(rows, "rgb24").reformat(format=layout)
            picture.pts = number
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    made = list(PipeReader(piped(held.getvalue())))
    held.seek(0)
    with av.open(held) as container:
        expected = [frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in container.decode(video=0)]
    assert len(made) == len(expected) == 2
    assert made[1].time == Fraction(1, 25)
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one.pixels.numpy().astype(int) - other).mean() < 6


def test_a_frame_is_there_as_soon_as_it_is_sent_whole() -> None:
    read, write = os.pipe()
    first = sent("y4m", 1)
    os.write(write, first)
    with os.fdopen(read, "rb", buffering=0) as source:
        frames = iter(PipeReader(source, size_px=(5, 7)))
        assert next(frames).pixels.shape == (3, 5, 7)  # would hang if it looked ahead
        os.write(write, first[first.index(b"FRAME") :][:50])
        os.close(write)
        with pytest.raises(CorruptVideo, match=r"breaks off in frame 1: 44 of 420 bytes"):
            next(frames)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (b"", "expected Y4M"),
        (b"\x00\x01junk\n", "expected Y4M"),
        (b"x" * 9000, "no line ends"),
        (b"YUV4MPEG2 W4 H4\n", "expected a size and a rate"),
        (b"YUV4MPEG2 W4 H4 F30\n", "W4 H4 F30.; expected a size and a rate, as W64 H64 F30:1"),
        (b"YUV4MPEG2 W0 H4 F25:1\n", "says 0x4"),
        (b"YUV4MPEG2 W4 H4 F25:1 C420p10\n", "expected 8 bits"),
    ],
)
def test_what_is_no_y4m_is_told(told: bytes, words: str) -> None:
    with pytest.raises(CorruptVideo, match=words):
        PipeReader(piped(told))


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(BadArgument, match="neither its size nor its rate"):
        PipeReader(piped(b""), form="rgb24")
    with pytest.raises(BadArgument, match="the form of a pipe is 'avi'"):
        PipeReader(piped(b""), form="avi")
    with pytest.raises(CorruptVideo, match="frame 0 of the pipe begins with"):
        list(PipeReader(piped(b"YUV4MPEG2 W4 H4 F25:1\nelse\n")))
