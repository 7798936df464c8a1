"""diffusers' video transformers and motion UNets as denoisers that are told each frame's seconds.

Their own code counts frames from 0 in every call. Here a frame's position is its seconds times the rate that the
network was trained at, any real number: so positions run on from call to call, a gap in time is a gap, and another
rate is another rate. Rotary positions (Wan, LTX) only tell distances, so a stream may run for ever. The sines that
AnimateDiff's motion modules add tell places: beyond the length they were trained on (32 frames mostly) they go on by
their formula, which the network has not seen.
"""

import copy
import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from legato.errors import BadArgument, UnsupportedModel

__all__ = ["DiffusersDenoiser"]

Video = Float[Tensor, "batch time channels height width"]
TextEncoder = Callable[[Sequence[str]], tuple[Float[Tensor, "batch tokens width"], Bool[Tensor, "batch tokens"]]]
"""Embeddings of texts, as the network was trained with, and which tokens count."""

KINDS = {
    "WanTransformer3DModel": "wan",
    "LTXVideoTransformer3DModel": "ltx",
    "UNetMotionModel": "motion",
}
_positions: ContextVar[Tensor] = ContextVar("positions")


class DiffusersDenoiser(nn.Module):
    """The denoiser protocol over one of diffusers' networks, whose weights it shares and which it leaves as it is.

    Objectives: `FlowMatching("velocity")` for Wan and LTX, `Diffusion` for motion UNets.

    Args:
        network: a `WanTransformer3DModel`, `LTXVideoTransformer3DModel` or `UNetMotionModel`.
        rate: latent frames per second that it was trained at; LTX was told seconds and needs none.
        noise: `sample`, as it comes; `frame` if it was trained further with a level for each frame (Wan and LTX).
        text: encodes texts; one blank token without it.

    Raises:
        UnsupportedModel: the network is something else.
        BadArgument: a motion UNet cannot take noise by frame, or the rate is not positive.
    """

    def __init__(
        self, network: nn.Module, *, rate: float = 16.0, noise: str = "sample", text: TextEncoder | None = None
    ):
        super().__init__()
        name = type(network).__name__
        if name not in KINDS:
            raise UnsupportedModel(f"{name} is no network that this reads; expected one of {', '.join(KINDS)}")
        if noise not in ("sample", "frame") or (noise == "frame" and KINDS[name] == "motion"):
            raise BadArgument(f"noise is '{noise}'; expected sample, or for Wan and LTX frame")
        if not rate > 0:
            raise BadArgument(f"the rate is {rate:g} frames per second; expected more than 0")
        config: Any = network.config
        self.kind, self.rate, self.noise, self.text = KINDS[name], rate, noise, text
        self.channels = int(config["in_channels"])
        self.classes = self.drive_channels = 0
        swapped = {"wan": ("WanRotaryPosEmbed", _WanTurns), "motion": ("SinusoidalPositionalEmbedding", _Sines)}
        self.network: Any = network
        if self.kind in swapped:
            self.network = _swapped(network, *swapped[self.kind])
        self.patch_px, self.width, self._text_width = self._sizes(config)

    def forward(
        self,
        x: Video,
        *,
        seconds: Float64[Tensor, "batch time"],
        noise: Float[Tensor, "batch time"] | Float[Tensor, " batch"],
        text: Sequence[str] | None = None,
        known: Bool[Tensor, "batch time"] | None = None,
        rate_known: Bool[Tensor, " batch"] | None = None,
    ) -> Video:
        """What the network was trained to say (a velocity, or the noise), of the shape of x.

        Args:
            x: noisy latent frames.
            seconds: of each, rising.
            noise: level of each sample or frame, 0 clean to 1 noise.
            text: of each sample; "" and None stand for none.
            known: frames that are given, clean in x; a network with noise by frame knows them by their level.
            rate_known: does not matter.

        Raises:
            BadArgument: sizes that do not fit, or a condition that this network does not take.
        """
        b, t, c, height, width = x.shape
        if c != self.channels or seconds.shape != (b, t):
            raise BadArgument(
                f"x is {tuple(x.shape)} and seconds {tuple(seconds.shape)}; expected {self.channels} channels and one "
                "time for each frame"
            )
        if height % self.patch_px or width % self.patch_px:
            raise BadArgument(f"latents are {width}x{height}; this network takes multiples of {self.patch_px}")
        if self.noise == "sample" and known is not None and bool(known.any()):
            raise BadArgument("this network has one noise level for all frames and takes no given ones")
        levels = noise if noise.ndim == 2 else noise[:, None].expand(b, t)
        if self.noise == "sample":
            levels = levels.amax(1, keepdim=True).expand(b, t)
        given_as, x = x.dtype, x.to(self.network.dtype)
        tokens, counts = self._told(text, b, x)
        if self.kind == "ltx":
            return self._ltx(x, seconds, levels, tokens, counts).to(given_as)
        if self.kind == "wan":
            seconds = seconds - seconds[:, :1]  # a distance is all that turns tell
        places = _positions.set((seconds * self.rate).to(x.device))
        try:
            said = self._wan(x, levels, tokens) if self.kind == "wan" else self._motion(x, levels, tokens)
        finally:
            _positions.reset(places)
        return said.to(given_as)

    # --- parts

    def _wan(self, x: Video, levels: Tensor, tokens: Tensor) -> Video:
        across, rows, columns = self.network.config["patch_size"]
        if x.shape[1] % across:
            raise BadArgument(f"{x.shape[1]} latent frames; this network takes multiples of {across}")
        patches = x.shape[-2] // rows * (x.shape[-1] // columns)
        times = 1000 * levels[:, 0]
        if self.noise == "frame":
            times = 1000 * levels[:, ::across].repeat_interleave(patches, 1)
        said: Tensor = self.network(x.transpose(1, 2), times, tokens, return_dict=False)[0]
        return said.transpose(1, 2)

    def _ltx(self, x: Video, seconds: Tensor, levels: Tensor, tokens: Tensor, counts: Tensor) -> Video:
        b, t, _, height, width = x.shape
        sequence = x.permute(0, 1, 3, 4, 2).reshape(b, t * height * width, -1)
        when = (seconds - seconds[:, :1]).to(levels)[:, :, None, None].expand(b, t, height, width)
        down = 32 * torch.arange(height).to(levels)[:, None].expand(b, t, height, width)
        across = 32 * torch.arange(width).to(levels).expand(b, t, height, width)
        places = torch.stack([when, down, across], 1).flatten(2)
        times = 1000 * levels.repeat_interleave(height * width, 1)
        said: Tensor = self.network(sequence, tokens, times, counts.to(x), video_coords=places, return_dict=False)[0]
        return said.reshape(b, t, height, width, -1).permute(0, 1, 4, 2, 3)

    def _motion(self, x: Video, levels: Tensor, tokens: Tensor) -> Video:
        times = (999 * levels[:, 0]).round().long()
        each = tokens.repeat_interleave(x.shape[1], 0)  # it attends to text frame by frame
        said: Tensor = self.network(x.transpose(1, 2), times, each, return_dict=False)[0]
        return said.transpose(1, 2)

    def _told(self, text: Sequence[str] | None, batch: int, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.text is None:
            if text is not None and any(text):
                raise BadArgument("this network was given no text encoder; pass one as text=")
            return x.new_zeros(batch, 1, self._text_width), torch.ones(batch, 1, dtype=torch.bool, device=x.device)
        tokens, counts = self.text(text if text is not None else ("",) * batch)
        return tokens.to(x), counts.to(x.device)

    def _sizes(self, config: Any) -> tuple[int, int, int]:
        """Side of a patch, channels of a token, and width of a text's tokens."""
        if self.kind == "motion":
            widths = config["block_out_channels"]
            return 2 ** (len(widths) - 1), int(widths[0]), int(config["cross_attention_dim"])
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        if self.kind == "wan":
            return int(config["patch_size"][1]), width, int(config["text_dim"])
        return 1, width, int(config["caption_channels"])


class _WanTurns(nn.Module):
    """Rotary turns of Wan's patches, whose frames stand at the positions that are set."""

    def __init__(self, old: Any):
        super().__init__()
        self.patch_size, self.theta = old.patch_size, 10000.0
        self.dims = (old.t_dim, old.h_dim, old.w_dim)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (batch, tokens, 1, channels of a head)."""
        across, rows, columns = self.patch_size
        height, width = hidden_states.shape[-2] // rows, hidden_states.shape[-1] // columns
        frames = _positions.get()[:, ::across] / across
        b, t = frames.shape
        grid = [
            frames[:, :, None, None].expand(b, t, height, width),
            torch.arange(height).to(frames)[:, None].expand(b, t, height, width),
            torch.arange(width).to(frames).expand(b, t, height, width),
        ]
        angles = torch.cat(
            [_angles(place.flatten(1), dim, self.theta) for place, dim in zip(grid, self.dims, strict=True)], -1
        )
        angles = angles.repeat_interleave(2, -1)[:, :, None]
        return angles.cos().float(), angles.sin().float()


class _Sines(nn.Module):
    """Sines and cosines of the positions that are set, added as motion modules do."""

    def __init__(self, old: Any):
        super().__init__()

    def forward(self, x: Float[Tensor, "rows time channels"]) -> Float[Tensor, "rows time channels"]:
        """With them added; the rows of a sample follow each other."""
        angles = _angles(_positions.get(), x.shape[-1], 10000.0)
        added = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).to(x)
        return x + added.repeat_interleave(len(x) // len(added), 0)


def _angles(positions: Float64[Tensor, "batch places"], dim: int, theta: float) -> Float64[Tensor, "batch places half"]:
    """position / theta^(2 k / dim) for k under dim / 2 (Vaswani et al. 2017, section 3.5)."""
    k = torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device)
    return positions[..., None] * torch.exp(-math.log(theta) * k / dim)


def _swapped(module: nn.Module, name: str, make: Callable[[Any], nn.Module]) -> nn.Module:
    """The module with all parts of a class made anew: shares all weights, and nothing that was given changes."""
    if type(module).__name__ == name:
        return make(module)
    parts = {key: None if part is None else _swapped(part, name, make) for key, part in module._modules.items()}
    if all(part is module._modules[key] for key, part in parts.items()):
        return module
    shell = copy.copy(module)
    shell._modules = parts
    return shell
