"""A small network that corrects how optical flow puts a picture of real footage together.

For each cell of the grid of `MovingPair` it sees how well the two pictures agree there, moved and as they are, in
windows of several sizes, and how far motion is to be trusted; it says how much of which picture to take, and how
sharply. The picture is put together from the given ones at their full size, so the network works on any size and adds
nothing that neither of them shows. Untrained it changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from legato.motion.interpolate import FlowInterpolator, Neighbour
from legato.motion.moving import Mixture, MovingPair
from legato.motion.warp import Field, places_of, sampled
from legato.nn import load_folder

__all__ = ["CLUES", "FootageRefiner", "RefinedInterpolator", "clues_of", "load_footage_refiner", "weights_of"]

BUNDLED = Path(__file__).parents[1] / "checkpoints" / "footage-inbetween"
WINDOWS_PX = (5, 17, 49)  # sides, in cells
BLURRED = 9  # planes that are looked at in windows too
CLUES = BLURRED * (1 + len(WINDOWS_PX)) + 4 + 4 + 3
LEAST_SHARE = 1e-3  # a picture that counts for nothing may still be given so much weight
MOST_SAID = 30.0  # the logarithm of a factor

Picture = UInt8[Tensor, "3 height width"]
Other = UInt8[Tensor, "3 other_height other_width"]
Pictures = UInt8[Tensor, "time 3 height width"]
Bytes = UInt8[np.ndarray, "rows columns 3"]
Weights = Float32[Tensor, "*places 4"]


class FootageRefiner(nn.Module, PyTorchModelHubMixin, library_name="legato", license="apache-2.0"):
    """Three layers that go over each cell alone: what is around it is in the clues.

    Args:
        width: of the two hidden layers.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.first, self.second, self.said = nn.Linear(CLUES, width), nn.Linear(width, width), nn.Linear(width, 5)
        nn.init.zeros_(self.said.weight)
        nn.init.zeros_(self.said.bias)

    def forward(
        self, clues: Float32[Tensor, "*places clues"], weights: Weights, sharpness: Float32[Tensor, "*places"]
    ) -> tuple[Weights, Float32[Tensor, "*places"]]:
        """Weights and sharpness, corrected.

        Args:
            clues: see `clues_of`.
            weights: of the first and the second picture moved, and of both as they are; see `weights_of`.
            sharpness: share of cubic sampling.
        """
        said = self.said(nn.functional.relu(self.second(nn.functional.relu(self.first(clues)))))
        before = weights + LEAST_SHARE
        after = before * said[..., :4].clamp(-MOST_SAID, MOST_SAID).exp()
        moved = after / after.sum(-1, keepdim=True) - before / before.sum(-1, keepdim=True)
        changed = (weights + moved).clamp_min(0)
        sharp = (sharpness + torch.tanh(said[..., 4])).clamp(0, 1)
        return changed / changed.sum(-1, keepdim=True), sharp


def weights_of(mixture: Mixture) -> Float32[np.ndarray, "rows columns 4"]:
    """Weights of the first and the second picture moved, and of both as they are."""
    first, still, moved = mixture.first, mixture.still_first, mixture.moved
    stay = 1 - moved
    return np.dstack([moved * first, moved * (1 - first), stay * still, stay * (1 - still)])


def clues_of(
    pictures: Sequence[Bytes],
    motions: Sequence[Field],
    trust: Sequence[Float32[np.ndarray, "rows columns"]],
    mixture: Mixture,
    share: float,
    *,
    trust_is_moved: bool = False,
) -> Float32[np.ndarray, "rows columns clues"]:
    """What the network sees.

    Args:
        pictures: on the grid.
        motions: where to look in each, from the cell.
        trust: of each, how well what it shows is found in the other.
        mixture: of optical flow alone.
        share: of the way.
        trust_is_moved: whether trust is that of what is seen from the cell already.
    """
    rows, columns = mixture.moved.shape
    places = [motion + places_of(rows, columns) for motion in motions]
    soft = [sampled(picture, motion) for picture, motion in zip(pictures, motions, strict=True)]
    sharp = [
        cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for picture, at in zip(pictures, places, strict=True)
    ]
    path = motions[1] - motions[0]
    faint = (
        _apart(soft[0], soft[1]), _apart(pictures[0], pictures[1]),
        _apart(soft[0], pictures[0]), _apart(soft[1], pictures[1]),
        _apart(sharp[0], soft[0]), _apart(sharp[1], soft[1]), _length(path),
    )  # fmt: skip
    believed = trust if trust_is_moved else [sampled(p, motion) for p, motion in zip(trust, motions, strict=True)]
    around = [*faint, *believed]
    sized = [around, *([cv2.blur(plane, (side, side)) for plane in around] for side in WINDOWS_PX)]
    uneven = [_length(path - cv2.blur(path, (side, side))) for side in (*WINDOWS_PX, 2 * WINDOWS_PX[-1] + 1)]
    seen = [
        cv2.inRange(at, (0, 0, 0, 0), (columns - 1, rows - 1, 0, 0)).astype(np.float32) / np.float32(255)
        for at in places
    ]
    whole = [np.full((rows, columns), value, dtype=np.float32) for value in (share, faint[0].mean(), faint[1].mean())]
    planes = [
        *(plane if number >= len(faint) else _log1p(plane) for size in sized for number, plane in enumerate(size)),
        *(_log1p(plane) for plane in uneven),
        mixture.moved, mixture.sharpness, *seen,
        whole[0], _log1p(whole[1]), _log1p(whole[2]),
    ]  # fmt: skip
    return np.moveaxis(np.stack(planes), 0, -1)  # a view: plane by plane is several times as fast to make and to read


def _log1p(plane: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "rows columns"]:
    return cv2.log(plane + np.float32(1))  # an order of magnitude faster than NumPy's


def _apart(first: Bytes, second: Bytes) -> Float32[np.ndarray, "rows columns"]:
    """Mean difference over the channels, in grey levels."""
    return cv2.transform(cv2.absdiff(first, second).astype(np.float32), np.full((1, 3), 1 / 3, dtype=np.float32))


def _length(motion: Field) -> Float32[np.ndarray, "rows columns"]:
    return cv2.magnitude(*(np.ascontiguousarray(motion[..., axis]) for axis in (0, 1)))


@dataclass(frozen=True)
class RefinedInterpolator:
    """`FlowInterpolator` with its mixture corrected by a `FootageRefiner`.

    Args:
        refiner: on the CPU.
        flow: what it corrects.
    """

    refiner: FootageRefiner
    flow: FlowInterpolator = FlowInterpolator()  # noqa: RUF009 - immutable

    def __call__(
        self, first: Picture, second: Other, shares: Sequence[float], around: Sequence[Neighbour] = ()
    ) -> Pictures:
        """Pictures along the flow; see `Interpolator`."""
        return self.flow.mixed(first, second, shares, around, self._mixture)

    @torch.inference_mode()
    def _mixture(self, pair: MovingPair, share: float) -> Mixture:
        plain = pair.mixture(share)
        clues = clues_of(pair.small, plain.motions, pair.trust, plain, share)
        seen = (clues.reshape(-1, CLUES), weights_of(plain).reshape(-1, 4), plain.sharpness.reshape(-1))
        weights, sharpness = (x.numpy().reshape(*pair.grid, -1) for x in self.refiner(*map(torch.from_numpy, seen)))
        a, b, c, d = (np.ascontiguousarray(weights[..., n]) for n in range(4))
        none, near = np.float32(1e-6), np.float32(1e-6 * (1 - share))
        return Mixture(
            plain.motions,
            (a + near) / (a + b + none),
            (c + near) / (c + d + none),
            a + b,
            np.ascontiguousarray(sharpness[..., 0]),
        )


def load_footage_refiner(folder: Path | None = None) -> FootageRefiner:
    """The bundled refiner of real footage, or one that was trained into a folder.

    Raises:
        BadArgument: the folder does not hold one.
    """
    return load_folder(FootageRefiner, folder or BUNDLED)
