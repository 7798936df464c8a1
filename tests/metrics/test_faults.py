"""Every measure against the fault that it is for: stronger faults measure worse, at the right time and frequency."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from legato.metrics import DEFAULT_METRICS, Measured, measure_frames, speed_slope
from legato.samples import BIG_BUCK_BUNNY
from legato.video import Frame
from tests import faults

Fault = Callable[[Sequence[Frame], float], list[Frame]]
CLIPS = {
    "bunny": lambda: faults.loaded(str(BIG_BUCK_BUNNY), most=60),
    "scene": lambda: faults.moving_scene(seed=3, seconds=2),
}


@pytest.fixture(scope="module", params=sorted(CLIPS))
def clip(request: pytest.FixtureRequest) -> list[Frame]:
    return CLIPS[request.param]()


def measured(frames: Sequence[Frame], *names: str) -> Measured:
    return measure_frames(frames, {name: DEFAULT_METRICS[name] for name in names})


def values(clip: list[Frame], fault: Fault, strengths: Sequence[float], metric: str, name: str) -> list[float]:
    found = [measured(fault(clip, s) if s else clip, metric)[name].value for s in strengths]
    assert all(value is not None for value in found)
    return found


def flickering(clip: Sequence[Frame], depth: float) -> list[Frame]:
    return faults.brightness_flicker(clip, 6, depth)


def seamed(clip: Sequence[Frame], strength: float) -> list[Frame]:
    return faults.seams(clip, 12, strength)


def frozen(clip: Sequence[Frame], count: float) -> list[Frame]:
    return faults.freeze(clip, 20, int(count))


def gapped(clip: Sequence[Frame], count: float) -> list[Frame]:
    return faults.dropped(clip, range(20, 20 + int(count)), leave_gap=True)


WORSE_UP = {
    "flicker strength": ("spectrum", "flicker_strength", flickering, [0, 0.02, 0.05, 0.1, 0.2]),
    "change per second": ("flickering", "change_per_second", flickering, [0, 0.05, 0.1, 0.2]),
    "warping error, flicker": ("warping", "warping_error", flickering, [0, 0.05, 0.1, 0.2]),
    "unsmooth, jitter": ("smoothness", "unsmooth_share", faults.jitter, [0, 0.002, 0.005, 0.01]),
    "jitter": ("jerk", "jitter", faults.jitter, [0, 0.001, 0.003, 0.006]),
    "seams": ("seams", "seams", seamed, [0, 0.02, 0.05, 0.1]),
    "ghosting": ("ghosting", "ghosting", faults.ghost, [0, 0.2, 0.4, 0.6]),
    "freeze": ("freezes", "longest_freeze", frozen, [0, 3, 8, 16]),
    "repeats": ("freezes", "repeated_frames", frozen, [0, 3, 8, 16]),
    "colour": ("drift", "colour_drift", faults.colour_drift, [0, 0.06, 0.12, 0.25]),
    "sharpness": ("drift", "sharpness_drift", faults.resharpened, [0, 0.5, 1, 2]),
    "gaps": ("timing", "missing_frames", gapped, [0, 1, 2, 4]),
    "time jitter": ("timing", "timing_jitter", faults.time_jitter, [0, 0.1, 0.3, 0.6]),
}


@pytest.mark.parametrize("case", sorted(WORSE_UP))
def test_a_stronger_fault_measures_worse(clip: list[Frame], case: str) -> None:
    metric, name, fault, strengths = WORSE_UP[case]
    found = values(clip, fault, strengths, metric, name)
    assert all(a < b for a, b in pairwise(found)), found


@pytest.mark.parametrize("fault", ["flicker", "jitter", "ghost-free shuffle"])
def test_the_coherence_score_falls_with_faults(clip: list[Frame], fault: str) -> None:
    ladder = {
        "flicker": [clip, *(faults.brightness_flicker(clip, 7, d) for d in (0.05, 0.1, 0.2))],
        "jitter": [clip, *(faults.jitter(clip, w) for w in (0.005, 0.01, 0.02))],
        "ghost-free shuffle": [clip, faults.shuffled(clip)],
    }[fault]
    found = [measured(frames, "order")["coherence_score"].value for frames in ladder]
    assert all(a > b for a, b in pairwise(found)), found


@pytest.mark.parametrize("hz", [2.0, 3.3, 5.0, 8.5, 11.5])
def test_flicker_frequency_is_found_within_a_quarter_hertz(clip: list[Frame], hz: float) -> None:
    found = measured(faults.brightness_flicker(clip, hz, 0.06), "spectrum")
    assert found["flicker_hz"].value == pytest.approx(hz, abs=0.25)
    assert found["flicker_strength"].value == pytest.approx(0.06, rel=0.3)


def test_a_sound_clip_does_not_flicker(clip: list[Frame]) -> None:
    assert measured(clip, "spectrum")["flicker_hz"].value == 0


@pytest.mark.parametrize("every", [5, 8, 12, 16])
def test_the_period_of_seams_is_found_exactly(clip: list[Frame], every: int) -> None:
    found = measured(faults.seams(clip, every, 0.06), "seams")
    assert found["seam_period"].value == every
    assert found["seams"].value > 2


def test_a_sound_clip_has_no_seams(clip: list[Frame]) -> None:
    found = measured(clip, "seams")
    assert (found["seam_period"].value, found["seams"].value) == (0, 1.0)


def test_no_measure_of_a_sound_clip_is_beyond_its_limit_and_those_of_faults_are(clip: list[Frame]) -> None:
    def beyond(frames: Sequence[Frame]) -> set[str]:
        return {
            m.name
            for m in measured(frames, "coherence", "spectrum", "ghosting", "seams").measurements
            if m.beyond_limit
        }

    assert beyond(clip) == set()
    assert {"flicker_strength"} <= beyond(flickering(clip, 0.05))
    assert {"seams"} <= beyond(seamed(clip, 0.02))


def test_seams_at_keyframes_are_told_as_such(clip: list[Frame]) -> None:
    frames = [replace(frame, key=number % 12 == 0) for number, frame in enumerate(seamed(clip, 0.05))]
    assert "keyframes" in measured(frames, "seams")["seams"].note
    assert "keyframes" not in measured([replace(frame, key=True) for frame in frames], "seams")["seams"].note
    assert "keyframes" not in measured(seamed(clip, 0.05), "seams")["seams"].note


def test_the_time_of_a_jump_is_found_within_a_frame(clip: list[Frame]) -> None:
    frames = faults.dropped(clip, [25, 26, 27], leave_gap=False)
    found = measured(frames, "timing")
    interval = frames[1].seconds - frames[0].seconds
    assert found["motion_jumps"].value >= 1
    assert min(abs(s - frames[25].seconds) for s in found["motion_jumps"].worst_seconds) <= interval + 1e-6


def test_the_time_of_a_freeze_is_found_within_a_frame(clip: list[Frame]) -> None:
    found = measured(faults.freeze(clip, 20, 8), "freezes")
    interval = clip[1].seconds - clip[0].seconds
    assert found["longest_freeze"].value == pytest.approx(8 * interval, abs=1e-6)
    assert found["longest_freeze"].worst_seconds[0] == pytest.approx(clip[28].seconds, abs=interval + 1e-6)


@pytest.mark.parametrize("hz", [2.0, 4.0, 5.0])
def test_flashes_are_counted_per_second(hz: float) -> None:
    frames = faults.moving_scene(seed=1, seconds=3.0)
    flashing = [
        faults.with_pixels(f, faults.image_of(f) * (0.1 if int(f.seconds * hz * 2) % 2 else 1.0) + 40) for f in frames
    ]
    assert measured(flashing, "flashes")["flash_rate"].value == pytest.approx(hz, abs=1)
    assert measured(flashing, "flashes")["flash_rate"].beyond_limit == (hz > 3)
    assert measured(frames, "flashes")["flash_rate"].value == 0


@pytest.mark.parametrize("speed", [0.5, 2.0, 3.0])
def test_speed_follows_the_playback_rate(clip: list[Frame], speed: float) -> None:
    """Dense flow loses a little of what moves far; a tracked colour does not, see test_measure."""
    usual, faster = (measured(f, "speed")["speed"].value for f in (clip, faults.played(clip, speed)))
    assert speed_slope([1, speed], [usual, faster]) == pytest.approx(1, abs=0.2)
