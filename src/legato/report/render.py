"""Building blocks of a report: a page, cards of numbers, tables, pictures, plots."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from legato.files import write_whole
from legato.video.pixels import rows_of_pixels

__all__ = ["cards", "page", "picture", "pictures", "plot", "section", "table", "thumbnail", "write_page"]

STYLE = """
:root { --ink: #1c2330; --soft: #5c6675; --line: #e3e6eb; --paper: #ffffff; --ground: #f5f6f8; --accent: #c2410c; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
p.lead, p.note { color: var(--soft); margin: 0 0 14px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 18px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 12px; margin-top: 18px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 24px; font-weight: 650; line-height: 1.25; }
.card span { color: var(--soft); font-size: 13px; }
.card.first b { color: var(--accent); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
figure { margin: 0; }
figure img { width: 100%; display: block; border-radius: 5px; }
figcaption { color: var(--soft); font-size: 12.5px; padding-top: 3px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 5px 8px; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.meaning { color: var(--soft); width: 45%; }
td.number { max-width: 380px; white-space: normal; overflow-wrap: anywhere; }
"""


def page(title: str, lead: str, body: str, *, plots: bool = True) -> str:
    """A whole HTML document; with `plots` it carries the plotting script."""
    script = ""
    if plots:
        from plotly.offline import get_plotlyjs

        script = f"<script>{get_plotlyjs()}</script>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>{script}</head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>{body}</main></body></html>'
    )


def write_page(path: str | Path, text: str) -> None:
    """Write a page, complete or not at all.

    Raises:
        FileNotWritten: it cannot be written there.
    """
    write_whole(path, text.encode())


def section(title: str, note: str, content: str) -> str:
    """A titled block with one line that says how to read it."""
    return f'<section><h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>{content}</section>'


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Headline numbers: (value, what it is); the first one stands out."""
    blocks = [
        f'<div class="card{" first" if i == 0 else ""}"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for i, (value, name) in enumerate(items)
    ]
    return f'<div class="cards">{"".join(blocks)}</div>'


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """A table of (name, value, meaning)."""
    lines = [
        f'<tr><td>{html.escape(name)}</td><td class="number">{html.escape(value)}</td>'
        f'<td class="meaning">{html.escape(meaning)}</td></tr>'
        for name, value, meaning in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def thumbnail(pixels: Tensor, width_px: int, aspect: float | None = None) -> np.ndarray:
    """A picture at a width, RGB `uint8 (height, width, 3)`.

    Args:
        pixels: RGB, `uint8 (3, height, width)`.
        width_px: of the thumbnail.
        aspect: height over width of the thumbnail; that of the picture where none is given.
    """
    aspect = pixels.shape[1] / pixels.shape[2] if aspect is None else aspect
    size = (width_px, max(1, round(width_px * aspect)))
    return cv2.resize(rows_of_pixels(pixels), size, interpolation=cv2.INTER_AREA)


def picture(image: np.ndarray, quality: int = 82) -> str:
    """An RGB image `uint8 (height, width, 3)` as an inlined JPEG tag."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}">'


def pictures(items: Iterable[tuple[Sequence[np.ndarray], str]]) -> str:
    """A grid of captioned pictures, several images side by side where a caption has several."""
    blocks = []
    for images, caption in items:
        inner = "".join(picture(image) for image in images)
        if len(images) > 1:
            inner = f'<div class="pair">{inner}</div>'
        blocks.append(f"<figure>{inner}<figcaption>{html.escape(caption)}</figcaption></figure>")
    return f'<div class="pictures">{"".join(blocks)}</div>'


def plot(figure: Any) -> str:
    """A plotly figure as a fragment; the page carries the script."""
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
