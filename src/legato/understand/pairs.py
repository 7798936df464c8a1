"""Numbers about many pairs of pictures, kept small, and what they add up to."""

from array import array
from dataclasses import dataclass

import numpy as np

from legato.motion.coherence import COHERENT_OVER, INCOHERENT_UNDER, Coherence

__all__ = ["STEP_SECONDS", "Coherences", "Motion", "Tally"]

STEP_SECONDS = 1 / 15
LEVEL = 1.01 / 255
REPEAT_SHARE, REPEAT_WINDOW_PAIRS = 0.1, 3


@dataclass(frozen=True)
class Coherences:
    """How well pictures some time apart agree.

    Attributes:
        pairs: number of pairs compared.
        correlation: mean Pearson correlation, None without pairs, likewise the rest.
        lowest_correlation: the worst pair's.
        coherent_share: share of pairs with a correlation over 0.8.
        incoherent_share: share of pairs with a correlation under 0.5.
        unchanged_share: mean share of pixels that stay.
    """

    pairs: int
    correlation: float | None = None
    lowest_correlation: float | None = None
    coherent_share: float | None = None
    incoherent_share: float | None = None
    unchanged_share: float | None = None


@dataclass(frozen=True)
class Motion:
    """How much moves inside shots; 0 for a video without a step.

    Attributes:
        mean: share of pixels that change in 1/15 s, on average, 0 to 1.
        peak: the 95th percentile of that share over time.
        difference_per_second: mean absolute difference of pixel values per second, 1 is the full range.
    """

    mean: float
    peak: float
    difference_per_second: float


class Tally:
    """Six float64 for each pair of pictures: how they agree, and the times of the two."""

    def __init__(self) -> None:
        self._flat = array("d")

    def add(self, pair: Coherence, from_seconds: float, to_seconds: float) -> None:
        """Take one pair."""
        # In one go, so that an interrupt finds whole rows.
        agreement = (pair.correlation, pair.unchanged_share, pair.difference, pair.largest_difference)
        self._flat.extend((*agreement, from_seconds, to_seconds))

    def across(self, cuts_seconds: list[float]) -> np.ndarray:
        """Which pairs have a cut after their first picture and up to their second, bool (pairs,)."""
        *_, begins, ends = self._columns()
        first, last = (np.searchsorted(cuts_seconds, times, side="right") for times in (begins, ends))
        return first < last

    def coherences(self, of: np.ndarray | slice = slice(None)) -> Coherences:
        """How the pairs agree, or those picked by a mask (pairs,)."""
        correlation, unchanged = self._columns()[:2, of]
        if not len(correlation):
            return Coherences(0)
        return Coherences(
            len(correlation),
            float(correlation.mean()),
            float(correlation.min()),
            float((correlation > COHERENT_OVER).mean()),
            float((correlation < INCOHERENT_UNDER).mean()),
            float(unchanged.mean()),
        )

    def repeats(self) -> int:
        """Pairs of neighbours that are one picture twice.

        No pixel value is more than a level off; or, since lossy codecs do not repeat exactly, the mean difference
        is under a level and under a tenth of what the pictures around differ by. Of those, three on either side,
        the second largest counts, lest a cut make repeats of what surrounds it.
        """
        _, _, difference, largest, _, _ = self._columns()
        if not len(difference):
            return 0
        reach = REPEAT_WINDOW_PAIRS
        around = np.lib.stride_tricks.sliding_window_view(np.pad(difference, reach), 2 * reach + 1)
        others = np.delete(around, reach, axis=1)
        usual = np.partition(others, -2, axis=1)[:, -2]
        faint = (difference < LEVEL) & (difference < REPEAT_SHARE * usual)
        return int(np.count_nonzero((largest < LEVEL) | faint))

    def motion(self, of: np.ndarray) -> Motion:
        """How much moves between the pairs picked by a mask (pairs,); steps over 1/15 s count in proportion."""
        _, unchanged, difference, _, begins, ends = self._columns()[:, of]
        if not len(unchanged):
            return Motion(0.0, 0.0, 0.0)
        passed = ends - begins
        changed = (1 - unchanged) * np.minimum(STEP_SECONDS / passed, 1)
        return Motion(
            float(np.average(changed, weights=passed)),
            float(np.quantile(changed, 0.95)),
            float(difference.sum() / passed.sum()),
        )

    def _columns(self) -> np.ndarray:
        return np.array(self._flat).reshape(-1, 6).T
