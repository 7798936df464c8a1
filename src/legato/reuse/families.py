"""The parts of each supported Hugging Face vision encoder, under one set of names.

A family says where a stock model keeps its embedding, its layers, its last norm and its pooling; the
model itself is used unmodified. Adding one is a function of ten lines and an entry in `FAMILIES`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from legato.errors import BadArgument, ModelNotFound, UnsupportedModel
from legato.reuse.attention import ATTENTION_NAME

__all__ = ["FAMILIES", "Parts", "load_model", "parts_of"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def unmasked(height: int, width: int) -> dict[str, Any]:
    """Every token sees every token."""
    return {"attention_mask": None}


@dataclass(frozen=True)
class Parts:
    """What the reuse encoder needs of a stock model.

    Attributes:
        model: the stock model, in evaluation mode.
        embed: normalised pixels `(1, 3, height, width)` to embedded tokens `(1, prefix + tokens, channels)`.
        projection: the patch convolution inside `embed`.
        layers: the transformer blocks, each token-wise but for attention.
        prefix: number of CLS, distillation and register tokens before the patch tokens.
        cls: whether token 0 is a CLS token.
        after_embedding: token-wise norm between embedding and first layer.
        finish: token-wise norm after the last layer, where the model's last hidden state has one.
        pool: finished tokens to the model's pooled output, or None.
        layer_arguments: extra keyword arguments of every layer, by picture size.
        rotary: cosine and sine `(tokens, head_dim)` of patch positions by picture size, or None.
        any_size: whether the model takes pictures of other sizes than its own.
        normalisation: mean and standard deviation of the inputs where no preprocessor file says otherwise.
    """

    model: Any
    embed: Callable[[Tensor], Tensor]
    projection: nn.Conv2d
    layers: nn.ModuleList
    prefix: int
    cls: bool = True
    after_embedding: nn.Module = field(default_factory=nn.Identity)
    finish: nn.Module = field(default_factory=nn.Identity)
    pool: Callable[[Tensor], Tensor] | None = None
    layer_arguments: Callable[[int, int], dict[str, Any]] = unmasked
    rotary: Callable[[int, int], tuple[Tensor, Tensor]] | None = None
    any_size: bool = True
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET

    @property
    def patch_px(self) -> int:
        """Side of a patch in pixels."""
        return int(self.projection.kernel_size[0])


def vit(model: Any) -> Parts:
    """ViT and DeiT: absolute positions, a CLS token (DeiT: a distillation token too), optional dense pooler."""
    prefix = 2 if model.config.model_type == "deit" else 1
    return Parts(
        model=model,
        embed=lambda x: model.embeddings(x, interpolate_pos_encoding=True),
        projection=model.embeddings.patch_embeddings.projection,
        layers=model.layers,
        prefix=prefix,
        finish=model.layernorm,
        pool=model.pooler,
        normalisation=IMAGENET if prefix == 2 else HALF,
    )


def dinov2(model: Any) -> Parts:
    """DINOv2, with or without registers: absolute positions, resized to the picture."""
    return Parts(
        model=model,
        embed=model.embeddings,
        projection=model.embeddings.patch_embeddings.projection,
        layers=model.encoder.layer,
        prefix=1 + getattr(model.config, "num_register_tokens", 0),
        finish=model.layernorm,
        pool=lambda tokens: tokens[:, 0],
    )


def dinov3(model: Any) -> Parts:
    """DINOv3: rotary positions on patch tokens, given to every layer."""

    def rotary(height: int, width: int) -> tuple[Tensor, Tensor]:
        weight = model.embeddings.patch_embeddings.weight
        return model.rope_embeddings(weight.new_empty(1, 3, height, width))

    return Parts(
        model=model,
        embed=model.embeddings,
        projection=model.embeddings.patch_embeddings,
        layers=model.model.layer,
        prefix=1 + model.config.num_register_tokens,
        finish=model.norm,
        pool=lambda tokens: tokens[:, 0],
        rotary=rotary,
    )


def clip(model: Any) -> Parts:
    """CLIP's image tower: norm before the layers; its last hidden state is not normed, its pooled CLS is."""
    return Parts(
        model=model,
        embed=lambda x: model.embeddings(x, interpolate_pos_encoding=True),
        projection=model.embeddings.patch_embedding,
        layers=model.encoder.layers,
        prefix=1,
        after_embedding=model.pre_layrnorm,
        pool=lambda tokens: model.post_layernorm(tokens[:, 0]),
        normalisation=CLIP,
    )


def siglip(model: Any) -> Parts:
    """SigLIP and fixed-resolution SigLIP 2: no CLS token, an attention head pools all tokens."""
    return Parts(
        model=model,
        embed=lambda x: model.embeddings(x, interpolate_pos_encoding=True),
        projection=model.embeddings.patch_embedding,
        layers=model.encoder.layers,
        prefix=0,
        cls=False,
        finish=model.post_layernorm,
        pool=model.head if model.use_head else None,
        normalisation=HALF,
    )


def beit(model: Any) -> Parts:
    """BEiT: relative position biases, from which the hook picks the rows; one picture size."""

    def arguments(height: int, width: int) -> dict[str, Any]:
        bias = model.shared_position_bias
        shared = bias((height // model.config.patch_size, width // model.config.patch_size)) if bias else None
        return {"resolution": (height, width), "attention_mask": shared}

    return Parts(
        model=model,
        embed=model.embeddings,
        projection=model.embeddings.patch_embeddings.projection,
        layers=model.layers,
        prefix=1,
        finish=model.layernorm,
        pool=model.pooler,
        layer_arguments=arguments,
        any_size=False,
        normalisation=HALF,
    )


@dataclass(frozen=True)
class Family:
    """How a model type is loaded and taken apart."""

    model_class: str
    parts: Callable[[Any], Parts]


FAMILIES = {
    "vit": Family("ViTModel", vit),
    "deit": Family("DeiTModel", vit),
    "dinov2": Family("Dinov2Model", dinov2),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", dinov2),
    "dinov3_vit": Family("DINOv3ViTModel", dinov3),
    "clip": Family("CLIPVisionModel", clip),
    "clip_vision_model": Family("CLIPVisionModel", clip),
    "siglip": Family("SiglipVisionModel", siglip),
    "siglip_vision_model": Family("SiglipVisionModel", siglip),
    "beit": Family("BeitModel", beit),
}

WHY_NOT = {
    "siglip2": "its packed variable-resolution input (NaFlex) has no fixed patch grid to follow; "
    "use a fixed-resolution SigLIP 2 checkpoint, for example google/siglip2-base-patch16-224",
    "siglip2_vision_model": "its packed variable-resolution input (NaFlex) has no fixed patch grid to follow; "
    "use a fixed-resolution SigLIP 2 checkpoint, for example google/siglip2-base-patch16-224",
    "swin": "its shifted windows are regrouped between layers, so tokens cannot be gathered",
    "swinv2": "its shifted windows are regrouped between layers, so tokens cannot be gathered",
    "convnext": "a convolutional network has no tokens to recompute one by one",
    "resnet": "a convolutional network has no tokens to recompute one by one",
}


def family_of(model_type: str) -> Family:
    """Look a transformers model type up.

    Raises:
        UnsupportedModel: the type is not in `FAMILIES`; the message says why and what to use.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    reason = WHY_NOT.get(model_type, "it is not a plain vision transformer that legato knows")
    raise UnsupportedModel(
        f"cannot reuse tokens of model type '{model_type}': {reason}. Supported types: {', '.join(sorted(FAMILIES))}"
    )


def parts_of(model: Any) -> Parts:
    """Take a stock transformers vision model apart, and route its attention through the hook.

    The hook is transformers' own SDPA attention except while a `ReuseEncoder` runs a frame.

    Raises:
        UnsupportedModel: the model is of another family, or of a width that the hook cannot serve.
    """
    config = getattr(model, "config", None)
    if config is None:
        raise UnsupportedModel(f"{type(model).__name__} is not a transformers model: it has no config")
    family = family_of(config.model_type)
    model = getattr(model, "vision_model", model)  # a two-tower CLIP or SigLIP: its image tower
    if type(model).__name__ != family.model_class:
        raise UnsupportedModel(
            f"expected the bare encoder {family.model_class}, got {type(model).__name__}; "
            "pass its base model, for example `model.base_model`"
        )
    parts = family.parts(model.eval())
    if parts.projection.stride != parts.projection.kernel_size or parts.patch_px != parts.projection.kernel_size[1]:
        raise UnsupportedModel("patches overlap or are not square; expected stride = kernel, square")
    model.set_attn_implementation(ATTENTION_NAME)
    return parts


def load_model(name_or_path: str, dtype: torch.dtype) -> Any:
    """Load the vision encoder of a hub name or local folder, without its other towers and heads.

    Raises:
        ModelNotFound: neither a local folder nor reachable on the hub.
        UnsupportedModel: of a family that cannot be reused.
    """
    import transformers

    on_hub = name_or_path.count("/") == 1 and name_or_path[0] not in "./~"
    if not on_hub and not Path(name_or_path).is_dir():
        raise ModelNotFound(
            f"no model '{name_or_path}': the bundled encoder is legato-tiny, there is no such folder, "
            "and names on the Hugging Face hub look like facebook/dinov2-small"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ModelNotFound(
            f"no model '{name_or_path}': neither a local folder with a readable config.json nor given by the hub "
            f"({str(error).splitlines()[0]})"
        ) from error
    family = family_of(config.model_type)
    try:
        return getattr(transformers, family.model_class).from_pretrained(name_or_path, dtype=dtype)
    except OSError as error:
        raise ModelNotFound(f"the weights of '{name_or_path}' cannot be read: {str(error).splitlines()[0]}") from error


@lru_cache(maxsize=8)
def normalisation_of(name_or_path: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation that the model's preprocessor file states, or None without one."""
    from transformers.utils import cached_file

    try:
        found = cached_file(name_or_path, "preprocessor_config.json")
    except OSError:
        return None
    stated = json.loads(Path(found).read_text()) if found else {}
    mean, std = stated.get("image_mean"), stated.get("image_std")
    return (tuple(mean), tuple(std)) if mean and std else None


def check_size(parts: Parts, size_px: tuple[int, int]) -> None:
    """Raise `BadArgument` unless the model takes pictures of this size."""
    height, width = size_px
    patch = parts.patch_px
    if height < patch or width < patch or height % patch or width % patch:
        near = tuple(max(patch, round(side / patch) * patch) for side in size_px)
        raise BadArgument(
            f"size {width}x{height} does not divide into patches of {patch} px; use {near[1]}x{near[0]}, for example"
        )
    own = parts.model.config.image_size
    own = (own, own) if isinstance(own, int) else tuple(own)
    if not parts.any_size and size_px != own:
        raise BadArgument(f"this model takes {own[1]}x{own[0]} only, not {width}x{height}; leave the size out")
