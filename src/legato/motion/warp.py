"""Moving pictures and token grids along optical flow, and where that cannot be trusted.

Flow from a to b is `(batch, 2, height, width)`, x then y in pixels (or tokens): what is at p in a is at p + flow(p)
in b. Warping b backwards along it, `warp(b, flow_a_to_b)`, gives b as seen at the places of a. Positions count pixel
centres: 0 is the centre of the first, and zero flow gives back the very same bits. Tensors are warped exactly and
differentiably; `sampled` and `sampled_at` are OpenCV's, for pictures channels last where speed counts.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from legato.errors import BadArgument

__all__ = [
    "consistency_error",
    "occluded",
    "places_of",
    "resize_flow",
    "sampled",
    "sampled_at",
    "samples_inside",
    "splatted",
    "warp",
    "warp_tokens",
]

Flow = Float[Tensor, "batch 2 _ _"]
Field = Float32[np.ndarray, "height width 2"]


def warp(
    images: Float[Tensor, "batch channels height width"], flow: Flow
) -> Float[Tensor, "batch channels height width"]:
    """Sample images bilinearly at p + flow(p); beyond the frame counts its edge. Differentiable in both.

    Whole displacements copy pixels exactly, which `grid_sample` does not: it maps positions to -1 ... 1 and back.

    Args:
        images: any floating type.
        flow: in pixels.

    Raises:
        BadArgument: sizes or batches differ.
    """
    batch, channels, height, width = images.shape
    _check(flow, (batch, 2, height, width))
    flat = images.flatten(2)
    warped = torch.zeros_like(flat)
    for index, weight in _corners(flow):
        picked = flat.gather(2, index[:, None].expand(-1, channels, -1))
        warped = warped + picked * weight[:, None].to(images.dtype)
    return warped.reshape(images.shape)


def sampled(image: np.ndarray, flow: Field) -> np.ndarray:
    """An image `(height, width, ...)` at p + flow(p), bilinear; beyond the frame counts its edge.

    Args:
        image: of a type that OpenCV interpolates, up to four channels.
        flow: in pixels, channels last.
    """
    return sampled_at(image, flow + places_of(*flow.shape[:2]))


def sampled_at(image: np.ndarray, places: Field) -> np.ndarray:
    """As `sampled`, at places given as x and y in pixels."""
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=4)
def places_of(height: int, width: int) -> Field:
    """x and y of every pixel of a picture; read-only, since it is made once for each size."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    places = np.dstack(np.meshgrid(x, y))
    places.flags.writeable = False
    return places


def warp_tokens(tokens: Float[Tensor, "batch tokens channels"], flow: Flow) -> Float[Tensor, "batch tokens channels"]:
    """As `warp`, for tokens in rows of a grid; the grid is as large as the flow.

    Args:
        tokens: patch tokens alone: class and register tokens have no place and stay outside.
        flow: in tokens, for example from `resize_flow`.

    Raises:
        BadArgument: the flow's grid holds another number of tokens, or batches differ.
    """
    batch, count, channels = tokens.shape
    if flow.shape[0] != batch or flow.shape[2] * flow.shape[3] != count:
        raise BadArgument(
            f"flow is {tuple(flow.shape)} for {batch} x {count} tokens; expected ({batch}, 2, rows, columns) with "
            f"rows x columns = {count}; take class and register tokens off first"
        )
    warped = torch.zeros_like(tokens)
    for index, weight in _corners(flow):
        picked = tokens.gather(1, index[..., None].expand(-1, -1, channels))
        warped = warped + picked * weight[..., None].to(tokens.dtype)
    return warped


def splatted(
    values: Float[Tensor, "batch channels height width"], flow: Flow
) -> Float[Tensor, "batch channels height width"]:
    """Throw what is at p to p + flow(p), shared out to the four pixels around; what falls beyond the frame is lost.

    Sums, not means: splat a weight beside the values and divide. The transpose of `warp`, but for the frame's edge.

    Raises:
        BadArgument: sizes or batches differ.
    """
    batch, channels, height, width = values.shape
    _check(flow, (batch, 2, height, width))
    x, y = _positions(flow)
    left, top = x.detach().floor(), y.detach().floor()
    flat = values.flatten(2)
    thrown = torch.zeros_like(flat)
    for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (down * across * inside).flatten(1)[:, None].to(values.dtype)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            thrown = thrown.scatter_add(2, index.flatten(1)[:, None].expand(-1, channels, -1), flat * weight)
    return thrown.reshape(values.shape)


def resize_flow(flow: Flow, rows: int, columns: int) -> Float[Tensor, "batch 2 {rows} {columns}"]:
    """The flow on another grid and in its units: x times columns / width, y times rows / height.

    A coarser grid gets the mean over each cell, a finer one is interpolated between cell centres.

    Raises:
        BadArgument: `rows` or `columns` is under 1.
    """
    if rows < 1 or columns < 1:
        raise BadArgument(f"the grid is {rows} x {columns}; expected at least 1 x 1")
    height, width = flow.shape[2:]
    if rows <= height and columns <= width:
        resized = F.adaptive_avg_pool2d(flow, (rows, columns))
    else:
        resized = F.interpolate(flow, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True)
    return resized * flow.new_tensor([columns / width, rows / height])[:, None, None]


def samples_inside(flow: Flow) -> Bool[Tensor, "batch height width"]:
    """Where p + flow(p) lies within the frame, between the centres of its outermost pixels."""
    x, y = _positions(flow)
    height, width = flow.shape[2:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def consistency_error(forward: Flow, backward: Flow) -> Float[Tensor, "batch height width"]:
    """How far from p one arrives on going forward and back again: |fw(p) + bw(p + fw(p))| in pixels.

    Args:
        forward: flow from a to b.
        backward: flow from b to a.

    Raises:
        BadArgument: sizes or batches differ.
    """
    _check(backward, tuple(forward.shape))
    return (forward + warp(backward, forward)).norm(dim=1)


def occluded(forward: Flow, backward: Flow, max_error_px: float = 1.0) -> Bool[Tensor, "batch height width"]:
    """Where what is seen in a is hidden in b: `consistency_error` over `max_error_px`, or out of b's frame."""
    return (consistency_error(forward, backward) > max_error_px) | ~samples_inside(forward)


def _positions(flow: Flow) -> tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch height width"]]:
    """x and y of p + flow(p); in float32 at least, since half precision cannot count pixels."""
    wide = flow if flow.dtype == torch.float64 else flow.float()
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=wide.dtype)
    y = torch.arange(height, device=flow.device, dtype=wide.dtype)
    return wide[:, 0] + x, wide[:, 1] + y[:, None]


def _corners(flow: Flow) -> list[tuple[Int64[Tensor, "batch places"], Float[Tensor, "batch places"]]]:
    """The four neighbours of each sample as flat indices, with their bilinear weights."""
    height, width = flow.shape[2:]
    x, y = _positions(flow)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.detach().floor(), y.detach().floor()
    across, down = x - left, y - top
    columns = [left.long(), (left.long() + 1).clamp(max=width - 1)]
    rows = [top.long(), (top.long() + 1).clamp(max=height - 1)]
    return [
        ((rows[j] * width + columns[i]).flatten(1), (weight_x * weight_y).flatten(1))
        for j, weight_y in enumerate((1 - down, down))
        for i, weight_x in enumerate((1 - across, across))
    ]


def _check(flow: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(flow.shape) != expected:
        raise BadArgument(f"flow is {tuple(flow.shape)}; expected {expected}")
