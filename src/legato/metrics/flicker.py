"""Light that goes up and down: frequency and strength of flicker, and flashes."""

from array import array
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float64

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment

__all__ = ["FlashRate", "FlickerSpectrum", "tone_power"]

CELLS = (9, 16)
LOWEST_HZ, STEP_HZ, HIGHEST_HZ = 1.0, 0.05, 60.0


def tone_power(
    seconds: Float64[np.ndarray, " time"], values: Float64[np.ndarray, "time series"], hz: Float64[np.ndarray, " tones"]
) -> Float64[np.ndarray, "tones series"]:
    """Squared amplitude of the best-fitting sinusoid of each frequency, at any sampling times.

    Lomb (1976), "Least-squares frequency analysis of unequally spaced data", with an offset and a slope fitted
    beside each tone.
    """
    time = seconds - seconds.mean()
    trend = np.stack([np.ones_like(time), time / max(float(np.ptp(time)), 1e-9)], 1)
    basis, _ = np.linalg.qr(trend)
    rest = values - basis @ (basis.T @ values)
    phase = 2 * np.pi * hz[:, None] * time
    tones = np.stack([np.cos(phase), np.sin(phase)], 2)
    tones = tones - np.einsum("tk,fkp->ftp", basis, np.einsum("tk,ftp->fkp", basis, tones))
    gram = np.einsum("ftp,ftq->fpq", tones, tones) + 1e-9 * np.eye(2)
    weights = np.linalg.solve(gram, np.einsum("ftp,ts->fps", tones, rest))
    return np.square(weights).sum(1)


@dataclass
class FlickerSpectrum(Metric):
    """Dominant frequency and strength of brightness changes where nothing moves.

    Each cell of a 9 x 16 grid counts in a window while its pattern stays (correlation with the frame before over
    0.9, or no pattern). The spectrum is that of the cells' mean luma divided by its mean over the window; strength is
    the amplitude of the strongest tone, half of peak to peak. Windows of four seconds overlap by half.
    """

    window_seconds: float = 4.0
    least_strength: float = 0.004
    least_explained: float = 0.15
    rows: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list)
    curve: Curve = field(default_factory=Curve)
    hz: np.ndarray = field(default_factory=lambda: np.arange(LOWEST_HZ, HIGHEST_HZ, STEP_HZ))
    power: np.ndarray = field(default_factory=lambda: np.zeros(0))
    local: float = 0.0
    variance: float = 0.0
    weight: float = 0.0

    def add(self, moment: Moment) -> None:
        """Take the cells' luma."""
        if moment.before is None and self.rows:
            self._close(last=True)
        grey = moment.small_grey
        luma = _cells(grey)
        still = np.zeros(CELLS, dtype=bool)
        if moment.before is not None:
            still = _pattern_stays(grey, moment.before.small_grey)
        self.rows.append((moment.seconds, luma.ravel(), still.ravel()))
        if moment.seconds - self.rows[0][0] >= self.window_seconds:
            self._close(last=False)

    def _close(self, *, last: bool) -> None:
        """Reckon up a window; its second half begins the next."""
        rows = self.rows
        middle = (rows[0][0] + rows[-1][0]) / 2
        self.rows = [] if last else [row for row in rows if row[0] >= middle]
        seconds = np.array([s for s, _, _ in rows])
        span = float(seconds[-1] - seconds[0])
        if len(rows) < 8 or span < 0.5:
            return
        still = np.mean([s for _, _, s in rows[1:]], axis=0) > 0.8
        if not still.any():
            return
        luma = np.stack([values for _, values, _ in rows])[:, still]
        usual = luma.mean(0)
        relative = luma / np.maximum(usual, 8.0) - 1
        nyquist = 0.5 / float(np.median(np.diff(seconds)))
        asked = (self.hz <= nyquist) & (self.hz >= 1 / span)
        series = np.column_stack([relative.mean(1), relative])
        power = np.zeros((len(self.hz), series.shape[1]))
        power[asked] = tone_power(seconds, series, self.hz[asked])
        trend = np.polynomial.polynomial.polyfit(seconds - middle, series, 1)
        rest = series - np.polynomial.polynomial.polyval(seconds - middle, trend).T
        if not len(self.power):
            self.power = np.zeros(len(self.hz))
        each = power[:, 1:].mean(1)
        self.power += span * each
        self.local = max(self.local, float(np.sqrt(np.quantile(power[:, 1:].max(0), 0.95))))
        self.variance += span * float(rest[:, 1:].var(0).mean())
        self.weight += span
        self.curve.add(float(middle), float(np.sqrt(each.max())))

    def result(self) -> list[Measurement]:
        """Frequency, strength, and the strength in the cell that flickers most."""
        if self.rows:
            self._close(last=True)
        about = (
            "Dominant frequency of brightness changes in still areas; 0 where there is no flicker to speak of.",
            "How strong the dominant flicker is: its amplitude as a share of the brightness.",
            "The same in the part of the picture that flickers most.",
        )
        names = (("flicker_hz", "Hz"), ("flicker_strength", "share"), ("local_flicker_strength", "share"))
        if not self.weight:
            note = "no area stays still for half a second"
            return [Measurement(n, None, u, "lower", a, note=note) for (n, u), a in zip(names, about, strict=True)]
        power, variance = self.power / self.weight, self.variance / self.weight
        at = int(power.argmax())
        strength = float(np.sqrt(power[at]))
        real = strength >= self.least_strength and power[at] / 2 >= self.least_explained * variance
        values = (float(self.hz[at]) if real else 0.0, strength, self.local)
        limits = (None, 0.02, 0.05)
        note = "" if real else "no frequency stands out"
        return [
            Measurement(n, v, u, "lower", a, self.curve, limit=limit, note=note if n == "flicker_hz" else "")
            for (n, u), a, v, limit in zip(names, about, values, limits, strict=True)
        ]


@dataclass
class FlashRate(Metric):
    """General flashes per second, after WCAG 2.3.1 and ITU-R BT.1702.

    A flash is a pair of opposing changes of relative luminance by at least 0.1, the darker side under 0.8, over at
    least a quarter of the picture at once (a grid of 9 x 16 cells). The value is the largest number within any one
    second; over 3 it is a hazard.
    """

    least_step: float = 0.1
    darker_under: float = 0.8
    area_share: float = 0.25
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    heading: np.ndarray | None = None
    last_way: int = 0
    turns: int = 0
    curve: Curve = field(default_factory=Curve)
    recent: array = field(default_factory=lambda: array("d"))
    most: int = 0
    frames: int = 0

    def add(self, moment: Moment) -> None:
        """Follow each cell's luminance between its turning points."""
        light = _luminance(_cells(moment.small_grey))
        self.frames += 1
        if self.low is None or self.high is None or self.heading is None or moment.before is None:
            self.low, self.high = light.copy(), light.copy()
            self.heading = np.zeros(light.shape, dtype=np.int8)
            return
        self.low, self.high = np.minimum(self.low, light), np.maximum(self.high, light)
        rose = (light - self.low >= self.least_step) & (self.low < self.darker_under) & (self.heading <= 0)
        fell = (self.high - light >= self.least_step) & (light < self.darker_under) & (self.heading >= 0)
        for turned, way in ((rose, 1), (fell, -1)):
            if turned.mean() >= self.area_share and self.last_way != way:
                self.last_way, self.turns = way, self.turns + 1
                if self.turns % 2 == 0:
                    self.recent.append(moment.seconds)
            self.heading[turned] = way
            self.low[turned], self.high[turned] = light[turned], light[turned]
        while self.recent and self.recent[0] <= moment.seconds - 1:
            self.recent.pop(0)
        self.most = max(self.most, len(self.recent))
        self.curve.add(moment.seconds, len(self.recent))

    def result(self) -> list[Measurement]:
        """Most flashes in any second."""
        about = "Most flashes within any one second; more than 3 can harm people with photosensitive epilepsy."
        note = "" if self.frames > 1 else "a flash needs at least three frames"
        value = float(self.most) if self.frames > 1 else None
        return [Measurement("flash_rate", value, "1/s", "lower", about, self.curve, limit=3.0, note=note)]


def _cells(grey: np.ndarray) -> np.ndarray:
    """Mean luma of each cell, float64 (9, 16)."""
    rows, columns = CELLS
    return cv2.resize(grey.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float64)


def _luminance(luma: np.ndarray) -> np.ndarray:
    """Relative luminance 0 to 1 of sRGB grey."""
    value = luma / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _pattern_stays(grey: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Cells whose pattern is that of the frame before whatever the light does, bool (9, 16)."""
    a, b = grey.astype(np.float32), before.astype(np.float32)
    mean_a, mean_b = _cells(grey), _cells(before)
    variance_a, variance_b = _cells(a * a) - mean_a**2, _cells(b * b) - mean_b**2
    covariance = _cells(a * b) - mean_a * mean_b
    flat = (variance_a < 4) & (variance_b < 4)
    return flat | (covariance > 0.9 * np.sqrt(np.maximum(variance_a * variance_b, 1e-9)))
