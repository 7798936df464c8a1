"""Published formulas against plain twins in float64, and measures that must mean the same at any frame rate."""

import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from legato.data.scenes import Scene, random_scene
from legato.metrics import (
    DEFAULT_METRICS,
    REFERENCE_METRICS,
    FeatureConsistency,
    PerceptualDifference,
    WarpingError,
    measure_frames,
)
from legato.metrics.flicker import tone_power
from legato.metrics.warping import hidden, warping_error
from legato.motion.flow import DisFlow
from legato.samples import BIG_BUCK_BUNNY
from legato.video import Frame, Timeline
from tests import faults


@pytest.fixture(scope="module")
def bunny() -> list[Frame]:
    return faults.loaded(str(BIG_BUCK_BUNNY), most=12)


def one(frames: list[Frame], metric: str, name: str, **options: object) -> float | None:
    return measure_frames(frames, {metric: DEFAULT_METRICS[metric]}, **options)[name].value


def test_temporal_flickering_is_vbenchs(bunny: list[Frame]) -> None:
    pictures = [faults.image_of(f).astype(np.float64) for f in bunny]
    differences = [np.abs(a - b).mean() for a, b in itertools.pairwise(pictures)]
    assert one(bunny, "flickering", "temporal_flickering") == pytest.approx(
        (255 - np.mean(differences)) / 255, abs=1e-6
    )


def bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    a, b = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - a) + image[top, right] * a
    lower = image[below, left] * (1 - a) + image[below, right] * a
    return upper * (1 - b) + lower * b


def twin_of_warping_error(first: np.ndarray, second: np.ndarray, fw: np.ndarray, bw: np.ndarray) -> float:
    """The published evaluation, step by step in float64."""
    fw, bw = fw.astype(np.float64), bw.astype(np.float64)
    y, x = np.mgrid[: fw.shape[0], : fw.shape[1]].astype(np.float64)
    x, y = x + fw[..., 0], y + fw[..., 1]
    arriving = bilinear(bw, x, y)
    unmatched = ((fw + arriving) ** 2).sum(-1) > 0.01 * ((fw**2).sum(-1) + (arriving**2).sum(-1)) + 0.5
    slope = np.zeros(fw.shape[:2])
    slope[:, :-1] += ((fw[:, :-1] - fw[:, 1:]) ** 2).sum(-1)
    slope[:-1] += ((fw[:-1] - fw[1:]) ** 2).sum(-1)
    seen = ~(unmatched | (slope > 0.01 * (fw**2).sum(-1) + 0.002))
    difference = (bilinear(second / 255.0, x, y) - first / 255.0) * seen[..., None]
    return float((difference**2).sum() / (3 * seen.sum()))


@pytest.mark.parametrize("at", [0, 5])
def test_warping_error_is_that_of_lai_et_al(bunny: list[Frame], at: int) -> None:
    a, b = bunny[at], bunny[at + 3]
    flows = [DisFlow()(p.pixels, q.pixels).permute(1, 2, 0).numpy() for p, q in ((a, b), (b, a))]
    images = [faults.image_of(f).astype(np.uint8) for f in (a, b)]
    assert 0.02 < hidden(*flows).mean() < 0.9, "the rule has to decide something here"
    expected = twin_of_warping_error(*images, *flows)
    assert warping_error(*images, *flows) == pytest.approx(expected, rel=1e-2, abs=1e-4)
    assert abs(warping_error(*images, *flows) - expected) < 1e-4


def test_a_known_motion_leaves_the_error_of_interpolation_alone() -> None:
    scene = random_scene(torch.Generator().manual_seed(5), things=3, speed=0.4)
    a, b = scene.frames(Timeline.constant(seconds=2 / 30, rate=30), 192, 256)

    def truth(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        times = (a.time, b.time) if torch.equal(first, a.pixels) else (b.time, a.time)
        return scene.motion(*times, 192, 256).flow.float()

    exact = measure_frames([a, b], {"warping": WarpingError}, cuts=None, estimator=truth)["warping_error"].value
    still = float((a.pixels.float() / 255 - b.pixels.float() / 255).square().mean())
    assert exact < 1e-4
    assert exact < still / 20


def test_tof_is_tecogans(bunny: list[Frame]) -> None:
    other = faults.jitter(bunny, 0.004)
    found = measure_frames(other, {"tof": REFERENCE_METRICS["tof"]}, cuts=None, reference=bunny)
    lengths = []
    for ours, theirs in zip(itertools.pairwise(other), itertools.pairwise(bunny), strict=True):
        flows = []
        for pair in (ours, theirs):
            grey = [cv2.cvtColor(faults.image_of(f).astype(np.uint8), cv2.COLOR_RGB2GRAY) for f in pair]
            flows.append(cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0).astype(np.float64))
        lengths.append(np.sqrt(((flows[0] - flows[1]) ** 2).sum(-1)).mean())
    assert found["tof"].value == pytest.approx(np.mean(lengths), rel=1e-5)


def test_a_video_against_itself_is_perfect(bunny: list[Frame]) -> None:
    found = measure_frames(bunny, REFERENCE_METRICS, reference=bunny)
    assert (found["psnr"].value, found["tof"].value) == (100.0, 0.0)
    assert found["ssim"].value == pytest.approx(1.0, abs=1e-6)


def test_psnr_of_known_noise_and_a_reference_of_another_rate(bunny: list[Frame]) -> None:
    generator = np.random.default_rng(0)
    noisy = [faults.with_pixels(f, faults.image_of(f) * 0.8 + 25 + generator.choice([-5, 5], (f.height, f.width, 3)))
             for f in bunny]  # fmt: skip
    plain = [faults.with_pixels(f, faults.image_of(f) * 0.8 + 25) for f in bunny]
    found = measure_frames(noisy, REFERENCE_METRICS, reference=plain)
    assert found["psnr"].value == pytest.approx(20 * np.log10(255 / 5), abs=0.05)
    sparse = measure_frames(noisy, REFERENCE_METRICS, reference=plain[::2])
    assert sparse["psnr"].value is not None
    short = measure_frames(noisy, REFERENCE_METRICS, reference=plain[:6])
    assert "left out" in short["psnr"].note


def test_tlp_compares_perceptual_steps(bunny: list[Frame]) -> None:
    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean()

    other = faults.brightness_flicker(bunny, 5, 0.1)
    found = measure_frames(other, {"lpips": lambda: PerceptualDifference(distance)}, reference=bunny, cuts=None)
    a, b = ([torch.from_numpy(faults.image_of(f)) / 127.5 - 1 for f in frames] for frames in (other, bunny))
    steps = [
        abs(float((p - q).abs().mean() - (r - s).abs().mean())) for p, q, r, s in zip(a, a[1:], b, b[1:], strict=False)
    ]
    assert found["tlp"].value == pytest.approx(100 * np.mean(steps), rel=1e-4)
    assert found["lpips"].value == pytest.approx(
        np.mean([float((p - q).abs().mean()) for p, q in zip(a, b, strict=True)]), rel=1e-4
    )


def test_subject_consistency_is_vbenchs_within_a_shot(bunny: list[Frame]) -> None:
    def embed(frame: Frame) -> torch.Tensor:
        return frame.pixels.float()[:, ::40, ::40].flatten() - 100

    unit = [torch.nn.functional.normalize(embed(f).double(), dim=0) for f in bunny]
    expected = np.mean([(max(0, a @ b) + max(0, unit[0] @ b)) / 2 for a, b in itertools.pairwise(unit)])
    found = measure_frames(bunny, {"features": lambda: FeatureConsistency(embed)}, cuts=None)
    assert found["subject_consistency"].value == pytest.approx(float(expected), abs=1e-6)


def test_a_tone_is_found_at_uneven_times() -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 3, 70))
    values = 0.3 * np.sin(2 * np.pi * 7.3 * times + 1) + 5 + 2 * times
    hz = np.arange(1, 20, 0.05)
    power = tone_power(times, values[:, None], hz)[:, 0]
    assert hz[power.argmax()] == pytest.approx(7.3, abs=0.05)
    assert np.sqrt(power.max()) == pytest.approx(0.3, rel=0.02)


# --- the same content at any rate


def timeline(rate: str) -> Timeline:
    if rate == "irregular":
        times = np.cumsum(np.random.default_rng(0).uniform(0.012, 0.04, 200))
        return Timeline.from_seconds([Fraction(round(t * 90_000), 90_000) for t in times if t < 3])
    return Timeline.constant(seconds=3, rate=int(rate))


def swaying(seed: int) -> Scene:
    return random_scene(torch.Generator().manual_seed(seed), things=3, speed=0.25)


PER_SECOND = {
    "change_per_second": "flickering",
    "speed": "speed",
    "dynamic_degree": "dynamics",
}


@pytest.mark.parametrize("name", sorted(PER_SECOND))
def test_scores_per_second_do_not_depend_on_the_rate(name: str) -> None:
    scene = swaying(7)
    found = {
        rate: one(list(scene.frames(timeline(rate), 180, 240)), PER_SECOND[name], name, cuts=None)
        for rate in ("24", "30", "60", "irregular")
    }
    usual = float(np.mean(list(found.values())))
    assert all(abs(value / usual - 1) <= 0.02 for value in found.values()), found


@pytest.mark.parametrize("rate", ["24", "30", "60", "irregular"])
def test_flicker_has_its_frequency_at_any_rate(rate: str) -> None:
    frames = list(swaying(2).frames(timeline(rate), 120, 160))
    flickering = faults.brightness_flicker(frames, 5, 0.1)
    found = measure_frames(flickering, {"spectrum": DEFAULT_METRICS["spectrum"]})
    assert found["flicker_hz"].value == pytest.approx(5, abs=0.1)
    assert found["flicker_strength"].value == pytest.approx(0.1, rel=0.1)


def test_drift_freezes_and_flashes_do_not_depend_on_the_rate() -> None:
    scene = swaying(9)
    found = {}
    for rate in ("24", "30", "60", "irregular"):
        frames = faults.colour_drift(list(scene.frames(timeline(rate), 120, 160)), 0.1)
        picture = next(f for f in frames if f.seconds > 0.95).pixels
        held = [Frame(picture if 1.0 < f.seconds < 1.5 else f.pixels, f.pts, f.time_base) for f in frames]
        wanted = {name: DEFAULT_METRICS[name] for name in ("drift", "freezes")}
        measured = measure_frames(held, wanted, cuts=None)
        found[rate] = (measured["colour_drift"].value, measured["longest_freeze"].value)
    drifts, freezes = np.array(list(found.values())).T
    assert np.ptp(drifts) / drifts.mean() <= 0.04, found
    assert abs(freezes - 0.5).max() <= 2 / 24, found


@pytest.mark.parametrize("rate", ["24", "30", "60"])
def test_jitter_is_what_was_put_in_at_any_rate(rate: str) -> None:
    frames = list(swaying(4).frames(timeline(rate), 180, 240))
    still = measure_frames(frames, {"jerk": DEFAULT_METRICS["jerk"]}, cuts=None)["jitter"].value
    shaken = measure_frames(faults.jitter(frames, 0.004), {"jerk": DEFAULT_METRICS["jerk"]}, cuts=None)["jitter"].value
    assert still < 0.0005
    assert shaken == pytest.approx(0.004 * 2**0.5, rel=0.25)
