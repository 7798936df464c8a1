"""Dense optical flow between two pictures, by several methods behind one signature.

`flow = DisFlow()(first, second)` is `float32 (2, height, width)`: for each pixel of the first picture how far, in
pixels, x then y, its content has moved in the second. Estimators are immutable and keep nothing between calls; they
compute on at most `max_side_px` and scale the result back. OpenCV's run on as many threads as `cv2.setNumThreads`
allows; their number does not change the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

from legato.errors import BadArgument, MissingExtra

__all__ = ["DisFlow", "FarnebackFlow", "FlowEstimator", "LucasKanadeFlow", "NvidiaFlow", "TorchFlow"]

Picture = UInt8[Tensor, "3 _ _"]
Flow = Float32[Tensor, "2 height width"]
Grey = UInt8[np.ndarray, "rows columns"]
Vectors = Float32[np.ndarray, "vector_rows vector_columns 2"]

LEAST_SIDE_PX = 12
DIS_LEAST_SIDE_PX = 40  # under 32, four times its 8 px patch, OpenCV's DIS reads outside the picture and crashes
DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "finest": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
NVIDIA_PRESETS = {"fast": 20, "medium": 10, "slow": 5}


@runtime_checkable
class FlowEstimator(Protocol):
    """Anything that finds where the content of one picture is in another."""

    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`.

        Args:
            first: RGB, `uint8 (3, height, width)`, at least 12 pixels a side.
            second: RGB of the same size.

        Raises:
            BadArgument: the pictures are of different sizes or too small.
        """
        ...


@dataclass(frozen=True)
class DisFlow:
    """Dense inverse search (Kroeger et al. 2016), the default: fast, no weights, good on small and medium motion.

    Args:
        preset: how much work; `medium` stops at half the size that it is computed on, `finest` does not.
        max_side_px: longer side of the picture that it is computed on.
    """

    preset: Literal["ultrafast", "fast", "medium", "finest"] = "fast"
    max_side_px: int = 512

    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`; see `FlowEstimator`."""

        def dense(a: Grey, b: Grey) -> Vectors:
            rows, columns = a.shape
            below, right = max(DIS_LEAST_SIDE_PX - rows, 0), max(DIS_LEAST_SIDE_PX - columns, 0)
            if below or right:
                a, b = (cv2.copyMakeBorder(side, 0, below, 0, right, cv2.BORDER_REPLICATE) for side in (a, b))
            search = cv2.DISOpticalFlow.create(DIS_PRESETS[self.preset])  # a fresh one: it keeps buffers
            if self.preset == "finest":
                search.setFinestScale(0)
            return search.calc(a, b, None)[:rows, :columns]

        return _at_bounded_size(dense, first, second, self.max_side_px)


@dataclass(frozen=True)
class FarnebackFlow:
    """Polynomial expansion (Farneback 2003): smooth, and slower than `DisFlow`.

    Args:
        window_px: the wider, the smoother and the more robust.
        levels: of the pyramid, each half the size of the one before.
        iterations: on each level.
        max_side_px: longer side of the picture that it is computed on.
    """

    window_px: int = 15
    levels: int = 5
    iterations: int = 3
    max_side_px: int = 512

    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`; see `FlowEstimator`."""

        def dense(a: Grey, b: Grey) -> Vectors:
            return cv2.calcOpticalFlowFarneback(
                a, b, None, 0.5, self.levels, self.window_px, self.iterations, poly_n=5, poly_sigma=1.1, flags=0
            )

        return _at_bounded_size(dense, first, second, self.max_side_px)


@dataclass(frozen=True)
class LucasKanadeFlow:
    """Pyramidal Lucas-Kanade (Bouguet 2000) on a grid of points, made dense: steady, blurred at edges, no faster.

    A point counts if tracking it forwards and back again returns within a pixel; points that do not are filled in
    from their neighbours, a median takes out strays, and the grid is interpolated between points.

    Args:
        spacing_px: between points.
        window_px: side of the patch that is tracked.
        levels: of the pyramid, each half the size of the one before.
        max_side_px: longer side of the picture that it is computed on.
    """

    spacing_px: int = 8
    window_px: int = 15
    levels: int = 4
    max_side_px: int = 512

    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`; see `FlowEstimator`."""
        return _at_bounded_size(self._tracked, first, second, self.max_side_px)

    def _tracked(self, a: Grey, b: Grey) -> Vectors:
        height, width = a.shape
        rows, columns = max(height // self.spacing_px, 2), max(width // self.spacing_px, 2)
        x, y = np.meshgrid((np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows)
        points = np.stack([x, y], -1).reshape(-1, 1, 2).astype(np.float32) - 0.5
        settings: dict[str, Any] = {"winSize": (self.window_px, self.window_px), "maxLevel": self.levels - 1}
        there, found, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, **settings)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(b, a, there, None, **settings)
        sure = (found & found_back).astype(bool).ravel() & (np.linalg.norm(back - points, axis=-1).ravel() < 1)
        grid = (there - points).reshape(rows, columns, 2)
        return _filled(grid, sure.reshape(rows, columns))


@dataclass(frozen=True)
class TorchFlow:
    """A flow network in the manner of RAFT: `module(image1, image2)` gives a flow, or a list whose last one counts.

    torchvision's RAFT takes images of -1 to 1 (the default); princeton-vl's RAFT and its kin take 0 to 255 and
    `test_mode=True`, for which a `lambda` will do. Sides are padded to multiples of 8 by repeating the edge.

    Args:
        module: called with two `float32 (1, 3, height, width)`; put it in evaluation mode yourself.
        input_range: the values that stand for black and white.
        device: where the module is.
        max_side_px: longer side of the picture that it is computed on.

    Raises:
        BadArgument: on the first call, if what the module returns is not a flow of its input's size.
    """

    module: Callable[[Tensor, Tensor], Tensor | Sequence[Tensor]]
    input_range: tuple[float, float] = (-1.0, 1.0)
    device: str | torch.device = "cpu"
    max_side_px: int = 512

    @torch.no_grad()
    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`; see `FlowEstimator`."""
        _check(first, second)
        _, height, width = first.shape
        rows, columns = _bounded(height, width, self.max_side_px)
        black, white = self.input_range
        pair = torch.stack([first, second]).to(self.device).float()
        if (rows, columns) != (height, width):
            pair = F.interpolate(pair, size=(rows, columns), mode="bilinear", antialias=True)
        left, top = -columns % 8 // 2, -rows % 8 // 2
        padding = (left, -columns % 8 - left, top, -rows % 8 - top)
        padded = F.pad(black + pair * ((white - black) / 255), padding, mode="replicate")
        given = self.module(padded[:1], padded[1:])
        flow = given if isinstance(given, Tensor) else given[-1]
        if flow.shape != (1, 2, *padded.shape[-2:]):
            raise BadArgument(
                f"the module returned {tuple(flow.shape)} for pictures of {tuple(padded.shape[-2:])}; "
                f"expected {(1, 2, *padded.shape[-2:])}"
            )
        flow = flow[..., top : top + rows, left : left + columns].float()
        if (rows, columns) != (height, width):
            flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
        return (flow[0] * flow.new_tensor([width / columns, height / rows])[:, None, None]).to(first.device)


@dataclass(frozen=True)
class NvidiaFlow:
    """NVIDIA's optical flow hardware (Turing and later), through an OpenCV that was built with CUDA and contrib.

    Args:
        preset: how much work.
        grid_px: one vector for so many pixels: 4 everywhere; 2 and 1 from Ampere on.
        max_side_px: longer side of the picture that it is computed on.

    Raises:
        MissingExtra: on the first call, where OpenCV or the machine lacks it.
    """

    preset: Literal["fast", "medium", "slow"] = "medium"
    grid_px: Literal[1, 2, 4] = 4
    max_side_px: int = 1024

    def __call__(self, first: Picture, second: Picture) -> Flow:
        """Displacement, x then y in pixels, of every pixel of `first`; see `FlowEstimator`."""
        create = getattr(getattr(cv2, "cuda", None), "NvidiaOpticalFlow_2_0_create", None)
        if create is None or not cv2.cuda.getCudaEnabledDeviceCount():
            raise MissingExtra(
                "NvidiaFlow needs an NVIDIA GPU and an OpenCV built with CUDA, contrib and the Optical Flow SDK, "
                "which the wheels of OpenCV are not; elsewhere use DisFlow(), or TorchFlow with a network on the GPU"
            )

        def dense(a: Grey, b: Grey) -> Vectors:
            size = (a.shape[1], a.shape[0])
            effort = NVIDIA_PRESETS[self.preset]
            session = create(size, perfPreset=effort, outputGridSize=self.grid_px, enableTemporalHints=False)
            try:
                fixed_point = session.calc(a, b, None)[0]
                return session.convertToFloat(fixed_point, None)
            finally:
                session.collectGarbage()

        return _at_bounded_size(dense, first, second, self.max_side_px)


def _at_bounded_size(dense: Callable[[Grey, Grey], Vectors], first: Picture, second: Picture, max_side_px: int) -> Flow:
    """The flow that `dense` finds between shrunk grey pictures, in pixels of the pictures as given."""
    _check(first, second)
    _, height, width = first.shape
    rows, columns = _bounded(height, width, max_side_px)
    vectors = dense(_grey(first, rows, columns), _grey(second, rows, columns))
    if (rows, columns) != (height, width):
        vectors = vectors * np.array([width / columns, height / rows], dtype=np.float32)
    if vectors.shape[:2] != (height, width):
        vectors = cv2.resize(vectors, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(vectors.transpose(2, 0, 1))).to(first.device)


def _check(first: Picture, second: Picture) -> None:
    if first.shape != second.shape:
        raise BadArgument(f"the pictures are {tuple(first.shape)} and {tuple(second.shape)}; expected one size")
    if min(first.shape[-2:]) < LEAST_SIDE_PX:
        raise BadArgument(f"the pictures are {tuple(first.shape)}; expected at least {LEAST_SIDE_PX} pixels a side")


def _bounded(height: int, width: int, max_side_px: int) -> tuple[int, int]:
    """The size to compute at."""
    scale = min(max_side_px / max(height, width), 1.0)
    return max(round(height * scale), LEAST_SIDE_PX), max(round(width * scale), LEAST_SIDE_PX)


def _grey(picture: Picture, rows: int, columns: int) -> Grey:
    planes = picture.detach().cpu().numpy()
    image = (
        planes.transpose(1, 2, 0) if planes.strides[0] == 1 else cv2.merge([np.ascontiguousarray(p) for p in planes])
    )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if grey.shape == (rows, columns) else cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)


def _filled(grid: Vectors, sure: np.ndarray) -> Vectors:
    """The grid with unsure vectors replaced by the mean of sure neighbours, near ones first, and strays by a median."""
    known, vectors = sure.astype(np.float32)[..., None], np.where(sure[..., None], grid, 0).astype(np.float32)
    while not known.all() and known.any():
        weight = cv2.blur(known, (3, 3), borderType=cv2.BORDER_CONSTANT)[..., None]
        spread = cv2.blur(vectors * known, (3, 3), borderType=cv2.BORDER_CONSTANT) / np.maximum(weight, 1e-6)
        vectors = np.where(known > 0, vectors, spread)
        known = np.maximum(known, (weight > 1e-6).astype(np.float32))
    return np.stack([cv2.medianBlur(np.ascontiguousarray(vectors[..., axis]), 3) for axis in (0, 1)], -1)
