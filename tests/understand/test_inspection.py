"""What one look at a video finds."""

import json
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import torch

from legato.data.scenes import Circular, Disc, Film, Linear, Oscillating, Scene, Still, Texture, World, random_scene
from legato.errors import BadArgument, VideoNotFound
from legato.understand.inspection import SIDE_PX, Inspection, Inspector, inspect_video
from legato.video import open_reduced
from legato.video.frame_times import measured_times
from legato.video.frames import Frames
from legato.video.timeline import Timeline

FACE = Texture(seed=5, colour=(0.8, 0.6, 0.5))


def webcam() -> World:
    return Scene((Disc(Oscillating((0.5, 0.55), (0.01, 0.005), 3.0), 0.25, FACE),))


def sports() -> World:
    players = tuple(
        Disc(Circular((0.5, 0.5), 0.3, 1.5, turn / 4), 0.12, Texture(seed=turn, colour=(0.2 * turn, 0.7, 0.3)))
        for turn in range(4)
    )
    return Scene(players, Texture(seed=9, contrast=0.25), Oscillating((0, 0), (0.3, 0), 3.0))


def film() -> World:
    shots = tuple(random_scene(torch.Generator().manual_seed(seed), things=1, speed=0.05) for seed in range(5))
    return Film(shots, (2.5, 5.2, 7.1, 9.0))


def looked_at(world: World, *, seconds: int | Fraction, rate: int) -> Inspection:
    timeline = Timeline.constant(seconds=seconds, rate=rate)
    return inspect_video(world.frames(timeline, 36, 64))


def clip_at(make_clip, times, **settings) -> Inspection:
    with open_reduced(make_clip(times=times, **settings), SIDE_PX) as video:
        return inspect_video(video)


# --- times


def test_a_constant_rate_is_recognised_and_gives_no_warning(make_clip):
    found = clip_at(make_clip, [Fraction(1001 * i, 30000) for i in range(30)])
    assert found.times.kind == "constant"
    assert found.times.rate == pytest.approx(30000 / 1001, rel=1e-4)
    assert found.times.gaps == ()
    assert found.frames == 30
    assert found.warnings == ()


def test_times_rounded_to_milliseconds_are_still_constant(make_clip):
    found = clip_at(make_clip, [Fraction(i, 60) for i in range(40)], name="clip.mkv", time_base=Fraction(1, 1000))
    assert found.times.kind == "constant"
    assert found.times.usual_rate == pytest.approx(60, rel=0.01)


def test_a_matroska_file_that_was_cut_short_is_told(make_clip, tmp_path):
    whole = make_clip("whole.mkv", 90)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    told = []
    for path in (whole, cut):
        with open_reduced(path, SIDE_PX) as video:
            told.append([warning for warning in inspect_video(video).warnings if "cut short" in warning])
    assert told[0] == []
    assert told[1][0].startswith("The file declares 3.6 s, but its last frame is at ")


def test_a_variable_rate_is_recognised(make_clip):
    milliseconds = list(accumulate([0, *[20, 45, 33, 60, 25] * 5]))
    found = clip_at(make_clip, [Fraction(m, 1000) for m in milliseconds])
    assert found.times.kind == "variable"
    assert found.times.gaps == ()
    assert found.times.shortest_seconds == pytest.approx(0.020, abs=1e-4)
    assert found.times.longest_seconds == pytest.approx(0.060, abs=1e-4)
    assert found.times.median_seconds == pytest.approx(0.033, abs=1e-4)
    assert any("frame rate varies" in warning for warning in found.warnings)


def test_dropped_frames_are_gaps_at_the_right_time(make_clip):
    found = clip_at(make_clip, [Fraction(i, 25) for i in range(50) if i not in (20, 40, 41)])
    assert found.times.kind == "constant with gaps"
    assert [(gap.frame, round(gap.seconds, 3), round(gap.length_seconds, 3)) for gap in found.times.gaps] == [
        (19, 0.76, 0.08),
        (38, 1.56, 0.12),
    ]
    assert found.times.usual_rate == pytest.approx(25)
    assert found.times.rate == pytest.approx(46 / 1.96)
    assert any("2 gaps" in warning and "0.760 s" in warning for warning in found.warnings)


def test_a_clock_that_ticks_once_a_frame_does_not_hide_a_dropped_frame():
    times = np.array([i / 10 for i in range(40) if i != 17])
    assert [gap.frame for gap in measured_times(times, tick_seconds=0.1).gaps] == [16]


def test_a_file_of_a_few_frames_still_shows_its_gap():
    found = measured_times(np.array([0.0, 0.04, 0.08, 0.12, 0.24]))
    assert [(gap.frame, gap.seconds) for gap in found.gaps] == [(3, 0.12)]


def test_a_declared_rate_is_believed_within_rounding_and_contradicted_beyond():
    found = measured_times(np.arange(100) / 25)
    assert not found.contradicts(25.0)
    assert not found.contradicts(24.9)
    assert found.contradicts(30.0)
    assert found.contradicts(50.0)


def test_a_declared_rate_is_believed_as_far_as_the_times_bear_it_out():
    def believed(times, declared):
        return measured_times(np.array(times), 0.001).believed_rate(Fraction(declared), 0.001)

    even = [round(n / 24, 3) for n in range(200)]
    assert believed(even, "500/21") == 24
    assert believed(even, "24") == 24
    assert believed(even, "24000/1001") == 24
    assert believed(even[:12], "24000/1001") == Fraction(24000, 1001)  # too short to tell
    film = [round(1001 * n / 24000, 3) for n in range(200)]
    assert believed(film, "24") == Fraction(24000, 1001)
    gap = even[:50] + even[80:]
    assert believed(gap, "24") == 24
    assert believed(gap, "500/21") == 24
    uneven = [(n + 0.4 * (n % 3)) / 24 for n in range(100)]
    assert believed(uneven, "24") == 24
    assert believed(uneven, "1000") == pytest.approx(24, rel=0.01)  # as browsers declare of what they record
    assert believed([0.0], "30") == 30


def test_one_and_two_frames_are_not_judged():
    one = looked_at(webcam(), seconds=Fraction(1, 10), rate=10)
    assert (one.frames, one.times.kind, one.times.rate, one.pictures_per_second) == (1, "unknown", None, None)
    two = looked_at(webcam(), seconds=Fraction(2, 10), rate=10)
    assert (two.frames, two.times.kind) == (2, "unknown")
    json.dumps(one.summary(), allow_nan=False)


def test_times_that_fall_are_refused():
    with pytest.raises(BadArgument, match="frame 2 does not come after"):
        measured_times(np.array([0.0, 0.2, 0.1]))
    a, b = webcam().frames(Timeline.constant(seconds=Fraction(2, 10), rate=10), 36, 48)
    inspector = Inspector()
    inspector.add(b)
    with pytest.raises(BadArgument, match="in order"):
        inspector.add(a)


# --- pictures


def test_repeated_pictures_are_counted_through_a_lossy_codec(make_clip):
    pictures = sports().render([i // 2 / 12.5 for i in range(50)], 72, 128).permute(0, 2, 3, 1).numpy()
    found = clip_at(make_clip, 50, size_px=(72, 128), pictures=list(pictures))
    assert found.duplicates == 25
    assert found.pictures_per_second == pytest.approx(25 * (1 - 25 / 49))
    assert any("25 frames (51%) repeat" in warning and "different pictures" in warning for warning in found.warnings)


def test_a_moving_picture_has_no_duplicates():
    drifting = Scene((Disc(Linear((0.3, 0.5), (0.02, 0.0)), 0.2, FACE),), Texture(seed=1))
    assert looked_at(drifting, seconds=2, rate=30).duplicates == 0
    assert looked_at(sports(), seconds=2, rate=30).duplicates == 0


def test_a_cut_makes_no_duplicates_of_the_quiet_frames_around_it():
    quiet = tuple(
        Scene((Disc(Linear((0.3, 0.5), (0.02, 0.0)), 0.2, FACE),), Texture(seed=seed, contrast=0.3)) for seed in (1, 2)
    )
    found = looked_at(Film(quiet, (1,)), seconds=2, rate=30)
    assert len(found.cuts) == 1
    assert found.duplicates == 0


def test_a_still_picture_is_called_still():
    found = looked_at(Scene(), seconds=2, rate=10)
    assert found.duplicates == 19
    assert found.motion.mean == 0
    assert found.neighbours.correlation == 1
    assert found.neighbours.unchanged_share == 1
    assert found.content == "webcam"
    assert any("stands still" in warning for warning in found.warnings)


def test_cuts_are_found_at_their_times_and_are_no_motion(make_clip):
    calm = tuple(Scene((Disc(Still((0.3, 0.5)), 0.2, FACE),), Texture(seed=seed)) for seed in (1, 2))
    pictures = Film(calm, (1.2,)).render([i / 25 for i in range(50)], 72, 128).permute(0, 2, 3, 1).numpy()
    found = clip_at(make_clip, 50, size_px=(72, 128), pictures=list(pictures))
    assert [round(cut.seconds, 3) for cut in found.cuts] == [1.2]
    assert found.cuts[0].frame == 30
    assert found.motion.peak < 0.02
    assert found.neighbours.lowest_correlation < 0.5
    assert found.neighbours.incoherent_share == pytest.approx(1 / 49)
    assert found.steps.incoherent_share == 0


@pytest.mark.parametrize("world", [webcam, sports, film])
def test_the_same_content_gives_the_same_answers_at_any_rate(world):
    seconds = 11 if world is film else 3
    found = [looked_at(world(), seconds=seconds, rate=rate) for rate in (15, 30, 60)]
    assert len({one.content for one in found}) == 1
    means, peaks = [one.motion.mean for one in found], [one.motion.peak for one in found]
    assert max(means) == pytest.approx(min(means), rel=0.1)
    assert max(peaks) == pytest.approx(min(peaks), rel=0.1)
    correlations = [one.steps.correlation for one in found]
    assert max(correlations) == pytest.approx(min(correlations), abs=0.01)
    assert len({len(one.cuts) for one in found}) == 1
    for here, there in zip(found[0].cuts, found[2].cuts, strict=True):
        assert abs(here.seconds - there.seconds) <= 1 / 15


@pytest.mark.parametrize(("world", "seconds"), [(webcam, 3), (sports, 3), (film, 11)])
def test_the_content_is_guessed(world, seconds):
    assert looked_at(world(), seconds=seconds, rate=15).content == world.__name__


def test_a_talker_who_gestures_now_and_then_is_a_conversation():
    # at rest, then a wave of two hands, then at rest
    hand = Linear((0.2, 0.6), (0.0, 0.0))
    body = Disc(hand, 0.1, Texture(seed=1))
    rest, wave = (
        Scene((body, Disc(Circular((0.5, 0.5), radius, 1.0), 0.35, FACE)), Texture(seed=2)) for radius in (0.004, 0.15)
    )
    timeline = Timeline.constant(seconds=6, rate=15)
    waves = [2 <= time < 4 for time in timeline.seconds.tolist()]
    pixels = torch.where(
        torch.tensor(waves)[:, None, None, None], wave.render(timeline, 72, 128), rest.render(timeline, 72, 128)
    )
    found = inspect_video(Frames(pixels, timeline.pts(Fraction(1, 15)), Fraction(1, 15)))
    assert found.content == "conversation"


def test_one_cut_does_not_make_a_film():
    calm = Film(tuple(Scene(background=Texture(seed=seed)) for seed in (1, 2)), (1.5,))
    found = looked_at(calm, seconds=4, rate=10)
    assert len(found.cuts) == 1
    assert found.content != "film"


# --- in and out


def test_large_frames_are_looked_at_small_and_described_large(make_clip):
    path = make_clip(times=8, size_px=(480, 640))
    with open_reduced(path, side_px=320) as video:
        assert next(iter(video)).pixels.shape == (3, 240, 320)
        found = inspect_video(video)
    assert (found.info.width, found.info.height) == (640, 480)
    # frames of full size, scaled by the inspector itself, tell the same
    from legato.video import open_video

    with open_video(path) as video:
        again = inspect_video(video)
    assert again.motion.mean == pytest.approx(found.motion.mean, abs=0.01)
    assert again.neighbours.correlation == pytest.approx(found.neighbours.correlation, abs=0.02)


def test_the_summary_is_json_and_names_the_file(make_clip):
    path = make_clip(times=12, sound_seconds=0.4)
    with open_reduced(path, SIDE_PX) as video:
        numbers = json.loads(json.dumps(inspect_video(video).summary(), allow_nan=False))
    assert numbers["file"]["path"] == str(path)
    assert numbers["file"]["codec"] == "h264"
    assert numbers["file"]["has_audio"] is True
    assert numbers["file"]["declared_rate"] == 25
    assert numbers["frames"] == 12


def test_no_frames_and_no_file_are_errors(tmp_path):
    with pytest.raises(BadArgument, match="no frames to inspect"):
        inspect_video([])
    with pytest.raises(VideoNotFound):
        open_reduced(tmp_path / "none.mp4", SIDE_PX)
