"""A larger model in the place of a checkpoint's: what it says means nothing, and takes the time that it takes."""

from dataclasses import replace
from typing import Any

from legato.generate import VideoDiT, VideoGenerator
from legato.generate.dit import SIZES

__all__ = ["SIZES", "enlarged"]


def enlarged(generator: VideoGenerator, size: str | None) -> VideoGenerator:
    """The generator with an untrained VideoDiT of that size and its own model's conditions; itself without one."""
    if size is None:
        return generator
    model: Any = generator.model
    return replace(generator, model=VideoDiT(**model._hub_mixin_config | SIZES[size]).eval())
