"""The report of `legato watch`: what was recomputed when, how close the features are, and pictures of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from legato.report.render import cards, page, pictures, plot, section, table, thumbnail
from legato.reuse.encoder import Encoded
from legato.video.frames import Frame

__all__ = ["Sheet", "watch_page"]

THUMB_WIDTH_PX = 240
RECOMPUTED = (234, 88, 12)  # RGB of the squares drawn over recomputed tokens


@dataclass
class Sheet:
    """Collects pictures while frames go by, in bounded memory whatever the video's length.

    Attributes:
        aspect: height over width of the video as displayed; the encoder may see it squeezed.
        limit: most pictures of the contact sheet; when there are more, every other one is dropped.
        cut_limit: most cuts that are shown.
    """

    aspect: float = 9 / 16
    limit: int = 24
    cut_limit: int = 24
    stride: int = 1
    seen: int = 0
    shots: list[tuple[np.ndarray, str]] = field(default_factory=list)
    cuts: list[tuple[float, np.ndarray, np.ndarray]] = field(default_factory=list)
    recent: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def add(self, frame: Frame, encoded: Encoded, grid: tuple[int, int]) -> None:
        """Consider a frame for the contact sheet, and keep the pictures around a confirmed cut."""
        self.recent = [*self.recent[-4:], (frame.seconds, thumbnail(frame.pixels, THUMB_WIDTH_PX, self.aspect))]
        if encoded.cut is not None:
            self.mark_cut(encoded.cut.seconds)
        if self.seen % self.stride == 0:
            if len(self.shots) == self.limit:
                self.shots, self.stride = self.shots[::2], self.stride * 2
            if self.seen % self.stride == 0:
                drawn = draw_tokens(self.recent[-1][1], encoded, grid)
                share = len(encoded.plan.tokens) / (grid[0] * grid[1])
                self.shots.append(
                    (drawn, f"{frame.seconds:.2f} s: {encoded.plan.mode}, {share:.0%} ({encoded.plan.reason})")
                )
        self.seen += 1

    def mark_cut(self, seconds: float) -> None:
        """Keep the pictures before and after a cut, if they are still at hand."""
        times = [t for t, _ in self.recent]
        if seconds in times[1:] and len(self.cuts) < self.cut_limit:
            at = times.index(seconds)
            self.cuts.append((seconds, self.recent[at - 1][1], self.recent[at][1]))


def draw_tokens(image: np.ndarray, encoded: Encoded, grid: tuple[int, int]) -> np.ndarray:
    """Tint the recomputed tokens of a partial frame; a full one gets a frame, a held one nothing."""
    drawn = image.copy()
    height, width, _ = image.shape
    if encoded.plan.mode == "full":
        cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), RECOMPUTED, 5)
    elif encoded.plan.mode == "partial":
        mask = np.zeros(grid[0] * grid[1], np.uint8)
        mask[encoded.plan.tokens.numpy()] = 1
        large = cv2.resize(mask.reshape(grid), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
        drawn[large] = (0.55 * drawn[large] + 0.45 * np.array(RECOMPUTED)).astype(np.uint8)
    return drawn


def watch_page(title: str, numbers: Mapping[str, Any], sheet: Sheet) -> str:
    """The whole report from a run's numbers (`Account.summary` and what the command adds) and its pictures."""
    compared = "speedup" in numbers
    frames, duration = numbers["frames"], numbers["duration_seconds"]
    lead = f"{frames} frames, {duration:.1f} s, encoded with {numbers.get('model', 'a vision encoder')}"
    parts = [cards(headline(numbers, compared)), section("Over time", HOW_TO_READ[compared], plot(curves(numbers)))]
    if sheet.cuts:
        shown = [((before, after), f"{seconds:.3f} s") for seconds, before, after in sheet.cuts]
        parts.append(section("Cuts", "Last frame of the old shot, first frame of the new one.", pictures(shown)))
    note = "Orange squares were recomputed in that frame, the rest was reused; an orange frame marks a full pass."
    parts.append(section("Contact sheet", note, pictures(((image,), caption) for image, caption in sheet.shots)))
    parts.append(section("All numbers", "As in the JSON output.", table(rows(numbers))))
    return page(title, lead, "".join(parts))


HOW_TO_READ = {
    False: "Dotted lines are cuts. Run with --compare to see how close the features are to the dense encoder's.",
    True: "Dotted lines are cuts. The cosine compares reused features with the dense encoder's.",
}


def headline(numbers: Mapping[str, Any], compared: bool) -> list[tuple[str, str]]:
    """The few numbers that a reader came for."""
    items = []
    if compared:
        items += [
            (f"{numbers['speedup']:.1f} x", "faster than encoding every frame, end to end"),
            (f"{numbers['token_cosine_mean']:.4f}", "mean token cosine to dense"),
            (f"{numbers['token_cosine_p01']:.3f}", "worst hundredth of tokens"),
        ]
    return [
        *items,
        (f"{numbers['recomputed_share']:.1%}", "of tokens recomputed"),
        (f"{numbers['frames_per_second']:.1f}", "frames per second"),
        (f"{numbers['latency_ms']['p95']:.0f} ms", "latency, 95 of 100 frames"),
        (f"{len(numbers['cuts'])}", "cuts"),
    ]


def rows(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every scalar of the JSON with its meaning."""
    flat: dict[str, Any] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        elif not isinstance(value, list):
            flat[name] = value
    return [(name, shown(value), MEANINGS.get(name, "")) for name, value in flat.items()]


def shown(value: Any) -> str:
    """A value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


MEANINGS = {
    "duration_seconds": "first frame to the end of the last",
    "frames_lost": "damaged packets or frames that were skipped",
    "times_repaired": "missing or falling presentation times that were replaced",
    "modes.full": "frames on which the stock encoder ran whole",
    "modes.partial": "frames on which some tokens were recomputed",
    "modes.hold": "frames on which nothing changed and the encoder did not run",
    "latency_ms.p50": "from decoding a frame to having its features, with the frames of the same pass; the median",
    "latency_ms.p95": "95 of 100 frames are faster",
    "latency_ms.frame_interval": "time between frames: latency under this keeps up with the stream",
    "wall_seconds": "time of the run; with a comparison, of the reuse side's stages",
    "dense_wall_seconds": "decode and dense encoding of the same frames",
    "speedup": "dense_wall_seconds / wall_seconds: decode, change detection and scatter included",
    "encoder_speedup": "the same without decoding",
    "ceiling": "ratio of the arithmetic alone: as fast as this plan can be where dense arithmetic runs at full speed",
    "token_cosine_mean": "mean over all patch tokens of all frames",
    "token_cosine_p01": "one token in a hundred is at or under this",
    "cls_cosine_mean": "the same for the CLS token",
    "calibration.threshold": "change above which a token is recomputed, chosen on the first frames",
    "calibration.expected_cosine": "mean token cosine that the calibration expects",
}


def curves(numbers: Mapping[str, Any]) -> Any:
    """Curves over seconds: share recomputed, change and motion, latency, cosine where compared."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    records = numbers["per_frame"]
    compared = "speedup" in numbers
    tokens = numbers["tokens_total"] / max(1, numbers["frames"])
    x = [r["seconds"] for r in records]
    titles = [
        "share of tokens recomputed",
        "change and motion",
        "latency in ms",
        *(["token cosine to dense"] * compared),
    ]
    figure = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.055, subplot_titles=titles)

    def line(row: int, name: str, y: list[float], colour: str, **options: Any) -> None:
        trace = go.Scatter(x=x, y=y, name=name, mode="lines", line={"color": colour, "width": 1.4}, **options)
        figure.add_trace(trace, row=row, col=1)

    line(1, "recomputed", [r["tokens"] / tokens for r in records], "#ea580c", fill="tozeroy")
    for mode, symbol, colour in (("full", "diamond", "#9a3412"), ("hold", "line-ns", "#64748b")):
        at = [i for i, r in enumerate(records) if r["mode"] == mode]
        marker = {"symbol": symbol, "color": colour, "size": 7, "line": {"color": colour, "width": 1}}
        y = [records[i]["tokens"] / tokens for i in at]
        figure.add_trace(go.Scatter(x=[x[i] for i in at], y=y, name=mode, mode="markers", marker=marker), row=1, col=1)
    line(2, "change since recomputation", [r["change"] for r in records], "#0f766e")
    line(2, "motion (difference to last frame)", [r["motion"] for r in records], "#7c3aed")
    line(3, "latency", [r["latency_ms"] for r in records], "#1d4ed8")
    interval = numbers["latency_ms"]["frame_interval"]
    line(3, "frame interval", [interval] * len(x), "#94a3b8")
    if compared:
        line(4, "mean", [r["token_cosine"] for r in records], "#15803d")
        line(4, "worst hundredth", [r["token_cosine_p01"] for r in records], "#86efac")
    for cut in numbers["cuts"]:
        figure.add_vline(x=cut["seconds"], line={"color": "#475569", "dash": "dot", "width": 1})
    figure.update_layout(
        height=190 * len(titles) + 60, margin={"l": 50, "r": 10, "t": 40, "b": 40}, template="plotly_white",
        legend={"orientation": "h", "y": -0.06}, hovermode="x unified", font={"size": 12},
    )  # fmt: skip
    figure.update_xaxes(title_text="seconds", row=len(titles), col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    return figure
