"""Where a generator works: on pixels, in the latents of a small autoencoder, or in those of diffusers' video VAEs.

Every kind maps frames and their seconds to latent frames and theirs, and back.
"""

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from legato.errors import BadArgument, ModelNotFound, UnsupportedModel
from legato.generate.piecewise import DECODERS, DecoderState, PiecewiseDecoder
from legato.nn import load_folder

__all__ = ["DiffusersLatents", "Latents", "Pixels", "TinyAutoencoder", "load_latents", "save_latents"]

Video = Float[Tensor, "batch time 3 height width"]
Latent = Float[Tensor, "batch latent_time channels rows columns"]
Seconds = Float64[Tensor, "batch time"]
Which = Bool[Tensor, "batch time"]


class Latents(ABC):
    """A space to generate in.

    Attributes:
        channels: of a latent frame.
        stride_px: pixels to a latent, in both directions.
        stride_frames: frames to a latent frame; over 1 the first frame has a latent of its own.
        together: latent frames after the first come in multiples of this.
        lookahead: latent frames that have to follow one before `decode_next` gives all its frames.
    """

    channels: int
    stride_px: int
    stride_frames: int = 1
    together: int = 1
    lookahead: int = 0

    @abstractmethod
    def encode(self, frames: Video) -> Latent:
        """Latents of frames from -1 to 1, of about unit variance."""

    @abstractmethod
    def decode(self, latents: Latent) -> Video:
        """Frames of latents."""

    def encode_where(self, frames: Video, which: Which) -> Latent:
        """Latents of some frames, anything elsewhere: where frames do not depend on each other, only these cost."""
        return self._where(self.encode, frames, which)

    def decode_where(self, latents: Latent, which: Which) -> Video:
        """Frames of some latents, likewise."""
        return self._where(self.decode, latents, which)

    def _where(self, code: Callable[[Tensor], Tensor], frames: Tensor, which: Which) -> Tensor:
        if self.stride_frames > 1 or not bool(which.any()):
            return code(frames)
        some = code(frames[which][None])[0]
        out = some.new_zeros(*which.shape, *some.shape[1:])
        out[which] = some
        return out

    def decode_next(self, latents: Latent, state: DecoderState | None = None) -> tuple[Video, DecoderState | None]:
        """Frames of the latents that follow those before; joined they are those of `decode`.

        Args:
            latents: any number of latent frames.
            state: what the last call gave; None at the beginning.

        Returns:
            The frames that are certain by now, and what to go on from; None where frames do not depend on each other.

        Raises:
            UnsupportedModel: a clip can only be decoded whole.
        """
        return self.decode(latents), None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Latents":
        """The same on a device, with weights of a precision; what goes in and comes out keeps its own."""
        return self

    def latent_frames(self, frames: int) -> int:
        """How many latent frames a clip has.

        Raises:
            BadArgument: the clip has no whole number of them.
        """
        step = self.stride_frames * self.together
        if (frames - 1) % step:
            lower = self.whole_frames(frames) - step
            raise BadArgument(
                f"clip has {frames} frames; these latents take 1 + multiples of {step}: use {lower} or {lower + step}"
            )
        return (frames - 1) // self.stride_frames + 1

    def whole_frames(self, frames: int) -> int:
        """The least number of frames, not under this one, that is a whole number of latents."""
        step = self.stride_frames * self.together
        return 1 + -(-(frames - 1) // step) * step

    def seconds(self, seconds: Seconds) -> Float64[Tensor, "batch latent_time"]:
        """Times of the latent frames: of the first frame, then means over each group of frames."""
        batch, frames = seconds.shape
        self.latent_frames(frames)
        if self.stride_frames == 1:
            return seconds
        groups = seconds[:, 1:].reshape(batch, -1, self.stride_frames).mean(-1)
        return torch.cat([seconds[:, :1], groups], 1)

    def latent_of(self, frame: int) -> int:
        """The latent frame that a frame is in."""
        return -(-frame // self.stride_frames)

    def frames_of(self, latent: int) -> range:
        """The frames that are in a latent frame."""
        last = latent * self.stride_frames
        return range(max(0, last - self.stride_frames + 1), last + 1)

    def twice_middle(self, latent: int) -> int:
        """Twice the mean number of the frames that are in a latent frame."""
        return max(0, (2 * latent - 1) * self.stride_frames + 1)


class Pixels(Latents):
    """No latents: frames as they are."""

    channels, stride_px, stride_frames = 3, 1, 1

    def encode(self, frames: Video) -> Latent:
        """The frames."""
        return frames

    def decode(self, latents: Latent) -> Video:
        """The latents."""
        return latents


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class TinyAutoencoder(nn.Module, Latents, PyTorchModelHubMixin, library_name="legato", license="apache-2.0"):
    """A small convolutional autoencoder, frame by frame; latents are bounded by a tanh and scaled to unit variance.

    Pixels are gathered into patches first and spread from them last, so that no convolution runs at full size: at
    equal quality that is several times faster than levels that begin with single pixels.

    Args:
        channels: of a latent.
        widths: channels of its levels from the finest; each but the last halves the grid of patches.
        patch_px: side of a patch.
    """

    scale: Tensor

    def __init__(self, channels: int = 8, widths: Sequence[int] = (64, 96), patch_px: int = 4):
        super().__init__()
        widths = tuple(widths)
        if not widths or any(width % 8 for width in widths):
            raise BadArgument(f"widths are {widths}; expected one or more multiples of 8")
        self.channels, self.stride_px, self.stride_frames = channels, patch_px * 2 ** (len(widths) - 1), 1
        values = 3 * patch_px**2
        down: list[nn.Module] = [nn.PixelUnshuffle(patch_px), nn.Conv2d(values, widths[0], 3, padding=1)]
        for a, b in itertools.pairwise(widths):
            down += [_Residual(a), nn.Conv2d(a, b, 2, 2)]
        self.encoder = nn.Sequential(*down, _Residual(widths[-1]), nn.Conv2d(widths[-1], channels, 1))
        up: list[nn.Module] = [nn.Conv2d(channels, widths[-1], 1), _Residual(widths[-1])]
        for a, b in itertools.pairwise(widths[::-1]):
            up += [nn.Conv2d(a, 4 * b, 1), nn.PixelShuffle(2), _Residual(b)]
        out = [nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], values, 3, padding=1)]
        self.decoder = nn.Sequential(*up, *out, nn.PixelShuffle(patch_px))
        self.register_buffer("scale", torch.ones(channels))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # as convolutions on CPUs like it best

    def encode(self, frames: Video) -> Latent:
        """See `Latents`."""
        b, t = frames.shape[:2]
        _check_size(frames, self.stride_px)
        raw = torch.tanh(self.encoder(frames.flatten(0, 1).to(self.scale.dtype)) / 3) * 3 / self.scale[:, None, None]
        return raw.contiguous().unflatten(0, (b, t)).to(frames.dtype)

    def decode(self, latents: Latent) -> Video:
        """See `Latents`."""
        b, t = latents.shape[:2]
        frames: Tensor = self.decoder(latents.flatten(0, 1).to(self.scale.dtype) * self.scale[:, None, None])
        return frames.contiguous().unflatten(0, (b, t)).to(latents.dtype)


class DiffusersLatents(Latents):
    """The latents of one of diffusers' VAEs: of images frame by frame, or of video with strides in time.

    Args:
        vae: such as `AutoencoderKL`, `AutoencoderKLWan`, `AutoencoderKLLTXVideo` or `AutoencoderKLCogVideoX`; it stays
            as it is.
        name: by which it can be loaded again.

    Raises:
        UnsupportedModel: it is something else.
    """

    def __init__(self, vae: nn.Module, name: str = ""):
        config: Any = vae.config
        self.vae, self.name = vae.eval().requires_grad_(False), name
        self.video = getattr(vae, "use_framewise_encoding", None) is not None or _takes_video(vae)
        self.channels = int(config.get("latent_channels") or config.get("z_dim") or 0)
        if not self.channels:
            raise UnsupportedModel(f"{type(vae).__name__} has neither latent_channels nor z_dim; is it a VAE?")
        mean, std = config.get("latents_mean"), config.get("latents_std")
        shape = (1, self.channels, 1, 1, 1)
        self._mean = torch.tensor(mean).view(shape) if mean else torch.zeros(shape)
        self._std = torch.tensor(std).view(shape) if std else torch.ones(shape) / float(config.get("scaling_factor", 1))
        self.stride_px, self.stride_frames = self._strides()
        decoder = DECODERS.get(type(vae).__name__)
        self.together = 1 if decoder is None else decoder.following
        self.lookahead = 0 if decoder is None else decoder.lookahead(vae)
        self._told_noise = bool(config.get("timestep_conditioning"))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> "DiffusersLatents":
        """Load a VAE by name or folder; its class is read from its configuration.

        Raises:
            ModelNotFound: there is none.
        """
        import diffusers

        try:
            config = diffusers.AutoencoderKL.load_config(str(name_or_path), **options)
            kind = getattr(diffusers, config["_class_name"])
            return cls(kind.from_pretrained(str(name_or_path), **options), str(name_or_path))
        except (OSError, KeyError, AttributeError) as error:
            raise ModelNotFound(f"no VAE of diffusers at '{name_or_path}': {error}") from error

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "DiffusersLatents":
        """See `Latents`."""
        self.vae.to(device, dtype)
        return self

    def encode(self, frames: Video) -> Latent:
        """See `Latents`; the mean of the posterior."""
        _check_size(frames, self.stride_px)
        self.latent_frames(frames.shape[1])
        shown = frames.to(self._dtype)
        with torch.no_grad():
            if self.video:
                raw = self.vae.encode(shown.transpose(1, 2)).latent_dist.mode()  # type: ignore[operator]
            else:
                flat = self.vae.encode(shown.flatten(0, 1)).latent_dist.mode()  # type: ignore[operator]
                raw = flat.unflatten(0, frames.shape[:2]).transpose(1, 2)
        raw = raw.to(frames.dtype)
        return ((raw - self._mean.to(raw)) / self._std.to(raw)).transpose(1, 2)

    def decode(self, latents: Latent) -> Video:
        """See `Latents`."""
        raw = self._raw(latents)
        with torch.no_grad():
            if self.video:
                told = {"temb": raw.new_zeros(len(raw))} if self._told_noise else {}  # latents are clean
                frames: Tensor = self.vae.decode(raw, **told).sample.transpose(1, 2)  # type: ignore[operator]
                return frames.to(latents.dtype)
            flat: Tensor = self.vae.decode(raw.transpose(1, 2).flatten(0, 1)).sample  # type: ignore[operator]
        return flat.unflatten(0, latents.shape[:2]).to(latents.dtype)

    def decode_next(self, latents: Latent, state: DecoderState | None = None) -> tuple[Video, DecoderState | None]:
        """See `Latents`; what is kept are the caches of the VAE's convolutions."""
        if not self.video:
            return super().decode_next(latents)
        with torch.no_grad():
            made, state = PiecewiseDecoder.of(self.vae)(self.vae, self._raw(latents), state)
        height, width = (side * self.stride_px for side in latents.shape[-2:])
        none = latents.new_zeros(len(latents), 0, 3, height, width)
        return torch.cat([none, *(frames.transpose(1, 2).to(none.dtype) for frames in made)], 1), state

    def _raw(self, latents: Latent) -> Float[Tensor, "batch channels latent_time rows columns"]:
        """Latents as the VAE has them."""
        raw = latents.transpose(1, 2)
        return (raw * self._std.to(raw) + self._mean.to(raw)).to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the VAE, but for modules that stay in float32."""
        vae: Any = self.vae
        dtype: torch.dtype = vae.dtype
        return dtype

    def _strides(self) -> tuple[int, int]:
        """How much it shrinks, as it says itself, or from its blocks."""
        vae: Any = self.vae
        space = vae.config.get("scale_factor_spatial") or getattr(vae, "spatial_compression_ratio", None)
        time = vae.config.get("scale_factor_temporal") or vae.config.get("temporal_compression_ratio")
        time = time or getattr(vae, "temporal_compression_ratio", None)
        if vae.config.get("temperal_downsample") is not None:  # Wan's configurations spell it so
            blocks = list(vae.config["temperal_downsample"])
            return 2 ** len(blocks) * (vae.config.get("patch_size") or 1), 2 ** sum(blocks)
        if space is None:
            space = 2 ** (len(vae.config["block_out_channels"]) - 1)
        return int(space), int(time or 1) if self.video else 1


def load_latents(settings: dict[str, Any], folder: Path) -> Latents:
    """The latents that a generator in a folder works in.

    Args:
        settings: `kind`, and for `diffusers` the VAE's `name`, for `tiny` the `folder` of the autoencoder where it is
            not beside the generator.
        folder: of the generator.

    Raises:
        BadArgument: they are of no known kind, or what their kind needs is missing.
        ModelNotFound: there is no such VAE.
    """
    kind = settings.get("kind")
    if kind == "pixels":
        return Pixels()
    if kind == "tiny":
        place = Path(settings.get("folder") or folder / "latents")
        if not (place / "config.json").exists():
            raise BadArgument(f"there is no autoencoder in {place}; train one, see recipes/latents.py")
        return load_folder(TinyAutoencoder, place).requires_grad_(False)
    if kind == "diffusers":
        if not settings.get("name"):
            raise BadArgument("latents of kind diffusers need the name or folder of a VAE, latents.name")
        return DiffusersLatents.from_pretrained(settings["name"])
    raise BadArgument(f"latents.kind is {kind!r}; expected pixels, tiny or diffusers")


def save_latents(latents: Latents, folder: Path) -> dict[str, Any]:
    """Write them beside a generator where they are ours, and say what `load_latents` needs."""
    if isinstance(latents, TinyAutoencoder):
        copy.deepcopy(latents).half().save_pretrained(folder / "latents")
        return {"kind": "tiny"}
    return {"kind": "diffusers", "name": latents.name} if isinstance(latents, DiffusersLatents) else {"kind": "pixels"}


def _takes_video(vae: nn.Module) -> bool:
    """Whether its convolutions are in three dimensions."""
    return any(isinstance(module, nn.Conv3d) for module in vae.modules())


def _check_size(frames: Video, stride_px: int) -> None:
    height, width = frames.shape[-2:]
    if height % stride_px or width % stride_px:
        raise BadArgument(f"frames are {width}x{height}; these latents take multiples of {stride_px} both ways")
