"""Learned frame positions: they tell any video denoiser which frame is first."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import BadArgument

__all__ = ["FramePositions", "WithFramePositions", "load_older"]


class FramePositions(nn.Module):
    """One learned vector per frame index, added to a model's input; it knows order, not seconds.

    Longer clips interpolate the vectors, shorter ones use the first ones.

    Args:
        channels: of the input.
        frames: how many vectors.
        std: of their normal initialisation.
        zero_init: start at zero, so that an old checkpoint starts out unchanged.

    Raises:
        BadArgument: no frames.
    """

    def __init__(self, channels: int, frames: int = 16, *, std: float = 0.02, zero_init: bool = False):
        super().__init__()
        if frames < 1:
            raise BadArgument(f"{frames} frames; expected at least 1")
        table = torch.zeros(1, frames, channels, 1, 1)
        self.table = nn.Parameter(table if zero_init else nn.init.normal_(table, std=std))

    def at(self, frames: int) -> Float[Tensor, "1 {frames} channels 1 1"]:
        """The vectors for a clip of so many frames."""
        own = self.table.shape[1]
        if frames <= own:
            return self.table[:, :frames]
        flat = self.table[0, :, :, 0, 0].T[None]
        longer = F.interpolate(flat, size=frames, mode="linear", align_corners=True)
        return longer[0].T[None, :, :, None, None]

    def forward(
        self, x: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch time channels height width"]:
        """Add each frame's vector at every place."""
        return x + self.at(x.shape[1]).to(x.dtype)


class WithFramePositions(nn.Module):
    """Any video denoiser, its input told the frame order; all else goes through as it is.

    Args:
        denoiser: called with the sample first, such as diffusers' `UNet3DConditionModel`.
        channels: of the sample.
        frames: see `FramePositions`.
        time_axis: of the sample: 2 for `(batch, channels, time, height, width)` as in diffusers, 1 for time first.
        zero_init: see `FramePositions`.
    """

    def __init__(
        self, denoiser: nn.Module, channels: int, frames: int = 16, *, time_axis: int = 2, zero_init: bool = False
    ):
        super().__init__()
        if time_axis not in (1, 2):
            raise BadArgument(f"time_axis is {time_axis}; expected 1 (time before channels) or 2 (after)")
        self.denoiser, self.time_axis = denoiser, time_axis
        self.frame_positions = FramePositions(channels, frames, zero_init=zero_init)

    def forward(self, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        """The denoiser's output for the sample with positions added."""
        time_first = sample.transpose(1, 2) if self.time_axis == 2 else sample
        told = self.frame_positions(time_first)
        return self.denoiser(told.transpose(1, 2) if self.time_axis == 2 else told, *arguments, **options)


def load_older(model: nn.Module, state: Mapping[str, Tensor], *, may_lack: tuple[str, ...]) -> list[str]:
    """Load a checkpoint that was made before some parts existed.

    Keys of a bare denoiser are taken for those of the one inside `WithFramePositions`.

    Args:
        model: takes the weights.
        state: of the older model.
        may_lack: beginnings of the names that may be missing, such as `frame_positions`.

    Returns:
        The names that were missing and keep their initial values.

    Raises:
        BadArgument: something else is missing, is too much, or has another shape.
    """
    own = model.state_dict()
    given = dict(state)
    if isinstance(model, WithFramePositions) and not any(key.startswith("denoiser.") for key in given):
        given = {f"denoiser.{key}": value for key, value in given.items()}
    missing = sorted(set(own) - set(given))
    wrong = [key for key in missing if not key.startswith(may_lack)]
    surplus = sorted(set(given) - set(own))
    misfits = [key for key in given if key in own and own[key].shape != given[key].shape]
    if wrong or surplus or misfits:
        parts = [
            f"{what}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}"
            for what, keys in (("missing", wrong), ("unknown", surplus), ("of another shape", misfits))
            if keys
        ]
        raise BadArgument(f"the checkpoint is not of this model; {'; '.join(parts)}")
    model.load_state_dict(given, strict=False)
    return missing
