"""diffusers' networks as denoisers: what they say themselves at regular times, and positions that run on in time."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from legato.errors import BadArgument, UnsupportedModel
from legato.generate import Diffusion, FlowMatching, VideoGenerator
from legato.generate.ask import Ask
from legato.generate.diffusers_models import DiffusersDenoiser
from legato.generate.latents import Pixels
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import DiffusersSampler
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk

RATE = 16.0


def wan() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=3, text_dim=8,
        freq_dim=16, ffn_dim=16, num_layers=1, cross_attn_norm=True, rope_max_seq_len=32,
    )  # fmt: skip


def ltx() -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel(
        in_channels=3, out_channels=3, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        num_layers=1, caption_channels=8,
    )  # fmt: skip


def motion() -> nn.Module:
    from diffusers import UNetMotionModel

    return UNetMotionModel(
        in_channels=3, out_channels=3, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"), layers_per_block=1,
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"), num_attention_heads=2, motion_num_attention_heads=2,
    )  # fmt: skip


def stirred(make: Callable[[], nn.Module]) -> nn.Module:
    """With weights none of which is zero, so that everything it is told counts."""
    torch.manual_seed(0)
    network = make().eval().requires_grad_(False)
    for name, weights in network.named_parameters():
        if "norm" not in name:
            nn.init.normal_(weights, std=0.2)
    return network


KINDS = [wan, ltx, motion]
X = torch.randn(1, 6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
SECONDS = torch.arange(6, dtype=torch.float64)[None] / RATE
LEVEL = torch.tensor([0.5])


def own(network: nn.Module, x: Tensor) -> Tensor:
    """What the network says as its own pipelines call it."""
    blank = torch.zeros(1, 1, 8)
    kind = type(network).__name__
    if kind == "WanTransformer3DModel":
        return network(x.transpose(1, 2), 1000 * LEVEL, blank).sample.transpose(1, 2)
    if kind == "UNetMotionModel":
        steps = (999 * LEVEL).round().long()
        return network(x.transpose(1, 2), steps, blank.expand(6, 1, 8)).sample.transpose(1, 2)
    sequence = x.permute(0, 1, 3, 4, 2).reshape(1, -1, 3)
    said = network(
        sequence, blank, 1000 * LEVEL, torch.ones(1, 1), 6, 8, 8, rope_interpolation_scale=(1 / RATE, 32.0, 32.0)
    ).sample
    return said.reshape(1, 6, 8, 8, 3).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_at_its_own_rate_from_0_it_says_what_the_network_says_which_stays_as_it_was(make: Callable) -> None:
    network = stirred(make)
    before = own(network, X)
    denoiser = DiffusersDenoiser(network, rate=RATE)
    torch.testing.assert_close(denoiser(X, seconds=SECONDS, noise=LEVEL), before, atol=2e-5, rtol=2e-5)
    assert torch.equal(own(network, X), before)
    assert sum(p.numel() for p in denoiser.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)
def test_times_count_as_times(make: Callable) -> None:
    denoiser = DiffusersDenoiser(stirred(make), rate=RATE)
    said = denoiser(X, seconds=SECONDS, noise=LEVEL)
    gap = SECONDS + torch.tensor([0, 0, 0, 1.0, 1.0, 1.0], dtype=torch.float64)
    for other in (2 * SECONDS, gap):
        assert float((denoiser(X, seconds=other, noise=LEVEL) - said).abs().max()) > 1e-4
    later = denoiser(X, seconds=SECONDS + 3600, noise=LEVEL)
    if make is motion:  # places, not distances: they run on
        assert float((later - said).abs().max()) > 1e-4
        long = torch.randn(1, 40, 3, 8, 8)  # over its table of 32
        assert denoiser(long, seconds=torch.arange(40, dtype=torch.float64)[None] / RATE, noise=LEVEL).isfinite().all()
    else:  # the tenth minute is like the first
        torch.testing.assert_close(later, said, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [wan, ltx], ids=lambda f: f.__name__)
def test_noise_by_frame_is_noise_by_frame(make: Callable) -> None:
    denoiser = DiffusersDenoiser(stirred(make), rate=RATE, noise="frame")
    even = denoiser(X, seconds=SECONDS, noise=LEVEL)
    torch.testing.assert_close(denoiser(X, seconds=SECONDS, noise=LEVEL[:, None].expand(1, 6)), even)
    stairs = torch.linspace(0, 1, 6)[None]
    assert float((denoiser(X, seconds=SECONDS, noise=stairs) - even).abs().max()) > 1e-4
    generator = VideoGenerator(denoiser, FlowMatching("velocity"), 8, 8, latents=Pixels())
    stream = VideoStream(generator, StreamAsk(Fraction(16)), RollingWindow(3, 2, context_frames=2))
    assert len(list(stream.frames(stream.begin(), 7))) == 7


def test_a_network_with_one_level_makes_clips_and_is_not_streamed() -> None:
    generator = VideoGenerator(DiffusersDenoiser(stirred(motion), rate=RATE), Diffusion("epsilon"), 8, 8)
    assert generator.sample(Ask(SECONDS, [0]), DiffusersSampler(count=2)).shape == (1, 6, 3, 8, 8)
    wide = VideoGenerator(DiffusersDenoiser(stirred(wan), rate=RATE), FlowMatching("velocity"), 8, 8)
    with pytest.raises(BadArgument, match=r"level 'sample'.*FusedWindows"):
        VideoStream(wide, StreamAsk())
    with pytest.raises(BadArgument, match="one noise level for all frames"):
        wide.model(X, seconds=SECONDS, noise=LEVEL, known=torch.tensor([[True] + [False] * 5]))


def test_texts_go_through_the_encoder_that_is_given() -> None:
    def encode(texts: object) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([[[float(len(one))] * 8] for one in texts])  # type: ignore[attr-defined]
        return rows, torch.ones(len(rows), 1, dtype=torch.bool)

    denoiser = DiffusersDenoiser(stirred(wan), rate=RATE, text=encode)
    one, other = (denoiser(X, seconds=SECONDS, noise=LEVEL, text=(words,)) for words in ("a", "longer"))
    assert float((one - other).abs().max()) > 1e-4
    with pytest.raises(BadArgument, match="no text encoder"):
        DiffusersDenoiser(stirred(wan))(X, seconds=SECONDS, noise=LEVEL, text=("a",))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(UnsupportedModel, match="Linear is no network that this reads"):
        DiffusersDenoiser(nn.Linear(2, 2))
    with pytest.raises(BadArgument, match="noise is 'frame'"):
        DiffusersDenoiser(stirred(motion), noise="frame")
    with pytest.raises(BadArgument, match="the rate is 0"):
        DiffusersDenoiser(stirred(wan), rate=0.0)
    with pytest.raises(BadArgument, match="expected 3 channels"):
        DiffusersDenoiser(stirred(wan))(X[:, :, :2], seconds=SECONDS, noise=LEVEL)
    with pytest.raises(BadArgument, match="takes multiples of 2"):
        DiffusersDenoiser(stirred(wan))(X[..., :7], seconds=SECONDS, noise=LEVEL)
