"""What a stream keeps in view for ever: its first frames, and a bounded bank of frames of distant motion.

A queue forgets what lies before it, and what slips a little with every window slips for good. Frames that stay in view
hold it: first ones, after Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", and keyframes
out of the stream's history, whose motion code (of their driving picture, or of themselves) is far from all others'.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from legato.errors import BadArgument, check_at_least

__all__ = ["Appearance", "Kept", "motion_code"]

Video = Float[Tensor, "batch time channels height width"]
Drive = Float[Tensor, "batch time drive_channels drive_height drive_width"]
CODE_CELLS = 8  # motion codes are pooled to a grid of so many cells both ways


@dataclass(frozen=True, eq=False)
class Kept:
    """Frames that stay in view: the first ones, then the bank. A value: it never changes.

    Attributes:
        latents: clean.
        drive: conditioning pictures of the same frames, or None.
        driven: which frames have one.
        sinks: how many of them are first frames.
        open: whether more first frames may come.
    """

    latents: Video
    drive: Drive | None
    driven: Bool[Tensor, "batch time"]
    sinks: int
    open: bool

    def __len__(self) -> int:
        return self.latents.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it holds."""
        return tuple(v for v in vars(self).values() if isinstance(v, Tensor))

    def to(self, device: str | torch.device) -> "Kept":
        """The same on a device."""
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Kept(**moved)

    @classmethod
    def from_values(cls, values: dict[str, Any], place: object) -> "Kept":
        """Of plain values.

        Raises:
            BadArgument: they are those of something else.
        """
        if set(values) != {f.name for f in fields(cls)}:
            raise BadArgument(f"{place} holds {', '.join(sorted(values))} where the frames kept in view should be")
        return cls(**values)


@dataclass(frozen=True)
class Appearance:
    """Which frames stay in view, all optional, in a hard bound.

    They are shown to the model as given frames right before the rest, one interval apart whenever they were made: a
    distance in time that it was trained on.

    Attributes:
        sink_frames: first ones: of the reference where there is one, else of what is made.
        keyframes: most that are in the bank.
        novelty: how far, 0 to about 1, a frame's motion code has to be from those of all kept for it to be kept too.
        gap_seconds: between what is kept and the rest, beyond the usual interval.

    Raises:
        BadArgument: an argument is outside its range.
    """

    sink_frames: int = 0
    keyframes: int = 0
    novelty: float = 0.3
    gap_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(0, sink_frames=self.sink_frames, keyframes=self.keyframes, gap_seconds=self.gap_seconds)
        if not 0 < self.novelty <= 2:
            raise BadArgument(f"novelty is {self.novelty:g}; expected more than 0 and at most 2")

    @property
    def most_frames(self) -> int:
        """The most that are kept."""
        return self.sink_frames + self.keyframes

    def begin(self, given: Video) -> Kept:
        """What is kept before the first tick: the last of the frames to go on from, if there are any."""
        count = min(self.sink_frames, given.shape[1])
        none = torch.zeros(len(given), count, dtype=torch.bool, device=given.device)
        still_open = count == 0 and self.sink_frames > 0
        return Kept(given[:, given.shape[1] - count :].clone(), None, none, count, still_open)

    def after(
        self, kept: Kept, latents: Video, drive: Drive | None, driven: Bool[Tensor, "batch time"], clean: range
    ) -> Kept:
        """What is kept after frames have become clean.

        Args:
            kept: before; left as it is.
            latents: of all in view.
            drive: theirs, or None.
            driven: which of them have one.
            clean: places of those that have become clean.
        """
        if not kept.open and not self.keyframes:
            return kept
        for at in clean:
            one = slice(at, at + 1)
            if kept.open:
                kept = _added(kept, latents[:, one], None if drive is None else drive[:, one], driven[:, one])
                kept = replace(kept, sinks=len(kept), open=len(kept) < self.sink_frames)
            elif self.keyframes:
                kept = self._offered(kept, latents[:, one], None if drive is None else drive[:, one], driven[:, one])
        return kept

    def seconds(self, kept: Kept, following: Float64[Tensor, "batch time"]) -> Float64[Tensor, "batch kept"]:
        """Times at which kept frames are shown, before those of the frames that follow them."""
        first = following[:, :1]
        interval = torch.full_like(first, 1 / 24) if following.shape[1] == 1 else following[:, 1:2] - first
        last = first - self.gap_seconds if self.gap_seconds else first
        return torch.addcmul(last, _back(len(kept), following.device), interval)

    def _offered(self, kept: Kept, latent: Video, drive: Drive | None, driven: Tensor) -> Kept:
        """With the frame in the bank if it is far from all; a full one gives up the newer of its two nearest for it."""
        more = _added(kept, latent, drive, driven)
        codes = motion_code(more.latents, more.drive, more.driven)
        apart = (codes[:, :, None] - codes[:, None]).norm(dim=-1).mean(0) / 2**0.5  # (frames, frames)
        nearest = float(apart[-1, :-1].min()) if len(kept) else torch.inf
        if nearest < self.novelty:
            return kept
        if len(more) <= kept.sinks + self.keyframes:
            return more
        old = apart[:-1, :-1].clone().fill_diagonal_(torch.inf)
        old[: kept.sinks, : kept.sinks] = torch.inf  # first frames stay
        if nearest <= float(old.min()):
            return kept
        leaves = max(divmod(int(old.argmin()), len(old)))
        left = [at for at in range(len(more)) if at != leaves]
        pictures = None if more.drive is None else more.drive[:, left]
        return Kept(more.latents[:, left], pictures, more.driven[:, left], kept.sinks, kept.open)


@lru_cache(maxsize=64)
def _back(count: int, device: torch.device) -> Float64[Tensor, " kept"]:
    """-count to -1; not to be written to."""
    return -torch.arange(count, 0, -1, dtype=torch.float64, device=device)


def motion_code(
    latents: Video, drive: Drive | None, driven: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time code"]:
    """What a frame shows, coarsely, as a vector of length 1: by its driving picture if it has one, else by itself.

    The distance of two codes over the root of 2 is 0 where they are equal and 1 where they have nothing in common.
    """
    own = _direction(latents)
    if drive is None:
        return own
    led = _direction(drive)
    width = max(own.shape[-1], led.shape[-1])
    both = [F.pad(code, (0, width - code.shape[-1])) for code in (own, led)]
    return torch.where(driven[..., None], both[1], both[0])


def _direction(frames: Float[Tensor, "batch time channels height width"]) -> Float[Tensor, "batch time code"]:
    cells = (min(CODE_CELLS, frames.shape[-2]), min(CODE_CELLS, frames.shape[-1]))
    pooled = F.adaptive_avg_pool2d(frames.flatten(0, 1).float(), cells).flatten(1)
    centred = pooled - pooled.mean(1, keepdim=True)
    return F.normalize(centred, dim=1).unflatten(0, frames.shape[:2])


def _added(kept: Kept, latent: Video, drive: Drive | None, driven: Tensor) -> Kept:
    """With one more frame at the end."""
    pictures = kept.drive
    if drive is not None and pictures is None:
        pictures = drive.new_zeros(len(drive), len(kept), *drive.shape[2:])
    if pictures is not None:
        fresh = pictures.new_zeros(len(pictures), 1, *pictures.shape[2:]) if drive is None else drive
        pictures = torch.cat([pictures, fresh], 1)
    latents, known = torch.cat([kept.latents, latent], 1), torch.cat([kept.driven, driven], 1)
    return Kept(latents, pictures, known, kept.sinks, kept.open)
