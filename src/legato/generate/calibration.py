"""A driver's figure put in the place of the reference's: one scale and one shift, found on the first picture."""

from dataclasses import astuple, dataclass

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from legato.errors import BadArgument

__all__ = ["Calibration"]

Picture = Float32[Tensor, "channels height width"]
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Calibration:
    """How driving pictures are moved: points go to `scale` times their place, and on by `right` and `down`.

    Attributes:
        scale: 1 keeps the size.
        right: in half widths.
        down: in half heights.
    """

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    @classmethod
    def between(cls, first: Picture, reference: Picture) -> "Calibration":
        """What brings the figure in a driver's first picture to the place and size of the reference's.

        A figure is what differs from the picture's commonest value; its place is its centre of mass, its size how far
        it spreads around that. So the two should be in about the same pose.

        Raises:
            BadArgument: one of the pictures shows nothing.
        """
        (x0, y0, spread0), (x1, y1, spread1) = (
            _figure(first, "the driver's first picture"),
            _figure(reference, "the reference's driving picture"),
        )
        scale = spread1 / spread0
        return cls(scale, x1 - scale * x0, y1 - scale * y0)

    @property
    def values(self) -> tuple[float, float, float]:
        """As plain numbers."""
        scale, right, down = astuple(self)
        return scale, right, down

    def __call__(self, picture: Picture) -> Picture:
        """A picture moved so; what comes into it from outside has its commonest value."""
        if self == Calibration():
            return picture
        ground = _ground(picture)
        back = torch.tensor(
            [[1 / self.scale, 0, -self.right / self.scale], [0, 1 / self.scale, -self.down / self.scale]]
        )
        grid = F.affine_grid(back[None].to(picture), [1, *picture.shape], align_corners=False)
        moved: Tensor = F.grid_sample((picture - ground)[None], grid, align_corners=False)[0] + ground
        return moved


def _ground(picture: Picture) -> Float32[Tensor, "channels 1 1"]:
    return picture.flatten(1).median(1).values[:, None, None]


def _figure(picture: Picture, name: str) -> tuple[float, float, float]:
    """Centre in half widths and half heights from the middle, and spread."""
    weight = (picture - _ground(picture)).abs().sum(0)
    height, width = weight.shape
    y = ((torch.arange(height) + 0.5) / height * 2 - 1).to(weight)[:, None]
    x = ((torch.arange(width) + 0.5) / width * 2 - 1).to(weight)[None]
    mass = float(weight.sum())
    if mass <= 0:
        raise BadArgument(f"{name} shows nothing to calibrate by; expected a figure on an even ground")
    right, down = float((weight * x).sum()) / mass, float((weight * y).sum()) / mass
    spread = float((weight * ((x - right) ** 2 + (y - down) ** 2)).sum() / mass) ** 0.5
    if spread < LEAST_SPREAD:
        raise BadArgument(f"{name} shows a single point; expected a figure, whose size can be told")
    return right, down, spread
