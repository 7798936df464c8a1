"""Contact sheets: clips as rows of frames with their times, one PNG."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from torch import Tensor

from legato.errors import UnsupportedOutput
from legato.files import write_whole

__all__ = ["check_sheet", "contact_sheet", "sheet_columns"]

MARGIN_PX, LABEL_PX = 4, 14
COLUMNS = 16


def check_sheet(path: Path) -> None:
    """Raise `UnsupportedOutput` where a path does not name a PNG: before long work."""
    if path.suffix.lower() != ".png":
        raise UnsupportedOutput(f"{path} ends in {path.suffix or 'nothing'!r}; a contact sheet is a PNG: expected .png")


def contact_sheet(
    path: Path,
    clips: UInt8[Tensor, "clips time 3 height width"],
    seconds: Float64[Tensor, " time"],
    *,
    columns: int = COLUMNS,
    side_px: int = 96,
) -> None:
    """Write a sheet, complete or not at all.

    Args:
        path: a PNG.
        clips: a row each.
        seconds: of the frames, written above the columns.
        columns: at most; longer clips show frames spread evenly.
        side_px: height that a frame is enlarged to.

    Raises:
        UnsupportedOutput: the path does not name a PNG.
        FileNotWritten: it cannot be written there.
    """
    check_sheet(path)
    chosen = sheet_columns(clips.shape[1], columns)
    times = max(1, round(side_px / clips.shape[-2]))
    frames = clips[:, chosen].permute(0, 1, 3, 4, 2).cpu().numpy()  # (clips, columns, height, width, 3)
    frames = frames.repeat(times, 2).repeat(times, 3)
    _, _, height, width, _ = frames.shape
    sheet = np.full(
        (LABEL_PX + len(frames) * (height + MARGIN_PX), len(chosen) * (width + MARGIN_PX), 3), 255, dtype=np.uint8
    )
    for column, at in enumerate(chosen):
        x = column * (width + MARGIN_PX)
        label = f"{float(seconds[at]):.2f} s"
        cv2.putText(sheet, label, (x + 2, LABEL_PX - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (60, 60, 60), 1, cv2.LINE_AA)
        for row, clip in enumerate(frames):
            y = LABEL_PX + row * (height + MARGIN_PX)
            sheet[y : y + height, x : x + width] = clip[column]
    stored = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    write_whole(path, stored.tobytes())


def sheet_columns(frames: int, columns: int = COLUMNS) -> list[int]:
    """Which frames of a clip a sheet shows: all, or so many spread evenly."""
    return sorted({round(at) for at in np.linspace(0, frames - 1, min(columns, frames)).tolist()})
