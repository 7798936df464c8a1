"""Running metrics: cuts, controls, short videos, curves, answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from legato.errors import BadArgument
from legato.metrics import (
    DEFAULT_METRICS,
    REFERENCE_METRICS,
    Answer,
    Curve,
    Measurement,
    Moment,
    Seams,
    Speed,
    answer_measurements,
    measure_frames,
    moments,
    read_answers,
    speed_slope,
)
from legato.metrics.measurement import readable
from legato.metrics.moment import aligned
from legato.motion.cuts import AdaptiveCuts
from legato.motion.flow import DisFlow
from legato.samples import BIG_BUCK_BUNNY
from legato.video import Frame
from tests import faults


def film() -> list[Frame]:
    """Three shots of 30 frames."""
    shots = [faults.moving_scene(seed=seed, seconds=1) for seed in (1, 2, 3)]
    first = shots[0][0]
    return [
        Frame(frame.pixels, number * 3000, first.time_base / (3000 * first.time_base * 30))
        for number, frame in enumerate(f for shot in shots for f in shot)
    ]


def test_a_cut_is_not_incoherence() -> None:
    frames = film()
    found = measure_frames(frames)
    joined = measure_frames(frames, cuts=None)
    assert found.cuts_seconds == tuple(frames[i].seconds for i in (30, 60))
    assert found["cuts"].value == 2
    for name in ("warping_error", "change_per_second", "unsmooth_share", "colour_drift"):
        assert found[name].value < 0.8 * joined[name].value, name
    alone = measure_frames(frames[:30])
    assert found["warping_error"].value < 3 * alone["warping_error"].value


def test_nothing_is_compared_across_a_cut() -> None:
    for moment in moments(film(), cuts=AdaptiveCuts(), estimator=DisFlow("ultrafast")):
        assert (moment.before is None) == (moment.index in (0, 30, 60))
        assert moment.cut == (moment.index in (30, 60))


def test_cheats_are_measured_beside_the_video_and_lose() -> None:
    frames = faults.loaded(str(BIG_BUCK_BUNNY), most=50)
    found = measure_frames(frames, controls=True)
    score = {kind: next(m.value for m in ms if m.name == "coherence_score") for kind, ms in found.controls.items()}
    assert set(score) == {"frozen", "shuffled"}
    assert score["frozen"] == 0
    assert found["coherence_score"].value > max(score.values()) + 0.2
    smooth = {kind: next(m.value for m in ms if m.name == "motion_smoothness") for kind, ms in found.controls.items()}
    assert smooth["frozen"] > found["motion_smoothness"].value, "this is why the controls are shown"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shortest_videos_get_what_can_be_said(count: int) -> None:
    frames = faults.moving_scene(seconds=1)[:count]
    found = measure_frames(frames, {**DEFAULT_METRICS, **REFERENCE_METRICS}, reference=frames, controls=True)
    for measurement in found.measurements:
        assert measurement.value is not None or measurement.note
        assert measurement.value is None or np.isfinite(measurement.value), measurement.name
    assert (found["warping_error"].value is None) == (count < 2)
    assert (found["unsmooth_share"].value is None) == (count < 3)
    json.dumps(found.summary(), allow_nan=False)


def test_a_single_colour_measures_as_still() -> None:
    grey = [Frame(torch.full((3, 64, 96), 90, dtype=torch.uint8), i, faults.Fraction(1, 30)) for i in range(40)]
    found = measure_frames(grey, controls=True)
    assert found["flicker_hz"].value == 0
    assert found["frozen_share"].value == pytest.approx(1)
    assert found["coherence_score"].value == 0
    assert found["seams"].value == 1
    json.dumps(found.summary(), allow_nan=False)


def test_no_frames_and_a_reference_of_another_size_are_refused() -> None:
    with pytest.raises(BadArgument, match="no frame"):
        measure_frames([])
    with pytest.raises(BadArgument, match="160x120 and the reference 80x60"):
        measure_frames(
            faults.moving_scene(seconds=1),
            REFERENCE_METRICS,
            reference=faults.moving_scene(seconds=1, height=60, width=80),
        )
    with pytest.raises(BadArgument, match="there are psnr"):
        measure_frames(faults.moving_scene(seconds=1)[:2], REFERENCE_METRICS)["speed"]


def test_a_reference_is_matched_by_time_counted_from_the_start() -> None:
    frames = faults.moving_scene(seconds=1)
    late = [Frame(f.pixels, f.pts + 77, f.time_base) for f in frames]
    pairs = list(aligned(frames, late[::2]))
    assert all(true is not None and torch.equal(true.pixels, frame.pixels) for frame, true in pairs[:-1:2])
    assert [true is None for _, true in list(aligned(frames, late[:10]))[12:]] == [True] * (len(frames) - 12)


@pytest.mark.parametrize("boundaries", [12, [12, 24, 36, 48]])
def test_seams_at_known_boundaries_are_measured_there(boundaries: object) -> None:
    frames = faults.seams(faults.moving_scene(seed=3, seconds=2), 12, 0.06)
    at = measure_frames(frames, {"seams": lambda: Seams(boundaries)}, cuts=None)["seams"].value
    beside = measure_frames(frames, {"seams": lambda: Seams([8, 20, 32])}, cuts=None)["seams"].value
    assert at > 2
    assert beside < 1.2
    with pytest.raises(BadArgument, match="2 or more"):
        Seams(1)


def test_a_coloured_thing_is_tracked_at_its_speed() -> None:
    from legato.data.scenes import Disc, Linear, Scene, Texture
    from legato.video import Timeline

    scene = Scene(
        background=Texture(seed=1, colour=(0.3, 0.3, 0.3)),
        things=(
            Disc(
                path=Linear((0.2, 0.5), (0.3, 0.0)),
                radius=0.06,
                texture=Texture(seed=2, colour=(1.0, 0.0, 0.0), contrast=0.0),
            ),
        ),
    )
    frames = list(scene.frames(Timeline.constant(seconds=1, rate=30), 120, 160))
    found = measure_frames(frames, {"speed": lambda: Speed((255, 0, 0))}, cuts=None)
    assert found["speed"].value == pytest.approx(0.3 * frames[0].height / frames[0].width, rel=0.03) or found[
        "speed"
    ].value == pytest.approx(0.3, rel=0.03)


def test_the_slope_of_speed_on_rate() -> None:
    assert speed_slope([0.5, 1, 2], [0.1, 0.2, 0.4]) == pytest.approx(1)
    assert speed_slope([0.5, 1, 2], [0.2, 0.2, 0.2]) == pytest.approx(0)
    with pytest.raises(BadArgument, match="positive"):
        speed_slope([1, 1], [0.1, 0.2])


def test_a_long_curve_keeps_its_mean_and_its_worst_moment() -> None:
    curve = Curve("lower", limit=64)
    values = np.random.default_rng(0).uniform(0, 1, 5000)
    values[3333] = 5
    for at, value in enumerate(values):
        curve.add(at / 30, float(value))
    seconds, _ = curve.points
    assert len(seconds) <= 64 + 1
    assert curve.mean == pytest.approx(values.mean())
    assert curve.worst(1) == (3333 / 30,)
    assert (np.diff(seconds) > 0).all()


def test_a_measurement_without_a_value_says_why() -> None:
    with pytest.raises(BadArgument, match="a note has to say why"):
        Measurement("speed", None, "px", "lower", "about")


def test_values_are_readable() -> None:
    shown = {None: "-", 0.0: "0", 1e-12: "0", 3.0: "3", 1234.0: "1234", 0.123456: "0.123", -2.5: "-2.5", 2e7: "2e+07"}
    assert {value: readable(value) for value in shown} == shown


def test_moments_hold_on_to_two_frames_at_most() -> None:
    import gc
    import weakref

    alive: list[weakref.ref[Moment]] = []
    for moment in moments(iter(faults.moving_scene(seconds=1)), cuts=None, estimator=DisFlow("ultrafast")):
        alive.append(weakref.ref(moment))
        del moment
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 2


# --- answers


def test_answers_that_flip_back_and_forth_flicker() -> None:
    texts = ["a cat on a mat", "a dog in a park"] * 6
    flipping = [Answer(i * 0.25, text) for i, text in enumerate(texts)]
    steady = [Answer(i * 0.25, "a cat on a mat") for i in range(12)]
    changed = [Answer(i * 0.25, texts[i >= 6]) for i in range(12)]
    for answers, consistency, hz in ((flipping, 0.4, 6 / 2.75), (steady, 1.0, 0.0), (changed, 10.4 / 11, 0.0)):
        found = {m.name: m for m in answer_measurements(answers)}
        assert found["answer_consistency"].value == pytest.approx(consistency, abs=0.12)
        assert found["answer_flicker_hz"].value == pytest.approx(hz, abs=0.4)
    warned = {m.name: m for m in answer_measurements(flipping)}
    assert warned["answer_consistency"].beyond_limit
    assert warned["answer_flicker_hz"].beyond_limit
    assert "vote" in warned["answer_flicker_hz"].note


def test_answers_are_read_with_either_spelling_and_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"seconds": 0, "text": "a"}\n\n{"time": 1.5, "answer": "b"}\n')
    assert read_answers(path) == [Answer(0.0, "a"), Answer(1.5, "b")]
    path.write_text('{"seconds": 1, "text": "a"}\n{"seconds": 1, "text": "b"}\n')
    with pytest.raises(BadArgument, match="line 2: 1 s does not come after"):
        read_answers(path)
    path.write_text("nonsense\n")
    with pytest.raises(BadArgument, match="line 1: expected an object"):
        read_answers(path)
    with pytest.raises(BadArgument, match="cannot be read"):
        read_answers(tmp_path / "missing.jsonl")
    assert all(m.value is None and m.note for m in answer_measurements([Answer(0.0, "a")]))


def test_an_interrupt_keeps_what_was_measured() -> None:
    def frames() -> Iterator[Frame]:
        yield from faults.moving_scene(seconds=1)[:20]
        raise KeyboardInterrupt

    found = measure_frames(frames(), controls=True)
    assert found.interrupted
    assert found.frames >= 10
    assert found["warping_error"].value is not None

    def nothing() -> Iterator[Frame]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        measure_frames(nothing())
