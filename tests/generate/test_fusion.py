"""Fused windows: one window is the model itself, any length comes without a jump, and a model of one level can."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument
from legato.generate import Ask
from legato.generate.driving import Drive
from legato.generate.fusion import FusedWindows, fused, window_weights
from legato.generate.strategies import LongAsk
from legato.generate.stream_state import StreamAsk
from tests.generate.test_stream import GENERATOR, generator, pictures

ASK = StreamAsk(Fraction(24), seed=3, text="up down")


def clip(count: int) -> tuple[Ask, Tensor, Tensor]:
    seconds = torch.arange(count, dtype=torch.float64)[None] / 24
    x = torch.randn(1, count, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return Ask(seconds, [0], drive=torch.zeros(1, count, 3, 8, 8)), x, torch.full((1, count), 0.5)


@torch.no_grad()
def test_every_frame_is_the_weighted_mean_of_what_its_windows_say() -> None:
    ask, x, levels = clip(10)
    parts = [Ask(ask.seconds[:, w], [0], drive=ask.drive[:, w]) for w in (slice(0, 6), slice(4, 10))]  # type: ignore[index]
    first = GENERATOR.denoiser(parts[0])(x[:, :6], levels[:, :6])
    second = GENERATOR.denoiser(parts[1])(x[:, 4:], levels[:, 4:])
    for kind, shares in (("flat", (0.5, 0.5)), ("linear", (1 / 3, 2 / 3)), ("pyramid", (1 / 3, 2 / 3))):
        said = fused(GENERATOR, ask, frames=6, overlap=2, weights=kind)(x, levels)
        torch.testing.assert_close(said[:, :4], first[:, :4])
        torch.testing.assert_close(said[:, 6:], second[:, 2:])
        for at, share in enumerate(shares):
            torch.testing.assert_close(said[:, 4 + at], torch.lerp(first[:, 4 + at], second[:, at], share))
    whole = GENERATOR.denoiser(ask)(x, levels)
    torch.testing.assert_close(fused(GENERATOR, ask, frames=16, overlap=8)(x, levels), whole)


def test_weights_fall_towards_neighbours_alone() -> None:
    assert window_weights("flat", 4, 2).tolist() == [1, 1, 1, 1]
    assert window_weights("linear", 5, 1).tolist() == [0.5, 1, 1, 1, 0.5]
    assert window_weights("linear", 5, 1, (False, True)).tolist() == [1, 1, 1, 1, 0.5]
    assert window_weights("pyramid", 5, 1).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])


def test_a_model_with_one_level_for_all_frames_makes_any_length() -> None:
    one_level = generator(noise="sample")
    for count in (1, 8, 21):
        made = list(FusedWindows(8, 4, calls=2).pieces(one_level, LongAsk(ASK, count, Drive(pictures()))))
        assert torch.cat(made).shape == (count, 3, 16, 16)
    kinds = [
        torch.cat(list(FusedWindows(8, 4, kind, 2).pieces(one_level, LongAsk(ASK, 13))))
        for kind in ("flat", "pyramid", "linear")
    ]
    assert not torch.equal(kinds[0], kinds[1])
    assert not torch.equal(kinds[1], kinds[2])


def test_wrong_windows_are_refused() -> None:
    for frames, overlap in ((1, 1), (8, 0), (8, 8)):
        with pytest.raises(BadArgument, match="all but one shared"):
            FusedWindows(frames, overlap)
    with pytest.raises(BadArgument, match="weights are 'round'"):
        FusedWindows(8, 4, "round")
    with pytest.raises(BadArgument, match="calls is 0"):
        FusedWindows(8, 4, calls=0)
