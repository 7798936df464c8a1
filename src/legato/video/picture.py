"""One decoded picture, turned into RGB the way a player would show it.

Matrix and range are the ones that the picture is tagged with. An untagged picture follows the convention of
players: BT.709 above 576 lines or from 1280 columns on, BT.601 below; limited range for YUV, full for
grey. Transparent pixels lie over black. PQ and HLG (HDR) curves are not tone-mapped. Pixels are not stretched to
square ones: the sample aspect ratio is in `VideoInfo`.
"""

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8

__all__ = ["Darkroom", "matrix_of", "orientation_of"]

# FFmpeg's AVColorSpace. 10, the constant-luminance variant of BT.2020, is read as the common one.
_MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_IN_SWSCALE = {
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
}
# The triangle filter widens as it shrinks a picture, so that nothing aliases. Without full chroma, swscale's generic
# path lands 2 levels too dark; its fast path for a picture that keeps its size does not mind the flag.
_INTERPOLATION = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
_LIMITED_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
_ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def matrix_of(picture: VideoFrame) -> str:
    """Name of the colour matrix that `picture` is converted with: its tag, or the convention for its size."""
    if picture.format.is_rgb:
        return "rgb"
    tagged = _MATRICES.get(picture.colorspace, "rgb")
    if tagged != "rgb":
        return tagged
    return "bt709" if picture.width >= 1280 or picture.height > 576 else "bt601"


def orientation_of(picture: VideoFrame) -> tuple[int, bool]:
    """How the stored picture has to be turned to be shown, from its display matrix.

    Returns:
        Quarter turns counterclockwise, 0 to 3 (odd angles go to the nearest), and whether the picture is
        mirrored left to right before them.
    """
    try:
        matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:  # other side data of a kind that PyAV has no name for
        return round(picture.rotation / 90) % 4, False
    if matrix is None:
        return 0, False
    # Shown at (a x + c y, b x + d y) what is stored at (x, y); fixed point, y downwards.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (3 if c < 0 else 1), mirrored
    return (2 if d < 0 else 0), mirrored


class Darkroom:
    """Develops the pictures of one stream, keeping swscale's tables from one to the next.

    Args:
        size_px: (height, width) to scale to in the same step; None keeps each picture's own size.
    """

    def __init__(self, size_px: tuple[int, int] | None = None) -> None:
        self._size_px = size_px
        self._reformatter = VideoReformatter()

    def develop(self, picture: VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
        """RGB pixels of `picture`, upright and contiguous, sharing no memory with the decoder."""
        turns, mirrored = orientation_of(picture)
        height, width = self._size_px or (None, None)
        if turns % 2:
            height, width = width, height
        transparent = picture.format.has_palette or any(part.is_alpha for part in picture.format.components)
        rgb = self._reformatter.reformat(
            picture,
            width=width,
            height=height,
            format="rgba" if transparent else "rgb24",
            src_colorspace=_IN_SWSCALE.get(matrix_of(picture)),
            interpolation=_INTERPOLATION,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb.height, plane.line_size)
        pixels = rows[:, : rgb.width * (4 if transparent else 3)].reshape(rgb.height, rgb.width, -1)
        if transparent:
            pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGBA2mRGBA), cv2.COLOR_RGBA2RGB)
        elif picture.color_range == ColorRange.MPEG and picture.format.name.startswith("gray"):
            pixels = cv2.LUT(pixels, _LIMITED_TO_FULL)  # swscale takes all grey for full range
        if mirrored:
            pixels = cv2.flip(pixels, 1)
        if turns:
            pixels = cv2.rotate(pixels, _ROTATIONS[turns])
        return pixels.copy() if rgb is picture else np.ascontiguousarray(pixels)
