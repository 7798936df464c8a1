"""Check what is held against what is recomputed: the refreshing of old tokens is a free sample of the error."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from legato.errors import BadArgument
from legato.reuse.plan import Plan

__all__ = ["DEFAULT_FLOOR", "Audit", "Tally"]

DEFAULT_FLOOR = 0.96


@dataclass(frozen=True)
class Tally:
    """Tokens audited since the last verdict.

    Attributes:
        probes: how many.
        cosine_sum: sum of their cosines, fresh against held.
    """

    probes: int = 0
    cosine_sum: float = 0.0

    @property
    def mean(self) -> float:
        """Mean cosine; 1 where nothing was audited."""
        return self.cosine_sum / self.probes if self.probes else 1.0


@dataclass(frozen=True)
class Audit:
    """Says when held tokens have gone stale although their pictures did not change.

    Attention carries what happens in one place to every token: a car that enters changes the features of
    the road. No measure of change can see that, but a token that is recomputed on account of its age alone
    shows it, as its new features against those held are a sample of the error of all held tokens.

    Attributes:
        floor: mean cosine of fresh to held features under which everything is recomputed.
        probes: how many tokens it takes for a verdict; they are gathered over frames. With few, a single token
            that went astray has everything recomputed.
    """

    floor: float = DEFAULT_FLOOR
    probes: int = 16

    def __post_init__(self) -> None:
        if not self.floor < 1 or self.probes < 1:
            raise BadArgument(f"audit floor {self.floor} and probes {self.probes}; expected under 1 and at least 1")

    @classmethod
    def promising(cls, fidelity: float) -> "Audit":
        """The audit for a promised mean token cosine: held tokens may fall twice as far before all are recomputed."""
        return cls(1 - 2 * (1 - fidelity))

    def of(
        self,
        plan: Plan,
        change: Float[Tensor, "rows columns"],
        fresh: Float[Tensor, "count channels"],
        held: Float[Tensor, "count channels"],
        tally: Tally,
    ) -> Tally:
        """Add a partial frame's probes: the tokens recomputed though some that changed as much were left.

        Args:
            plan: of the frame.
            change: of all its tokens.
            fresh: new features of the plan's tokens.
            held: what they replace.
            tally: of the frames before; a tally that is due starts over.
        """
        changes = change.flatten()
        left = changes.index_fill(0, plan.tokens, -1.0).max()
        probes = (changes[plan.tokens] <= left).nonzero().flatten().to(fresh.device)
        past = Tally() if self.due(tally) else tally
        cosines = F.cosine_similarity(fresh[probes].float(), held[probes].float(), dim=-1)
        return Tally(past.probes + len(probes), past.cosine_sum + float(cosines.sum()))

    def due(self, tally: Tally) -> bool:
        """Whether there are enough probes for a verdict."""
        return tally.probes >= self.probes

    def failed(self, tally: Tally) -> bool:
        """Whether held tokens have gone stale."""
        return self.due(tally) and tally.mean < self.floor
