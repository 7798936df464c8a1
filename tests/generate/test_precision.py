"""Weights in half precision: frames, noise and steps stay float32, given frames stay as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from legato.generate import Ask, FlowMatching, VideoDiT, VideoGenerator
from legato.generate.diffusers_models import DiffusersDenoiser
from legato.generate.latents import DiffusersLatents
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import Euler, default_sampler
from legato.generate.stream import VideoStream, drive_side_px
from legato.generate.stream_state import StreamAsk
from tests.generate.test_diffusers_models import KINDS, LEVEL, RATE, SECONDS, X, ltx, stirred, wan
from tests.generate.test_piecewise import VAES, generator, ltx_vae, moving

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["puppet-flow", "physics-flow", "puppet-eqm", "puppet-unet3d", "puppet-inbetween"])
def test_clips_are_close_and_given_frames_the_same(name: str, dtype: torch.dtype) -> None:
    exact, half = (VideoGenerator.from_pretrained(name, dtype=one) for one in (torch.float32, dtype))
    assert next(half.model.parameters()).dtype == dtype
    numbers = torch.Generator().manual_seed(0)
    given = torch.rand(1, 9, 3, exact.height, exact.width, generator=numbers) * 2 - 1
    known = torch.zeros(1, 9, dtype=torch.bool).index_fill(1, torch.tensor([0, 8]), True)
    told = {} if name == "puppet-unet3d" else {"given": given, "known": known}
    if getattr(exact.model, "drive_channels", 0) and name != "puppet-inbetween":
        told |= {"drive": torch.rand(1, 9, 3, *drive_side_px(exact), generator=numbers) * 2 - 1, "drive_guidance": 2.0}
    ask = Ask(torch.arange(9, dtype=torch.float64)[None] / 24, [3], **told)
    a, b = (one.sample(ask, default_sampler(one.objective, 4)) for one in (exact, half))
    assert b.dtype == torch.float32
    assert 0 < float((a - b).square().mean().sqrt()) < 0.03 * float(a.std())
    if told:
        assert torch.equal(b[known], given[known])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["puppet-flow", "puppet-inbetween", "pixels"])
def test_given_frames_of_any_precision(name: str, dtype: torch.dtype) -> None:
    if name == "pixels":
        made = VideoGenerator(VideoDiT(width=32, depth=1, heads=2).eval(), FlowMatching("velocity"), 16, 16)
    else:
        made = VideoGenerator.from_pretrained(name)
    given = (torch.rand(1, 3, 3, made.height, made.width, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(dtype)
    known = torch.tensor([[True, False, True]])
    asks = [Ask(torch.arange(3.0)[None].double() / 24, [3], given=one, known=known) for one in (given, given.float())]
    out, same = (made.sample(ask, default_sampler(made.objective, 2)) for ask in asks)
    assert out.dtype == torch.float32
    assert torch.equal(out, same)
    assert torch.equal(out[known], given.float()[known])


def test_half_precision_takes_half_the_memory_for_what_goes_through_the_model() -> None:
    ask = Ask(torch.arange(33.0)[None].double() / 24, [0])
    exact, half = (VideoGenerator.from_pretrained("puppet-flow", dtype=one) for one in (torch.float32, torch.bfloat16))
    clip = 4 * 6 * 33 * 3 * 64 * 64
    assert half.memory_bytes(ask) - clip == pytest.approx((exact.memory_bytes(ask) - clip) / 2, abs=1)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@torch.no_grad()
def test_networks_of_diffusers_as_they_are_loaded_in_half_precision(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    network = stirred(make)
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    half = type(network).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)  # type: ignore[attr-defined]
    assert half.dtype == torch.bfloat16
    a, b = (DiffusersDenoiser(one, rate=RATE)(X, seconds=SECONDS, noise=LEVEL) for one in (network, half))
    assert b.dtype == torch.float32
    assert 0 < float((a - b).square().mean().sqrt()) < 0.05 * float(a.std())


@pytest.mark.parametrize("vae", VAES, ids=lambda make: make.__name__)
def test_streams_of_networks_and_latents_in_half_precision(vae: Callable[[], nn.Module], tmp_path: Path) -> None:
    def frames(dtype: torch.dtype) -> torch.Tensor:
        torch.manual_seed(0)
        network = stirred(lambda: type(wan()).from_config(wan().config, in_channels=4, out_channels=4))  # type: ignore[operator]
        network.save_pretrained(tmp_path / "network")  # type: ignore[operator]
        loaded = type(network).from_pretrained(tmp_path / "network", torch_dtype=dtype).eval()  # type: ignore[attr-defined]
        made = vae()
        made.save_pretrained(tmp_path / "vae")  # type: ignore[operator]
        latents = DiffusersLatents.from_pretrained(tmp_path / "vae", torch_dtype=dtype)
        side_px = 8 * latents.stride_px
        denoiser = DiffusersDenoiser(loaded, rate=RATE, noise="frame")
        generator = VideoGenerator(denoiser, FlowMatching("velocity"), side_px, side_px, latents=latents)
        running = VideoStream(generator, StreamAsk(), RollingWindow(2, 3, context_frames=1))
        shown = [made.frame.pixels for made in running.frames(running.begin(moving(5, side_px)), 9)]
        clip = Ask(torch.arange(latents.whole_frames(9), dtype=torch.float64)[None] / 24, [0])
        assert generator.sample(clip, Euler(2)).dtype == torch.float32
        return torch.stack(shown).float()

    a, b = frames(torch.float32), frames(torch.bfloat16)
    assert 0 < float((a - b).abs().mean()) < 4


@pytest.mark.parametrize("make", [*VAES, ltx_vae], ids=lambda make: make.__name__)
def test_a_stream_goes_on_in_another_precision(make: Callable[[], nn.Module]) -> None:
    side_px = 64 if make is ltx_vae else 16
    exact, half = generator(make, side_px), generator(make, side_px)
    half.model.to(torch.bfloat16)
    half.latents.to("cpu", torch.bfloat16)
    running = [VideoStream(one, StreamAsk(), RollingWindow(2, 3, context_frames=1)) for one in (exact, half)]
    state = running[0].begin(moving(5, side_px))
    *_, last = running[0].frames(state, 10)
    whole, other = (list(one.frames(last.state, 40)) for one in running)
    apart = [(a.frame.pixels.float() - b.frame.pixels.float()).abs().mean() for a, b in zip(whole, other, strict=True)]
    assert 0 < max(apart) < 6
    assert len(list(running[0].frames(other[-1].state, 20))) == 20


@torch.no_grad()
def test_ltx_is_told_its_seconds_exactly_in_half_precision() -> None:
    """In bfloat16 100 s and 100.2 s are the same."""
    denoiser = DiffusersDenoiser(stirred(ltx).to(torch.bfloat16), rate=RATE)
    told = (torch.tensor([[0.0, *(100 + gap * n for n in range(5))]], dtype=torch.float64) for gap in (0.02, 0.05))
    a, b = (denoiser(X, seconds=seconds, noise=LEVEL) for seconds in told)
    assert float((a - b).abs().max()) > 1e-3
