"""Which token of one grid is which of another, by entropic optimal transport.

Each token gives its mass to the tokens of the other grid that look like it and lie near, or to a dustbin when there is
none. Costs are counted in units of what one token's step within a grid changes: so the same temperature tells a token
from its neighbours whether features are smooth or white.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from legato.errors import BadArgument

__all__ = ["Matches", "Transport"]

Grid = Float[Tensor, "pairs channels rows columns"]
Other = Float[Tensor, "other_pairs other_channels other_rows other_columns"]  # checked with a message
Flow = Float32[Tensor, "pairs 2 rows columns"]
Shares = Float32[Tensor, "pairs rows columns"]
Costs = Float32[Tensor, "pairs tokens tokens"]

COSTS_AT_ONCE = 1 << 24
LEAST_STEP = 0.01  # of grids that are flat all over, whose steps are rounding


@dataclass(frozen=True)
class Matches:
    """Where the tokens of two grids find each other.

    Attributes:
        forward: from each token of the first grid to where it is in the second, x then y in tokens.
        backward: from each token of the second to where it was in the first.
        forward_share: of a token of the first grid that found a match; the rest went to the dustbin.
        backward_share: the same for tokens of the second.
    """

    forward: Flow
    backward: Flow
    forward_share: Shares
    backward_share: Shares


@dataclass(frozen=True)
class Transport:
    """Entropic optimal transport with a dustbin (Cuturi 2013; the dustbin as in Sarlin et al. 2020, "SuperGlue").

    A match costs one minus the cosine of the two tokens, features centred over both grids, in units of the mean such
    cost between neighbours of one grid, plus the squared distance in tokens times `distance_weight`. A match that
    costs more than `dustbin_cost` is not worth it. All in float32, in the log domain.

    Attributes:
        temperature: of the match, in the units above. Well under 1, or a token cannot be told from its neighbours.
        distance_weight: cost of a squared token of distance. With 0.002 a token goes 17 tokens far for a perfect match.
        dustbin_cost: of leaving a token of each grid unmatched.
        dustbin_share: how many tokens the dustbin holds, as a share of all. What is covered, uncovered, leaves and
            enters has to fit, or it is pressed into false matches.
        rounds: of Sinkhorn's iteration.

    Raises:
        BadArgument: a value is not positive (`distance_weight` may be 0).
    """

    temperature: float = 0.03
    distance_weight: float = 0.002
    dustbin_cost: float = 0.6
    dustbin_share: float = 0.5
    rounds: int = 30

    def __post_init__(self) -> None:
        for name in ("temperature", "dustbin_cost", "dustbin_share", "rounds"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadArgument(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.distance_weight < math.inf:
            raise BadArgument(f"distance_weight is {self.distance_weight}; expected 0 or more")

    @torch.no_grad()
    def __call__(self, first: Grid, second: Other) -> Matches:
        """Match tokens; without gradients. Memory is bounded by a few grids' costs, tokens x tokens each.

        Args:
            first: features on a grid.
            second: of the same size.

        Raises:
            BadArgument: sizes differ.
        """
        if first.shape != second.shape:
            raise BadArgument(f"the grids are {tuple(first.shape)} and {tuple(second.shape)}; expected one size")
        pairs, _, rows, columns = first.shape
        at_once = max(1, COSTS_AT_ONCE // (rows * columns) ** 2)
        with torch.autocast(first.device.type, enabled=False):  # else matrix products were in half precision
            parts = [
                self._matched(first[begin : begin + at_once].float(), second[begin : begin + at_once].float())
                for begin in range(0, max(pairs, 1), at_once)
            ]
        forward, backward, forward_share, backward_share = (torch.cat(part) for part in zip(*parts, strict=True))
        return Matches(forward, backward, forward_share, backward_share)

    def _matched(self, first: Tensor, second: Tensor) -> tuple[Flow, Flow, Shares, Shares]:
        rows, columns = first.shape[-2:]
        y, x = torch.meshgrid(
            *(torch.arange(n, device=first.device, dtype=torch.float32) for n in (rows, columns)), indexing="ij"
        )
        places = torch.stack([x.flatten(), y.flatten()], 1)
        mean = (first.mean((2, 3), keepdim=True) + second.mean((2, 3), keepdim=True)) / 2
        a, b = (F.normalize(grid - mean, dim=1) for grid in (first, second))
        step = ((_step(a) + _step(b)) / 2).clamp_min(LEAST_STEP)
        cosine = a.flatten(2).transpose(1, 2) @ b.flatten(2)
        costs = (1 - cosine) / step[:, None, None]
        costs = costs + self.distance_weight * (places[:, None] - places).square().sum(2)
        plan = self._plan(costs)
        found = []
        for masses in (plan, plan.transpose(1, 2)):
            total = masses.sum(2)
            arrived = masses @ places / total.clamp_min(1e-9)[..., None]
            flow = torch.where(total[..., None] > 1e-6, arrived - places, 0.0)
            found.append((flow.transpose(1, 2).unflatten(2, (rows, columns)), total.clamp(max=1)))
        (forward, forward_share), (backward, backward_share) = found
        return forward, backward, *(share.unflatten(1, (rows, columns)) for share in (forward_share, backward_share))

    def _plan(self, costs: Costs) -> Costs:
        """Mass from each token to each, 1 for every token but for what went to the dustbin."""
        pairs, count, _ = costs.shape
        scores = F.pad(-costs, (0, 1, 0, 1), value=-self.dustbin_cost / 2)
        scores[:, -1, -1] = 0  # the dustbins' room that stays empty
        scores /= self.temperature
        given = costs.new_zeros(pairs, count + 1)
        given[:, -1] = math.log(self.dustbin_share * count)
        columns = torch.zeros_like(given)
        for _ in range(self.rounds):
            rows = given - (scores + columns[:, None]).logsumexp(2)
            columns = given - (scores + rows[:, :, None]).logsumexp(1)
        return (scores + rows[:, :, None] + columns[:, None])[:, :-1, :-1].exp()


def _step(unit: Float32[Tensor, "pairs channels rows columns"]) -> Float32[Tensor, " pairs"]:
    """One minus the mean cosine of neighbours on the grid."""
    across = 1 - (unit[..., 1:] * unit[..., :-1]).sum(1)
    down = 1 - (unit[..., 1:, :] * unit[..., :-1, :]).sum(1)
    both = torch.cat([across.flatten(1), down.flatten(1)], 1)
    return both.sum(1) / max(1, both.shape[1])
