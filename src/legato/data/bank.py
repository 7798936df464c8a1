"""Banks: clips encoded once and drawn again and again, so that a training step costs the model's work alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legato.data.batch import ClipBatch, Source, nominal_seconds, pixels_to_signal, signal_to_pixels
from legato.errors import BadArgument, check_at_least, check_share
from legato.files import replacing_folder

__all__ = ["Bank", "write_bank"]

ARRAYS = ("frames", "seconds", "labels", "drive")


@dataclass(frozen=True)
class Bank(Source):
    """Clips out of a folder that `write_bank` made.

    A batch takes stretches of the clips kept there, every n-th frame of them, and their seconds begin at 0 again.
    Stretches of a clip that has text begin where the clip begins, except where it is driven.

    Attributes:
        folder: of the bank.
        frames_per_batch: clips times frames; a batch has clips of one length.
        lengths: of clips in frames, one drawn for each batch.
        strides: every n-th frame, one drawn for each clip out of those that leave it long enough.
        whole: the largest of those instead, except where clips are driven: a text is then said from beginning to end.
        unknown: share of clips whose rate is hidden: see `nominal_seconds`.
        scrambled: tell every clip the times of another, a control.
        drive: share of batches that have the bank's drive.
        alike: share of batches, of those without drive, whose clips are all told the same, one class, text and even
            interval, and that bring peers along.
        peers: how many.
        seed: of what is drawn.
    """

    folder: str
    frames_per_batch: int = 256
    lengths: tuple[int, ...] = (8, 16, 32)
    strides: tuple[int, ...] = (1, 2, 3, 4)
    whole: bool = False
    unknown: float = 0.0
    scrambled: bool = False
    drive: float = 0.0
    alike: float = 0.0
    peers: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        longest = self._arrays["frames"].shape[1]
        if not self.lengths or not 2 <= min(self.lengths) <= max(self.lengths) <= min(longest, self.frames_per_batch):
            raise BadArgument(
                f"lengths {self.lengths} and {self.frames_per_batch} frames a batch; the clips of {self.folder} have "
                f"{longest} frames, and a batch needs one clip or more"
            )
        if 1 not in self.strides or min(self.strides) < 1:
            raise BadArgument(f"strides are {self.strides}; expected whole numbers from 1 on, 1 among them")
        if self.drive and "drive" not in self._arrays:
            raise BadArgument(f"the bank {self.folder} has no drive; leave out data.drive, or write it with drive")
        check_share(alike=self.alike)
        check_at_least(1, peers=self.peers)
        if self.alike and not len(self._alike[0]):
            raise BadArgument(f"no two clips of {self.folder} are told the same; leave out data.alike")

    def __call__(self, number: int) -> ClipBatch:
        """See `Source`."""
        numbers = np.random.default_rng((self.seed, number))
        stored = self._arrays["frames"]
        length = int(numbers.choice(self.lengths))
        count = self.frames_per_batch // length
        driven = numbers.random() < self.drive
        fitting = [n for n in self.strides if n * (length - 1) < stored.shape[1]]
        if self.whole and not driven:
            fitting = [max(fitting)]
        peers = None
        if self.alike and not driven and numbers.random() < self.alike:
            same = self._told_as_another(numbers)
            clips = numbers.choice(same, size=count)
            strides = np.full(count, numbers.choice(fitting))
            others = numbers.choice(same, size=self.peers)
            rows = others[:, None], self._stretches(numbers, others, length, strides[:1], driven)
            peers = torch.from_numpy(stored[rows]).float()
        else:
            clips = numbers.integers(len(stored), size=count)
            strides = numbers.choice(fitting, size=count)
        at = self._stretches(numbers, clips, length, strides, driven)
        rows = clips[:, None], at
        seconds = torch.from_numpy(self._arrays["seconds"][rows])
        seconds = seconds - seconds[:, :1]
        known = torch.from_numpy(numbers.random(count) >= self.unknown)
        told = seconds.roll(1, 0) if self.scrambled else seconds
        drive = None
        if driven:
            drive = pixels_to_signal(torch.from_numpy(self._arrays["drive"][rows]))
        return ClipBatch(
            torch.from_numpy(stored[rows]).float(),
            torch.where(known[:, None], told, nominal_seconds(length)),
            known,
            tuple(self._text[clip] for clip in clips),
            torch.from_numpy(self._arrays["labels"][clips]),
            drive,
            peers=peers,
            encoded=True,
        )

    def _stretches(
        self, numbers: np.random.Generator, clips: np.ndarray, length: int, strides: np.ndarray, driven: bool
    ) -> np.ndarray:
        """Which frames to take of each clip, (clips, length)."""
        free = self._arrays["frames"].shape[1] - 1 - strides * (length - 1)
        anywhere = np.array([driven or not self._text[clip] for clip in clips])
        starts = (numbers.random(len(clips)) * (free + 1)).astype(int) * anywhere
        at: np.ndarray = starts[:, None] + strides[:, None] * np.arange(length)
        return at

    def _told_as_another(self, numbers: np.random.Generator) -> np.ndarray:
        """All clips that are told the same as one of those that share it with another."""
        clips, group = self._alike
        same: np.ndarray = clips[group == group[numbers.integers(len(group))]]
        return same

    @cached_property
    def _alike(self) -> tuple[np.ndarray, np.ndarray]:
        """Evenly timed clips that others share class, text and interval with, and the number of each one's group."""
        intervals = np.diff(self._arrays["seconds"], axis=1)
        even = np.flatnonzero(np.ptp(intervals, axis=1) < 1e-6)
        texts = np.unique(self._text, return_inverse=True)[1]
        told = np.stack([self._arrays["labels"][even], texts[even], (intervals[even, 0] * 1e6).round()], -1)
        _, group, sizes = np.unique(told, axis=0, return_inverse=True, return_counts=True)
        group = group.reshape(-1)
        shared = sizes[group] > 1
        return even[shared], group[shared]

    @property
    def side_px(self) -> int:  # type: ignore[override]
        """See `Source`."""
        return int(self._about["side_px"])

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Source`."""
        return tuple(self._about["classes"])

    @property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Source`."""
        return tuple(self._about["words"])

    @cached_property
    def _about(self) -> dict[str, Any]:
        path = Path(self.folder) / "bank.json"
        if not path.exists():
            raise BadArgument(f"there is no bank in {self.folder}; make one, see recipes/bank.py")
        about: dict[str, Any] = json.loads(path.read_text())
        return about

    @cached_property
    def _text(self) -> list[str]:
        return list(self._about["text"])

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        about, folder = self._about, Path(self.folder)
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in about["arrays"]}


def write_bank(
    source: Source,
    encode: Callable[[Tensor], Tensor],
    folder: Path,
    batches: int,
    *,
    told: Callable[[int], None] | None = None,
) -> None:
    """Encode a source's first batches into a folder that appears whole or not at all.

    Args:
        source: of clips of one length and known rates.
        encode: frames to latents of the same number of frames.
        folder: to make.
        batches: how many.
        told: called after each batch with how many are done.

    Raises:
        BadArgument: the folder exists, batches differ in length, or a clip's rate is unknown.
    """
    _check_free(folder)
    with replacing_folder(folder) as part:
        _fill(part, source, encode, batches, told)
        _check_free(folder)  # another one may have been made in the meantime


def _check_free(folder: Path) -> None:
    if folder.exists():
        raise BadArgument(f"{folder} exists; remove it first or choose another folder")


def _fill(
    folder: Path,
    source: Source,
    encode: Callable[[Tensor], Tensor],
    batches: int,
    told: Callable[[int], None] | None,
) -> None:
    """Write the files of a bank; see `write_bank`."""
    arrays: dict[str, np.ndarray] = {}
    text: list[str] = []
    for number in range(batches):
        batch = source(number)
        if not bool(batch.rate_known.all()):
            raise BadArgument("the source hides the rate of some clips; a bank hides it when it is drawn from")
        with torch.no_grad():
            frames = torch.cat([encode(clip).half() for clip in batch.frames.split(1)])  # small enough for the cache
        rows: dict[str, Tensor] = {"frames": frames, "seconds": batch.seconds, "labels": batch.labels}
        if batch.drive is not None:
            rows["drive"] = signal_to_pixels(batch.drive)
        for name, values in rows.items():
            if number == 0:
                shape = (batches * len(values), *values.shape[1:])
                arrays[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", mode="w+", dtype=values.numpy().dtype, shape=shape
                )
            kept = arrays[name]
            if kept.shape[1:] != tuple(values.shape[1:]):
                raise BadArgument(f"{name} of batch {number} differ in shape from those before: {tuple(values.shape)}")
            kept[number * len(values) : (number + 1) * len(values)] = values.numpy()
        text.extend(batch.text)
        if told:
            told(number + 1)
    for kept in arrays.values():
        kept.flush()  # type: ignore[attr-defined]
    about = {
        "side_px": source.side_px,
        "classes": source.classes,
        "words": source.words,
        "arrays": list(arrays),
        "text": text,
    }
    (folder / "bank.json").write_text(json.dumps(about))
