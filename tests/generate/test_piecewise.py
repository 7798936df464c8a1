"""Latents with a stride in time: decoded piece by piece as if at once, and streamed, resumed and timed all the same."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.errors import BadArgument, UnsupportedModel
from legato.generate import FlowMatching, VideoDiT, VideoGenerator
from legato.generate.appearance import Appearance
from legato.generate.driving import Drive
from legato.generate.latents import DiffusersLatents
from legato.generate.rolling import RollingWindow
from legato.generate.strategies import AllAtOnce, LongAsk, SlidingWindow, Streaming
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk, VideoStreamState
from legato.video import Frames
from tests.generate.test_latents import wan_vae

ASK = StreamAsk(Fraction(24), seed=3)
WINDOW = RollingWindow(2, 3, context_frames=2, appearance=Appearance(1))


def wan_22_vae() -> nn.Module:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, latents_mean=[0.1] * 4,
        latents_std=[2.0] * 4, temperal_downsample=[True, True], is_residual=True, in_channels=12, out_channels=12,
        patch_size=2,
    )  # fmt: skip


def cogvideox_vae() -> nn.Module:
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
    )  # fmt: skip


def ltx_vae(**options: object) -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    torch.manual_seed(0)
    return AutoencoderKLLTXVideo(
        **{
            "latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 16, 8, 8),
            "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5,
        }
        | options
    )  # fmt: skip


def ltx_095_vae() -> nn.Module:
    return ltx_vae(
        decoder_block_out_channels=(8, 16, 32), decoder_layers_per_block=(1,) * 4, timestep_conditioning=True,
        down_block_types=("LTXVideo095DownBlock3D",) * 4, decoder_spatio_temporal_scaling=(True,) * 3,
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"), upsample_factor=(2,) * 3,
        spatio_temporal_scaling=(True,) * 4, decoder_inject_noise=(False,) * 4, upsample_residual=(True,) * 3,
        spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip


def ltx_causal_vae() -> nn.Module:
    return ltx_vae(decoder_causal=True)


LTX_VAES = [ltx_vae, ltx_095_vae, ltx_causal_vae]
VAES = [wan_vae, wan_22_vae, cogvideox_vae]


def generator(make: Callable[[], nn.Module] = wan_vae, side_px: int = 16) -> VideoGenerator:
    latents = DiffusersLatents(make())
    torch.manual_seed(1)
    model = VideoDiT(channels=4, patch_px=1, width=32, depth=1, heads=2, drive_channels=3).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.1)
    return VideoGenerator(model, FlowMatching(), side_px, side_px, latents=latents)


GENERATOR = generator()


def stream(drive: Drive | None = None) -> VideoStream:
    return VideoStream(GENERATOR, ASK, WINDOW, drive)


def moving(count: int, side_px: int = 16) -> Frames:
    pixels = torch.randint(
        0, 255, (count, 3, side_px, side_px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Frames(pixels, torch.arange(count), Fraction(1, 24))


@pytest.mark.parametrize("make", VAES)
@pytest.mark.parametrize("pieces", [(7,), (1, 1, 1, 1, 1, 1, 1), (2, 1, 4), (1, 3, 3)])
def test_pieces_joined_are_the_clip_decoded_at_once(make: Callable[[], nn.Module], pieces: tuple[int, ...]) -> None:
    latents = DiffusersLatents(make())
    clip = torch.randn(2, 7, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, made, state = latents.decode(clip), [], None
    assert whole.shape[1] == 25
    for piece in clip.split(pieces, 1):
        frames, state = latents.decode_next(piece, state)
        made.append(frames)
    joined = torch.cat(made, 1)
    assert joined.shape == whole.shape
    assert float(whole.std()) > 0.01
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", VAES)
def test_what_a_decoder_keeps_is_bounded_and_a_value(make: Callable[[], nn.Module]) -> None:
    latents, state, sizes = DiffusersLatents(make()), None, []
    numbers = torch.Generator().manual_seed(0)
    for _ in range(30):
        before, piece = state, torch.randn(1, 1, 4, 2, 2, generator=numbers)
        frames, state = latents.decode_next(piece, before)
        assert state is not None
        sizes.append(state.nbytes)
    again, _ = latents.decode_next(piece, before)
    assert torch.equal(frames, again)
    assert max(sizes[-6:]) == max(sizes[4:10])


@pytest.mark.parametrize("make", LTX_VAES)
def test_a_decoder_that_looks_ahead_gives_frames_as_soon_as_they_are_certain(make: Callable[[], nn.Module]) -> None:
    latents = DiffusersLatents(make())
    ahead, numbers = latents.lookahead, torch.Generator().manual_seed(0)
    clip = torch.randn(2, ahead + 4, 4, 2, 2, generator=numbers)
    whole, made, state, sizes = latents.decode(clip), [], None, []
    for number, piece in enumerate(clip.split(1, 1), start=1):
        before = state
        frames, state = latents.decode_next(piece, before)
        made.append(frames)
        assert state is not None
        sizes.append(state.nbytes)
        given = sum(some.shape[1] for some in made)
        behind = number - ahead  # latents all of whose frames are certain
        assert given >= latents.frames_of(behind - 1)[-1] + 1 if behind > 0 else given < 8
    assert ahead == 0 or given < latents.frames_of(behind)[-1] + 1  # and no more than one latent fewer would do
    joined = torch.cat(made, 1)
    assert float(whole.std()) > 0.01
    torch.testing.assert_close(joined, whole[:, :given], atol=1e-5, rtol=0)
    again, _ = latents.decode_next(piece, before)
    assert torch.equal(frames, again)
    assert len(set(sizes[-3:])) == 1
    other = latents.decode(torch.cat([clip, clip[:, :3]], 1))
    torch.testing.assert_close(joined, other[:, :given], atol=1e-5, rtol=0)  # whatever follows


@pytest.mark.parametrize("make", [ltx_vae, ltx_causal_vae])
def test_streams_decode_with_one_that_looks_ahead_and_resume_bit_for_bit(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    made = generator(make, side_px=32)
    running = VideoStream(made, ASK, WINDOW)
    begun = running.begin(moving(9, 32))
    assert begun.given == 9
    frames = list(running.frames(begun, 20))
    assert [one.frame.time for one in frames] == [Fraction(9 + n, 24) for n in range(20)]
    state, clean = begun, [made.latents.encode(pixels_to_signal(moving(9, 32).pixels)[None])]
    while sum(part.shape[1] for part in clean) < 2 + 3 + made.latents.lookahead:
        state, fresh = running.step_latents(state)
        clean.append(fresh)
    whole = signal_to_pixels(made.latents.decode(torch.cat(clean, 1))[0])[9:29]
    difference = torch.stack([one.frame.pixels for one in frames]).int() - whole.int()
    assert int(difference.abs().max()) <= 1
    frames[6].state.save(tmp_path / "state.pt")
    rest = running.frames(VideoStreamState.load(tmp_path / "state.pt"), 13)
    assert all(torch.equal(a.frame.pixels, b.frame.pixels) for a, b in zip(rest, frames[7:], strict=True))


def test_all_up_front_decodes_as_the_stream_does_where_the_decoder_looks_ahead() -> None:
    made, asked = generator(ltx_vae, side_px=32), LongAsk(ASK, 11)
    streamed, whole, offloaded = (
        torch.cat(list(strategy.pieces(made, asked)))
        for strategy in (Streaming(WINDOW), SlidingWindow(WINDOW), SlidingWindow(WINDOW, offload=True))
    )
    assert whole.shape == offloaded.shape == streamed.shape == (11, 3, 32, 32)
    assert int((whole.int() - streamed.int()).abs().max()) <= 1
    assert int((offloaded.int() - streamed.int()).abs().max()) <= 1


def test_a_decoder_that_keeps_nothing_or_draws_noise_is_refused() -> None:
    class Other(type(wan_vae())):  # type: ignore[misc]
        pass

    other = wan_vae()
    other.__class__ = Other
    with pytest.raises(UnsupportedModel, match=r"Other keeps nothing.*AutoencoderKLWan"):
        DiffusersLatents(other).decode_next(torch.zeros(1, 1, 4, 1, 1))
    with pytest.raises(UnsupportedModel, match="draws noise as it decodes"):
        VideoStream(generator(lambda: ltx_vae(decoder_inject_noise=(True,) * 5), side_px=32), ASK, WINDOW)


def test_frames_that_a_vae_cannot_make_are_told() -> None:
    with pytest.raises(BadArgument, match=r"13 frames; these latents take 1 \+ multiples of 8: use 9 or 17"):
        DiffusersLatents(cogvideox_vae()).latent_frames(13)
    assert DiffusersLatents(wan_22_vae()).stride_px == 8


@pytest.mark.parametrize("make", VAES)
@pytest.mark.parametrize("count", [1, 5, 14])
def test_exactly_the_frames_asked_for_are_those_of_all_latents_decoded_at_once(
    make: Callable[[], nn.Module], count: int
) -> None:
    running = VideoStream(generator(make), ASK, WINDOW)
    made = list(running.frames(running.begin(), count))
    assert [one.frame.time for one in made] == [Fraction(n, 24) for n in range(count)]
    state, clean = running.begin(), []
    for _ in range(4):
        state, latents = running.step_latents(state)
        clean.append(latents)
    whole = signal_to_pixels(running.generator.latents.decode(torch.cat(clean, 1)[:, :7])[0])
    difference = torch.stack([one.frame.pixels for one in made]).int() - whole[:count].int()
    assert int(difference.abs().max()) <= 1  # levels of 255
    assert float(whole.float().std()) > 1


def test_a_latent_stands_at_the_mean_time_of_its_frames_and_takes_its_drive_there() -> None:
    asked = []

    class Told(Drive):
        def at(self, seconds: Tensor, state: object = None) -> object:  # type: ignore[override]
            asked.extend(seconds.tolist())
            return super().at(seconds, state)  # type: ignore[arg-type]

    drive = Told((n / 24, torch.full((3, 2, 2), n / 100)) for n in itertools.count())
    running = stream(drive)
    state = running.step(running.step(running.begin()))
    means = [0.0, *(((4 * k - 3) + 4 * k) / 2 / 24 for k in range(1, 6))]
    assert asked == pytest.approx(means)
    assert state.rolling.seconds[0].tolist() == pytest.approx(means[1:])  # of the three that are clean two stay
    assert len(state.ready) == 1 + 4 + 4


@pytest.mark.parametrize("at", [1, 2, 6, 13])
@pytest.mark.parametrize("reference", [0, 1, 7])
def test_resumed_from_a_file_is_uninterrupted_bit_for_bit(at: int, reference: int, tmp_path: Path) -> None:
    begun = stream().begin(moving(reference) if reference else None)
    whole = [m.frame.pixels for m in stream().frames(begun, 18)]
    part = list(stream().frames(begun, at))
    part[-1].state.save(tmp_path / "state.pt")
    rest = list(stream().frames(VideoStreamState.load(tmp_path / "state.pt"), 18 - at))
    made = [m.frame.pixels for m in (*part, *rest)]
    assert all(torch.equal(a, b) for a, b in zip(made, whole, strict=True))


@pytest.mark.parametrize("make", VAES)
@pytest.mark.parametrize(("given", "whole_given"), [(1, 1), (3, 1), (7, 5), (20, 5)])
def test_what_is_gone_on_from_is_in_the_decoders_view_and_not_shown(
    make: Callable[[], nn.Module], given: int, whole_given: int
) -> None:
    running = VideoStream(generator(make), ASK, WINDOW)
    clip = moving(given)
    begun = running.begin(clip)
    if make is cogvideox_vae:
        whole_given = 9 if given >= 9 else 1
    assert begun.given == whole_given
    made = list(running.frames(begun, 12))
    assert made[0].frame.time == Fraction(given, 24)
    latents = running.generator.latents
    encoded = latents.encode(pixels_to_signal(clip.pixels[given - whole_given :])[None])
    state, clean = begun, [encoded]
    for _ in range(4):
        state, fresh = running.step_latents(state)
        clean.append(fresh)
    every = torch.cat(clean, 1)
    odd = every.shape[1] - 1 + every.shape[1] % 2
    frames = signal_to_pixels(latents.decode(every[:, :odd])[0])[whole_given : whole_given + 12]
    difference = torch.stack([m.frame.pixels for m in made]).int() - frames.int()
    assert int(difference.abs().max()) <= 1
    times = state.rolling.seconds[0]
    assert times[-1] - times[-2] == pytest.approx(4 / 24)


def test_other_strategies_take_such_latents_too() -> None:
    def pieces(strategy: object) -> Tensor:
        drive = Drive((n / 24, torch.full((3, 2, 2), n / 100)) for n in itertools.count())
        return torch.cat(list(strategy.pieces(GENERATOR, LongAsk(ASK, 14, drive))))  # type: ignore[attr-defined]

    streamed = pieces(Streaming(WINDOW))
    for offload in (False, True):
        whole = pieces(SlidingWindow(WINDOW, offload))
        assert whole.shape == streamed.shape
        assert int((whole.int() - streamed.int()).abs().max()) <= 1
    assert pieces(AllAtOnce(2)).shape == streamed.shape
    assert Streaming(WINDOW).boundaries(40, 4) == [9, 21, 33]  # 1 + 4 + 4, and three times 4 from there


@pytest.mark.slow
def test_memory_after_thousands_of_frames_is_that_after_a_hundred() -> None:
    drive = Drive((n / 24, torch.full((3, 2, 2), n % 7 / 7)) for n in itertools.count())
    window = RollingWindow(2, 3, context_frames=2, appearance=Appearance(1, keyframes=3, novelty=0.01))
    running, process = VideoStream(GENERATOR, ASK, window, drive), psutil.Process()
    sizes = {}
    for number, made in enumerate(running.frames(running.begin(), 6000), start=1):
        if number in (500, 6000):
            sizes[number] = (process.memory_info().rss, made.state.nbytes)
    assert sizes[6000][0] < 1.01 * sizes[500][0]
    assert sizes[6000][1] <= 1.5 * sizes[500][1]  # as many frames may wait to be shown as a window has
