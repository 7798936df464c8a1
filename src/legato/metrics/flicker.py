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
    """Squared amplitude of the sinusoid of each frequency that explains most, at any sampling times.

    Lomb (1976), "Least-squares frequency analysis of unequally spaced data", with a cubic trend fitted beside each
    tone. The amplitude is that of a sinusoid with the variance that the tone explains, which stays bounded near the
    Nyquist frequency.
    """
    time = seconds - seconds.mean()
    basis, _ = np.linalg.qr(np.vander(time / max(float(np.abs(time).max()), 1e-9), 4))
    rest = values - basis @ (basis.T @ values)
    phase = 2 * np.pi * hz[:, None] * time
    tones = np.stack([np.cos(phase), np.sin(phase)], 2)
    tones = tones - np.einsum("tk,fkp->ftp", basis, np.einsum("tk,ftp->fkp", basis, tones))
    gram = np.einsum("ftp,ftq->fpq", tones, tones) + 1e-9 * np.eye(2)
    products = np.einsum("ftp,ts->fps", tones, rest)
    explained = (products * np.linalg.solve(gram, products)).sum(1)
    return 2 * explained / len(time)


@dataclass
class FlickerSpectrum(Metric):
    """Dominant frequency and strength of brightness changes, where nothing moves if there is such a place.

    The video is cut into windows of four seconds. Each cell of a 9 x 16 grid is still in a window whose first pattern
    stays in it (correlation over 0.9 in four fifths of the frames, or no pattern), whatever the light does. The
    spectrum is the mean of the still cells' spectra; where under a tenth of the picture is still, as under a moving
    camera, that of the whole picture's luma. The dominant tone is the one that makes the light change fastest;
    strength is its amplitude relative to the brightness, half of peak to peak.
    """

    window_seconds: float = 4.0
    least_strength: float = 0.008
    least_explained: float = 0.15
    least_still: float = 0.1
    rows: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list)
    anchor: np.ndarray | None = None
    curve: Curve = field(default_factory=Curve)
    hz: np.ndarray = field(default_factory=lambda: np.arange(LOWEST_HZ, HIGHEST_HZ, STEP_HZ))
    power: np.ndarray | None = None
    local: float | None = None
    hurry: float = 0.0
    seconds: float = 0.0
    whole_seconds: float = 0.0

    def add(self, moment: Moment) -> None:
        """Take the cells' luma."""
        if moment.before is None and self.rows:
            self._close()
        grey = moment.small_grey
        if not self.rows or self.anchor is None:
            self.anchor = grey
        self.rows.append((moment.seconds, _cells(grey).ravel(), _pattern_stays(grey, self.anchor).ravel()))
        if moment.seconds - self.rows[0][0] >= self.window_seconds:
            self._close()

    def _close(self) -> None:
        """Reckon up a window."""
        rows, self.rows, self.anchor = self.rows, [], None
        seconds = np.array([s for s, _, _ in rows])
        span = float(seconds[-1] - seconds[0])
        if len(rows) < 8 or span < 0.5:
            return
        luma = np.stack([values for _, values, _ in rows])
        still = np.mean([s for _, _, s in rows[1:]], axis=0) > 0.8
        enough = still.mean() >= self.least_still
        series = luma[:, still] if enough else luma.mean(1, keepdims=True)
        series = series / np.maximum(series.mean(0), 8.0)
        asked = (self.hz <= 0.49 / float(np.median(np.diff(seconds)))) & (self.hz >= 1 / span)
        power = np.zeros((len(self.hz), series.shape[1]))
        power[asked] = tone_power(seconds, series, self.hz[asked])
        if enough:
            self.local = max(self.local or 0.0, float(np.sqrt(np.quantile(power.max(0), 0.95))))
        else:
            self.whole_seconds += span
        mean = power.mean(1)
        self.power = span * mean + (0.0 if self.power is None else self.power)
        self.hurry += span * float(np.square(np.diff(series, axis=0) / np.diff(seconds)[:, None]).mean())
        self.seconds += span
        self.curve.add(float(seconds.mean()), float(np.sqrt(mean[self._dominant(mean)])))

    def _dominant(self, power: np.ndarray) -> int:
        return int((power * self.hz**2).argmax())

    def result(self) -> list[Measurement]:
        """Frequency, strength, and the strength in the cell that flickers most."""
        if self.rows:
            self._close()
        told = (
            ("flicker_hz", "Hz", "Dominant frequency of brightness changes; 0 where there is no flicker to speak of."),
            (
                "flicker_strength",
                "share",
                "How strong the dominant flicker is: amplitude relative to the brightness; 0 where none stands out.",
            ),
            ("local_flicker_strength", "share", "The same in the still part of the picture that flickers most."),
        )
        if self.power is None:
            return [Measurement(n, None, u, "lower", a, note="no shot lasts half a second") for n, u, a in told]
        power = self.power / self.seconds
        at = self._dominant(power)
        strength = float(np.sqrt(power[at]))
        explained = power[at] * (2 * np.pi * self.hz[at]) ** 2 / 2 / max(self.hurry / self.seconds, 1e-12)
        real = strength >= self.least_strength and explained >= self.least_explained
        values = (float(self.hz[at]) if real else 0.0, strength if real else 0.0, self.local)
        moving = "the camera moves: the light of the whole picture" if self.whole_seconds > self.seconds / 2 else ""
        notes = (
            moving if real else "no frequency stands out",
            moving,
            "" if self.local is not None else "nothing is still",
        )
        return [
            Measurement(n, v, u, "lower", a, None if n == "flicker_hz" else self.curve, limit=limit, note=note)
            for (n, u, a), v, limit, note in zip(told, values, (None, 0.02, 0.1), notes, strict=True)
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
        self.curve.add(moment.seconds, float(len(self.recent)))

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
