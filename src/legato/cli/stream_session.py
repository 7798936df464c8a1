"""One run of `legato stream`: from frames to a file or a pipe, with progress, saved states and an orderly end."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legato.cli.output import tell
from legato.errors import BadArgument, LegatoError

if TYPE_CHECKING:
    from fractions import Fraction

    from legato.generate.stream import Made
    from legato.video import Frame

__all__ = ["Session"]

SAVE_EVERY_SECONDS = 1.0
MARKS_A_SECOND = 4  # of video: states that may be saved next
EARLY_FRAMES = 100  # by then all that a stream loads and keeps is there


class _Stopped(BaseException):
    """Ends what is being made or waited for."""


@dataclass
class Session:
    """One run: passes frames on, counts, shows how it goes, saves the state, and ends when it is asked to.

    Attributes:
        place: where the state goes; nowhere for None.
        quiet: no progress.
        count: of frames that are asked for; None without end.
        rate: frames per second.
    """

    place: Path | None
    quiet: bool
    count: int | None
    rate: "Fraction"
    made: int = 0
    stopped: bool = False
    latest: "Made | None" = None
    began: float = 0.0
    first_seconds: float | None = None
    saved: float = 0.0
    marks: "deque[tuple[int, Made]]" = field(default_factory=deque)
    making: bool = False
    told_unsaved: bool = False
    failed: LegatoError | None = None
    early_bytes: int | None = None
    peak_bytes: int = 0
    _tell: Callable[[], None] = field(default=lambda: None, repr=False)

    def run(self, coming: "Iterator[Made]", out: Path, pipe: str) -> bool:
        """Write what comes; whether all of it was wanted and made.

        The first Ctrl-C (or SIGTERM) ends the stream after the frame that is being written, with a whole file and a
        saved state; what is being made, or waited for, is given up. A second one ends it at once; a file lacks what its
        writer still held, so the state that is saved then lies a second back. Where writing fails no newer state is
        saved: the file may lack what was made last. A last state that cannot be saved is kept as `failed`.
        """
        import contextlib
        import signal
        import time

        from legato.video import write_video
        from legato.video.pipe import write_pipe

        self.began = self.saved = time.monotonic()
        previous = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

        def stop(*_: object) -> None:
            if self.stopped:
                restore()
                raise KeyboardInterrupt
            self.stopped = True
            if self.making:
                raise _Stopped

        def restore() -> None:
            for kind, handler in previous.items():
                signal.signal(kind, handler)

        with contextlib.ExitStack() as stack:
            if None not in previous.values():
                stack.callback(restore)
                for kind in previous:
                    signal.signal(kind, stop)
            stack.enter_context(self._progress())
            passing = self._passing(coming)
            try:
                if out == Path("-"):
                    sink: Any = stack.enter_context(open(1, "wb", buffering=0, closefd=False))
                    taken = write_pipe(passing, sink, rate=self.rate, form=pipe)
                else:
                    out.parent.mkdir(parents=True, exist_ok=True)
                    write_video(passing, out, growing=True, last_seconds=1 / self.rate)
                    taken = True
            except KeyboardInterrupt:
                self.save(self.latest if out == Path("-") or not self.marks else self.marks[0][1])
                raise
            try:
                self.save(self.latest)
            except LegatoError as error:
                self.failed = error
            return taken and not self.stopped and self.count in (None, self.made)

    def save(self, made: "Made | None") -> None:
        """Save the state after a frame, if there is one and a place for it."""
        if self.place is not None and made is not None:
            made.state.save(self.place)

    def told(self) -> dict[str, Any]:
        """Figures of the run."""
        wall = self._wall()
        return {
            "frames": self.made,
            "seconds": float(self.made / self.rate),
            "wall_seconds": wall,
            "first_frame_seconds": self.first_seconds,
            "real_time_factor": float(self.made / self.rate) / wall if wall else None,
            "rss_bytes_after_100_frames": self.early_bytes,
            "peak_rss_bytes": self.peak_bytes,
            "state_bytes": None if self.latest is None else self.latest.state.nbytes,
        }

    def summary(self, out: str, whole: bool) -> str:
        """One line on the run."""
        ended = "" if whole else ", ended early"
        if not whole and self.place is not None and self.place.exists():
            ended += f"; go on with --resume {self.place} and another --out"
        return f"{'standard output' if out == '-' else out}: {self._line()}{ended}"

    def _passing(self, coming: "Iterator[Made]") -> "Iterator[Frame]":
        while (one := self._next(coming)) is not None:
            if self.first_seconds is None:
                self.first_seconds = self._wall()
            yield one.frame
            self.made += 1  # it is written now: the writer has asked for the next
            self.latest = one
            self._tell()
            self._save_now_and_then()
            if self.stopped:
                return
        if self.latest is None and self.stopped:
            raise KeyboardInterrupt  # there is nothing to end in an orderly way
        if self.latest is None:
            raise BadArgument(
                "the drive is over where the saved stream was, and there is nothing more to make; give what follows on "
                "it with --drive-patience, or --drive-end hold"
            )

    def _next(self, coming: "Iterator[Made]") -> "Made | None":
        """The next frame; None where there is none, or it is not waited for any more."""
        try:
            self.making = True
            return None if self.stopped else next(coming, None)
        except _Stopped:
            return None
        finally:
            self.making = False

    def _save_now_and_then(self) -> None:
        """Save a state over a second of video back: a file that is killed lacks about its last second."""
        import time

        assert self.latest is not None
        if self.place is None:
            return
        if not self.marks or self.made - self.marks[-1][0] >= self.rate / MARKS_A_SECOND:
            self.marks.append((self.made, self.latest))
        while len(self.marks) > 1 and self.made - self.marks[1][0] > self.rate + 2:
            self.marks.popleft()
        number, made = self.marks[0]
        if time.monotonic() - self.saved < SAVE_EVERY_SECONDS or self.made - number <= self.rate + 2:
            return
        try:
            self.save(made)
        except (LegatoError, OSError, RuntimeError) as error:  # a live stream goes on without
            if not self.told_unsaved:
                tell(error)
            self.told_unsaved = True
        self.saved = time.monotonic()

    def _progress(self) -> Any:
        import psutil
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        process = psutil.Process()
        console = Console(stderr=True)
        bar = Progress(
            TextColumn("streaming"),
            BarColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=console,
            disable=self.quiet or not console.is_terminal,
            transient=True,
        )
        task = bar.add_task("", total=self.count, told="")

        def tell() -> None:
            used = process.memory_info().rss
            self.early_bytes = used if self.made == EARLY_FRAMES else self.early_bytes
            self.peak_bytes = max(self.peak_bytes, used)
            bar.update(task, completed=self.made, told=self._line())

        self._tell = tell
        return bar

    def _line(self) -> str:
        shown, wall = float(self.made / self.rate), self._wall()
        factor = shown / wall if wall else 0.0
        return f"{self.made} frames, {shown:.2f} s, {factor:.2f} x real time, {self.peak_bytes / 2**20:.0f} MiB"

    def _wall(self) -> float:
        import time

        return time.monotonic() - self.began
