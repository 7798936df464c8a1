"""Equilibrium Matching against what can be computed by hand."""

import numpy as np
import pytest
import torch

from legato.errors import BadArgument
from legato.generate.equilibrium import Descent, EquilibriumMatching, GradientDescent, Nesterov, PublishedNesterov

EQM = EquilibriumMatching()


def test_the_target_is_full_until_the_fade_and_nothing_at_the_data() -> None:
    gamma = torch.tensor([0.0, 0.5, 0.8, 0.9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(EQM.magnitude(gamma), torch.tensor([4.0, 4.0, 4.0, 2.0, 0.0], dtype=torch.float64))
    clean, noise = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen, target = EQM.pair(clean, noise, gamma)
    assert torch.equal(seen[0], noise[0])
    assert torch.equal(seen[-1], clean[-1])
    torch.testing.assert_close(target[3], 2.0 * (clean[3] - noise[3]))


def test_with_one_datum_descent_follows_the_recursion_of_gamma() -> None:
    """The field of a known gamma keeps iterates on the ray from noise to datum: g' = g + eta c(g)."""
    generator = torch.Generator().manual_seed(1)
    datum, noise = (torch.randn(1, 6, dtype=torch.float64, generator=generator) for _ in range(2))

    def gamma_of(x: torch.Tensor) -> torch.Tensor:
        return ((x - noise) * (datum - noise)).sum() / (datum - noise).square().sum()

    def field(x: torch.Tensor) -> torch.Tensor:
        g = gamma_of(x)
        return (datum - x) * EQM.magnitude(g) / (1 - g)

    eta, expected = 0.02, 0.0
    for steps in range(1, 40):
        expected += eta * float(EQM.magnitude(torch.tensor(expected, dtype=torch.float64)))
        x = GradientDescent(eta)(field, noise, steps)
        assert float(gamma_of(x)) == pytest.approx(expected, abs=1e-6)
        assert float((x - (noise + expected * (datum - noise))).abs().max()) < 1e-6


@pytest.mark.parametrize(("factor", "stable"), [(0.9, True), (1.1, False)])
def test_descent_is_stable_up_to_the_step_that_is_named(factor: float, stable: bool) -> None:
    slope = EQM.strength / (1 - EQM.fade_from)
    x = GradientDescent(factor * EQM.largest_stable_step)(
        lambda x: -slope * x, torch.ones(1, 1, dtype=torch.float64), 200
    )
    assert (float(x.abs()) < 1e-6) == stable


def twin(kind: str, x: np.ndarray, matrix: np.ndarray, eta: float, mu: float, steps: int) -> np.ndarray:
    last, momentum = x.copy(), np.zeros_like(x)
    for _ in range(steps):
        if kind == "descent":
            x = x + eta * (x @ matrix)
        elif kind == "nesterov":
            y = x + mu * (x - last)
            last, x = x, y + eta * (y @ matrix)
        else:
            momentum = (x + eta * mu * momentum) @ matrix
            x = x + eta * momentum
    return x


@pytest.mark.parametrize(
    ("kind", "descent"),
    [
        ("descent", GradientDescent(0.03)),
        ("nesterov", Nesterov(0.03, 0.6)),
        ("published", PublishedNesterov(0.03, 0.6)),
    ],
)
def test_descents_are_their_float64_twins(kind: str, descent: Descent) -> None:
    numbers = np.random.default_rng(2)
    matrix, start = numbers.normal(0, 1, (5, 5)) - 3 * np.eye(5), numbers.normal(0, 1, (3, 5))
    given = torch.from_numpy(start.copy())
    found = descent(lambda x: x @ torch.from_numpy(matrix), given, 50)
    np.testing.assert_allclose(found.numpy(), twin(kind, start, matrix, 0.03, 0.6, 50), atol=1e-12)
    np.testing.assert_array_equal(given.numpy(), start)


def test_impossible_settings_are_refused() -> None:
    for make in (lambda: EquilibriumMatching(1.0), lambda: GradientDescent(0.0), lambda: Nesterov(0.1, 1.0)):
        with pytest.raises(BadArgument):
            make()
