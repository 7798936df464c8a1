"""What sampling costs, counted where it is spent: calls of a denoiser, and the tokens it is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Work", "counted"]


@dataclass
class Work:
    """Work of a denoiser.

    Attributes:
        calls: of the model.
        tokens: that it was shown in all these calls together.
    """

    calls: int = 0
    tokens: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Work]:
    """Count what a denoiser does while the context lasts."""
    work, patch_px = Work(), getattr(model, "patch_px", 1)

    def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        x: Tensor = arguments[0]
        batch, time, _channels, height, width = x.shape
        work.calls += 1
        work.tokens += batch * time * (height // patch_px) * (width // patch_px)

    handle = model.register_forward_pre_hook(count)
    try:
        yield work
    finally:
        handle.remove()
