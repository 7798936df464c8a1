"""What a generator is asked for: times, conditions, given frames, guidance."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Float64
from torch import Tensor

from legato.errors import BadArgument, check_finite

__all__ = ["Ask"]

Video = Float[Tensor, "batch time channels height width"]
Seconds = Float64[Tensor, "batch time"]


@dataclass(frozen=True)
class Ask:
    """What to generate.

    Attributes:
        seconds: of each frame; a row for each clip.
        seeds: of each clip.
        text: of each clip, or None.
        labels: classes, -1 for none, or None.
        drive: conditioning pictures, -1 to 1, or None.
        drive_known: which frames have one; all by default.
        given: frames that are known, -1 to 1, anything where they are not; or None.
        known: which are.
        proposed: frames of `given` that are proposals, which a refiner may change: the confidence, 0 to 1, with which
            they stay; NaN for all other frames; or None.
        rate_known: whether the model is told the rate; always by default.
        guidance: 1 takes the conditional sample as it is; more moves on from the unconditional one (Ho and Salimans
            2022). It counts for text and class.
        drive_guidance: the same for the drive, the less the clearer a frame is.
        given_guidance: the same for the given frames, where there are any (history guidance, Song et al. 2025): what
            they determine is followed more closely.
        seconds_guidance: the same for the seconds, against frames that are counted at an unknown rate: what moves
            moves faster per frame where frames are far apart, and slower where they are close. By default as the
            objective says, see `FlowMatching`.
        seconds_at: times of the frames at a noise level from 1 to 0, where they are to vary from one step of the
            sampler to the next; `seconds` throughout by default.

    Raises:
        BadArgument: times do not rise, guidance is not finite, or parts do not belong together.
    """

    seconds: Seconds
    seeds: Sequence[int]
    text: Sequence[str] | None = None
    labels: Tensor | None = None
    drive: Float[Tensor, "batch time drive_channels drive_height drive_width"] | None = None
    drive_known: Bool[Tensor, "batch time"] | None = None
    given: Video | None = None
    known: Bool[Tensor, "batch time"] | None = None
    proposed: Float[Tensor, "batch time"] | None = None
    rate_known: Bool[Tensor, " batch"] | None = None
    guidance: float = 1.0
    drive_guidance: float = 1.0
    given_guidance: float = 1.0
    seconds_guidance: float | None = None
    seconds_at: Callable[[float], Seconds] | None = None

    def __post_init__(self) -> None:
        check_finite(
            guidance=self.guidance,
            drive_guidance=self.drive_guidance,
            given_guidance=self.given_guidance,
            seconds_guidance=1.0 if self.seconds_guidance is None else self.seconds_guidance,
        )
        if self.seconds.ndim != 2:
            raise BadArgument(f"seconds are {tuple(self.seconds.shape)}; expected (clips, frames)")
        for clip, times in enumerate(self.seconds.tolist()):
            if not all(map(math.isfinite, times)):
                raise BadArgument("a frame's time is no number; times are finite seconds that rise")
            if not all(map(operator.lt, times, times[1:])):
                at = next(at for at in range(1, len(times)) if not times[at - 1] < times[at])
                raise BadArgument(
                    f"the time of frame {at} of clip {clip} is {times[at]:g} s and does not come after that of frame "
                    f"{at - 1}, {times[at - 1]:g} s; times have to rise"
                )
        if (self.given is None) != (self.known is None):
            raise BadArgument("frames are given without saying which, or the other way round: pass given and known")
        clips, frames = self.seconds.shape
        for name in ("seeds", "text", "labels", "rate_known"):
            rows = getattr(self, name)
            if rows is not None and len(rows) != clips:
                raise BadArgument(f"{len(rows)} {name} for {clips} clips; expected one for each")
        for name in ("drive", "drive_known", "given", "known", "proposed"):
            rows = getattr(self, name)
            if rows is not None and tuple(rows.shape[:2]) != (clips, frames):
                raise BadArgument(f"{name} is {tuple(rows.shape)}; expected it for {clips} clips of {frames} frames")
