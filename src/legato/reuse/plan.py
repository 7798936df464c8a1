"""What will be done for one frame, and why."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

__all__ = ["Look", "Mode", "Plan"]

Mode = Literal["full", "partial", "hold"]


@dataclass(frozen=True)
class Look:
    """What a policy may look at.

    Attributes:
        seconds: time of the frame.
        change: change of each token's picture since its last recomputation, `(rows, columns)`, 0 if equal.
        recomputed_at: seconds of each token's last recomputation, `float64 (rows, columns)`.
        turnover: how many tokens partial frames have recomputed so far, in whole pictures (1.5 is one and a half
            times as many as there are).
        turnover_at: the turnover at each token's last recomputation, `float64 (rows, columns)`.
    """

    seconds: float
    change: Float[Tensor, "rows columns"]
    recomputed_at: Float[Tensor, "rows columns"]
    turnover: float
    turnover_at: Float[Tensor, "rows columns"]


@dataclass(frozen=True)
class Plan:
    """One frame's plan.

    Attributes:
        mode: `full` runs the stock model, `partial` recomputes some tokens, `hold` runs nothing.
        tokens: patch tokens to recompute, ascending, row-major in the grid.
        reason: what decided it, for people: "cold start", "cut", "change", "unchanged" ...
    """

    mode: Mode
    tokens: Int64[Tensor, " count"]
    reason: str

    @classmethod
    def full(cls, token_count: int, reason: str) -> "Plan":
        """Recompute everything."""
        return cls("full", torch.arange(token_count), reason)

    @classmethod
    def of(cls, selected: Bool[Tensor, "rows columns"], full_above: float) -> "Plan":
        """Recompute the selected tokens; all of them where that is hardly more work."""
        tokens = selected.flatten().nonzero().flatten()
        if not len(tokens):
            return cls("hold", tokens, "unchanged")
        if len(tokens) > full_above * selected.numel():
            return cls.full(selected.numel(), "most tokens changed")
        return cls("partial", tokens, "change")
