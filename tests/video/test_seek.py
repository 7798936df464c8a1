"""Random access gives the frames that reading in order gives."""

import pickle
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from legato import open_video
from legato.errors import BadArgument

UNEVEN = [Fraction(7, 10) + Fraction(i * i, 1000) + Fraction(i, 25) for i in range(40)]
EVEN = [Fraction(i, 25) for i in range(40)]
KINDS = {
    "h264-b-frames.mp4": ({"bf": "3", "g": "10"}, UNEVEN),
    "h264-open-gops.mkv": ({"bf": "3", "g": "10", "x264-params": "open-gop=1"}, UNEVEN),
    "h264.ts": ({"bf": "2", "g": "10"}, UNEVEN),
    "h264-refresh.mp4": ({"x264-params": "intra-refresh=1:keyint=12"}, UNEVEN),
    "vp9.webm": ({"codec": "libvpx-vp9", "g": "10", "cpu-used": "8"}, UNEVEN),
    "mpeg4-b-frames.avi": ({"codec": "mpeg4", "bf": "2", "g": "10", "time_base": Fraction(1, 25)}, EVEN),
    "mpeg2.mpg": ({"codec": "mpeg2video", "bf": "2", "g": "10", "time_base": Fraction(1, 25)}, EVEN),
    "palette.gif": ({"codec": "gif", "pixel_format": "rgb8", "time_base": Fraction(1, 100)}, EVEN),
}


@pytest.fixture(params=KINDS)
def path(request, make_clip):
    options, times = KINDS[request.param]
    return make_clip(request.param, times, **options)


def same(a, b):
    return (a.pts, a.key) == (b.pts, b.key) and torch.equal(a.pixels, b.pixels)


def test_indices_and_times_find_the_frames_of_iteration(path):
    with open_video(path) as video:
        frames = list(video)
    assert len(frames) == 40
    for before_any_pass in (True, False):
        with open_video(path) as video:
            if not before_any_pass:
                list(video)
            for i in (39, 3, 4, 22, 0, 19, 20, 21, 31, 31):
                assert same(video[i], frames[i])
                assert same(video[i - 40], frames[i])
                assert same(video.at(frames[i].time), frames[i])
                assert same(video.at(frames[i].seconds), frames[i])


def test_between_frames_the_earlier_one_is_on_show(path):
    with open_video(path) as video:
        frames = list(video)
        for earlier, later in list(pairwise(frames))[::7]:
            assert same(video.at((earlier.time + later.time) / 2), earlier)
        assert same(video.at(frames[-1].time + 100), frames[-1])
        with pytest.raises(BadArgument, match="nothing is on show"):
            video.at(frames[0].time - Fraction(1, 1000))


@pytest.mark.parametrize(("first", "last"), [(0, 39), (5, 33), (20, 21), (17, 17)])
def test_a_span_gives_its_frames_but_not_its_end(path, first, last):
    with open_video(path) as video:
        frames = list(video)
    with open_video(path) as video:
        span = list(video.between(frames[first].seconds, frames[last].time))
        assert len(span) == last - first
        assert all(same(a, b) for a, b in zip(span, frames[first:last], strict=True))


def test_spans_outside_the_video_are_cut_to_it(make_clip):
    with open_video(make_clip(times=10)) as video:
        assert len(list(video.between(-5, 100))) == 10
        assert list(video.between(50, 100)) == []
        assert list(video.between(Fraction(1, 50), Fraction(1, 30))) == []
        with pytest.raises(BadArgument, match="backwards"):
            video.between(2, 1)


def test_an_index_beyond_the_end_is_an_index_error(make_clip):
    with open_video(make_clip(times=10)) as video:
        for at in (10, -11):
            with pytest.raises(IndexError, match="which has 10"):
                video[at]


def test_a_time_that_is_no_number_is_refused(make_clip):
    with open_video(make_clip(times=3)) as video, pytest.raises(BadArgument, match="nan"):
        video.at(float("nan"))


def test_random_access_in_the_middle_of_a_loop_leaves_the_loop_alone(make_clip):
    with open_video(make_clip(times=20, g="5")) as video:
        alone = [frame.pts for frame in video]
        assert [(frame.pts, video[15].pts)[0] for frame in video] == alone


def test_a_table_found_before_saves_finding_it_again(path):
    with open_video(path) as video:
        frames, table = list(video), video.table()
    assert list(table.pts) == [frame.pts for frame in frames]
    with open_video(path) as video:
        promised = video.table()
        assert list(promised.pts) == list(table.pts)
        assert video.times_made_up <= 3  # AVI does not give the last few
    for known in (table, pickle.loads(pickle.dumps(promised))):
        with open_video(path, table=known) as video:
            assert same(video[31], frames[31])
            assert same(video[4], frames[4])
            assert [frame.pts for frame in video.between(frames[30].time, frames[33].time)] == list(table.pts[30:33])


def test_a_table_of_another_file_leads_to_no_other_frames(make_clip):
    with open_video(make_clip("other.mp4", [Fraction(i, 20) for i in range(30)])) as video:
        table = video.table()
    with open_video(make_clip("clip.mp4", 40, g="10")) as video:
        frames = list(video)
    with open_video(make_clip("clip.mp4", 40, g="10"), table=table) as video:
        assert same(video.at(frames[33].time), frames[33])
