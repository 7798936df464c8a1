"""Samplers: exact on fields that are known, equal to diffusers', and they keep what is given."""

import pytest
import torch

from legato.errors import BadArgument
from legato.generate.objectives import Diffusion, Equilibrium, FlowMatching
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
    return Start(NOISE, torch.full_like(NOISE, 0.3), mask, seconds)


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
        a, s = objective._parts(levels)
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
