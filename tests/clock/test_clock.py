"""Telling a model the time."""

import math

import pytest
import torch
from torch import nn

from legato.clock import (
    FramePositions,
    RateEmbedding,
    SecondsEmbedding,
    SecondsRotary,
    WithFramePositions,
    frame_intervals,
    load_older,
    rotated,
    tubelet_seconds,
)
from legato.clock.seconds import angular_frequencies
from legato.errors import BadArgument


def clip(fps: float, frames: int = 16, start: float = 0.0) -> torch.Tensor:
    return (torch.arange(frames, dtype=torch.float64) / fps + start)[None]


def flat_share(channels: torch.Tensor) -> float:
    return float(((channels.amax(0) - channels.amin(0)) < 0.01).float().mean())


@pytest.mark.parametrize("fps", [15, 24, 30, 60])
def test_few_channels_stand_still_over_a_clip(fps: int) -> None:
    assert flat_share(SecondsEmbedding(256)(clip(fps))[0]) < 0.05
    turn = SecondsRotary(64)(clip(fps))
    assert flat_share(torch.cat([turn.cos, turn.sin], -1)[0]) < 0.05
    assert flat_share(SecondsEmbedding(256, textbook=True)(clip(fps))[0]) > 0.4


def test_textbook_frequencies_are_the_index_encoding_at_whole_seconds() -> None:
    embedded = SecondsEmbedding(64, textbook=True)(torch.arange(10, dtype=torch.float64)[None])[0]
    for position in (0, 3, 9):
        for k in (0, 5, 31):
            omega = 10000 ** (-k / 32)
            assert embedded[position, k] == pytest.approx(math.sin(position * omega), abs=1e-6)
            assert embedded[position, 32 + k] == pytest.approx(math.cos(position * omega), abs=1e-6)


def test_attention_sees_differences_of_times_alone_even_after_ten_hours() -> None:
    rotary = SecondsRotary(32)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 16, 32, generator=generator) for _ in range(2))

    def logits(start: float) -> torch.Tensor:
        turn = rotary(clip(30, start=start))
        return rotated(query, turn) @ rotated(key, turn).transpose(1, 2)

    assert float((logits(36_000.0) - logits(0.0)).abs().max()) < 1e-5
    naive = clip(30, start=36_000.0).float()
    phase = naive[..., None] * rotary.omega.float()
    from legato.clock.seconds import Turn

    turn = Turn(phase.cos(), phase.sin())
    drifted = rotated(query, turn) @ rotated(key, turn).transpose(1, 2)
    assert float((drifted - logits(0.0)).abs().max()) > 0.05, "this is why seconds stay float64"


def test_a_common_origin_makes_queries_and_keys_of_two_windows_agree() -> None:
    rotary, x = SecondsRotary(16), torch.randn(1, 8, 16)
    seconds = clip(24, 8, start=500.0)
    whole = rotary(seconds)
    part = rotary(seconds[:, 4:], origin_seconds=seconds[:, 0])
    assert torch.equal(rotated(x, whole)[:, 4:], rotated(x[:, 4:], part))


def test_turning_keeps_lengths_and_leaves_other_axes_alone() -> None:
    x = torch.randn(2, 5, 7, 3, 16)
    seconds = torch.rand(2, 5, dtype=torch.float64).cumsum(1)
    turned = rotated(x, SecondsRotary(16)(seconds))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])


def test_every_sample_has_its_own_clock() -> None:
    embed = SecondsEmbedding(32)
    both = torch.cat([clip(24), clip(60)])
    together = embed(both)
    for row, fps in enumerate((24, 60)):
        torch.testing.assert_close(together[row], embed(clip(fps))[0], atol=0, rtol=0)


def test_periods_span_two_frames_to_twice_the_longest_clip() -> None:
    periods = 2 * math.pi / angular_frequencies(32, fastest_fps=60.0, longest_seconds=10.0)
    assert float(periods[0]) == pytest.approx(2 / 60)
    assert float(periods[-1]) == pytest.approx(20)
    ratios = periods[1:] / periods[:-1]
    assert float(ratios.std()) < 1e-9


def test_a_tubelets_time_is_the_mean_of_its_frames() -> None:
    seconds = torch.tensor([[0.0, 0.1, 0.3, 0.7]], dtype=torch.float64)
    torch.testing.assert_close(tubelet_seconds(seconds, 2), torch.tensor([[0.05, 0.5]], dtype=torch.float64))
    with pytest.raises(BadArgument, match="use 4 or 6"):
        tubelet_seconds(torch.zeros(1, 5, dtype=torch.float64), 2)


@pytest.mark.parametrize("frames", [2, 3, 17, 64])
def test_span_and_interval_round_trip(frames: int) -> None:
    torch.manual_seed(frames)
    seconds = torch.rand(3, frames, dtype=torch.float64).add(0.01).cumsum(1)
    steps = frame_intervals(seconds)
    torch.testing.assert_close(steps[:, :-1].sum(1), seconds[:, -1] - seconds[:, 0])
    assert steps.shape == seconds.shape


def test_times_that_do_not_rise_are_named() -> None:
    with pytest.raises(BadArgument, match="frame 2 of sample 0"):
        frame_intervals(torch.tensor([[0.0, 0.2, 0.1]], dtype=torch.float64))
    with pytest.raises(BadArgument, match="one frame"):
        frame_intervals(torch.zeros(1, 1, dtype=torch.float64))


def test_an_unknown_rate_is_told_as_unknown() -> None:
    embed = RateEmbedding(24).eval()
    steps = frame_intervals(torch.cat([clip(15), clip(60)]))
    told = embed(steps, torch.tensor([True, False]))
    assert not torch.allclose(told[0], told[1])
    assert torch.equal(told[1], embed.unknown.expand_as(told[1]))
    assert not torch.allclose(embed(steps)[0], embed(steps)[1])
    embed.train()
    drawn = RateEmbedding(8, dropout=0.5)(steps[:1].expand(400, -1), generator=torch.Generator().manual_seed(1))
    unknown = (drawn == drawn.new_tensor(0)).all() or drawn.unique(dim=0)
    assert len(unknown) == 2


def test_longer_clips_interpolate_positions_and_shorter_ones_slice() -> None:
    positions = FramePositions(4, frames=8).requires_grad_(False)
    assert torch.equal(positions.at(5), positions.table[:, :5])
    longer = positions.at(15)
    torch.testing.assert_close(longer[:, ::2], positions.table)
    torch.testing.assert_close(longer[:, 1], (positions.table[:, 0] + positions.table[:, 1]) / 2)
    assert positions.table.std() == pytest.approx(0.02, rel=0.6)


class Still(nn.Module):
    """A denoiser that treats frames as a bag of images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 3, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, sample: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.convolution(sample) * noise


def test_with_positions_the_order_of_frames_matters_and_without_it_does_not() -> None:
    torch.manual_seed(0)
    model, x, noise = Still(), torch.randn(1, 3, 6, 8, 8), torch.tensor(0.5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model(x[:, :, order], noise), model(x, noise)[:, :, order])
    told = WithFramePositions(model, 3)
    assert not torch.allclose(told(x[:, :, order], noise), told(x, noise)[:, :, order])


def test_an_old_checkpoint_loads_names_what_it_lacked_and_starts_out_unchanged() -> None:
    torch.manual_seed(0)
    old, x, noise = Still(), torch.randn(2, 3, 5, 8, 8), torch.tensor(0.7)
    model = WithFramePositions(Still(), 3, zero_init=True)
    missing = load_older(model, old.state_dict(), may_lack=("frame_positions",))
    assert missing == ["frame_positions.table"]
    assert torch.equal(model(x, noise), old(x, noise))
    with pytest.raises(BadArgument, match=r"missing: denoiser\.convolution\.bias"):
        load_older(model, {"convolution.weight": old.convolution.weight}, may_lack=("frame_positions",))
    with pytest.raises(BadArgument, match=r"unknown: denoiser\.more"):
        load_older(model, {**old.state_dict(), "more": torch.zeros(1)}, may_lack=("frame_positions",))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SecondsEmbedding(7),
        lambda: SecondsRotary(5),
        lambda: FramePositions(3, 0),
        lambda: RateEmbedding(4, dropout=2.0),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(BadArgument):
        make()
