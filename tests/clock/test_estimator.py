"""The rate estimator: what it takes, and that a little training already tells slow from fast."""

import math
from pathlib import Path

import pytest
import torch

from legato.clock import RateEstimator, load_rate_estimator
from legato.clock.estimator import BUNDLED, RateEstimate, estimate_loss
from legato.data.batch import pixels_to_signal
from legato.data.physics import random_trial
from legato.errors import BadArgument, ModelNotFound


def clips(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    frames, logs = [], []
    for number in range(count):
        trial = random_trial(numbers, "swing", lawful=True)
        log = math.log(1 / 60) if number % 2 else math.log(1 / 12)
        frames.append(pixels_to_signal(trial.render(torch.arange(8, dtype=torch.float64) * math.exp(log), 16, 16)))
        logs.append(log)
    return torch.stack(frames), torch.tensor(logs)


def test_a_little_training_tells_slow_from_fast() -> None:
    torch.manual_seed(0)
    model = RateEstimator(side_px=16, patch_px=8, width=32, depth=1, heads=2, frames=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        frames, logs = clips(16, step)
        loss = estimate_loss(model(frames), logs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    frames, logs = clips(40, 1000)
    said = model(frames).log_interval.detach()
    slow, fast = said[logs > -3].mean(), said[logs < -3].mean()
    assert float(slow - fast) > 0.5


def test_the_loss_is_least_at_the_truth_and_at_its_own_error() -> None:
    truth = torch.tensor([-3.0, -3.5])

    def loss(off: float, spread: float) -> float:
        return float(estimate_loss(RateEstimate(truth + off, torch.full((2,), math.log(spread))), truth))

    assert loss(0.0, 0.1) < loss(0.1, 0.1) < loss(0.3, 0.1)
    assert loss(0.2, 0.2) < min(loss(0.2, 0.1), loss(0.2, 0.5))


def test_clips_of_any_size_are_looked_at_and_one_frame_is_too_few() -> None:
    model = RateEstimator(side_px=16, width=32, depth=1, heads=2, frames=8)
    said = model.estimate(torch.zeros(30, 3, 50, 80, dtype=torch.uint8))
    assert float(said.fps[0]) == pytest.approx(1 / float(said.interval_seconds[0]))
    with pytest.raises(BadArgument, match="two or more"):
        model.estimate(torch.zeros(1, 3, 50, 80, dtype=torch.uint8))


def test_one_that_is_saved_is_found_and_none_is_told(tmp_path: Path) -> None:
    model = RateEstimator(side_px=16, width=32, depth=1, heads=2, frames=8).eval()
    torch.nn.init.normal_(model.head.weight)
    model.save_pretrained(tmp_path / "e")
    pixels = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(load_rate_estimator(tmp_path / "e").estimate(pixels).fps, model.estimate(pixels).fps)
    with pytest.raises(ModelNotFound, match="no rate estimator"):
        load_rate_estimator(tmp_path / "none")


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="no bundled estimator")
def test_the_bundled_one_reads_the_rate_of_lawful_clips() -> None:
    model = load_rate_estimator()
    errors = []
    for seed in range(40):
        numbers = torch.Generator().manual_seed(7_000 + seed)
        trial = random_trial(numbers, ("bounce", "swing", "turn")[seed % 3], lawful=True)  # type: ignore[arg-type]
        fps = 12 * 5 ** float(torch.rand(1, generator=numbers))
        pixels = trial.render(0.5 + torch.arange(16, dtype=torch.float64) / fps, 32, 32)
        errors.append(abs(float(model.estimate(pixels).fps[0]) / fps - 1))
    assert sum(errors) / len(errors) < 0.15
