"""The exceptions a user of legato catches; each message says what was wrong and what to do."""

import math

__all__ = [
    "BadArgument",
    "CorruptVideo",
    "EmptyVideo",
    "FileNotWritten",
    "LegatoError",
    "MissingExtra",
    "ModelNotFound",
    "NoVideoStream",
    "NotAVideo",
    "StateMismatch",
    "TrainingFailed",
    "UnsupportedModel",
    "UnsupportedOutput",
    "VideoError",
    "VideoNotFound",
    "VideoTooLarge",
    "check_at_least",
    "check_finite",
    "check_share",
]


class LegatoError(Exception):
    """Base of everything that legato raises on purpose."""


class BadArgument(LegatoError, ValueError):
    """An argument is outside what the function takes."""


class MissingExtra(LegatoError, ImportError):
    """A feature needs an optional package that is not installed."""


class FileNotWritten(LegatoError, OSError):
    """A file cannot be written where it was to go: a folder in its place, no rights, a full disk."""


class VideoError(LegatoError):
    """A video cannot be read or written as asked."""


class VideoNotFound(VideoError, FileNotFoundError):
    """There is no file, or no reachable stream, at the given place."""


class NotAVideo(VideoError):
    """The file exists but is not in a container that FFmpeg can open."""


class NoVideoStream(VideoError):
    """The container is sound but holds no video, for example audio only."""


class EmptyVideo(VideoError):
    """There is a video stream, but not one frame in it."""


class CorruptVideo(VideoError):
    """The video is damaged beyond recovery: not one frame could be decoded."""


class VideoTooLarge(VideoError):
    """The declared frame size is beyond what legato decodes."""


class UnsupportedOutput(VideoError):
    """The output path names a format that legato does not write."""


class ModelNotFound(LegatoError):
    """No model of that name is bundled, in the local folder, or reachable on the hub."""


class UnsupportedModel(LegatoError):
    """The model's architecture is one that the asked operation does not support."""


class StateMismatch(LegatoError):
    """A state belongs to another encoder, resolution or layer than the call it is given to."""


class TrainingFailed(LegatoError):
    """A training run cannot go on."""


def check_at_least(least: int | float, **values: int | float) -> None:
    """Refuse the first value that is less, or not a number, by its name.

    Raises:
        BadArgument: there is one.
    """
    for name, value in values.items():
        if not value >= least:
            raise BadArgument(f"{name} is {value:g}; expected {least:g} or more")


def check_share(**values: float) -> None:
    """Refuse the first value that does not lie from 0 to 1, by its name.

    Raises:
        BadArgument: there is one.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise BadArgument(f"{name} is {value:g}; expected a number from 0 to 1")


def check_finite(**values: float) -> None:
    """Refuse the first value that is infinite, or not a number, by its name.

    Raises:
        BadArgument: there is one.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise BadArgument(f"{name} is {value:g}; expected a finite number")
