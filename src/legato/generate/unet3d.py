"""VideoUNet3D: diffusers' UNet3D told the order of frames, with text; one noise level for a clip."""

from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from legato.clock import WithFramePositions
from legato.errors import BadArgument, check_at_least
from legato.generate.text import ByteText, TextTokens

__all__ = ["VideoUNet3D", "frame_order_leak"]

Video = Float[Tensor, "batch time channels height width"]


class VideoUNet3D(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="legato",
    tags=["video-generation"],
    license="apache-2.0",
):
    """diffusers' `UNet3DConditionModel` behind the interface of every denoiser here.

    By itself that network only knows a clip's order through its convolutions in time, which are padded with zeros at
    both ends; see `frame_order_leak`.

    Args:
        channels: of a frame.
        widths: channels of its levels from the finest; each level halves the frame.
        layers: residual blocks a level.
        text_bytes: longest text.
        text_width: channels of the text's tokens, a multiple of 4.
        frames: of the learned positions, see `FramePositions`.
        positions: tell the order of frames; without it the network is as diffusers has it.
        zero_positions: start them at zero.
    """

    noise = "sample"

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (48, 96, 128),
        layers: int = 1,
        text_bytes: int = 32,
        text_width: int = 128,
        frames: int = 16,
        positions: bool = True,
        zero_positions: bool = False,
    ):
        super().__init__()
        from diffusers import UNet3DConditionModel

        check_at_least(1, channels=channels, layers=layers, text_bytes=text_bytes, text_width=text_width)
        if text_width % 4:
            raise BadArgument(f"text_width is {text_width}; expected a multiple of 4")
        if len(widths) < 2 or any(width < 16 or width % 16 for width in widths):
            raise BadArgument(f"widths are {list(widths)}; expected two or more multiples of 16")
        self.channels, self.patch_px = channels, 2 ** (len(widths) - 1)
        self.text = ByteText(text_width, text_bytes)
        levels = len(widths)
        unet: Any = UNet3DConditionModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock3D", *("CrossAttnDownBlock3D",) * (levels - 1)),
            up_block_types=(*("CrossAttnUpBlock3D",) * (levels - 1), "UpBlock3D"),
            layers_per_block=layers,
            norm_num_groups=16,
            cross_attention_dim=text_width,
            attention_head_dim=16,
        )
        self.unet: nn.Module = (
            WithFramePositions(unet, channels, frames, zero_init=zero_positions) if positions else unet
        )

    def forward(
        self,
        x: Video,
        *,
        seconds: Float64[Tensor, "batch time"],
        noise: Float[Tensor, " batch"] | Float[Tensor, "batch time"],
        text: Sequence[str] | TextTokens | None = None,
        labels: Int64[Tensor, " batch"] | None = None,
        drive: Tensor | None = None,
        known: Bool[Tensor, "batch time"] | None = None,
        rate_known: Bool[Tensor, " batch"] | None = None,
    ) -> Video:
        """What the objective asks for, of the shape of x.

        Args:
            x: noisy frames.
            seconds: must be one for each frame; this network only takes their order.
            noise: level of each sample, 0 to 1; where a level for each frame is given, all but clean ones are equal.
            text: of each sample; "" and None stand for none. Or what `text`, the model's own reader, made of them.
            labels: none.
            drive: none.
            known: none.
            rate_known: does not matter, as it is told no rate.

        Raises:
            BadArgument: a condition that it does not take, or a frame that does not halve often enough.
        """
        b, t, c, height, width = x.shape
        refused = {"class": labels, "drive": drive, "given frames": known}
        for name, value in refused.items():
            if value is not None and (name != "given frames" or bool(value.any())):
                raise BadArgument(f"VideoUNet3D takes no {name}; use VideoDiT")
        if seconds.shape != (b, t) or c != self.channels:
            raise BadArgument(
                f"x is {tuple(x.shape)} and seconds {tuple(seconds.shape)}; expected {self.channels} channels and one "
                "time for each frame"
            )
        if height % self.patch_px or width % self.patch_px:
            raise BadArgument(f"frames are {width}x{height}; this model takes multiples of {self.patch_px}")
        level = noise if noise.ndim == 1 else noise.amax(1)
        read = text if isinstance(text, TextTokens) else self.text(text if text is not None else ("",) * b)
        said = self.unet(x.transpose(1, 2), (999 * level).round().long(), encoder_hidden_states=read.tokens).sample
        return said.transpose(1, 2)


def frame_order_leak(model: VideoUNet3D, frames: int = 8, side_px: int = 16) -> float:
    """How much a network without positions still tells frames apart: by the zero padding of its convolutions in time.

    Returns:
        Largest difference between the output for frames in another order and the output put into that order, as a
        share of the output's standard deviation; 0 for a bag of images.
    """
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(1, frames, model.channels, side_px, side_px, generator=numbers)
    order = torch.randperm(frames, generator=numbers)
    seconds = torch.arange(frames, dtype=torch.float64)[None] / 10
    with torch.no_grad():
        straight = model(x, seconds=seconds, noise=torch.tensor([0.5]))
        shuffled = model(x[:, order], seconds=seconds, noise=torch.tensor([0.5]))
    return float((shuffled - straight[:, order]).abs().max() / straight.std())
