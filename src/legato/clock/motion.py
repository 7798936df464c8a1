"""How fast what a frame shows is changing, read from its neighbours at their times and as far as noise lets it be seen.

Two frames say it where they are given. Between noisy frames a difference is mostly noise; a line through all frames
around says it as well as they can: noise falls out of the slope with their number, motion does not.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["TREND_SECONDS", "changes", "trends"]

GAIN = 4.0  # a thirtieth of a second changes a patch by about a quarter of its spread
TREND_SECONDS = (0.04, 0.16)
"""Standard deviations of the windows that lines are fitted in: two frames of 30 a second, and a movement's stretch."""
SURE = 0.05  # noise that even a given frame has, of its autoencoder
USUAL_SLOPE = 30 / GAIN  # spreads per second

Content = Float[Tensor, "batch time patches values"]
Seconds = Float64[Tensor, "batch time"]


def changes(content: Content, seconds: Seconds, clear: Float64[Tensor, "batch time"]) -> Content:
    """Change since the frame before, per thirtieth of a second, as far as both frames are clear; 0 for the first.

    Args:
        content: of each frame's patches, noisy.
        seconds: of each frame, rising.
        clear: share of each frame that is not noise.
    """
    believed = clear[:, 1:] * clear[:, :-1] / (seconds.diff(dim=1) * 30)
    change = content.diff(dim=1) * believed[:, :, None, None].to(content.dtype)
    return GAIN * F.pad(change, (0, 0, 0, 0, 1, 0))


def trends(
    content: Content, seconds: Seconds, clear: Float64[Tensor, "batch time"]
) -> Float[Tensor, "batch time patches trends_values"]:
    """Slopes of lines fitted through all frames around each, per thirtieth of a second; 0 where only noise is seen.

    A frame that is x = clear content + (1 - clear) noise counts by how precisely it tells its content, and by how near
    it is (normal windows of `TREND_SECONDS`, one after the other in the result). Slopes are drawn towards none as far
    as noise could have made them, as ridge regression does, so that none is larger than can be believed.

    Args:
        content: of each frame's patches, noisy, of about unit spread.
        seconds: of each frame, rising.
        clear: share of each frame that is not noise.
    """
    apart = seconds[:, None, :] - seconds[:, :, None]  # (b, at, of)
    precision = (1 / ((1 - clear).square() + SURE**2))[:, None, :]
    fitted = []
    for width in TREND_SECONDS:
        near = (-0.5 * (apart / width).square()).exp() * precision
        seen = near * clear.square()[:, None, :]
        middle = (seen * apart).sum(2, keepdim=True) / seen.sum(2, keepdim=True).clamp_min(1e-9)
        lever = apart - middle
        spread = (seen * lever.square()).sum(2, keepdim=True) + 1 / USUAL_SLOPE**2
        # precision of x / clear times x / clear: a frame of pure noise has a weight of 0 instead of 0 / 0
        weights = (near * clear[:, None, :] * lever / spread).to(content.dtype)
        fitted.append(torch.einsum("bji,bipv->bjpv", weights, content))
    return torch.cat(fitted, -1) * (GAIN / 30)
