"""A progress bar over the frames of a video, for every verb that reads one."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from legato.video import VideoInfo

__all__ = ["Span", "progress"]

Step = TypeVar("Step")
Span = tuple[float | None, float | None]


def progress(
    steps: Iterable[Step],
    info: "VideoInfo",
    span: Span,
    max_frames: int | None,
    quiet: bool,
    *,
    seconds_of: Callable[[Step], float],
    told: Callable[[], str] = lambda: "",
) -> Iterator[Step]:
    """Pass the steps on and show on a terminal how far along the video they are, and what `told` says.

    Args:
        steps: one a frame.
        info: of the video; where it declares no duration, the bar has no end.
        span: seconds asked for.
        max_frames: frames asked for.
        quiet: no bar.
        seconds_of: presentation time of a step.
        told: a few words on how it goes.
    """
    from pathlib import Path

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    begin = info.start_seconds if span[0] is None else max(span[0], info.start_seconds)
    ends = [info.start_seconds + info.duration_seconds] if info.duration_seconds else []
    ends += [] if span[1] is None else [span[1]]
    if max_frames and info.declared_rate:
        ends.append(begin + max_frames / float(info.declared_rate))
    total = max(min(ends) - begin, 0.0) if ends else None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.1f} s, {task.fields[frames]} frames"),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(Path(info.path).name, total=total, frames=0, told="")
        for number, step in enumerate(steps, start=1):
            yield step
            bar.update(task, completed=seconds_of(step) - begin, frames=number, told=told())
