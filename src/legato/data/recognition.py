"""Which sign a tracked pair of hands makes: dynamic time warping against the vocabulary.

Time warping forgives any signing rate, so what counts is where the hands go and in which order.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from legato.data.puppets import Puppet
from legato.data.vocabulary import REST, VOCABULARY

__all__ = ["Recognition", "recognise", "warped_distance"]

TEMPLATE_FRAMES = 32
Track = Float64[np.ndarray, "time values"]
Template = Float64[np.ndarray, "template_time values"]


@dataclass(frozen=True)
class Recognition:
    """What a clip of one sign was taken for.

    Attributes:
        word: the nearest sign.
        distance: mean distance to it along the warping, in body units for both hands together.
        margin: how much farther the second nearest is.
        ordered: beginning, middle and end come in this order: no other order of the three is nearer.
        tracked: share of frames in which both hands were seen.
    """

    word: str
    distance: float
    margin: float
    ordered: bool
    tracked: float


def recognise(hands: Float64[Tensor, "time 2 2"], word: str | None = None) -> Recognition | None:
    """Take a clip of a puppet that signs one word from rest to rest for a sign of the vocabulary.

    The puppet's place and size are read off its hands at rest in the first frames.

    Args:
        hands: left and right hand in pixels or fractions of the frame, NaN where not seen.
        word: the sign whose order is judged; the recognised one by default.

    Returns:
        None where hands are seen in fewer than half the frames, or not at the beginning.
    """
    track = hands.numpy().reshape(len(hands), 4).copy()
    seen = np.isfinite(track).all(1)
    if seen.mean() < 0.5 or seen[: max(3, len(seen) // 6)].sum() < 1:
        return None
    at = np.arange(len(track))
    for column in track.T:
        column[:] = np.interp(at, at[np.isfinite(column)], column[np.isfinite(column)])
    track = _in_body_units(track, track[seen][:2].mean(0))
    distances = {name: warped_distance(track, template) for name, template in _templates().items()}
    first, second = sorted(distances, key=distances.__getitem__)[:2]
    judged = _templates()[word or first]
    return Recognition(
        first, distances[first], distances[second] - distances[first], _ordered(track, judged), float(seen.mean())
    )


def warped_distance(a: Track, b: Template) -> float:
    """Mean Euclidean distance along the best monotone alignment of two tracks (Sakoe and Chiba 1978)."""
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1)
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    length = np.zeros((rows + 1, columns + 1))
    total[0, 0] = 0.0
    for i, j in itertools.product(range(1, rows + 1), range(1, columns + 1)):
        before = min((i - 1, j - 1), (i - 1, j), (i, j - 1), key=lambda at: total[at])
        total[i, j] = total[before] + cost[i - 1, j - 1]
        length[i, j] = length[before] + 1
    return float(total[rows, columns] / length[rows, columns])


def _in_body_units(track: Track, rest: Float64[np.ndarray, "4"]) -> Track:
    """Hands relative to the neck, as the vocabulary has them."""
    (left, right), known = rest.reshape(2, 2), np.array(REST)
    scale = max(np.linalg.norm(right - left) / np.linalg.norm(known[1] - known[0]), 1e-6)
    neck = (left + right) / 2 - scale * known.mean(0)
    return ((track.reshape(-1, 2, 2) - neck) / scale).reshape(len(track), 4)


@cache
def _templates() -> dict[str, Track]:
    """Every sign from rest to rest, evenly sampled, in body units."""
    made = {}
    for word in VOCABULARY:
        puppet = Puppet((word,))
        hands = puppet.hands(np.linspace(0, puppet.seconds, TEMPLATE_FRAMES).tolist()).numpy()
        track = hands.reshape(TEMPLATE_FRAMES, 4)
        made[word] = _in_body_units(track, track[0])
    return made


def _ordered(track: Track, template: Template) -> bool:
    """Whether no other order of the template's three thirds fits better."""
    thirds = np.array_split(template, 3)
    fits = [
        warped_distance(track, np.concatenate([thirds[i] for i in order])) for order in itertools.permutations(range(3))
    ]
    return fits[0] <= min(fits) + 1e-9
