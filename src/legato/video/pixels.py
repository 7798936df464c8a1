"""Pictures as OpenCV wants them, channels last, and as tensors, channels first."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["pixels_of_rows", "rows_of_pixels", "shrunk"]

Picture = UInt8[Tensor, "3 height width"]
Image = UInt8[np.ndarray, "height width 3"]


def rows_of_pixels(picture: Picture) -> Image:
    """The picture as OpenCV wants it, contiguous; free where it came from a decoder."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())


def pixels_of_rows(image: Image) -> Picture:
    """The image as a tensor that shares its memory."""
    return torch.from_numpy(image).permute(2, 0, 1)


def shrunk(image: Image, side_px: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """A copy with at most `side_px` on the longer side, each pixel the mean of what it covers; never enlarged."""
    height, width = image.shape[:2]
    scale = min(side_px / max(height, width), 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
