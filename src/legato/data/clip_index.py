"""What a folder of videos holds: every file opened once, its frame times noted, the bad ones listed with the reason.

    index = index_folder("UCF-101")                # one folder per class
    index = index_folder("films")                  # with films/captions.csv: file,text[,start_seconds,end_seconds]
    print(index.summary())

Looking goes through the packets of a file and decodes one frame, so that damage inside a file is found only when a
clip is drawn there; where the packets contradict themselves, the whole file is decoded.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from legato.data.clip_files import NamedVideo, SkippedVideo, named_videos
from legato.data.rate_doubt import rate_doubt
from legato.errors import BadArgument, LegatoError, VideoError, VideoNotFound
from legato.video.read import Video, open_video
from legato.video.seek import PictureTable

__all__ = ["ClipIndex", "Footage", "SkippedVideo", "index_folder"]


@dataclass(frozen=True)
class Footage:
    """One video, or the captioned span of one, from which clips are drawn.

    Attributes:
        path: the file.
        text: the caption, or the name of the class; empty where there is neither.
        label: number of the class, None for captioned videos and those without a class.
        table: presentation times of all pictures of the file, for seeking.
        time_base: seconds per unit of those times, exact.
        first: place of the span's first frame among all.
        stop: place after that of its last frame.
        height: rows of pixels as displayed.
        width: columns as displayed with square pixels.
        rate_doubt: why the file's frame rate is not to be believed; None where nothing speaks against it.
    """

    path: Path
    text: str
    label: int | None
    table: PictureTable
    time_base: Fraction
    first: int
    stop: int
    height: int
    width: int
    rate_doubt: str | None

    @property
    def rate_known(self) -> bool:
        """Whether a model may be told how fast these frames follow each other."""
        return self.rate_doubt is None

    @property
    def pts(self) -> Int64[np.ndarray, " time"]:
        """Presentation times of the span's frames in units of `time_base`."""
        return _stamps(self.table)[self.first : self.stop]

    @property
    def seconds(self) -> Float64[np.ndarray, " time"]:
        """Seconds from the span's first frame to each of its frames."""
        pts = self.pts
        return (pts - pts[0]) * float(self.time_base.numerator) / float(self.time_base.denominator)

    @property
    def first_seconds(self) -> float:
        """Presentation time of the first frame, on the file's own clock."""
        return float(self.table.pts[self.first] * self.time_base)

    @property
    def last_seconds(self) -> float:
        """Presentation time of the last frame, on the file's own clock."""
        return float(self.table.pts[self.stop - 1] * self.time_base)

    def __len__(self) -> int:
        return self.stop - self.first

    def __repr__(self) -> str:
        told = "" if self.rate_known else ", rate unknown"
        span = f"{self.first_seconds:.3f} to {self.last_seconds:.3f} s"
        return f"Footage({str(self.path)!r}, {self.text!r}, {len(self)} frames, {span}{told})"


@dataclass(frozen=True)
class ClipIndex:
    """What there is to draw clips from.

    A user who knows better than the files may say so, for example of a data set that was forced to 25 per second:
    `replace(index, footage=tuple(replace(one, rate_doubt="resampled") for one in index.footage))`.

    Attributes:
        footage: in the order of the folder or of the caption file.
        classes: names by label; empty for captioned videos.
        skipped: what was looked at and cannot be used.
    """

    footage: tuple[Footage, ...]
    classes: tuple[str, ...]
    skipped: tuple[SkippedVideo, ...]

    def __len__(self) -> int:
        return len(self.footage)

    def summary(self, lines: int = 20) -> str:
        """A few lines to print: how much there is, and the first so many of the doubts and of what was skipped."""
        seconds = sum(one.last_seconds - one.first_seconds for one in self.footage)
        classes = f" in {len(self.classes)} classes" if self.classes else ""
        doubts = [f"  {one.path}: {one.rate_doubt}" for one in self.footage if not one.rate_known]
        skipped = [f"  {one}" for one in self.skipped]
        told = [f"{len(self)} videos{classes}, {_length(seconds)}"]
        told += _shortened(f"{len(doubts)} with a rate that is not to be believed:", doubts, lines)
        told += _shortened(f"{len(skipped)} skipped:", skipped, lines)
        return "\n".join(told)


def _length(seconds: float) -> str:
    """A time in words, in the largest unit of which there is one."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


def index_folder(
    folder: str | Path,
    *,
    captions: str | Path | None = None,
    threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> ClipIndex:
    """Looks at all videos of a folder.

    With a caption file, the videos that it names: CSV with a header, or one JSON object a line, with `file` (or
    `file_name`; relative to the folder) and `text`, and if wanted `start_seconds` and `end_seconds`, counted from
    the video's first frame, the end not included. Else, where there are folders in it, one class per folder, in
    alphabetical order, named like it, with all files below it. Else all files in it, without text.

    Hidden files and what usually lies beside videos (pictures, tables, archives, text) are passed over without a
    word; any other file that gives no video is listed in `skipped`.

    Args:
        folder: where the videos are.
        captions: the caption file; None for the one among captions.csv, captions.jsonl, metadata.csv and
            metadata.jsonl that lies in the folder, if any.
        threads: how many files are looked at at a time.
        progress: called with the number of files looked at so far and that of all.

    Raises:
        VideoNotFound: no such folder or caption file, or nothing in it to look at.
        VideoError: not one of the videos can be used.
        BadArgument: a caption file without the columns needed, or several caption files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VideoNotFound(f"{root} is not a folder; pass the folder that holds the videos")
    named = named_videos(root, None if captions is None else Path(captions))
    paths = list(dict.fromkeys(video.path for video in named.videos))
    if not paths and not named.skipped:
        raise VideoNotFound(
            f"{root} holds no videos; expected a folder per class with videos in it, such as {root}/walking/1.mp4, or "
            "videos with a captions.csv beside them that has the columns file and text"
        )
    skipped = list(named.skipped)
    looks: dict[Path, _Look | SkippedVideo] = {}
    with ThreadPoolExecutor(threads) as pool:
        for done, (path, look) in enumerate(zip(paths, pool.map(_look_or_skip, paths), strict=True), start=1):
            looks[path] = look
            if isinstance(look, SkippedVideo):
                skipped.append(look)
            if progress is not None:
                progress(done, len(paths))
    footage = []
    for video in named.videos:
        look = looks[video.path]
        if isinstance(look, SkippedVideo):
            continue
        try:
            footage.append(_cut_out(video, look))
        except BadArgument as error:
            skipped.append(SkippedVideo.because_of(video.path, error))
    if not footage:
        listed = "\n".join(_shortened("", [f"  {one}" for one in skipped], 5)[1:])
        raise VideoError(f"none of the {len(skipped)} files of {root} can be used; put others there:\n{listed}")
    return ClipIndex(tuple(footage), named.classes, tuple(skipped))


def _shortened(head: str, told: list[str], lines: int) -> list[str]:
    more = [f"  and {len(told) - lines} more"] if len(told) > lines else []
    return [head, *told[:lines], *more] if told else []


@dataclass(frozen=True)
class _Look:
    """What one look at a file found."""

    table: PictureTable
    time_base: Fraction
    height: int
    width: int
    rate_doubt: str | None


def _look_or_skip(path: Path) -> _Look | SkippedVideo:
    try:
        with open_video(path) as video:
            return _look(video)
    except (LegatoError, OSError) as error:
        return SkippedVideo.because_of(path, error)


def _look(video: Video) -> _Look:
    info, table = video.info, video.table()
    turned = info.rotation_degrees % 180 == 90
    stretch = 1 / info.sample_aspect_ratio if turned else info.sample_aspect_ratio
    doubt = rate_doubt(video, _stamps(table))
    return _Look(table, info.time_base, info.height, max(1, round(info.width * stretch)), doubt)


def _stamps(table: PictureTable) -> Int64[np.ndarray, " time"]:
    return np.asarray(table.pts).view(np.int64)  # which NumPy calls by another name where they come from an array


def _cut_out(named: NamedVideo, look: _Look) -> Footage:
    pts = _stamps(look.table)
    from_first = (pts - pts[0]) * float(look.time_base.numerator) / float(look.time_base.denominator)
    first, stop = np.searchsorted(from_first, [named.start_seconds, named.end_seconds]).tolist()
    if first == stop:
        raise BadArgument(
            f"{named.where} asks for {named.start_seconds:g} to {named.end_seconds:g} s, where there is no frame; the "
            f"video has {len(pts)}, from 0 to {from_first[-1]:g} s"
        )
    return Footage(
        path=named.path,
        text=named.text,
        label=named.label,
        table=look.table,
        time_base=look.time_base,
        first=first,
        stop=stop,
        height=look.height,
        width=look.width,
        rate_doubt=look.rate_doubt,
    )
