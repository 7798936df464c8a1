"""How much arithmetic a plan needs, and so how fast it can be."""

from dataclasses import dataclass

from torch import nn

from legato.reuse.encoder import ReuseEncoder
from legato.reuse.plan import Plan

__all__ = ["EncoderCost"]


@dataclass(frozen=True)
class EncoderCost:
    """Multiply-adds of an encoder, split into what each token costs and what each pair of tokens costs.

    Attributes:
        per_token: embedding and all matrices of the layers that run, for one token.
        per_pair: attention, for one query with one key.
        tokens: patch tokens.
        prefix: CLS and register tokens, recomputed whenever anything is.
    """

    per_token: int
    per_pair: int
    tokens: int
    prefix: int

    @classmethod
    def of(cls, encoder: ReuseEncoder) -> "EncoderCost":
        """Count the matrices of an encoder's layers up to the one it returns."""
        parts = encoder.parts
        layers = parts.layers[: encoder.layer]
        matrices = sum(m.weight.numel() for layer in layers for m in layer.modules() if isinstance(m, nn.Linear))
        width = parts.projection.weight.shape[0]
        return cls(
            per_token=matrices + parts.projection.weight.numel(),
            per_pair=2 * width * len(layers),
            tokens=encoder.token_count,
            prefix=parts.prefix,
        )

    def of_rows(self, rows: int) -> int:
        """Multiply-adds for this many rows that attend to all tokens."""
        return rows * (self.per_token + self.per_pair * (self.tokens + self.prefix))

    def of_plan(self, plan: Plan) -> int:
        """Multiply-adds of one frame under a plan; 0 for a hold."""
        return 0 if plan.mode == "hold" else self.of_rows(len(plan.tokens) + self.prefix)

    @property
    def dense(self) -> int:
        """Multiply-adds of one frame of the stock model."""
        return self.of_rows(self.tokens + self.prefix)
