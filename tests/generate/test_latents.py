"""Latents: frames and their times go there and back, also through diffusers' own classes."""

from pathlib import Path

import pytest
import torch

from legato.errors import BadArgument, ModelNotFound
from legato.generate.latents import DiffusersLatents, Latents, Pixels, TinyAutoencoder

FRAMES = torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
SECONDS = torch.tensor([[0.0, 0.1, 0.2, 0.4, 0.8], [0.0, 0.04, 0.08, 0.12, 0.16]], dtype=torch.float64)


def image_vae() -> torch.nn.Module:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, scaling_factor=0.5,
    )  # fmt: skip


def wan_vae() -> torch.nn.Module:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[2.0] * 4,
        temperal_downsample=[False, True, True],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("latents", "channels", "stride_px", "stride_frames"),
    [
        (Pixels(), 3, 1, 1),
        (TinyAutoencoder(4, (8, 16), 2), 4, 4, 1),
        (DiffusersLatents(image_vae()), 4, 2, 1),
        (DiffusersLatents(wan_vae()), 4, 8, 4),
    ],
    ids=["pixels", "tiny", "AutoencoderKL", "AutoencoderKLWan"],
)
def test_sizes_and_times_fit(latents: Latents, channels: int, stride_px: int, stride_frames: int) -> None:
    assert (latents.channels, latents.stride_px, latents.stride_frames) == (channels, stride_px, stride_frames)
    with torch.no_grad():
        there = latents.encode(FRAMES)
        back = latents.decode(there)
    time = latents.latent_frames(5)
    assert there.shape == (2, time, channels, 16 // stride_px, 16 // stride_px)
    assert back.shape == FRAMES.shape
    assert latents.seconds(SECONDS).shape == (2, time)


def test_what_diffusers_would_encode_is_what_comes_out() -> None:
    vae = wan_vae()
    with torch.no_grad():
        expected = (vae.encode(FRAMES.transpose(1, 2)).latent_dist.mode() - 0.1) / 2
    torch.testing.assert_close(DiffusersLatents(vae).encode(FRAMES), expected.transpose(1, 2))


def test_latents_of_four_frames_have_the_mean_of_their_times() -> None:
    latents = DiffusersLatents(wan_vae())
    expected = torch.tensor([[0.0, 0.375], [0.0, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(latents.seconds(SECONDS), expected)
    assert latents.latent_frames(81) == 21
    assert [latents.latent_of(frame) for frame in (0, 1, 4, 5, 80)] == [0, 1, 1, 2, 20]
    with pytest.raises(BadArgument, match="use 5 or 9"):
        latents.latent_frames(6)


def test_a_size_that_does_not_divide_is_told() -> None:
    with pytest.raises(BadArgument, match="multiples of 8"):
        DiffusersLatents(wan_vae()).encode(FRAMES[..., :12])


def test_a_vae_is_loaded_with_its_own_class(tmp_path: Path) -> None:
    wan_vae().save_pretrained(tmp_path)
    loaded = DiffusersLatents.from_pretrained(tmp_path)
    assert type(loaded.vae).__name__ == "AutoencoderKLWan"
    torch.testing.assert_close(loaded.encode(FRAMES), DiffusersLatents(wan_vae()).encode(FRAMES))
    with pytest.raises(ModelNotFound, match="no VAE"):
        DiffusersLatents.from_pretrained(tmp_path / "none")


def test_a_generator_in_latents_is_saved_with_them_and_makes_frames(tmp_path: Path) -> None:
    from legato.generate import Ask, FlowMatching, VideoDiT, VideoGenerator

    torch.manual_seed(0)
    for latents in (TinyAutoencoder(4, (8, 16), 2), DiffusersLatents(wan_vae(), str(tmp_path / "vae"))):
        if isinstance(latents, DiffusersLatents):
            latents.vae.save_pretrained(tmp_path / "vae")
        model = VideoDiT(channels=4, patch_px=1, width=32, depth=1, heads=2)
        made = VideoGenerator(model, FlowMatching(), 16, 16, latents=latents)
        made.save_pretrained(tmp_path / "made", half=False)
        loaded = VideoGenerator.from_pretrained(tmp_path / "made")
        known = torch.zeros(2, 5, dtype=torch.bool)
        known[:, 0] = True
        ask = Ask(SECONDS, [0, 1], given=FRAMES, known=known)
        clips = loaded.sample(ask)
        assert clips.shape == FRAMES.shape
        torch.testing.assert_close(clips, made.sample(ask), atol=1e-2, rtol=1e-2)  # latents are kept in half precision
        assert torch.equal(clips[:, 0], FRAMES[:, 0])


def test_frames_that_do_not_depend_on_each_other_are_coded_one_by_one() -> None:
    latents = TinyAutoencoder(4, (16,), 4).eval()
    frames, which = torch.randn(2, 5, 3, 8, 8), torch.tensor([[True, False, False, True, False], [False] * 4 + [True]])
    coded: list[int] = []
    hooks = [
        part.register_forward_pre_hook(lambda _, x: coded.append(len(x[0])))
        for part in (latents.encoder, latents.decoder)
    ]
    with torch.inference_mode():
        some = latents.encode_where(frames, which)
        back = latents.decode_where(some, which)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(some[which], latents.encode(frames)[which])
        torch.testing.assert_close(back[which], latents.decode(latents.encode(frames))[which])
    assert coded == [3, 3]


def test_a_generator_takes_the_place_of_an_older_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from legato.generate import FlowMatching, VideoDiT, VideoGenerator

    made = VideoGenerator(VideoDiT(patch_px=8, width=32, depth=1, heads=2), FlowMatching(), 16, 16)
    folder, mine = tmp_path / "made", tmp_path / "made.part"
    mine.mkdir()
    (mine / "a").write_text("mine")
    for trained in ({"steps": 1}, {"steps": 2}):
        made.trained = trained
        made.save_pretrained(folder)
        assert VideoGenerator.from_pretrained(folder).trained == trained

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("legato.generate.generator.save_latents", full)
    with pytest.raises(OSError, match="No space left"):
        made.save_pretrained(folder)
    assert VideoGenerator.from_pretrained(folder).trained == {"steps": 2}
    assert sorted(tmp_path.iterdir()) == [folder, mine]
    assert (mine / "a").read_text() == "mine"


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_the_middle_of_a_latent_frame_is_that_of_its_frames(stride: int) -> None:
    latents = Pixels()
    latents.stride_frames = stride  # type: ignore[misc]
    for number in range(5):
        frames = latents.frames_of(number)
        assert latents.twice_middle(number) == frames[0] + frames[-1]
