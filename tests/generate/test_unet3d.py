"""VideoUNet3D: diffusers' network behind our interface, and what its own order is worth."""

from pathlib import Path

import pytest
import torch

from legato.clock import load_older
from legato.errors import BadArgument
from legato.generate import VideoUNet3D
from legato.generate.unet3d import frame_order_leak

SECONDS = torch.arange(4, dtype=torch.float64)[None] / 10
X = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NOISE = torch.tensor([0.5])


def small(**options: object) -> VideoUNet3D:
    torch.manual_seed(0)
    return VideoUNet3D(widths=(16, 16), text_width=32, frames=4, **options).eval()  # type: ignore[arg-type]


def shaken(model: VideoUNet3D) -> VideoUNet3D:
    """Weights as after training: diffusers starts the temporal convolutions at zero."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_positions_tell_the_order_and_padding_alone_leaks_it() -> None:
    assert frame_order_leak(small(positions=False), frames=4, side_px=8) < 1e-4  # untrained: a bag of images
    assert frame_order_leak(small(), frames=4, side_px=8) > 0.01
    assert frame_order_leak(shaken(small(positions=False)), frames=4, side_px=8) > 0.01  # the zero padding in time


def test_an_older_checkpoint_without_positions_loads_and_says_the_same_bit_for_bit() -> None:
    older = shaken(small(positions=False))
    newer = small(zero_positions=True)
    state = {name.replace("unet.", "unet.denoiser.", 1): v for name, v in older.state_dict().items()}
    assert load_older(newer, state, may_lack=("unet.frame_positions",)) == ["unet.frame_positions.table"]
    with torch.no_grad():
        for text in (None, ["hello"]):
            a, b = (model(X, seconds=SECONDS, noise=NOISE, text=text) for model in (older, newer))
            assert torch.equal(a, b)


def test_text_and_noise_count() -> None:
    model = shaken(small())
    with torch.no_grad():
        plain = model(X, seconds=SECONDS, noise=NOISE)
        assert not torch.equal(plain, model(X, seconds=SECONDS, noise=NOISE, text=["hello"]))
        assert not torch.equal(plain, model(X, seconds=SECONDS, noise=torch.tensor([0.9])))
        assert torch.equal(plain, model(X, seconds=SECONDS, noise=torch.full((1, 4), 0.5)))


def test_what_it_cannot_do_is_told() -> None:
    model = small()
    for conditions, words in (
        ({"labels": torch.tensor([0])}, "takes no class"),
        ({"drive": X}, "takes no drive"),
        ({"known": torch.ones(1, 4, dtype=torch.bool)}, "takes no given frames"),
    ):
        with pytest.raises(BadArgument, match=words):
            model(X, seconds=SECONDS, noise=NOISE, **conditions)
    with pytest.raises(BadArgument, match="multiples of 2"):
        model(X[..., :7], seconds=SECONDS, noise=NOISE)
    with pytest.raises(BadArgument, match="multiples of 16"):
        VideoUNet3D(widths=(20, 40))
    for wrong, words in (
        ({"widths": (0, 16)}, "multiples of 16"),
        ({"layers": 0}, "layers is 0; expected 1 or more"),
        ({"text_width": 30}, "text_width is 30; expected a multiple of 4"),
    ):
        with pytest.raises(BadArgument, match=words):
            VideoUNet3D(**wrong)  # type: ignore[arg-type]


def test_it_trains_by_diffusion_from_a_recipe_and_samples(tmp_path: Path) -> None:
    from legato.generate import Ask, VideoGenerator, read_recipe, train

    (tmp_path / "r.yaml").write_text("""
model: {kind: VideoUNet3D, widths: [16, 16], text_width: 32, text_bytes: 16, frames: 4}
objective: {kind: diffusion, prediction: v}
data: {kind: puppets, side_px: 8, frames_per_batch: 8, lengths: [4], most_signs: 1}
training: {steps: 2, checkpoint_every: 2}
""")
    made = read_recipe(tmp_path / "r.yaml")
    train(made.generator, made.source, made.settings, tmp_path / "out", log=False)
    generator = VideoGenerator.from_pretrained(tmp_path / "out" / "final")
    clips = generator.sample(Ask(SECONDS, [0], text=["hello"], guidance=1.5))
    assert clips.shape == (1, 4, 3, 8, 8)
    assert bool(clips.isfinite().all())
