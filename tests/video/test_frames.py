"""Pixels and times stay together."""

from fractions import Fraction

import pytest
import torch

from legato import Frame, Frames
from legato.errors import BadArgument

NTSC = Fraction(1001, 30000)


def make_frames(pts=(0, 1, 3, 7), time_base=NTSC):
    pixels = torch.arange(len(pts), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 6).contiguous()
    return Frames(pixels, torch.tensor(pts, dtype=torch.int64), time_base)


def test_times_are_exact():
    frames = make_frames()
    assert frames[3].time == 7 * NTSC
    assert frames[3].seconds == float(7 * NTSC)
    assert frames.seconds.dtype == torch.float64
    assert frames.seconds.tolist() == [float(frame.time) for frame in frames]


def test_an_hour_in_and_a_day_in_seconds_agree_with_the_exact_time():
    pts = [30 * 3600, 30 * 86400, 2**50 + 1]
    frames = make_frames(pts)
    assert frames.seconds.tolist() == [float(at * NTSC) for at in pts]


def test_indexing_and_slicing_keep_the_times():
    frames = make_frames()
    assert isinstance(frames[1], Frame)
    assert (frames[-1].pts, int(frames[-1].pixels[0, 0, 0])) == (7, 3)
    assert isinstance(frames[1:], Frames)
    assert [frame.time for frame in frames[1::2]] == [NTSC, 7 * NTSC]
    assert len(frames[4:]) == 0
    assert "4 x 6x4" in repr(frames)
    assert "0 x 6x4" in repr(frames[4:])
    with pytest.raises(BadArgument, match="backwards"):
        frames[::-1]
    with pytest.raises(IndexError):
        frames[4]


def test_iterating_gives_each_frame_once():
    assert [int(frame.pixels.max()) for frame in make_frames()] == [0, 1, 2, 3]


@pytest.mark.parametrize("pts", [(0, 1, 1, 2), (0, 2, 1, 3)])
def test_times_that_do_not_rise_are_refused(pts):
    with pytest.raises(BadArgument, match="frame 2"):
        make_frames(pts)


def test_wrong_kinds_and_lengths_are_refused():
    pixels, pts = torch.zeros(2, 3, 4, 6, dtype=torch.uint8), torch.arange(2)
    with pytest.raises(BadArgument, match="time_base"):
        Frames(pixels, pts, Fraction(0))
    with pytest.raises((BadArgument, TypeError), match="pixels"):
        Frames(pixels.float(), pts, NTSC)
    with pytest.raises((BadArgument, TypeError), match="pts"):
        Frames(pixels, torch.arange(3), NTSC)
