"""A rolling window: equal to the same schedule over all frames at once, resumable bit for bit, bounded."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument, StateMismatch
from legato.generate import VideoDiT
from legato.generate.appearance import Appearance
from legato.generate.objectives import FlowMatching
from legato.generate.rolling import RollingState, RollingWindow, View
from legato.generate.samplers import Denoiser, Euler, flow_step, noise_at

SHAPE = (3, 8, 8)
RATE = 24


def model(seed: int = 0) -> VideoDiT:
    """One whose output depends on everything that it is told."""
    torch.manual_seed(seed)
    made = VideoDiT(width=32, depth=1, heads=2, patch_px=4, drive_channels=3).eval()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    return made


MODEL = model()


def told(view: View) -> Denoiser:
    def denoise(x: Tensor, levels: Tensor) -> Tensor:
        drive = {} if view.drive is None else {"drive": view.drive, "drive_known": view.driven}
        return MODEL(x, seconds=view.seconds, noise=levels, known=view.known, **drive)

    return denoise


def times(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count, dtype=torch.float64)[None] / RATE


def pictures(seconds: Tensor) -> Tensor:
    """A driving picture for each time."""
    return torch.sin(3 * seconds)[:, :, None, None, None].float().expand(-1, -1, 3, 8, 8)


def streamed(
    rolling: RollingWindow,
    ticks: int,
    state: RollingState | None = None,
    *,
    objective: FlowMatching,
    drive: bool = False,
) -> tuple[Tensor, RollingState]:
    state = state or rolling.begin([5], SHAPE)
    made = []
    for _ in range(ticks):
        now = times(state.ticks * rolling.frames_per_window, rolling.frames_per_window)
        out = rolling.tick(state, now, told, objective, pictures(now) if drive else None)
        state = out.state
        made.append(out.latents)
    return torch.cat(made, 1), state


@torch.no_grad()
def offline(
    rolling: RollingWindow, ticks: int, *, objective: FlowMatching, given: Tensor | None = None, drive: bool = False
) -> Tensor:
    """All frames at once and a matrix of their levels at each step; what is not in view yet or any more is cut out."""
    frames, before = ticks * rolling.frames_per_window, 0 if given is None else given.shape[1]
    seconds = times(-before, before + frames)
    x = noise_at(seconds, SHAPE, [5])
    if given is not None:
        x[:, :before] = given
    window = torch.arange(frames) // rolling.frames_per_window
    step = torch.arange(ticks * rolling.steps + 1)
    place = (step[:, None] - window[None] * rolling.steps).clamp(0, rolling.windows * rolling.steps)
    levels = torch.tensor(rolling.frame_schedules)[torch.arange(frames) % rolling.frames_per_window, place]
    matrix = torch.cat([torch.zeros(len(step), before), levels], 1)
    for now in range(len(step) - 1):
        tick = now // rolling.steps
        first_noisy = before + max(0, tick + 1 - rolling.windows) * rolling.frames_per_window
        context = rolling.context_frames if first_noisy > before else before
        seen = slice(first_noisy - min(context, first_noisy), before + (tick + 1) * rolling.frames_per_window)
        sinks = min(rolling.appearance.sink_frames, before or first_noisy)
        known = torch.arange(seen.start, seen.stop)[None] < first_noisy
        at = seconds[:, seen]
        driven = torch.arange(seen.start, seen.stop)[None] >= before
        led = pictures(at) * driven[:, :, None, None, None] if drive else None
        if sinks:
            first = slice(max(0, before - sinks), max(0, before - sinks) + sinks)
            back = torch.arange(sinks, 0, -1, dtype=torch.float64)[None] / RATE
            at = torch.cat([at[:, :1] - back, at], 1)
            known = torch.cat([known.new_ones(1, sinks), known], 1)
            own = pictures(seconds[:, first]) * (0.0 if before else 1.0) if drive else None
            led = None if led is None or own is None else torch.cat([own, led], 1)
            driven = torch.cat([driven.new_full((1, sinks), not before), driven], 1)
        both = [torch.cat([v[:, first], v[:, seen]], 1) if sinks else v[:, seen] for v in (x, matrix[None, now],
                matrix[None, now + 1])]  # fmt: skip
        view = View(both[0], at - at[:, :1], known, led, driven & drive)
        fresh = torch.cat([torch.zeros(1, sinks, *SHAPE), noise_at(seconds[:, seen], SHAPE, [5], now + 1)], 1)
        step = (fresh, rolling.fresh_above) if rolling.fresh_above < 1 else ()
        x[:, seen] = flow_step(objective, told(view), *both, *step)[:, sinks:]
    clean = max(0, ticks + 1 - rolling.windows) * rolling.frames_per_window
    return x[:, before : before + clean]


def test_a_slope_makes_a_ramp_of_the_stairs() -> None:
    stairs, ramp = RollingWindow(4, 3), RollingWindow(4, 3, slope=1.0)
    assert stairs.frame_schedules == [list(stairs.schedule)] * 3
    queue = [[frame[age] for age in (4, 3, 2, 1) for frame in ramp.frame_schedules]]  # after a tick, oldest first
    np.testing.assert_allclose(queue[0], [0, 0, 0, *(n / 10 for n in range(1, 10))], atol=1e-9)
    assert all(frame[0] == 1 for frame in ramp.frame_schedules)
    assert RollingWindow(4, 1, slope=1.0).frame_schedules == RollingWindow(4, 1).frame_schedules
    for frame in RollingWindow(3, 5, steps=3, slope=0.7).frame_schedules:
        assert all(a > b for a, b in itertools.pairwise(frame))
        assert (frame[0], frame[-1]) == (1, 0)


WINDOWS = [
    RollingWindow(4, 4),
    RollingWindow(3, 2, steps=2, context_frames=1, appearance=Appearance(1), fresh_above=0.3),
    RollingWindow(3, 2, steps=2),
    RollingWindow(1, 5, steps=3),
    RollingWindow(5, 1, context_frames=2),
    RollingWindow(2, 3, context_frames=7),
    RollingWindow(4, 2, steps=2, context_frames=1, levels=tuple(Euler(8, shift=3.0).schedule())),
    RollingWindow(3, 2, levels=(1.0, 0.9, 0.3, 0.0)),
    RollingWindow(3, 2, context_frames=2, appearance=Appearance(2)),
    RollingWindow(2, 2, steps=2, appearance=Appearance(1)),
    RollingWindow(3, 4, context_frames=2, slope=1.0),
    RollingWindow(3, 3, steps=2, levels=(1.0, 0.9, 0.6, 0.3, 0.2, 0.1, 0.0), slope=0.5),
]


@pytest.mark.parametrize("drive", [False, True])
@pytest.mark.parametrize("rolling", WINDOWS, ids=str)
def test_a_stream_is_the_same_schedule_over_all_frames_at_once(rolling: RollingWindow, drive: bool) -> None:
    for objective in (FlowMatching("clean"), FlowMatching("velocity")):
        made, _ = streamed(rolling, 9, objective=objective, drive=drive)
        assert made.shape[1] == (10 - rolling.windows) * rolling.frames_per_window
        torch.testing.assert_close(made, offline(rolling, 9, objective=objective, drive=drive), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rolling", WINDOWS, ids=str)
def test_given_frames_are_in_view_until_context_takes_their_place(rolling: RollingWindow) -> None:
    given = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(1))
    kept = given[:, -max(1, rolling.context_frames) :]
    state = rolling.begin([5], SHAPE, given=given, seconds=times(-3, 3))
    assert torch.equal(state.latents, kept)
    made, _ = streamed(rolling, 7, state, objective=FlowMatching("clean"), drive=True)
    expected = offline(rolling, 7, objective=FlowMatching("clean"), given=kept, drive=True)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    without, _ = streamed(rolling, 7, objective=FlowMatching("clean"), drive=True)
    assert float((made - without).abs().max()) > 1e-3


@pytest.mark.parametrize("ticks", [1, 3, 6])
@pytest.mark.parametrize("rolling", WINDOWS, ids=str)
def test_saved_and_resumed_is_uninterrupted_bit_for_bit(rolling: RollingWindow, ticks: int, tmp_path: Path) -> None:
    flow = FlowMatching("clean")
    whole, end = streamed(rolling, 9, objective=flow, drive=True)
    first, state = streamed(rolling, ticks, objective=flow, drive=True)
    state.save(tmp_path / "state.pt")
    rest, other = streamed(rolling, 9 - ticks, RollingState.load(tmp_path / "state.pt"), objective=flow, drive=True)
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(other.latents, end.latents)
    assert other.ticks == end.ticks


@pytest.mark.parametrize("rolling", WINDOWS, ids=str)
def test_a_state_does_not_grow_and_does_not_change(rolling: RollingWindow, tmp_path: Path) -> None:
    state, sizes = rolling.begin([5], SHAPE), []
    for tick in range(24):
        now = times(tick * rolling.frames_per_window, rolling.frames_per_window)
        before = state.latents.clone()
        new = rolling.tick(state, now, told, FlowMatching("clean"), pictures(now)).state
        assert torch.equal(state.latents, before)
        state = new
        sizes.append(state.nbytes)
        assert state.latents.shape[1] <= rolling.most_frames
    assert len(set(sizes[12:])) == 1
    state.save(tmp_path / "s.pt")
    late = (tmp_path / "s.pt").stat().st_size
    rolling.tick(state, times(10_000, rolling.frames_per_window), told, FlowMatching("clean")).state.save(
        tmp_path / "s.pt"
    )
    assert abs((tmp_path / "s.pt").stat().st_size - late) < 300


@torch.inference_mode()
def test_what_a_tick_gives_is_its_own() -> None:
    rolling = RollingWindow(1, 2, context_frames=2, levels=[1.0, 0.0])
    state = rolling.begin([5], SHAPE)
    out = rolling.tick(state, times(0, 2), told, FlowMatching())
    latents, seconds = out.state.latents.clone(), out.state.seconds.clone()
    assert out.latents.untyped_storage().nbytes() == out.latents.nbytes  # whoever keeps it keeps no more
    out.latents.zero_()
    out.seconds.zero_()
    assert torch.equal(out.state.latents, latents)
    assert torch.equal(out.state.seconds, seconds)


def test_the_tenth_minute_shows_the_model_what_the_first_second_does() -> None:
    seen: list[View] = []

    def telling(view: View) -> Denoiser:
        seen.append(view)
        return lambda x, levels: torch.tanh(x)

    rolling = RollingWindow(3, 2, context_frames=1)
    for offset in (0, 600 * RATE, 10**7 * RATE):
        state = rolling.begin([5], SHAPE)
        for tick in range(5):
            out = rolling.tick(state, times(offset + 2 * tick, 2), telling, FlowMatching())
            state = out.state
        assert float(out.seconds[0, 0]) == (offset + 4) / RATE
    assert float((seen[4].seconds - seen[9].seconds).abs().max()) < 1e-9
    assert float((seen[4].seconds - seen[14].seconds).abs().max()) < 1e-7


def test_frames_belong_to_seed_and_position() -> None:
    flow, rolling = FlowMatching("clean"), RollingWindow(3, 2)
    together = rolling.begin([5, 6], SHAPE)
    rows = []
    for tick in range(4):
        out = rolling.tick(together, times(2 * tick, 2).expand(2, -1), told, flow)
        together = out.state
        rows.append(out.latents)
    alone, _ = streamed(rolling, 4, objective=flow)
    both = torch.cat(rows, 1)
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-5)
    assert float((both[0] - both[1]).abs().max()) > 0.1


def test_a_model_that_knows_the_clip_is_followed_to_it() -> None:
    def knows(view: View) -> Denoiser:
        return lambda x, levels: torch.full_like(x, 0.25)

    state = RollingWindow(4, 2).begin([0], SHAPE)
    for tick in range(6):
        out = RollingWindow(4, 2).tick(state, times(2 * tick, 2), knows, FlowMatching("clean"))
        state = out.state
        assert out.latents.shape[1] == (2 if tick >= 3 else 0)
    torch.testing.assert_close(out.latents, torch.full_like(out.latents, 0.25), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"windows": 0}, "windows is 0"),
        ({"frames_per_window": 0}, "frames_per_window is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"context_frames": -1}, "context_frames is -1"),
        ({"fresh_above": 1.5}, "fresh_above is 1.5"),
        ({"windows": 2, "levels": (1.0, 0.0)}, "expected 3 numbers"),
        ({"windows": 2, "levels": (1.0, 1.0, 0.0)}, "fall from 1 to 0"),
        ({"windows": 2, "levels": (0.9, 0.5, 0.0)}, "fall from 1 to 0"),
    ],
)
def test_a_queue_that_cannot_be_is_refused(options: dict, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        RollingWindow(**options)


def test_a_state_of_another_queue_or_times_that_fall_are_refused(tmp_path: Path) -> None:
    flow, rolling = FlowMatching(), RollingWindow(3, 2)
    _, state = streamed(rolling, 4, objective=flow)
    with pytest.raises(StateMismatch, match="does not belong"):
        RollingWindow(4, 2).tick(state, times(8, 2), told, flow)
    with pytest.raises(BadArgument, match="3 frames pushed"):
        rolling.tick(state, times(8, 3), told, flow)
    with pytest.raises(BadArgument, match="do not rise"):
        rolling.tick(state, times(7, 2), told, flow)
    with pytest.raises(BadArgument, match="come with their seconds"):
        rolling.begin([0], SHAPE, given=torch.zeros(1, 1, *SHAPE))
    with pytest.raises(BadArgument, match="given frames are"):
        rolling.begin([0], SHAPE, given=torch.zeros(1, 1, 3, 4, 4), seconds=times(0, 1))
    (tmp_path / "x.pt").write_bytes(b"not a state")
    for name in ("x.pt", "none.pt"):
        with pytest.raises(BadArgument, match=r"no.* saved state"):
            RollingState.load(tmp_path / name)
