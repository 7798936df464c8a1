"""Streams of frames from a generator: exact times, exact counts, resumable anywhere, and clear refusals."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from legato.data.batch import signal_to_pixels
from legato.errors import BadArgument, StateMismatch
from legato.generate import Diffusion, Equilibrium, FlowMatching, VideoDiT, VideoGenerator, VideoUNet3D
from legato.generate.driving import Drive
from legato.generate.latents import TinyAutoencoder
from legato.generate.rolling import RollingWindow
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk, VideoStreamState
from legato.video import Frames

ASK = StreamAsk(Fraction(24), seed=3, text="up down")
WINDOW = RollingWindow(3, 4, context_frames=2, fresh_above=0.5)


def generator(**options: object) -> VideoGenerator:
    torch.manual_seed(0)
    settings = {"channels": 4, "width": 32, "depth": 1, "heads": 2, "patch_px": 2, "text_bytes": 8, "text_depth": 1}
    model = VideoDiT(**settings | {"drive_channels": 3, "drive_stride": 2} | options).eval()  # type: ignore[arg-type]
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    return VideoGenerator(
        model, FlowMatching(), 16, 16, words=("up", "down"), latents=TinyAutoencoder(4, (8, 8), 2).requires_grad_(False)
    )


GENERATOR = generator()


def pictures(rate: float = 15.0, count: int | None = None) -> Iterator[tuple[float, Tensor]]:
    for i in itertools.count() if count is None else range(count):
        yield i / rate, torch.full((3, 8, 8), (i % 9) / 9)


def stream(drive: Drive | None = None, ask: StreamAsk = ASK, window: RollingWindow = WINDOW) -> VideoStream:
    return VideoStream(GENERATOR, ask, window, drive)


def test_exactly_the_frames_asked_for_at_exact_times_and_the_same_however_many_are_asked() -> None:
    many = list(stream().frames(stream().begin(), 11))
    assert [made.frame.time for made in many] == [Fraction(i, 24) for i in range(11)]
    assert many[0].frame.pixels.shape == (3, 16, 16)
    for count in (0, 1, 4, 7):
        few = list(stream().frames(stream().begin(), count))
        assert len(few) == count
        assert all(torch.equal(a.frame.pixels, b.frame.pixels) for a, b in zip(few, many, strict=False))


def test_the_first_frame_is_there_after_as_many_ticks_as_windows() -> None:
    running = stream()
    state = running.begin()
    for tick in range(1, 5):
        state = running.step(state)
        assert len(state.ready) == (0 if tick < 3 else 4 * (tick - 2))


@pytest.mark.parametrize("at", [1, 5, 8, 13])
def test_resumed_at_any_frame_is_uninterrupted_bit_for_bit(at: int, tmp_path: Path) -> None:
    whole = [m.frame for m in stream(Drive(pictures())).frames(stream().begin(), 18)]
    part = list(stream(Drive(pictures())).frames(stream().begin(), at))
    part[-1].state.save(tmp_path / "state.pt")
    state = VideoStreamState.load(tmp_path / "state.pt")
    rest = [m.frame for m in VideoStream(GENERATOR, state.ask, state.window, Drive(pictures())).frames(state, 18 - at)]
    assert [f.time for f in rest] == [f.time for f in whole[at:]]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[at:], strict=True))


def test_the_models_times_are_exact_however_long_it_runs() -> None:
    pixels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    rate = Fraction(30000, 1001)
    running = stream(ask=replace(ASK, rate=rate))
    for state in (running.begin(), running.begin(Frames(pixels, torch.tensor([3, 4]), Fraction(1, 7)))):
        start = state.start
        for tick in range(1, 131):
            state = running.step(state).after(0)
            if tick in (1, 2, 63, 64, 65, 128, 130):
                last = [float(start + n / rate) for n in range(4 * (tick - 1), 4 * tick)]
                assert state.rolling.seconds[0, -4:].tolist() == last


def test_whoever_keeps_a_frame_keeps_no_other() -> None:
    for made in stream().frames(stream().begin(), 6):
        assert made.frame.pixels.untyped_storage().nbytes() == 3 * 16 * 16


@pytest.mark.parametrize("inside", [False, True])
def test_whoever_draws_on_a_frame_changes_no_state(inside: bool) -> None:
    with torch.inference_mode(inside):
        running = stream()
        whole = [made.frame.pixels.clone() for made in running.frames(running.begin(), 12)]
        made = list(running.frames(running.begin(), 12))
        for one in made:
            one.frame.pixels[:, :5] = 0
        for at in (0, 5):
            after = next(running.frames(made[at].state, 1)).frame.pixels
            assert torch.equal(after, whole[at + 1])


def test_memory_of_a_state_is_constant_and_so_is_its_file(tmp_path: Path) -> None:
    sizes, files = {}, {}
    for number, made in enumerate(stream(Drive(pictures())).frames(stream().begin(), 60)):
        sizes[number] = made.state.nbytes
        if number in (20, 56):
            made.state.save(tmp_path / "s.pt")
            files[number] = (tmp_path / "s.pt").stat().st_size
    assert sizes[20] == sizes[40] == sizes[56]
    assert abs(files[20] - files[56]) < 100


def test_the_drive_is_followed_just_in_time_at_another_rate() -> None:
    taken = []

    def counted() -> Iterator[tuple[float, Tensor]]:
        for one in pictures(30.0):
            taken.append(one[0])
            yield one

    running = stream(Drive(counted()))
    state = running.begin()
    for tick in range(1, 6):
        state = running.step(state)
        newest = (4 * tick - 1) / 24
        assert newest <= taken[-1] < newest + 1 / 30
    one = next(stream(Drive(pictures())).frames(stream().begin())).frame
    other = next(stream(Drive((t, -p) for t, p in pictures())).frames(stream().begin())).frame
    assert not torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (11, 17), (16, 25)])
def test_a_stream_ends_with_its_drive_or_holds_the_last_picture(count: int, expected: int) -> None:
    ended = list(stream(Drive(pictures(15.0, count), at_end="end")).frames(stream().begin()))
    assert len(ended) == expected  # times up to the last picture's, (count - 1) / 15 s
    held = list(stream(Drive(pictures(15.0, count))).frames(stream().begin(), expected + 9))
    assert len(held) == expected + 9
    assert all(torch.equal(a.frame.pixels, b.frame.pixels) for a, b in zip(ended, held, strict=False))


def test_a_clip_goes_on_after_its_last_frame_and_counts() -> None:
    pixels = torch.randint(0, 255, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = Frames(pixels, torch.arange(5), Fraction(1, 30))
    first = next(stream().frames(stream().begin(clip)))
    assert first.frame.time == Fraction(4, 30) + Fraction(1, 24)
    alone = next(stream().frames(replace(stream().begin(), start=first.frame.time)))
    assert not torch.equal(first.frame.pixels, alone.frame.pixels)
    assert stream().begin(clip).rolling.latents.shape[1] == 2
    with pytest.raises(BadArgument, match="are 8x8; this checkpoint makes 16x16"):
        stream().begin(Frames(pixels[:, :, :8, :8], torch.arange(5), Fraction(1, 30)))


def test_text_and_guidance_count() -> None:
    asks = [ASK, replace(ASK, text=None), replace(ASK, text="up"), replace(ASK, guidance=4.0), replace(ASK, seed=4)]
    made = [next(stream(ask=ask).frames(stream(ask=ask).begin())).frame.pixels for ask in asks]
    led = [replace(ASK, drive_guidance=by) for by in (1.0, 3.0)]
    made += [next(stream(Drive(pictures()), ask).frames(stream(ask=ask).begin())).frame.pixels for ask in led]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(made, 2))


def test_a_text_is_said_over_and_over_where_the_generator_knows_how() -> None:
    knows = replace(generator(text_bytes=16), words=("up", "down", "..."))
    only_once = replace(knows, words=("up", "down"))

    def shown(generator: VideoGenerator, text: str) -> Tensor:
        one = VideoStream(generator, replace(ASK, text=text), WINDOW)
        return torch.stack([made.frame.pixels for made in one.frames(one.begin(), 4)])

    over = shown(knows, "up down")
    assert torch.equal(over, shown(knows, "up down ..."))
    with pytest.raises(BadArgument, match="'up down up up' has 13 bytes; this model reads up to 12 where"):
        shown(knows, "up down up up")
    assert not torch.equal(over, shown(only_once, "up down"))
    assert list(VideoStream(knows, ASK, WINDOW).frames(stream().begin(), 1))  # states are those of what was asked


def test_a_text_said_over_and_over_begins_with_its_own_first_picture() -> None:
    knows = replace(generator(text_bytes=16), words=("up", "down", "..."))
    running = VideoStream(knows, ASK, WINDOW)
    own = running.own_reference()
    assert own is not None
    assert own.pixels.shape == (1, 3, 16, 16)
    assert torch.equal(own.pixels, running.own_reference().pixels)
    other = VideoStream(knows, replace(ASK, seed=4), WINDOW).own_reference()
    assert other is not None
    assert not torch.equal(own.pixels, other.pixels)
    first = next(iter(running.frames(running.begin(own)))).frame
    assert first.time == 0
    assert stream().own_reference() is None  # it says its text once
    assert VideoStream(knows, replace(ASK, text=None), WINDOW).own_reference() is None


def test_a_state_of_another_stream_is_refused(tmp_path: Path) -> None:
    state = stream().begin()
    for other in (replace(ASK, seed=4), replace(ASK, rate=Fraction(25))):
        with pytest.raises(StateMismatch, match="go on with the state's"):
            next(stream(ask=other).frames(state))
    with pytest.raises(StateMismatch, match="has window"):
        next(stream(window=RollingWindow(2, 4)).frames(state))
    torch.save({"kind": "legato stream 3"}, tmp_path / "x.pt")
    with pytest.raises(BadArgument, match="another version of legato"):
        VideoStreamState.load(tmp_path / "x.pt")
    torch.save({"kind": "else"}, tmp_path / "x.pt")
    with pytest.raises(BadArgument, match="is not the state of a stream"):
        VideoStreamState.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(GENERATOR, objective=Diffusion()), "trained by Diffusion.*objective.kind=flow"),
        (replace(GENERATOR, objective=Equilibrium()), "trained by Equilibrium"),
        (generator(noise="sample"), "level 'sample'.*model.noise=frame"),
        (generator(noise="hidden"), "level 'hidden'.*model.noise=frame"),
        (replace(GENERATOR, model=VideoUNet3D(4, (16, 16))), "level 'sample'"),
        (generator(drive_channels=0), "takes no drive"),
    ],
)
def test_a_checkpoint_that_cannot_stream_is_refused_with_what_to_do(other: VideoGenerator, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        VideoStream(other, ASK, WINDOW, Drive(pictures()))


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(BadArgument, match="does not know 'left'"):
        stream(ask=replace(ASK, text="up left"))
    with pytest.raises(BadArgument, match="0 frames per second"):
        StreamAsk(Fraction(0))
    with pytest.raises(BadArgument, match="-1 frames"):
        next(stream().frames(stream().begin(), -1))
    small = Drive((t, p[:, :4, :4]) for t, p in pictures())
    with pytest.raises(BadArgument, match=r"pictures are \(3, 4, 4\); this checkpoint takes \(3, 8, 8\)"):
        next(stream(small).frames(stream().begin()))


@pytest.mark.parametrize("bridge", [0.0, 0.1, 0.25])
def test_a_bridge_is_made_and_not_shown(bridge: float, tmp_path: Path) -> None:
    pose = torch.zeros(3, 8, 8)
    pose[:, 2:5, 3:6] = 1.0

    def begun() -> VideoStream:
        coming = ((n / 24, torch.roll(pose, n % 5, -1)) for n in itertools.count())
        return stream(Drive(coming, fit_to=torch.roll(pose, 2, -2), bridge_seconds=bridge))

    running, frames = begun(), math.ceil(bridge * 24)
    picture = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = running.begin(running.reference(picture))
    assert (state.start, state.unseen) == (0, frames)
    shown = list(running.frames(state, 9))
    assert [one.frame.time for one in shown] == [Fraction(n, 24) for n in range(9)]
    offline, state = begun(), state
    clean = []
    for _ in range(6):
        state, latents = offline.step_latents(state)
        clean.append(latents)
    whole = signal_to_pixels(GENERATOR.latents.decode(torch.cat(clean, 1))[0])
    difference = torch.stack([one.frame.pixels for one in shown]).int() - whole[frames : frames + 9].int()
    assert int(difference.abs().max()) <= 1
    shown[2].state.save(tmp_path / "state.pt")
    rest = list(begun().frames(VideoStreamState.load(tmp_path / "state.pt"), 6))
    assert all(torch.equal(a.frame.pixels, b.frame.pixels) for a, b in zip(rest, shown[3:], strict=True))
