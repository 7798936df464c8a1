"""Objectives: what is said of a clip leads back to it, and each has an independent twin."""

from dataclasses import replace

import pytest
import torch

from legato.data.batch import ClipBatch
from legato.errors import BadArgument
from legato.generate.equilibrium import EquilibriumMatching
from legato.generate.loss import frame_errors
from legato.generate.objectives import (
    Diffusion,
    Equilibrium,
    FlowMatching,
    NoiseLevels,
    NoiseObjective,
    best_guess,
    framewise,
    masked_mean,
    random_levels,
)

ALL: list[NoiseObjective] = [
    FlowMatching("clean"),
    FlowMatching("velocity"),
    Diffusion("epsilon"),
    Diffusion("v"),
    Diffusion("clean"),
    Equilibrium(),
]


SECONDS = torch.arange(4, dtype=torch.float64).expand(3, 4) / 30


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    clean, epsilon = (torch.randn(3, 4, 2, 6, 6, generator=numbers) for _ in range(2))
    return clean, epsilon, 0.05 + 0.9 * torch.rand(3, 4, generator=numbers)


def loss(
    objective: NoiseObjective, said: torch.Tensor, clean: torch.Tensor, epsilon: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Of each frame, as training has it."""
    return objective.weight(noise) * frame_errors(said - objective.target(clean, epsilon, noise), SECONDS, noise > 0)


def perfect(objective: NoiseObjective, clean: torch.Tensor, epsilon: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What a model that knows everything would say, from the definitions."""
    level = noise[:, :, None, None, None]
    if isinstance(objective, FlowMatching):
        return clean if objective.prediction == "clean" else epsilon - clean
    if isinstance(objective, Equilibrium):
        gamma = 1 - level
        return (clean - epsilon) * 4 * torch.minimum(torch.ones(()), (1 - gamma) / 0.2)
    alpha = objective._alphas[(999 * noise).round().long()][:, :, None, None, None]
    said = {"clean": clean, "epsilon": epsilon, "v": alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean}
    return said[objective.prediction]


@pytest.mark.parametrize("objective", ALL, ids=str)
def test_a_perfect_answer_has_no_loss_and_leads_to_the_clip(objective: NoiseObjective) -> None:
    clean, epsilon, noise = drawn()
    x = objective.noised(clean, epsilon, noise)
    said = perfect(objective, clean, epsilon, noise)
    assert float(loss(objective, said, clean, epsilon, noise).max()) < 1e-9
    torch.testing.assert_close(objective.clean(said, x, noise), clean, atol=2e-3, rtol=1e-3)
    assert float(loss(objective, said + 0.1, clean, epsilon, noise).min()) > 1e-3


@pytest.mark.parametrize("objective", [o for o in ALL if not isinstance(o, Equilibrium)], ids=str)
def test_levels_are_the_frames_own(objective: NoiseObjective) -> None:
    clean, epsilon, noise = drawn()
    noise[:, 1] = 0
    x = objective.noised(clean, epsilon, noise)
    assert torch.equal(x[:, 1], clean[:, 1])
    for at in (0, 2):
        alone = objective.noised(clean[:, at : at + 1], epsilon[:, at : at + 1], noise[:, at : at + 1])
        assert torch.equal(x[:, at : at + 1], alone)


def test_clean_and_velocity_have_one_error() -> None:
    clean, epsilon, noise = drawn()
    noise = noise.clamp_min(0.1)
    x = FlowMatching().noised(clean, epsilon, noise)
    guess = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    velocity = (x - guess) / noise[:, :, None, None, None]
    as_clean = loss(FlowMatching("clean"), guess, clean, epsilon, noise)
    as_velocity = loss(FlowMatching("velocity"), velocity, clean, epsilon, noise)
    torch.testing.assert_close(as_clean, as_velocity, rtol=1e-4, atol=1e-5)


def test_equilibrium_mixes_as_its_own_pair_does() -> None:
    clean, epsilon, noise = drawn()
    noise = noise[:, :1].expand(-1, 4)
    x, target = EquilibriumMatching().pair(clean, epsilon, 1 - noise[:, 0])
    torch.testing.assert_close(Equilibrium().noised(clean, epsilon, noise), x)
    assert float(loss(Equilibrium(), target, clean, epsilon, noise).max()) < 1e-9


def test_diffusion_adds_noise_as_diffusers_does() -> None:
    from diffusers import DDPMScheduler

    clean, epsilon, noise = drawn()
    noise = noise[:, :1].expand(-1, 4)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    expected = scheduler.add_noise(clean, epsilon, (999 * noise[:, 0]).round().long())
    torch.testing.assert_close(Diffusion().noised(clean, epsilon, noise), expected)


def test_the_best_guess_of_normal_clips_is_the_one_in_the_books() -> None:
    numbers = torch.Generator().manual_seed(0)
    clips = torch.randn(20_000, 2, 1, 1, 1, generator=numbers)
    a, s = torch.tensor([[0.3, 0.5]]), torch.tensor([[0.7, 0.8]])
    x = torch.tensor([0.8, -0.6]).view(1, 2, 1, 1, 1)
    guess = best_guess(x, clips, a, s)
    expected = framewise(a / (a.square() + s.square())) * x  # of a unit normal prior
    torch.testing.assert_close(guess, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("objective", ALL, ids=str)
def test_peers_make_the_target_the_mean_of_what_could_be(objective: NoiseObjective) -> None:
    """By Bayes' rule, written out for each clip; a clip that is given in part is alone with its own frames."""
    numbers = torch.Generator().manual_seed(3)
    clean, peers = (0.2 * torch.randn(n, 4, 1, 2, 2, generator=numbers) for n in (6, 30))
    seconds = torch.arange(4, dtype=torch.float64).expand(6, 4) / 30
    asked = (NoiseLevels(0.0, 1.0, mean=1.5, std=0.5), 0.5)
    batch = ClipBatch(clean, seconds, torch.ones(6, dtype=torch.bool), ("",) * 6, torch.zeros(6, dtype=torch.long))
    say = lambda x, told: x  # noqa: E731 - asks nothing
    numbers = torch.Generator()
    alone = objective.task(batch, *asked, numbers.manual_seed(4), say)
    task = objective.task(replace(batch, peers=peers), *asked, numbers.manual_seed(4), say)
    torch.testing.assert_close(task.x, alone.x)
    pinned = ~task.counts.all(1)
    assert 0 < pinned.sum() < 6
    torch.testing.assert_close(task.target[pinned], alone.target[pinned])
    if objective.hidden:
        return  # its levels are not told
    noise = task.told["noise"]
    a, s = objective.shares(noise)
    for number in (~pinned).nonzero().flatten().tolist():
        spread = framewise(s[number, None])[0]
        all_of_them = torch.cat([clean, peers])
        normal = torch.distributions.Normal(framewise(a[number, None])[0] * all_of_them, spread)
        shares = normal.log_prob(task.x[number]).double().flatten(1).sum(1).softmax(0).float()
        assert shares.max() < 0.99  # else nothing is averaged
        mean = torch.einsum("n,n...->...", shares, all_of_them)
        said = objective.clean(task.target[number, None], task.x[number, None], noise[number, None])[0]
        torch.testing.assert_close(said, mean, atol=2e-3, rtol=1e-3)


def test_levels_mix_as_asked() -> None:
    numbers = torch.Generator().manual_seed(0)
    drawn_levels = random_levels(NoiseLevels(0.5, 0.2, 0.3), 4000, 12, numbers)
    equal = (drawn_levels == drawn_levels[:, :1]).all(1)
    rising = (drawn_levels.diff(dim=1) >= 0).all(1) & ~equal
    assert abs(float(equal.float().mean()) - 0.5) < 0.03
    assert abs(float(rising.float().mean()) - 0.3) < 0.03
    inside = drawn_levels[rising][:, 1:] < 1
    steps = (drawn_levels[rising].diff(dim=1) > 1e-6) | ~inside
    sloped = steps.all(1) & (inside.sum(1) > 8)  # stairs of two to eight steps rise less often
    assert 0.25 < float(sloped.float().mean() / (inside.sum(1) > 8).float().mean()) < 0.75
    assert float(drawn_levels.min()) >= 0
    assert float(drawn_levels.max()) <= 1
    with pytest.raises(BadArgument, match="sum to 1"):
        NoiseLevels(0.5, 0.2, 0.2)


def test_frames_that_do_not_count_do_not() -> None:
    error = torch.tensor([[1.0, 100.0], [3.0, 5.0]])
    assert float(masked_mean(error, torch.tensor([[True, False], [True, True]]))) == 3.0


def test_an_unknown_prediction_is_told() -> None:
    with pytest.raises(BadArgument, match="expected one of clean, velocity"):
        FlowMatching("noise")  # type: ignore[arg-type]
