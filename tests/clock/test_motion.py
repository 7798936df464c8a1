"""How fast content changes is read right at any rate, and noise does not move."""

import torch

from legato.clock import TREND_SECONDS, changes, trends
from legato.clock.motion import GAIN

STEADY = torch.tensor([[[[3.0, -5.0]]]])  # a slope per second of two values of one patch


def even(rate: float, frames: int = 16) -> torch.Tensor:
    return (torch.arange(frames, dtype=torch.float64) / rate)[None]


def moving(seconds: torch.Tensor) -> torch.Tensor:
    return 2.0 + STEADY * seconds.float()[:, :, None, None]


def noised(content: torch.Tensor, clear: torch.Tensor, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(seed))
    share = clear.float()[:, :, None, None]
    return share * content + (1 - share) * noise


def test_a_clear_slope_is_read_at_any_rate_and_on_uneven_times() -> None:
    expected = (STEADY * GAIN / 30).repeat(1, 1, 1, len(TREND_SECONDS))
    uneven = torch.tensor([[0.0, 0.02, 0.1, 0.13, 0.2, 0.22]], dtype=torch.float64)
    for seconds in (even(15), even(60), uneven):
        found = trends(moving(seconds), seconds, torch.ones_like(seconds))
        torch.testing.assert_close(found, expected.expand_as(found), rtol=0.08, atol=0.0)


def test_through_noise_a_line_says_more_than_two_frames_and_never_more_than_can_be_believed() -> None:
    seconds = even(60)
    content, truth = moving(seconds), STEADY * GAIN / 30

    def error(read: torch.Tensor) -> float:
        return float((read - truth).square().mean().sqrt())

    clear = torch.full_like(seconds, 0.8)
    x = noised(content, clear)
    pairs = changes(x, seconds, clear)
    long = trends(x, seconds, clear)[..., -2:]
    assert error(long) < 0.5 * error(pairs)
    for share in (0.5, 0.1, 0.0):
        clear = torch.full_like(seconds, share)
        assert error(trends(noised(content, clear), seconds, clear)[..., -2:]) < 2 * error(torch.zeros_like(content))
    assert float(trends(noised(content, 0 * clear), seconds, 0 * clear).abs().max()) == 0.0  # noise does not move


def test_given_frames_count_for_more_than_noisy_ones() -> None:
    seconds = even(30)
    clear = torch.full_like(seconds, 0.2)
    clear[:, :2] = 1.0
    found = trends(noised(moving(seconds), clear), seconds, clear)[:, 0]
    torch.testing.assert_close(found[..., :2], (STEADY * GAIN / 30)[:, 0], rtol=0.35, atol=0.0)


def test_an_offset_in_time_changes_nothing() -> None:
    seconds = even(30)
    clear = torch.full_like(seconds, 0.7)
    x = noised(moving(seconds), clear)
    torch.testing.assert_close(trends(x, seconds, clear), trends(x, seconds + 36_000, clear), rtol=1e-4, atol=1e-5)
