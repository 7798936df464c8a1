"""Samplers: exact on fields that are known, equal to diffusers', and they keep what is given."""

import pytest
import torch

from legato.errors import BadArgument
from legato.generate.objectives import Diffusion, Equilibrium, FlowMatching, framewise
from legato.generate.samplers import (
    DiffusersSampler,
    Euler,
    FieldDescent,
    Heun,
    MultiLevel,
    Sampler,
    Start,
    default_sampler,
    noise_at,
)

CLEAN = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def start(known: bool = False) -> Start:
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, :2] = known
    seconds = (torch.arange(6, dtype=torch.float64) / 10).expand(2, 6)
    return Start(NOISE, torch.full_like(NOISE, 0.3), mask, seconds, [3, 4])


@pytest.mark.parametrize("sampler", [Euler(7), Heun(5), Euler(9, shift=3.0)], ids=str)
def test_a_model_that_knows_the_clip_is_followed_to_it(sampler: Sampler) -> None:
    made = sampler(lambda x, levels: CLEAN, FlowMatching("clean"), start())
    torch.testing.assert_close(made, CLEAN, atol=1e-5, rtol=1e-5)
    made = sampler(lambda x, levels: NOISE - CLEAN, FlowMatching("velocity"), start())
    torch.testing.assert_close(made, CLEAN, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("sampler", "objective"),
    [
        (Euler(4), FlowMatching("clean")),
        (Euler(4, fresh_above=0.0), FlowMatching("clean")),
        (Heun(4), FlowMatching("velocity")),
        (DiffusersSampler(4), Diffusion("v")),
        (DiffusersSampler(4, "dpm"), Diffusion("epsilon")),
        (FieldDescent(4), Equilibrium()),
    ],
    ids=str,
)
def test_given_frames_come_out_as_they_went_in_and_are_seen_clean(sampler: Sampler, objective: object) -> None:
    seen = []

    def model(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        seen.append((x[:, :2].clone(), levels[:, :2].clone()))
        return torch.tanh(x)

    made = sampler(model, objective, start(known=True))  # type: ignore[arg-type]
    assert torch.equal(made[:, :2], torch.full_like(made[:, :2], 0.3))
    assert not torch.equal(made[:, 2:], NOISE[:, 2:])
    for frames, levels in seen:
        assert torch.equal(frames, torch.full_like(frames, 0.3))
        assert float(levels.max()) == 0


def test_euler_is_diffusers_flow_match_euler() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    def field(x: torch.Tensor, level: float) -> torch.Tensor:
        return torch.sin(3 * x) + level * x

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - k / 8 for k in range(8)])
    x = NOISE
    for at, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(field(x, float(sigma)), at, x).prev_sample
    made = Euler(8)(lambda y, levels: field(y, float(levels[0, 0])), FlowMatching("velocity"), start())
    torch.testing.assert_close(made, x, atol=1e-5, rtol=1e-5)


def gaussian_start(seconds: torch.Tensor, seeds: list[int]) -> Start:
    noise = noise_at(seconds, (3, 8, 8), seeds)
    return Start(noise, torch.zeros_like(noise), torch.zeros(seconds.shape, dtype=torch.bool), seconds, seeds)


def best_guess(x: torch.Tensor, levels: torch.Tensor, spread: float = 1.0) -> torch.Tensor:
    """The mean of normal clean values that could be under the noise."""
    level = levels[:, :, None, None, None]
    return (1 - level) * spread**2 / ((1 - level).square() * spread**2 + level.square()) * x


def test_fresh_noise_samples_the_same_distribution() -> None:
    begin = gaussian_start(torch.arange(40, dtype=torch.float64)[None] / 30, [5])
    made = Euler(300, shift=4.0, fresh_above=0.0)(
        lambda x, levels: best_guess(x, levels, 4.0), FlowMatching("clean"), begin
    )
    assert made.std() == pytest.approx(4.0, rel=0.03)
    assert abs(float((made * begin.noise).mean())) < 0.2


def test_fresh_noise_forgets_what_was_wrong_where_it_was_drawn() -> None:
    begin = gaussian_start(torch.arange(40, dtype=torch.float64)[None] / 30, [5])

    def biased(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return best_guess(x, levels) + (levels > 0.9)[:, :, None, None, None] * 1.0

    straight = Euler(300, shift=4.0)(biased, FlowMatching("clean"), begin)
    renewed = Euler(300, shift=4.0, fresh_above=0.5)(biased, FlowMatching("clean"), begin)
    assert straight.mean() > 0.08
    assert abs(float(renewed.mean())) < 0.03


def test_fresh_noise_belongs_to_seed_time_and_step() -> None:
    seconds = torch.stack([torch.arange(8, dtype=torch.float64) / 30, torch.arange(8, dtype=torch.float64) / 15])
    sampler = Euler(6, fresh_above=0.5)
    both = sampler(best_guess, FlowMatching("clean"), gaussian_start(seconds, [5, 6]))
    alone = sampler(best_guess, FlowMatching("clean"), gaussian_start(seconds[1:], [6]))
    assert torch.equal(both[1:], alone)
    slow = sampler(best_guess, FlowMatching("clean"), gaussian_start(seconds[1:], [5]))
    assert torch.equal(slow[:, :4], both[:1, ::2])  # the same seconds
    begin = gaussian_start(seconds, [5, 6])
    assert abs(float((begin.fresh(1) * begin.fresh(2)).mean())) < 0.05
    assert abs(float((begin.fresh(1) * begin.noise).mean())) < 0.05


def test_what_a_checkpoint_is_sampled_with_is_its_objectives() -> None:
    assert default_sampler(FlowMatching(shift=3.0, fresh_above=0.8), 7) == Euler(7, 3.0, 0.8)
    with pytest.raises(BadArgument, match=r"objective\.fresh_above is 1\.5"):
        FlowMatching(fresh_above=1.5)


def test_heun_is_of_second_order() -> None:
    def model(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return x * (1 + levels[:, :, None, None, None])  # dx/ds = x (1 + s): x(0) = x(1) exp(-1.5)

    exact = NOISE * torch.exp(torch.tensor(-1.5))
    errors = [
        float((Heun(count)(model, FlowMatching("velocity"), start()) - exact).abs().max()) for count in (20, 40, 80)
    ]
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3


@pytest.mark.parametrize("name", ["ddim", "dpm", "ddpm"])
@pytest.mark.parametrize("prediction", ["v", "epsilon", "clean"])
def test_diffusion_finds_a_known_clip(name: str, prediction: str) -> None:
    objective = Diffusion(prediction)  # type: ignore[arg-type]

    def model(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        a, s = map(framewise, objective.shares(levels))
        epsilon = (x - a * CLEAN) / s
        return {"clean": CLEAN.expand_as(x), "epsilon": epsilon, "v": a * epsilon - s * CLEAN}[prediction]

    made = DiffusersSampler(30, name)(model, objective, start())
    assert float((made - CLEAN).abs().max()) < 0.1


def test_a_sampler_of_another_objective_says_so() -> None:
    for sampler, objective in (
        (Euler(), Diffusion()),
        (FieldDescent(), FlowMatching()),
        (DiffusersSampler(), Equilibrium()),
    ):
        with pytest.raises(BadArgument, match="trained otherwise"):
            sampler(lambda x, levels: x, objective, start())
    with pytest.raises(BadArgument, match="0 steps"):
        Euler(0)
    with pytest.raises(BadArgument, match="0 steps"):
        default_sampler(FlowMatching(), 0)
    with pytest.raises(BadArgument, match="levels is -1"):
        MultiLevel(-1)
    with pytest.raises(BadArgument, match="no sampler 'plms'"):
        DiffusersSampler(3, "plms")
    for name, most in (("ddim", 1000), ("ddpm", 1000), ("dpm", 999)):
        DiffusersSampler(most, name)
        with pytest.raises(BadArgument, match=f"{most + 1} steps; {name} takes up to {most}"):
            DiffusersSampler(most + 1, name)


def test_noise_that_ddpm_draws_belongs_to_seed_and_time() -> None:
    seconds = torch.stack([torch.arange(4, dtype=torch.float64) / 30, torch.arange(4, dtype=torch.float64) / 15])
    sampler, made = DiffusersSampler(5, "ddpm"), {}
    for rows in ([0, 1], [1]):
        begin = gaussian_start(seconds[rows], [5 + row for row in rows])
        made[len(rows)] = sampler(lambda x, levels: torch.tanh(x), Diffusion("clean"), begin)
    torch.testing.assert_close(made[2][1:], made[1])
    straight = DiffusersSampler(5)(lambda x, levels: torch.tanh(x), Diffusion("clean"), begin)
    assert not torch.allclose(straight, made[1], atol=0.1)


def test_noise_belongs_to_a_seed_and_a_time() -> None:
    slow = torch.arange(4, dtype=torch.float64)[None] / 15
    fast = torch.arange(7, dtype=torch.float64)[None] / 30
    a, b = noise_at(slow, (3, 8, 8), [5]), noise_at(fast, (3, 8, 8), [5])
    assert torch.equal(a, b[:, ::2])
    other = noise_at(slow, (3, 8, 8), [6])
    assert abs(float((a * other).mean())) < 0.1
    many = noise_at(torch.arange(64, dtype=torch.float64)[None] / 30, (3, 8, 8), [0])
    assert abs(float(many.mean())) < 0.03
    assert abs(float(many.std()) - 1) < 0.03
    between = (many[0, :-1] * many[0, 1:]).mean((1, 2, 3))
    assert float(between.abs().mean()) < 0.12
