"""The attention hook: keep every layer's keys and values, attend from the recomputed rows only.

Everything in a transformer block except attention works token by token. So an unmodified Hugging Face
encoder runs on a few gathered tokens alone, provided that its attention sees the keys and values of all
tokens. `remembering_attention` is registered with transformers' `AttentionInterface` and does just that
while a `Recomputation` is active; otherwise it is transformers' own SDPA attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["ATTENTION_NAME", "Recomputation", "Rows", "recomputing"]

ATTENTION_NAME = "legato"


@dataclass
class Rows:
    """The rows of one frame in a recomputation.

    Frames of one stream share `keys` and `values` and stand in order: each overwrites its rows, then attends
    to what is there, so that several frames in one pass give what one after the other would.

    Attributes:
        count: rows of this frame in the gathered sequence.
        index: which tokens they are, `int64 (count,)`; None where they are all tokens in order.
        keys: one `(1, heads, tokens, head_dim)` tensor per layer; a frame without `index` fills the list.
        values: as `keys`.
        kept: False for a frame without `index` whose keys and values nobody will ask for.
    """

    count: int
    index: Tensor | None
    keys: list[Tensor]
    values: list[Tensor]
    kept: bool = True

    def remember(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store this layer's fresh rows and return keys and values of all tokens."""
        if not self.kept:
            return key, value
        if self.index is None:
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer].index_copy_(2, self.index, key)
            self.values[layer].index_copy_(2, self.index, value)
        return self.keys[layer], self.values[layer]


@dataclass
class Recomputation:
    """What the attention layers of one forward pass need to know; the rows of frames lie end to end."""

    frames: list[Rows]
    layer: int = 0


_ACTIVE: ContextVar[Recomputation | None] = ContextVar("legato_recomputation", default=None)


@contextmanager
def recomputing(frames: list[Rows]) -> Iterator[None]:
    """Route the attention of every layer that runs inside through the frames' memories."""
    token = _ACTIVE.set(Recomputation(frames))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def remembering_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """SDPA attention from the given rows to all tokens of their own stream.

    Args:
        module: the attention layer.
        query: `(1, heads, rows, head_dim)`, the rows of all frames end to end.
        key: as `query`.
        value: as `query`.
        attention_mask: None, or an additive bias over all tokens `(1, heads, tokens, tokens)`, from which
            the rows are picked (BEiT's relative positions).
        options: passed on to SDPA.

    Returns:
        `(1, rows, heads, head_dim)` and None, as transformers expects.
    """
    run = _ACTIVE.get()
    if run is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    layer, run.layer = run.layer, run.layer + 1
    if len(run.frames) == 1:
        return _attend(run.frames[0], layer, module, query, key, value, attention_mask, options), None
    counts = [s.count for s in run.frames]
    parts = zip(run.frames, query.split(counts, 2), key.split(counts, 2), value.split(counts, 2), strict=True)
    return torch.cat([_attend(s, layer, module, q, k, v, attention_mask, options) for s, q, k, v in parts], 1), None


def _attend(
    rows: Rows,
    layer: int,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    options: dict[str, Any],
) -> Tensor:
    all_keys, all_values = rows.remember(layer, key, value)
    if bias is not None and rows.index is not None:
        bias = bias.index_select(-2, rows.index)
    return sdpa_attention_forward(module, query, all_keys, all_values, bias, **options)[0]


AttentionInterface.register(ATTENTION_NAME, remembering_attention)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
