"""Which files of a folder are videos, and with what text: from folders per class, or from a caption file."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legato.errors import BadArgument, VideoNotFound

__all__ = ["NamedVideo", "NamedVideos", "SkippedVideo", "named_videos"]

CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
# What lies beside videos in data sets. Anything else is taken for a video, and listed if it is none.
BESIDE_VIDEOS = frozenset((
    ".bmp", ".csv", ".gitattributes", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".lock", ".log", ".md", ".md5",
    ".npy", ".npz", ".parquet", ".pdf", ".pickle", ".pkl", ".png", ".pt", ".py", ".rar", ".safetensors", ".sha256",
    ".srt", ".tar", ".tsv", ".txt", ".vtt", ".webp", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
))  # fmt: skip


@dataclass(frozen=True)
class SkippedVideo:
    """A file, or a line of a caption file, that gives no clips.

    Attributes:
        path: the file.
        kind: name of the error's class, to count by; see `legato.errors`.
        reason: what is wrong with it.
    """

    path: Path
    kind: str
    reason: str

    @classmethod
    def because_of(cls, path: Path, error: Exception) -> "SkippedVideo":
        """The entry for a file whose reading ended in `error`."""
        return cls(path, type(error).__name__, str(error))

    def __str__(self) -> str:
        told = f"{self.kind}: {self.reason}"
        return told if str(self.path) in self.reason else f"{self.path}: {told}"


@dataclass(frozen=True)
class NamedVideo:
    """A video as the folder or a caption names it."""

    path: Path
    text: str = ""
    label: int | None = None
    start_seconds: float = 0.0
    end_seconds: float = math.inf
    where: str = ""


@dataclass(frozen=True)
class NamedVideos:
    """The videos of a folder, before any has been opened.

    Attributes:
        videos: in order.
        classes: names by label; empty where there are no classes.
        skipped: loose files beside class folders, and bad lines of a caption file.
    """

    videos: tuple[NamedVideo, ...]
    classes: tuple[str, ...]
    skipped: tuple[SkippedVideo, ...]


def named_videos(folder: Path, captions: Path | None) -> NamedVideos:
    """The videos that `captions`, a caption file in the folder, or else the folder itself names.

    Raises:
        VideoNotFound: there is no such caption file.
        BadArgument: a caption file without the columns needed, or several caption files.
    """
    table = _caption_file(folder, captions)
    return _by_folder(folder) if table is None else _by_caption(folder, table)


def _by_folder(root: Path) -> NamedVideos:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    within = {folder: _videos(folder.rglob("*"), folder) for folder in folders}
    within = {folder: videos for folder, videos in within.items() if videos}
    loose = _videos(root.iterdir(), root)
    if not within:
        return NamedVideos(tuple(NamedVideo(path) for path in loose), (), ())
    return NamedVideos(
        videos=tuple(
            NamedVideo(path, folder.name, label)
            for label, (folder, videos) in enumerate(within.items())
            for path in videos
        ),
        classes=tuple(folder.name for folder in within),
        skipped=tuple(
            SkippedVideo(path, BadArgument.__name__, "lies beside the class folders, so it has no class")
            for path in loose
        ),
    )


def _videos(paths: Iterable[Path], below: Path) -> list[Path]:
    seen = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(below).parts))
    return sorted(path for path in seen if path.suffix.lower() not in BESIDE_VIDEOS and not path.is_dir())


def _caption_file(root: Path, given: Path | None) -> Path | None:
    if given is not None:
        if not given.is_file():
            raise VideoNotFound(f"there is no caption file {given}; check the path")
        return given
    found = [root / name for name in CAPTION_FILES if (root / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise BadArgument(f"{root} holds both {names}; say which one is meant with captions=...")
    return found[0] if found else None


def _by_caption(root: Path, table: Path) -> NamedVideos:
    videos, skipped = [], []
    rows = _json_rows(table) if table.suffix.lower() == ".jsonl" else _csv_rows(table)
    for line, row in rows:
        try:
            videos.append(_named_video(root, row, f"line {line} of {table.name}"))
        except (BadArgument, VideoNotFound) as error:
            skipped.append(SkippedVideo.because_of(_file_of(root, row) or table, error))
    return NamedVideos(tuple(videos), (), tuple(skipped))


def _csv_rows(table: Path) -> Iterator[tuple[int, Any]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        names = set(rows.fieldnames or ())
        if not names & {"file", "file_name"} or "text" not in names:
            found = ", ".join(sorted(names)) or "nothing"
            raise BadArgument(f"{table} has the columns {found}; expected file and text in its first line")
        for row in rows:
            yield rows.line_num, row


def _json_rows(table: Path) -> Iterator[tuple[int, Any]]:
    for line, written in enumerate(table.read_text("utf-8-sig").splitlines(), start=1):
        if written.strip():
            try:
                yield line, json.loads(written)
            except ValueError:
                yield line, None


def _file_of(root: Path, row: Any) -> Path | None:
    name = (row.get("file") or row.get("file_name")) if isinstance(row, dict) else None
    return root / name if isinstance(name, str) else None


def _named_video(root: Path, row: Any, where: str) -> NamedVideo:
    path = _file_of(root, row)
    if path is None or not isinstance(row.get("text"), str):
        raise BadArgument(f"{where} does not say file and text; expected both")
    if not path.is_file():
        raise VideoNotFound(f"{where} names a file that is not there; check the path")
    start, end = _number(row.get("start_seconds"), 0.0, where), _number(row.get("end_seconds"), math.inf, where)
    if not 0 <= start < end:
        raise BadArgument(f"{where} asks for {start:g} to {end:g} s; expected a start from 0 on and an end after it")
    return NamedVideo(path, row["text"], None, start, end, where)


def _number(written: Any, otherwise: float, where: str) -> float:
    if written is None or written == "":
        return otherwise
    try:
        return float(written)
    except (TypeError, ValueError):
        raise BadArgument(f"{where} has {written!r} where seconds are expected") from None
