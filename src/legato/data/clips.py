"""Training clips from videos, every frame with the time at which the file shows it.

    index = index_folder("UCF-101")
    clips = VideoClips(index, frames=16, height=64, width=64, interval_seconds=(1 / 30, 1 / 8))
    order = EndlessShuffle(len(clips), seed=1)
    for batch in DataLoader(clips, batch_size=8, sampler=order, collate_fn=collate_clips, num_workers=2):
        model(batch.frames, seconds=batch.seconds, ...)

A clip is asked for at an even interval, and consists of the frames that lie nearest to it. Its `seconds` are the
times of those frames, not the times that were asked for: a clip of T frames spans the T - 1 intervals from its first
frame to its last, whatever these turned out to be. No frame comes twice; where a video is slower than the interval,
its frames follow each other as they are.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from legato.data.batch import NO_LABEL, ClipBatch, Source, pixels_to_signal
from legato.data.clip_frames import FrameCache, evenly_spaced
from legato.data.clip_index import ClipIndex, Footage, SkippedVideo, index_folder
from legato.errors import BadArgument, CorruptVideo, LegatoError

__all__ = ["Clip", "EndlessShuffle", "FolderClips", "VideoClips", "collate_clips"]

# So many broken videos in a row are no accident: the disk is gone, or the folder was changed since it was looked at.
MAX_DRAWS = 32


@dataclass(frozen=True, eq=False)
class Clip:
    """A few frames of one video.

    Attributes:
        frames: RGB, -1 to 1.
        seconds: when the file shows them, counted from the clip's first frame.
        rate_known: whether a model may be told how fast they follow each other.
        text: the caption, or the name of the class.
        label: number of the class, if there are classes.
        path: the file.
        start_seconds: presentation time of the first frame on the file's own clock.
        failures: other videos that were drawn first, and could not be read.
    """

    frames: Float32[Tensor, "time 3 height width"]
    seconds: Float64[Tensor, " time"]
    rate_known: bool
    text: str
    label: int | None
    path: Path
    start_seconds: float
    failures: tuple[SkippedVideo, ...] = ()


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """Puts clips into a batch; for `DataLoader(collate_fn=...)`.

    Raises:
        BadArgument: no clips, or clips of several sizes or lengths.
    """
    sizes = {tuple(clip.frames.shape) for clip in clips}
    if len(sizes) != 1:
        raise BadArgument(f"got clips of shapes {sorted(sizes)}; expected one or more, all of one shape")
    return ClipBatch(
        frames=torch.stack([clip.frames for clip in clips]),
        seconds=torch.stack([clip.seconds for clip in clips]),
        rate_known=torch.tensor([clip.rate_known for clip in clips]),
        text=tuple(clip.text for clip in clips),
        labels=torch.tensor([NO_LABEL if clip.label is None else clip.label for clip in clips]),
        paths=tuple(clip.path for clip in clips),
        failures=tuple(failure for clip in clips for failure in clip.failures),
    )


class EndlessShuffle(Sampler[int]):
    """Numbers for `VideoClips`, epoch after epoch without an end, each video once an epoch, in a new order.

    Numbers run on from epoch to epoch, and with them the draws, also in workers that live on.

    Args:
        length: how many videos there are.
        seed: of the orders.
        start: how many numbers to leave out, to resume a run.
    """

    def __init__(self, length: int, *, seed: int = 0, start: int = 0) -> None:
        if length < 1 or start < 0:
            raise BadArgument(f"length is {length} and start is {start}; expected 1 or more, and 0 or more")
        self._length, self._seed, self._start = length, seed, start
        self._epoch = -1  # of the order at hand

    def __iter__(self) -> Iterator[int]:
        return (self[place] for place in itertools.count(self._start))

    def __getitem__(self, place: int) -> int:
        """The number at a place, counted from the beginning of the first epoch."""
        epoch, within = divmod(place, self._length)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self._seed, epoch)).permutation(self._length)
            self._epoch = epoch
        return int(self._order[within]) + epoch * self._length


class VideoClips(Dataset[Clip]):
    """Clips of `frames` frames, one video after the other; for a `DataLoader`.

    Clip number n is of video n % len(clips), drawn for epoch n // len(clips): it depends on the seed and n, and on
    nothing else (but for pixels that a decoder makes up in a damaged file). Numbers from `len(clips)` on are later
    epochs, with other starts and intervals; `EndlessShuffle` gives them. With `DataLoader(shuffle=True)`, whose
    numbers end at the length, every epoch would be the first.

    Videos with too few frames, or too short for `frames` frames at the (smallest) interval, are left out and listed
    in `too_short`: a frame shown twice would say that the world stood still.

    A video that turns out broken when a clip is drawn has another one drawn in its place, and is listed in the
    clip's `failures`, from which a training loop that runs workers counts them.

    Frames are scaled to cover height x width, with square pixels, and cropped at the centre. Videos are kept in
    memory at that size while `cache_bytes` has room, and are decoded as a whole for it; of others, the frames needed
    are sought. Each worker process has a cache of its own; a pickled copy begins with an empty one.

    Args:
        index: the videos.
        frames: of a clip.
        height: rows of pixels.
        width: columns of pixels.
        interval_seconds: from frame to frame; a pair draws it for each clip, evenly on a logarithmic scale, and not
            longer than the video allows; None takes the frames of the file one by one.
        random_start: whether clips begin anywhere rather than at the video's first frame.
        seed: of starts, intervals and replacements, 0 or more.
        cache_bytes: limit of the frames kept in memory.

    Attributes:
        footage: the videos from which clips are drawn.
        too_short: those that are left out.

    Raises:
        BadArgument: an argument is out of range, or all videos are too short.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        frames: int,
        height: int,
        width: int,
        interval_seconds: float | tuple[float, float] | None = None,
        random_start: bool = True,
        seed: int = 0,
        cache_bytes: int = 2**28,
    ) -> None:
        if min(frames, height, width) < 1 or min(seed, cache_bytes) < 0:
            raise BadArgument(
                f"frames, height and width are {frames}, {height} and {width}, seed and cache_bytes {seed} and "
                f"{cache_bytes}; expected 1 or more, and 0 or more"
            )
        self._frames, self._height, self._width = frames, height, width
        self._range = _interval_range(interval_seconds)
        self._random_start, self._seed = random_start, seed
        self._cache = FrameCache(cache_bytes)
        footage, too_short = [], []
        for one in index.footage:
            why = self._too_short(one)
            if why is None:
                footage.append(one)
            else:
                too_short.append(SkippedVideo(one.path, BadArgument.__name__, why))
        if not footage:
            first = f", the first one: {too_short[0].path} {too_short[0].reason}" if too_short else ""
            raise BadArgument(
                f"all {len(too_short)} videos are too short{first}; take fewer frames or a smaller interval"
            )
        self.footage, self.too_short = tuple(footage), tuple(too_short)

    @property
    def cached_bytes(self) -> int:
        """Memory that is taken by frames kept in this process."""
        return self._cache.bytes_used

    def __len__(self) -> int:
        """Videos, and so clips in an epoch."""
        return len(self.footage)

    def __iter__(self) -> Iterator[Clip]:
        """The clips of the first epoch."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Clip:
        """Clip `number`, which may be beyond the length: see above.

        Raises:
            IndexError: a number under 0.
            CorruptVideo: this video and all drawn in its place are broken.
        """
        if number < 0:
            raise IndexError(f"there is no clip {number}; numbers start at 0")
        epoch, place = divmod(number, len(self))
        dice = np.random.default_rng((self._seed, epoch, place))
        failures: list[SkippedVideo] = []
        for _ in range(MAX_DRAWS):
            footage = self.footage[place]
            places = self._draw(footage.seconds, dice)
            try:
                pixels = self._cache.take(footage, places, self._height, self._width)
            except (LegatoError, OSError) as error:
                failures.append(SkippedVideo.because_of(footage.path, error))
                place = int(dice.integers(len(self)))
                continue
            return self._clip(footage, places, pixels, tuple(dict.fromkeys(failures)))
        raise CorruptVideo(
            f"{MAX_DRAWS} videos drawn one after the other cannot be read, the last one: {failures[-1]}; check that "
            "they are still there, and look at the folder again with index_folder"
        )

    def _clip(
        self,
        footage: Footage,
        places: Int64[np.ndarray, " time"],
        pixels: UInt8[Tensor, "time 3 height width"],
        failures: tuple[SkippedVideo, ...],
    ) -> Clip:
        stamps, base = footage.pts[places].tolist(), footage.time_base
        return Clip(
            frames=pixels_to_signal(pixels),
            seconds=torch.tensor([float((stamp - stamps[0]) * base) for stamp in stamps], dtype=torch.float64),
            rate_known=footage.rate_known,
            text=footage.text,
            label=footage.label,
            path=footage.path,
            start_seconds=float(stamps[0] * base),
            failures=failures,
        )

    def _too_short(self, footage: Footage) -> str | None:
        smallest = self._range[0] if self._range else None
        if evenly_spaced(footage.seconds, 0, self._frames, smallest) is not None:
            return None
        if smallest is None or len(footage) < self._frames:
            return f"has {len(footage)} frames, and a clip takes {self._frames}"
        length = footage.last_seconds - footage.first_seconds
        return f"spans {length:.3f} s, too few for {self._frames} frames {smallest:g} s apart"

    def _draw(self, seconds: Float64[np.ndarray, " frames"], dice: np.random.Generator) -> Int64[np.ndarray, " time"]:
        """Places of the frames of one clip."""
        interval = self._draw_interval(seconds, dice)
        first, last = 0, len(seconds) - self._frames if self._random_start else 0
        while first < last:  # the last start from which a clip fits
            middle = (first + last + 1) // 2
            fits = evenly_spaced(seconds, middle, self._frames, interval) is not None
            first, last = (middle, last) if fits else (first, middle - 1)
        start = int(dice.integers(last + 1))
        # With uneven times, a start before the last one that fits may still be one that does not.
        while (places := evenly_spaced(seconds, start, self._frames, interval)) is None:
            start -= 1
        return places

    def _draw_interval(self, seconds: Float64[np.ndarray, " frames"], dice: np.random.Generator) -> float | None:
        """An interval at which a clip fits that begins with the first frame."""
        if self._range is None:
            return None
        low, high = self._range
        longest = float(seconds[-1]) / max(1, self._frames - 1)
        high = max(low, min(high, longest)) if self._frames > 1 else high
        interval = math.exp(dice.uniform(math.log(low), math.log(high)))
        interval = min(max(interval, low), high)  # to which rounding may not have kept
        while interval > low and evenly_spaced(seconds, 0, self._frames, interval) is None:
            interval = max(low, 0.95 * interval)  # uneven times took more room than the mean
        return interval


class FolderClips(Source):
    """Training batches from a folder of videos: classes as folders, or captions; see `index_folder`.

    Args:
        folder: of the videos.
        side_px: of the square clips.
        frames: of a clip.
        clips_per_batch: so many.
        interval_seconds: see `VideoClips`.
        captions: a file of captions, where it is not in the folder.
        seed: of everything.
        cache_bytes: see `VideoClips`.

    Attributes:
        index: what was found, and what was skipped.
        clips: from which batches are put together.

    Raises:
        LegatoError: see `index_folder` and `VideoClips`.
    """

    def __init__(
        self,
        folder: str,
        side_px: int = 64,
        frames: int = 16,
        clips_per_batch: int = 8,
        interval_seconds: float | tuple[float, float] | None = None,
        captions: str | None = None,
        seed: int = 0,
        cache_bytes: int = 2**30,
    ) -> None:
        if clips_per_batch < 1:
            raise BadArgument(f"clips_per_batch is {clips_per_batch}; expected 1 or more")
        self.side_px = side_px
        self.index = index_folder(Path(folder), captions=Path(captions) if captions else None)
        self.clips = VideoClips(
            self.index,
            frames=frames,
            height=side_px,
            width=side_px,
            interval_seconds=interval_seconds,
            seed=seed,
            cache_bytes=cache_bytes,
        )
        self.classes = self.index.classes
        self._each = clips_per_batch
        self._order = EndlessShuffle(len(self.clips), seed=seed)

    def __call__(self, number: int) -> ClipBatch:
        """See `Source`."""
        begin = number * self._each
        return collate_clips([self.clips[self._order[place]] for place in range(begin, begin + self._each)])


def _interval_range(given: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    low, high = given if isinstance(given, tuple) else (given, given)
    if not 0 < low <= high < math.inf:
        raise BadArgument(f"interval_seconds is {given}; expected seconds over 0, or a pair of them, the smaller first")
    return low, high
