"""VideoDiT: told every frame's seconds, noise, and conditions."""

import pytest
import torch

from legato.clock import load_older
from legato.clock.motion import GAIN
from legato.errors import BadArgument
from legato.generate import VideoDiT
from legato.generate.dit import SIZES
from legato.nn import patched


def small(**options: object) -> VideoDiT:
    """A model whose every layer says something: gates and output do not start at zero."""
    torch.manual_seed(0)
    model = VideoDiT(width=32, depth=2, heads=2, patch_px=4, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def clip(batch: int = 2, time: int = 5, side: int = 8) -> torch.Tensor:
    return torch.randn(batch, time, 3, side, side, generator=torch.Generator().manual_seed(1))


def times(batch: int = 2, time: int = 5, interval: float = 0.1) -> torch.Tensor:
    return (torch.arange(time, dtype=torch.float64) * interval).repeat(batch, 1)


def said(model: VideoDiT, x: torch.Tensor, seconds: torch.Tensor, **conditions: object) -> torch.Tensor:
    noise = torch.full(seconds.shape, 0.5)
    with torch.no_grad():
        return model(x, seconds=seconds, noise=noise, **conditions)


@pytest.mark.parametrize("clock", ["rotary", "seconds", "index", "learned"])
def test_told_the_order_frames_in_another_order_are_another_clip(clock: str) -> None:
    model, x, seconds = small(clock=clock, rate=False), clip(), times()
    order = torch.tensor([3, 0, 4, 1, 2])
    straight, shuffled = said(model, x, seconds), said(model, x[:, order], seconds)
    assert float((shuffled - straight[:, order]).abs().max()) > 1e-3


def test_without_a_clock_frames_are_a_bag_of_images() -> None:
    model, x, seconds = small(clock="none", rate=False), clip(), times()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(said(model, x[:, order], seconds), said(model, x, seconds)[:, order])


def test_seconds_count_and_an_offset_does_not() -> None:
    model, x = small(), clip()
    slow, fast = said(model, x, times(interval=0.1)), said(model, x, times(interval=0.05))
    assert float((slow - fast).abs().max()) > 1e-3
    far = times() + 36_000.0
    torch.testing.assert_close(said(model, x, far), slow, atol=1e-5, rtol=1e-5)


def test_index_clocks_do_not_know_seconds() -> None:
    for clock in ("index", "learned", "none"):
        model = small(clock=clock, rate=False)
        assert torch.equal(said(model, clip(), times(interval=0.1)), said(model, clip(), times(interval=0.03)))


def test_a_batch_of_mixed_rates_equals_batches_of_one() -> None:
    model = small(classes=3, text_bytes=16, drive_channels=3)
    x, drive = clip(4), clip(4).flip(1)
    seconds = torch.stack([times(1, interval=step)[0] for step in (1 / 60, 1 / 24, 0.1, 0.3)])
    conditions = {"text": ("hello", "", "go up", "a"), "labels": torch.tensor([0, -1, 2, 1]), "drive": drive}
    together = said(model, x, seconds, **conditions)
    for at in range(4):
        one = said(
            model,
            x[at : at + 1],
            seconds[at : at + 1],
            text=conditions["text"][at : at + 1],
            labels=conditions["labels"][at : at + 1],
            drive=drive[at : at + 1],
        )
        torch.testing.assert_close(together[at : at + 1], one, atol=1e-5, rtol=1e-5)


def test_what_is_given_or_clear_can_be_copied_instead_of_said() -> None:
    model, x, seconds = small(keep=True), clip(3), times(3)
    known = torch.tensor([[True, False, True, False, False], [False, False, True, False, True], [False] * 5])
    alone = small()  # the same but for the copying
    alone.load_state_dict(model.state_dict(), strict=False)
    assert model.keep is not None

    def weighed(own: float, given: float, known: torch.Tensor | None = known) -> torch.Tensor:
        with torch.no_grad():
            model.keep.weight.zero_()
            model.keep.bias.copy_(torch.tensor([own, given]).repeat_interleave(48))
        return said(model, x, seconds, known=known)

    plain, before = said(alone, x, seconds, known=known), torch.stack([x[0, [0, 0, 2, 2, 2]], x[1, [2, 2, 2, 2, 4]]])
    torch.testing.assert_close(weighed(-100, 100)[:2], before)
    torch.testing.assert_close(weighed(-100, 100)[2], plain[2])  # nothing is given
    torch.testing.assert_close(weighed(100, -100), x)
    torch.testing.assert_close(weighed(0, 0)[:2], (plain[:2] + before + x[:2]) / 3)
    torch.testing.assert_close(weighed(0, 0, None), (said(alone, x, seconds) + x) / 2)
    weighed(100, -100)
    copied = model.half()(x.half(), seconds=seconds, noise=torch.full(seconds.shape, 0.5).half(), known=known)
    torch.testing.assert_close(copied, x.half())  # the weight of a copy is beyond what half precision holds


def test_every_condition_makes_a_difference_and_none_is_its_default() -> None:
    model, x, seconds = small(classes=3, text_bytes=16, drive_channels=3), clip(), times()
    plain = said(model, x, seconds)
    known = torch.zeros(2, 5, dtype=torch.bool)
    known[:, 0] = True
    for conditions in (
        {"text": ("hello", "hello")},
        {"labels": torch.tensor([1, 1])},
        {"drive": clip()},
        {"known": known},
        {"rate_known": torch.tensor([False, False])},
    ):
        assert float((said(model, x, seconds, **conditions) - plain).abs().max()) > 1e-4, conditions
    nothing = {
        "text": ("", ""),
        "labels": torch.tensor([-1, -1]),
        "known": torch.zeros(2, 5, dtype=torch.bool),
        "drive": clip(),
        "drive_known": torch.zeros(2, 5, dtype=torch.bool),
    }
    torch.testing.assert_close(said(model, x, seconds, **nothing), plain)


def test_one_frame_and_more_frames_than_ever_work() -> None:
    for clock in ("rotary", "learned"):
        model = small(clock=clock)
        for time in (1, 40):
            assert said(model, clip(1, time), times(1, time)).shape == (1, time, 3, 8, 8)


def test_a_new_model_says_nothing() -> None:
    model = VideoDiT(width=32, depth=2, heads=2, patch_px=4)
    assert float(said(model, clip(), times()).abs().max()) == 0


def test_sizes_are_the_paper_s() -> None:
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in VideoDiT(**size).parameters()) for name, size in SIZES.items()}
    assert counts["S"] < counts["B"] < counts["L"] < counts["XL"]
    assert 80e6 < counts["B"] < 130e6


def test_what_does_not_fit_is_told() -> None:
    model = small(classes=2)
    for conditions, words in (
        ({"labels": torch.tensor([0, 2])}, "class 2 is unknown"),
        ({"text": ("hello", "")}, "reads no text"),
        ({"drive": clip()}, "drive has 3 channels"),
    ):
        with pytest.raises(BadArgument, match=words):
            said(model, clip(), times(), **conditions)
    with pytest.raises(BadArgument, match="multiples of 4"):
        said(model, clip(side=10), times())
    with pytest.raises(BadArgument, match="clock is 'sundial'"):
        VideoDiT(clock="sundial")
    with pytest.raises(BadArgument, match="does not come after"):
        said(model, clip(), times().flip(1))
    with pytest.raises(BadArgument, match="40 bytes"):
        said(small(text_bytes=16), clip(), times(), text=("x" * 40, ""))


def test_what_moves_evenly_is_seen_to_move_evenly_at_any_rate_and_noise_does_not_move() -> None:
    model = small(motion=True)
    seen: list[torch.Tensor] = []
    assert model.motion is not None
    model.motion.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    seconds = torch.tensor([[0.0, 0.1, 0.15, 0.4, 0.41]], dtype=torch.float64)
    velocity = clip(1, 1)
    x = velocity * seconds.float()[:, :, None, None, None]
    noise = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.5]])
    with torch.no_grad():
        model(x, seconds=seconds, noise=noise)
    (moved,) = seen
    assert float(moved[:, 0].abs().max()) == 0.0  # nothing came before
    assert float(moved[:, 3:].abs().max()) == 0.0  # noise, or after noise
    expected = GAIN * patched(velocity, 4) / 30
    torch.testing.assert_close(moved[:, 1:3], expected.expand_as(moved[:, 1:3]), atol=1e-4, rtol=1e-4)


def test_an_older_model_that_begins_to_see_motion_goes_on_as_it_was() -> None:
    old = small()
    new = VideoDiT(width=32, depth=2, heads=2, patch_px=4, motion=True, trend=True).eval()
    missing = load_older(new, old.state_dict(), may_lack=("motion", "trend"))
    assert missing == ["motion.bias", "motion.weight", "trend.bias", "trend.weight"]
    assert torch.equal(said(new, clip(), times()), said(old, clip(), times()))
