"""The attention hook: keep every layer's keys and values, attend from the recomputed rows only.

Everything in a transformer block except attention works token by token. So an unmodified Hugging Face
encoder runs on a few gathered tokens alone, provided that its attention sees the keys and values of all
tokens. `remembering_attention` is registered with transformers' `AttentionInterface` and does just that
while a `Recomputation` is active; otherwise it is transformers' own SDPA attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
    """One stream's part of a recomputation.

    Attributes:
        count: rows of this stream in the gathered sequence.
        index: which tokens they are, `int64 (count,)`; None where they are all tokens in order.
        keys: one `(1, heads, tokens, head_dim)` tensor per layer, advanced in place; filled by the first
            full pass.
        values: as `keys`.
    """

    count: int
    index: Tensor | None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def remember(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store this layer's fresh rows and return keys and values of all tokens."""
        if self.index is None:
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer].index_copy_(2, self.index, key)
            self.values[layer].index_copy_(2, self.index, value)
        return self.keys[layer], self.values[layer]


@dataclass
class Recomputation:
    """What the attention layers of one forward pass need to know; rows of streams lie end to end."""

    streams: list[Rows]
    layer: int = 0


_ACTIVE: ContextVar[Recomputation | None] = ContextVar("legato_recomputation", default=None)


@contextmanager
def recomputing(streams: list[Rows]) -> Iterator[None]:
    """Route the attention of every layer that runs inside through the streams' memories."""
    token = _ACTIVE.set(Recomputation(streams))
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
        query: `(1, heads, rows, head_dim)`, the rows of all streams end to end.
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
    if len(run.streams) == 1:
        return _attend(run.streams[0], layer, module, query, key, value, attention_mask, options), None
    counts = [s.count for s in run.streams]
    parts = zip(run.streams, query.split(counts, 2), key.split(counts, 2), value.split(counts, 2), strict=True)
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
