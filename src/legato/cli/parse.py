"""What several verbs read from the command line in the same way."""

import glob
import itertools
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from legato.errors import BadArgument, VideoNotFound

if TYPE_CHECKING:  # the real import takes seconds, which `legato --help` need not wait for
    from legato.motion.interpolate import Interpolator
    from legato.reuse import Audit, Policy
    from legato.video.speed import SpeedCurve

__all__ = [
    "class_number",
    "expanded",
    "named_for",
    "option",
    "parsed_audit",
    "parsed_device",
    "parsed_dtype",
    "parsed_interpolator",
    "parsed_policy",
    "parsed_rate",
    "parsed_size",
    "parsed_span",
    "parsed_speed",
    "parsed_times",
]

MOST_SIDE_PX = 4096
LEAST_FPS = Fraction(1, 100_000)  # about a frame a day: MP4 holds no longer one
MOST_FPS = 1_000_000  # files tell times to a microsecond
AUDIT_FLOOR = 0.96  # that of `Audit`, which is not imported for it; a test holds them equal


def option(name: str) -> str:
    """How a parameter is written on the command line."""
    return "--" + name.replace("_", "-")


def expanded(patterns: list[str]) -> list[str]:
    """Videos named on the command line: URLs and plain paths as they are, patterns by what they match.

    Raises:
        VideoNotFound: a path that does not exist, or a pattern that nothing matches.
    """
    found: list[str] = []
    for pattern in patterns:
        if "://" in pattern or Path(pattern).exists():
            found.append(pattern)
            continue
        if not glob.has_magic(pattern):
            raise VideoNotFound(f"there is no file '{pattern}'; check the spelling and the folder")
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute patterns too
        if not matches:
            raise VideoNotFound(f"no file matches '{pattern}'")
        found += matches
    return found


def parsed_interpolator(text: str) -> "Interpolator":
    """`flow`, `linear`, `footage-inbetween`, or the folder of a refiner of footage that was trained.

    Raises:
        BadArgument: none of these.
    """
    from legato.motion.interpolate import FlowInterpolator, LinearInterpolator

    if text == "flow":
        return FlowInterpolator()
    if text == "linear":
        return LinearInterpolator()
    from legato.motion.footage_refiner import RefinedInterpolator, load_footage_refiner

    if text != "footage-inbetween" and not Path(text).is_dir():
        raise BadArgument(
            f"there is no interpolator '{text}'; there are flow, linear, footage-inbetween, and folders of refiners "
            "trained with recipes/footage_inbetween.py"
        )
    return RefinedInterpolator(load_footage_refiner(None if text == "footage-inbetween" else Path(text)))


def parsed_policy(text: str, max_age_seconds: float | None) -> "Policy":
    """`name` or `name:value`, such as `threshold:0.2` or `top:0.1`, under an age limit (0: none, None: the usual)."""
    from legato.reuse import Hierarchical, MaxAge, RandomFraction, Threshold, TopFraction
    from legato.reuse.encoder import DEFAULT_MAX_AGE_SECONDS, DEFAULT_THRESHOLD, DEFAULT_TURNOVER

    policies = {
        "threshold": (Threshold, DEFAULT_THRESHOLD),
        "top": (TopFraction, 0.1),
        "hierarchical": (Hierarchical, 0.1),
        "random": (RandomFraction, 0.1),
    }
    name, _, value = text.partition(":")
    if name not in policies:
        raise BadArgument(f"no policy '{name}'; there are {', '.join(policies)}, each with a value as in threshold:0.2")
    kind, usual = policies[name]
    try:
        policy: Policy = kind(float(value) if value else usual)
    except ValueError as error:
        why = error if isinstance(error, BadArgument) else f"'{value}' is not a number"
        raise BadArgument(f"policy '{text}': {why}; write, for example, {name}:{usual}") from None
    age = DEFAULT_MAX_AGE_SECONDS if max_age_seconds is None else max_age_seconds
    return MaxAge(policy, age, DEFAULT_TURNOVER) if age else policy


def parsed_audit(floor: float) -> "Audit | None":
    """The audit with this floor, or none for 0."""
    from legato.reuse import Audit

    return Audit(floor) if floor else None


def parsed_span(text: str | None) -> tuple[float | None, float | None]:
    """`A:B` in seconds, either side left out for the start or the end."""
    if text is None:
        return None, None
    first, colon, last = text.partition(":")
    try:
        span = (float(first) if first else None, float(last) if last else None)
    except ValueError:
        span, colon = (None, None), ""
    if not colon or (span[0] is not None and span[1] is not None and span[1] <= span[0]):
        raise BadArgument(f"--seconds is '{text}'; expected START:END in seconds, for example 2:5.5, 10: or :3")
    return span


def parsed_device(text: str) -> "torch.device":
    """A device that is there, as `cpu` or `cuda:1`.

    Raises:
        BadArgument: it is none.
    """
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        raise BadArgument(f"--device is '{text}'; expected cpu, cuda, cuda:0 ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadArgument(f"--device is '{text}', but there is no CUDA device here; use cpu")
    own = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = {"cpu": 1} | ({} if own is None else {own.type: torch.accelerator.device_count()})
    if (device.index or 0) >= count.get(device.type, 0):
        raise BadArgument(f"--device is '{text}', which is not here; expected {' or '.join(count)}")
    return device


def parsed_dtype(text: str) -> "torch.dtype":
    """The precision of a model.

    Raises:
        BadArgument: it is none of the three.
    """
    import torch

    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if text not in types:
        raise BadArgument(f"--dtype is '{text}'; expected one of {', '.join(types)}")
    return types[text]


def parsed_speed(text: str) -> "SpeedCurve":
    """A speed curve from second 0 on, through points `seconds:speed`, exact as they are written.

    The first speed holds before its point, the last one after it.

    Raises:
        BadArgument: it is none, or begins before 0.
    """
    from legato.video.speed import SpeedCurve
    from legato.video.timeline import exact_number

    try:
        pairs = [part.split(":") for part in text.split(",")]
        points = [(exact_number(seconds), exact_number(speed)) for seconds, speed in pairs]
    except ValueError:
        raise BadArgument(
            f"--speed is '{text}'; expected points seconds:speed apart by commas, for example 0:1,1:0.25"
        ) from None
    first, speed = points[0]
    if first < 0:
        raise BadArgument(f"--speed is '{text}'; its first point is before the first frame: begin at 0 or later")
    if not all(earlier < later for (earlier, _), (later, _) in itertools.pairwise(points)):
        raise BadArgument(f"--speed is '{text}'; the seconds of its points have to rise")
    return SpeedCurve.through(points if first == 0 else [(Fraction(0), speed), *points])


def parsed_rate(text: str, option: str = "--fps") -> Fraction:
    """Frames per second, exact: `60`, `23.976` or `24000/1001`.

    Raises:
        BadArgument: it is something else, or beyond what files can hold.
    """
    from legato.video.timeline import exact_number

    try:
        rate = exact_number(text)
    except ValueError:
        rate = Fraction(0)
    if not LEAST_FPS <= rate <= MOST_FPS:
        raise BadArgument(
            f"{option} is {text}; expected a number over 0, from {LEAST_FPS} to {MOST_FPS} frames per second, for "
            "example 60, 23.976 or 24000/1001"
        )
    return rate


def parsed_times(text: str) -> list[Fraction]:
    """Rising seconds apart by commas, exactly as written, to a microsecond.

    Raises:
        BadArgument: they are something else, do not rise, or begin before 0.
    """
    from legato.video.timeline import exact_number

    try:
        times = [exact_number(part.strip()).limit_denominator(1_000_000) for part in text.split(",")]
    except ValueError:
        raise BadArgument(f"--times is '{text}'; expected seconds apart by commas, for example 0,0.1,1/4") from None
    for before, after in itertools.pairwise(times):
        if after <= before:
            raise BadArgument(f"--times has {float(after):g} s after {float(before):g} s; give rising times")
    if times[0] < 0:
        raise BadArgument(f"--times begins at {float(times[0]):g} s; expected 0 or later")
    return times


def parsed_size(text: str | None) -> tuple[int, int] | None:
    """`WIDTHxHEIGHT`, or one number for a square, to (height, width)."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    sides = (width, height or width)
    if not all(side.isdecimal() and 0 < int(side) <= MOST_SIDE_PX for side in sides):
        raise BadArgument(
            f"--size is '{text}'; expected WIDTHxHEIGHT or one number, each from 1 to {MOST_SIDE_PX}, as 392 or 448x252"
        )
    return int(sides[1]), int(sides[0])


def class_number(label: str | None, classes: tuple[str, ...]) -> int | None:
    """A class by number or name."""
    if label is None:
        return None
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    known = ", ".join(f"{n} {name}" for n, name in enumerate(classes)) or "none"
    raise BadArgument(f"class '{label}' is unknown to this checkpoint; it has: {known}")


def named_for(template: Path, video: str, several: bool) -> Path:
    """Where an output goes: as named for one video, with the video's name put in for several."""
    if not several:
        return template
    return template.with_name(f"{template.stem}-{Path(video).stem}{template.suffix}")
