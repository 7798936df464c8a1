"""Training batches from the synthetic worlds: frame rates mix, and what the rate means is in the seconds alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from legato.data.batch import NO_LABEL, ClipBatch, Source, nominal_seconds, pixels_to_signal
from legato.data.physics import KINDS, random_trial
from legato.data.puppets import random_puppet
from legato.data.vocabulary import AGAIN, VOCABULARY
from legato.errors import BadArgument, check_at_least, check_share

__all__ = ["Physics", "Puppets", "random_timeline"]


def random_timeline(
    numbers: torch.Generator, frames: int, *, rates: Sequence[float], uneven: float
) -> Float64[Tensor, " frames"]:
    """Frame times from 0: at one of the rates, or, with probability `uneven`, at intervals that drift or jump about.

    Uneven intervals stay between those of the slowest and the fastest rate: half of them go evenly in the logarithm
    from one to another (a ramp), the other half are drawn frame by frame.
    """
    draw = torch.rand(4, generator=numbers).tolist()
    low, high = math.log(1 / max(rates)), math.log(1 / min(rates))
    if draw[0] >= uneven:
        steps = torch.full((frames - 1,), 1 / rates[int(draw[1] * len(rates))], dtype=torch.float64)
    elif draw[1] < 0.5:
        ends = low + (high - low) * draw[2], low + (high - low) * draw[3]
        steps = torch.linspace(*ends, max(frames - 1, 1), dtype=torch.float64)[: frames - 1].exp()
    else:
        steps = (low + (high - low) * torch.rand(frames - 1, generator=numbers, dtype=torch.float64)).exp()
    return torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])


@dataclass(frozen=True)
class Physics(Source):
    """Discs that move by physics at hidden speeds; labels are the kinds of motion.

    Attributes:
        side_px: of the square frame.
        frames_per_batch: clips times frames; a batch has clips of one length.
        lengths: of clips in frames, one drawn for each batch.
        rates: frame rates of evenly timed clips.
        uneven: share of clips that are not evenly timed.
        unknown: share of clips whose rate is hidden: their seconds count frames at 30 a second.
        scrambled: tell every clip the rate of another, a control: what is told then means nothing.
        kinds: of motion.
        seed: of everything.
    """

    side_px: int = 32
    frames_per_batch: int = 256
    lengths: tuple[int, ...] = (8, 16, 32)
    rates: tuple[float, ...] = (15.0, 30.0, 60.0)
    uneven: float = 0.4
    unknown: float = 0.1
    scrambled: bool = False
    kinds: tuple[str, ...] = KINDS
    seed: int = 0

    classes = KINDS

    def __post_init__(self) -> None:
        _check(self.side_px, self.lengths, self.rates, self.frames_per_batch)
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise BadArgument(f"kinds are {list(self.kinds)}; expected one or more of {', '.join(KINDS)}")
        check_share(uneven=self.uneven, unknown=self.unknown)

    def __call__(self, number: int) -> ClipBatch:
        """See `Source`."""
        numbers = torch.Generator().manual_seed(_mixed(self.seed, number))
        frames = self.lengths[_index(numbers, len(self.lengths))]
        clips, seconds, known, labels = [], [], [], []
        for _ in range(max(1, self.frames_per_batch // frames)):
            times = random_timeline(numbers, frames, rates=self.rates, uneven=self.uneven)
            kind = self.kinds[_index(numbers, len(self.kinds))]
            trial = random_trial(numbers, kind, seconds=max(1.0, float(times[-1])))  # type: ignore[arg-type]
            hidden = float(torch.rand(1, generator=numbers)) < self.unknown
            told = times
            if hidden:
                told = nominal_seconds(frames)
            elif self.scrambled:
                told = random_timeline(numbers, frames, rates=self.rates, uneven=self.uneven)
            clips.append(trial.render(times, self.side_px, self.side_px))
            seconds.append(told)
            known.append(not hidden)
            labels.append(KINDS.index(trial.kind))
        return ClipBatch(
            pixels_to_signal(torch.stack(clips)),
            torch.stack(seconds),
            torch.tensor(known),
            ("",) * len(clips),
            torch.tensor(labels),
        )


@dataclass(frozen=True)
class Puppets(Source):
    """Signing puppets with their sentence as text, and pose maps to drive them by.

    A clip begins with the sentence where only the text is told; with pose maps it may begin anywhere in it, and go on
    after its end.

    Attributes:
        side_px: of the square frame.
        frames_per_batch: clips times frames; a batch has clips of one length.
        lengths: of clips in frames, one drawn for each batch.
        spans: shortest and longest time that a clip's first and last frame are apart, seconds; drawn evenly in the
            logarithm.
        whole: clips go from a sentence's beginning to its end instead, however long it takes.
        fastest_fps: a clip's frames are never closer.
        most_signs: in a sentence.
        drive: share of clips that have pose maps.
        drive_px: side of the pose maps; that of the frames where it is 0.
        anywhere: share of clips with pose maps that begin anywhere.
        still: share of clips in which nothing moves.
        again: share of clips that are any stretch, of a time within `spans`, of a sentence said over and over; their
            text ends in `AGAIN`.
        seed: of everything.
    """

    side_px: int = 32
    frames_per_batch: int = 288
    lengths: tuple[int, ...] = (12, 24, 48)
    spans: tuple[float, float] = (0.4, 3.2)
    whole: bool = False
    fastest_fps: float = 60.0
    most_signs: int = 2
    drive: float = 0.0
    drive_px: int = 0
    anywhere: float = 1.0
    still: float = 0.0
    again: float = 0.0
    seed: int = 0

    @property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Source`."""
        return (*VOCABULARY, AGAIN) if self.again else tuple(VOCABULARY)

    def __post_init__(self) -> None:
        _check(self.side_px, self.lengths, (self.fastest_fps,), self.frames_per_batch)
        if not 0 < self.spans[0] <= self.spans[1]:
            raise BadArgument(f"spans are {list(self.spans)}; expected the shortest and the longest, seconds over 0")
        check_at_least(1, most_signs=self.most_signs)
        check_at_least(0, drive_px=self.drive_px)
        check_share(drive=self.drive, again=self.again, anywhere=self.anywhere, still=self.still)

    def __call__(self, number: int) -> ClipBatch:
        """See `Source`."""
        numbers = torch.Generator().manual_seed(_mixed(self.seed, number))
        frames = self.lengths[_index(numbers, len(self.lengths))]
        with_drive = float(torch.rand(1, generator=numbers)) < self.drive
        clips, seconds, text, poses = [], [], [], []
        for _ in range(max(1, self.frames_per_batch // frames)):
            puppet = random_puppet(numbers, most_signs=self.most_signs)
            a, b = torch.rand(2, generator=numbers, dtype=torch.float64).tolist()
            again, still, anywhere = (_drawn(share, numbers) for share in (self.again, self.still, self.anywhere))
            shortest = max(self.spans[0], (frames - 1) / self.fastest_fps)
            span = shortest * (max(self.spans[1], shortest) / shortest) ** a
            if self.whole and not again:
                span = puppet.seconds
            times = torch.linspace(0, span, frames, dtype=torch.float64)
            seconds.append(times)
            if again:
                times = (times + b * puppet.seconds) % puppet.seconds
            elif with_drive and anywhere and not self.whole:
                times = times + b * max(0.0, puppet.seconds - 0.5 * span)
            if still:
                times = times[:1].expand(frames)
            if with_drive:
                side_px = self.drive_px or self.side_px
                poses.append(puppet.poses(times, side_px, side_px))
            clips.append(puppet.render(times, self.side_px, self.side_px))
            text.append(" ".join((*puppet.text, AGAIN) if again else puppet.text))
        return ClipBatch(
            pixels_to_signal(torch.stack(clips)),
            torch.stack(seconds),
            torch.ones(len(clips), dtype=torch.bool),
            tuple(text),
            torch.full((len(clips),), NO_LABEL),
            pixels_to_signal(torch.stack(poses)) if poses else None,
        )


def _check(side_px: int, lengths: Sequence[int], rates: Sequence[float], frames_per_batch: int) -> None:
    check_at_least(1, side_px=side_px)
    if not lengths or min(lengths) < 2 or not rates or not min(rates) > 0 or frames_per_batch < max(lengths):
        raise BadArgument(
            f"lengths {lengths}, rates {rates}, {frames_per_batch} frames a batch; expected clips of 2 frames or more, "
            "positive rates, and at least one clip in a batch"
        )


def _mixed(seed: int, number: int) -> int:
    """One seed of two numbers."""
    return (seed * 1_000_003 + number) % (1 << 62)


def _drawn(share: float, numbers: torch.Generator) -> bool:
    """Whether something is so that is so in a share of cases; certain ones take no number."""
    return share == 1 or (share > 0 and float(torch.rand(1, generator=numbers)) < share)


def _index(numbers: torch.Generator, count: int) -> int:
    return int(torch.randint(count, (1,), generator=numbers))
