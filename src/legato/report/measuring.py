"""The report of `legato measure`: what breaks coherence, where, and how a cheat would have done."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from legato.errors import LegatoError
from legato.metrics import Measured, Measurement
from legato.metrics.measurement import readable
from legato.report.render import cards, page, picture, pictures, plot, section, thumbnail
from legato.video import Video, open_video

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["measure_page"]

THUMB_WIDTH_PX = 300
MOST_CURVES, MOST_MOMENTS, SLIDER_PICTURES = 10, 6, 5
RESIDUAL_GAIN = 4
FIRST = ("coherence_score", "flicker_hz", "warping_error", "unsmooth_share", "seams", "speed", "cuts")
SHADES = ("#c2410c", "#1d4ed8", "#15803d", "#7c3aed")


def measure_page(path: str, found: Measured, others: Sequence[tuple[str, Measured]] = ()) -> str:
    """A whole page about one video, beside other versions of it where some are given.

    Pictures are taken from the files in a second look; where a file cannot be opened twice, they are left out.

    Args:
        path: of the video.
        found: what was measured.
        others: further versions to compare with.
    """
    frames, span = found.frames, found.last_seconds - found.first_seconds
    lead = (
        f"{frames} frames over {span:.2f} s, {len(found.cuts_seconds)} cuts. Everything is on the clock of the video."
    )
    parts = [
        cards((told(found[name]), titled(name)) for name in FIRST if name in found),
        section("All measures", "Red is beyond its limit.", comparison(path, found, others)),
    ]
    drawn = [m for m in found.measurements if m.better != "neither" and varies(m)]
    drawn = list({id(m.curve): m for m in reversed(drawn)}.values())[::-1]
    drawn = sorted(drawn, key=lambda m: not m.beyond_limit)[:MOST_CURVES]
    if drawn:
        note = "Dotted lines are cuts, where measures start over."
        parts.append(section("Over time", note, plot(curves(drawn, path, found, others))))
    moments = worst_moments(path, drawn)
    if moments:
        note = f"Frame before, frame, frame after, and {RESIDUAL_GAIN} times the difference to the mean of the two."
        parts.append(section("Worst moments", note, wide(pictures(moments))))
    for other, _ in others:
        slides = sliders(path, other, found)
        if slides:
            title = f"{Path(path).name} and {Path(other).name}"
            parts.append(section(title, "Drag to see one over the other at the same time.", slides))
    return page(f"legato measure: {Path(path).name}", lead, "".join(parts))


def varies(measurement: Measurement) -> bool:
    """Whether there is a curve with something to see in it."""
    curve = measurement.curve
    return curve is not None and len(curve) > 1 and float(np.ptp(curve.points[1])) > 1e-9


def titled(name: str) -> str:
    """`flicker_hz` as people write it."""
    return name.replace("_", " ").replace(" hz", " (Hz)")


def told(measurement: Measurement) -> str:
    """A value with its unit."""
    value = readable(measurement.value)
    return value if measurement.unit in {"score", "share", "ratio", "0 or 1", "mse"} else f"{value} {measurement.unit}"


def comparison(path: str, found: Measured, others: Sequence[tuple[str, Measured]]) -> str:
    """The table: value, other versions, controls, and what it means."""
    columns = [(Path(path).name if others else "value", {m.name: m for m in found.measurements})]
    columns += [(Path(p).name, {m.name: m for m in other.measurements}) for p, other in others]
    columns += [(kind, {m.name: m for m in measurements}) for kind, measurements in found.controls.items()]
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in columns)
    lines = []
    for measurement in found.measurements:
        cells = "".join(cell(column.get(measurement.name)) for _, column in columns)
        arrow = {"lower": "↓", "higher": "↑", "neither": ""}[measurement.better]
        note = f" <i>{escape(measurement.note)}</i>" if measurement.note else ""
        lines.append(
            f"<tr><td>{escape(titled(measurement.name))} {arrow}<br><small>{escape(measurement.unit)}</small></td>"
            f'{cells}<td class="meaning">{escape(measurement.about)}{note}</td></tr>'
        )
    note = (
        "<p class='note'>Frozen: the first frame at all times. Shuffled: the frames of one second in random order. A "
        "score that these win says nothing.</p>"
        if found.controls
        else ""
    )
    return f"{note}<table><tr><th></th>{head}<th>what it means</th></tr>{''.join(lines)}</table>"


def cell(measurement: Measurement | None) -> str:
    """One number of the table, red beyond its limit."""
    if measurement is None:
        return '<td class="number"></td>'
    style = ' style="color:#b91c1c;font-weight:600"' if measurement.beyond_limit else ""
    return f'<td class="number"{style}>{readable(measurement.value)}</td>'


def curves(
    drawn: Sequence[Measurement], path: str, found: Measured, others: Sequence[tuple[str, Measured]]
) -> "Figure":
    """One small plot below the other on a common axis in seconds."""
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    figure: Figure = make_subplots(
        rows=len(drawn), cols=1, shared_xaxes=True, vertical_spacing=0.25 / len(drawn),
        subplot_titles=[f"{titled(m.name)}, {m.unit}" for m in drawn],
    )  # fmt: skip
    versions = [(path, found), *others]
    for row, measurement in enumerate(drawn, start=1):
        for (name, version), shade in zip(versions, SHADES, strict=False):
            curve = version[measurement.name].curve if measurement.name in version else None
            if curve is None:
                continue
            seconds, values = curve.points
            line = Scatter(
                x=seconds, y=values, mode="lines", line={"color": shade, "width": 1.4}, name=Path(name).name,
                showlegend=row == 1 and len(versions) > 1, legendgroup=name,
            )  # fmt: skip
            figure.add_trace(line, row=row, col=1)
    for cut in found.cuts_seconds:
        figure.add_vline(x=cut, line={"color": "#9ca3af", "width": 1, "dash": "dot"})
    figure.update_layout(
        template="plotly_white", height=110 * len(drawn) + 90, margin={"l": 60, "r": 16, "t": 40, "b": 36},
        font={"size": 11}, legend={"orientation": "h", "yref": "container", "y": 1, "x": 1, "xanchor": "right"},
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left", font_size=12)
    figure.update_xaxes(title_text="seconds", row=len(drawn), col=1)
    return figure


def worst_moments(path: str, drawn: Sequence[Measurement]) -> list[tuple[list[np.ndarray], str]]:
    """Pictures around the worst moments of several measures, each moment once."""
    wanted: list[tuple[float, str]] = []
    for rank in range(3):
        for measurement in sorted(drawn, key=lambda m: not m.beyond_limit):
            times = measurement.worst_seconds
            if rank < len(times) and all(abs(times[rank] - t) > 0.2 for t, _ in wanted):
                wanted.append((times[rank], titled(measurement.name)))
    found = []
    if "://" in path:
        return []
    try:
        with open_video(path) as video:
            for seconds, name in wanted[:MOST_MOMENTS]:
                around = neighbours(video, seconds)
                if around is not None:
                    before, now, after = around
                    mean = (before.astype(np.float32) + after) / 2
                    residual = np.clip(np.abs(now - mean) * RESIDUAL_GAIN, 0, 255).astype(np.uint8)
                    found.append(([before, now, after, residual], f"{name}: {seconds:.2f} s"))
    except LegatoError:
        return found
    return found


def neighbours(video: Video, seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The frame shown at a time, and those before and after it, as thumbnails; None at the ends of the video."""
    rate = float(video.info.declared_rate or 25)
    reach = max(3 / rate, 0.25)
    near = [(f.seconds, thumbnail(f.pixels, THUMB_WIDTH_PX)) for f in video.between(seconds - reach, seconds + reach)]
    at = [i for i, (t, _) in enumerate(near) if t <= seconds + 1e-6]
    if not at or at[-1] == 0 or at[-1] + 1 >= len(near):
        return None
    return near[at[-1] - 1][1], near[at[-1]][1], near[at[-1] + 1][1]


def wide(grid: str) -> str:
    """A grid of pictures with one wide figure a row."""
    return grid.replace('class="pictures"', 'class="pictures" style="grid-template-columns:1fr"').replace(
        'class="pair"', 'class="pair" style="grid-template-columns:repeat(4,1fr)"'
    )


def sliders(path: str, other: str, found: Measured) -> str:
    """Pairs of pictures at the same times, one over the other, with a handle to wipe between them."""
    span = found.last_seconds - found.first_seconds
    blocks = []
    try:
        with open_video(path) as a, open_video(other) as b:
            start, other_start = found.first_seconds, b.info.start_seconds
            for step in range(SLIDER_PICTURES):
                later = span * (step + 0.5) / SLIDER_PICTURES
                pair = (a.at(start + later), b.at(other_start + later))
                under, over = (thumbnail(frame.pixels, THUMB_WIDTH_PX) for frame in pair)
                blocks.append(slider(under, over, f"{start + later:.2f} s"))
    except LegatoError:
        pass
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px"
    return f'<div style="{grid}">{"".join(blocks)}</div>' if blocks else ""


def slider(under: np.ndarray, over: np.ndarray, caption: str) -> str:
    """Two pictures and a handle between them."""
    wipe = "this.previousElementSibling.style.clipPath='inset(0 0 0 '+this.value+'%)'"
    above = picture(over).replace("<img ", '<img style="position:absolute;inset:0;width:100%;height:100%" ')
    below = picture(under).replace("<img ", '<img style="width:100%;display:block" ')
    return (
        f'<figure><div style="position:relative">{below}'
        f'<div style="position:absolute;inset:0;clip-path:inset(0 0 0 50%)">{above}</div>'
        f'<input type="range" value="50" aria-label="wipe" oninput="{wipe}" '
        'style="position:absolute;inset:auto 0 0 0;width:100%;margin:0"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
