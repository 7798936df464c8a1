"""Frames that stay in view: the first ones for ever, distant ones in a hard bound, near ones not at all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument
from legato.generate.appearance import Appearance, Kept, motion_code
from legato.generate.objectives import FlowMatching
from legato.generate.rolling import RollingState, RollingWindow, View
from legato.generate.samplers import Denoiser
from tests.generate.test_rolling import RATE, SHAPE, pictures, streamed, times, told

FLOW = FlowMatching("clean")
CLEAN = torch.zeros(1, 1, dtype=torch.bool)


def frame(number: int) -> Tensor:
    """Frames that have nothing in common."""
    return torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(number))


def offered(appearance: Appearance, *frames: Tensor) -> Kept:
    kept = appearance.begin(torch.zeros(1, 0, *SHAPE))
    for one in frames:
        kept = appearance.after(kept, one, None, CLEAN, range(1))
    return kept


def test_the_first_frames_stay_in_view_right_before_the_rest_however_long_it_runs() -> None:
    seen: list[View] = []

    def telling(view: View) -> Denoiser:
        seen.append(view)
        return told(view)

    rolling, made = RollingWindow(3, 2, context_frames=1, appearance=Appearance(3)), []
    state = rolling.begin([5], SHAPE)
    for tick in range(12):
        now = times(2 * tick, 2)
        out = rolling.tick(state, now, telling, FLOW, pictures(now))
        state = out.state
        made.append(out.latents)
    first = torch.cat(made, 1)[:, :3]
    for view in seen[5:]:
        assert view.latents.shape[1] == rolling.most_frames
        assert torch.equal(view.latents[:, :3], first)
        assert view.known[0].tolist() == [True] * 4 + [False] * 6
        assert bool(view.driven[:, :3].all())
        assert view.drive is not None
        assert torch.equal(view.drive[:, :3], pictures(times(0, 3)))
        torch.testing.assert_close(view.seconds[0], torch.arange(10, dtype=torch.float64) / RATE)


def test_a_reference_is_what_stays() -> None:
    given = torch.cat([frame(n) for n in range(3)], 1)
    rolling = RollingWindow(3, 2, appearance=Appearance(2))
    state = rolling.begin([5], SHAPE, given=given, seconds=times(-3, 3))
    _, end = streamed(rolling, 8, state, objective=FLOW)
    assert torch.equal(end.kept.latents, given[:, 1:])
    apart = Appearance(2, gap_seconds=0.5).seconds(end.kept, times(10, 4))
    assert apart[0].tolist() == pytest.approx([8 / RATE - 0.5, 9 / RATE - 0.5])


def test_a_frame_is_kept_where_its_motion_is_far_from_all_and_the_bank_never_grows_over_its_bound() -> None:
    appearance = Appearance(1, keyframes=2, novelty=0.5)
    near = frame(0) + 0.1 * frame(9)
    kept = offered(appearance, frame(0), near, 2 * frame(0), frame(1), near, frame(1))
    assert torch.equal(kept.latents, torch.cat([frame(0), frame(1)], 1))
    assert (kept.sinks, kept.open) == (1, False)
    half = frame(1) + frame(2)
    full = offered(appearance, frame(0), frame(1), half)
    assert len(full) == 3
    spread = appearance.after(full, frame(3), None, CLEAN, range(1))  # farther from all than those two from each other
    assert torch.equal(spread.latents, torch.cat([frame(0), frame(1), frame(3)], 1))
    same = appearance.after(spread, half, None, CLEAN, range(1))
    assert torch.equal(same.latents, spread.latents)
    many = offered(Appearance(2, keyframes=5, novelty=0.01), *[frame(n) for n in range(40)])
    assert len(many) == 7
    assert torch.equal(many.latents[:, :2], torch.cat([frame(0), frame(1)], 1))


def test_the_drive_tells_motion_where_there_is_one() -> None:
    latents, drive = torch.cat([frame(0), frame(0)], 1), torch.cat([frame(1), frame(2)], 1)
    own = motion_code(latents, None, CLEAN.expand(1, 2))
    assert torch.equal(own[:, 0], own[:, 1])
    led = motion_code(latents, drive, torch.tensor([[True, True]]))
    assert float((led[:, 0] - led[:, 1]).norm()) > 1
    half = motion_code(latents, drive, torch.tensor([[True, False]]))
    assert torch.equal(half[:, 1], own[:, 1])
    assert torch.equal(half[:, 0], led[:, 0])


def test_a_bank_in_a_state_is_bounded_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    rolling = RollingWindow(3, 2, context_frames=1, appearance=Appearance(1, keyframes=3, novelty=0.05))
    whole, end = streamed(rolling, 20, objective=FLOW)
    first, state = streamed(rolling, 11, objective=FLOW)
    assert len(state.kept) == 4
    assert "4 kept" in repr(state)
    state.save(tmp_path / "s.pt")
    loaded = RollingState.load(tmp_path / "s.pt")
    rest, other = streamed(rolling, 9, loaded, objective=FLOW)
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(other.kept.latents, end.kept.latents)
    assert end.nbytes == state.nbytes
    without, _ = streamed(replace(rolling, appearance=Appearance()), 20, objective=FLOW)
    assert float((without - whole).abs().max()) > 1e-3
    broken = state.values | {"kept": {"latents": 0}}
    with pytest.raises(BadArgument, match="holds latents where the frames kept in view should be"):
        RollingState.from_values(broken, "x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sink_frames": -1}, "sink_frames is -1"),
        ({"keyframes": -2}, "keyframes is -2"),
        ({"novelty": 0.0}, "novelty is 0"),
        ({"gap_seconds": -0.5}, "gap_seconds is -0.5"),
    ],
)
def test_what_cannot_be_kept_is_refused(options: dict, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        Appearance(**options)
