"""Decoding latents of video VAEs piece by piece: the frames are those of decoding all at once.

Causal decoders of diffusers decode a clip a few latent frames at a time too and keep, for every convolution, the last
frames it saw. They begin anew with every call of `decode`; here what is kept goes in and comes out, so a stream never
ends. A decoder that looks ahead gives each frame as soon as that is certain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import UnsupportedModel
from legato.generate.lookahead import check_ltx, decode_ltx, ltx_lookahead

__all__ = ["DECODERS", "DecoderState", "PiecewiseDecoder"]

Frames = Float[Tensor, "batch 3 time height width"]
Latent = Float[Tensor, "batch channels latent_time rows columns"]


@dataclass(frozen=True, eq=False)
class DecoderState:
    """What a decoder keeps between two pieces. A value: it never changes, and its size is bounded.

    Attributes:
        waiting: latents that are decoded together with those that follow.
        caches: lists and dicts of tensors, as the VAE's class has them; None before the first piece.
    """

    waiting: Latent
    caches: Any = None

    @property
    def nbytes(self) -> int:
        """Memory of its tensors."""
        return sum(tensor.untyped_storage().nbytes() for tensor in _tensors([self.waiting, self.caches]))

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "DecoderState":
        """The same on a device, and in a precision."""
        return DecoderState(self.waiting.to(device, dtype), _moved(self.caches, device, dtype))


@dataclass(frozen=True)
class PiecewiseDecoder:
    """How one class of VAEs decodes a clip: in pieces of so many latent frames, with what each leaves for the next.

    Attributes:
        first: latent frames of the first piece.
        following: of every other one.
        decode: frames of a piece and the caches after it, of the VAE, the latents and the caches before.
        lookahead: how many latent frames have to follow one before all its frames are certain, of the VAE.
        check: raises `UnsupportedModel` for a VAE of that class that does not decode so.
    """

    first: int
    following: int
    decode: Callable[[Any, Latent, Any], tuple[Frames, Any]]
    lookahead: Callable[[Any], int] = lambda _: 0
    check: Callable[[Any], None] = lambda _: None

    @classmethod
    def of(cls, vae: nn.Module) -> "PiecewiseDecoder":
        """That of a VAE.

        Raises:
            UnsupportedModel: it has none.
        """
        name = type(vae).__name__
        if name not in DECODERS:
            raise UnsupportedModel(
                f"{name} keeps nothing from one call of its decoder to the next, so a clip has to be decoded whole; "
                f"streams decode with {', '.join(DECODERS)}, image VAEs, and the autoencoder of recipes/latents.py"
            )
        DECODERS[name].check(vae)
        return DECODERS[name]

    def __call__(
        self, vae: nn.Module, latents: Latent, state: DecoderState | None
    ) -> tuple[list[Frames], DecoderState]:
        """Pieces that are whole with the latents that follow those before, as frames, and what is kept."""
        state = DecoderState(latents[:, :, :0]) if state is None else state.to(latents.device, latents.dtype)
        coming, caches, made = torch.cat([state.waiting, latents], 2), state.caches, []
        while coming.shape[2] >= (piece := self.first if caches is None else self.following):
            frames, caches = self.decode(vae, coming[:, :, :piece], caches)
            made.append(frames)
            coming = coming[:, :, piece:]
        return made, DecoderState(coming.clone(), caches)


def _wan(vae: Any, latents: Latent, caches: list[Any] | None) -> tuple[Frames, list[Any]]:
    """One latent frame: one frame at the beginning, and as many as the stride in time after it."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    kept = [None] * sum(isinstance(part, nn.Conv3d) for part in vae.decoder.modules()) if caches is None else [*caches]
    frames = vae.decoder(
        vae.post_quant_conv(latents), feat_cache=kept, feat_idx=[0], first_chunk=caches is None
    )  # replaces what is in the list, and changes none of it
    if vae.config.patch_size is not None:
        frames = unpatchify(frames, patch_size=vae.config.patch_size)
    return frames.clamp(-1.0, 1.0), kept


def _cogvideox(vae: Any, latents: Latent, caches: dict[str, Any] | None) -> tuple[Frames, dict[str, Any]]:
    """Three latent frames at the beginning, two after: group norms see a piece as a whole."""
    if vae.post_quant_conv is not None:
        latents = vae.post_quant_conv(latents)
    frames, kept = vae.decoder(latents, conv_cache=caches)
    return frames, kept


DECODERS: dict[str, PiecewiseDecoder] = {
    "AutoencoderKLWan": PiecewiseDecoder(1, 1, _wan),
    "AutoencoderKLCogVideoX": PiecewiseDecoder(3, 2, _cogvideox),
    "AutoencoderKLLTXVideo": PiecewiseDecoder(1, 1, decode_ltx, ltx_lookahead, check_ltx),
}


def _moved(kept: Any, device: str | torch.device, dtype: torch.dtype | None) -> Any:
    if isinstance(kept, dict):
        return {key: _moved(value, device, dtype) for key, value in kept.items()}
    if isinstance(kept, list):
        return [_moved(value, device, dtype) for value in kept]
    return kept.to(device, dtype) if isinstance(kept, Tensor) else kept


def _tensors(kept: Any) -> Iterator[Tensor]:
    if isinstance(kept, Tensor):
        yield kept
    elif isinstance(kept, (dict, list)):
        for value in kept.values() if isinstance(kept, dict) else kept:
            yield from _tensors(value)
