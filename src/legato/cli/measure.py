"""`legato measure`: is a video temporally coherent, and where does it break?"""

import csv
import io
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli import parse
from legato.cli.output import check_places, check_spared, tell, write_json
from legato.cli.progress import Span, progress
from legato.cli.watch import taken
from legato.errors import BadArgument, VideoError
from legato.files import write_whole

if TYPE_CHECKING:
    from legato.metrics import Measured, Measurement, Metric

__all__ = ["Limit", "measure", "measure_file"]

ANALYSIS_SIDE_PX = 640
BROKEN_LIMIT_EXIT = 3
SUFFIXES = {".mp4", ".mkv", ".avi", ".webm", ".mov", ".gif", ".m4v"}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


@dataclass(frozen=True)
class Limit:
    """A condition under which the command fails, such as `flicker_hz>2`."""

    name: str
    operator: str
    value: float

    @classmethod
    def parsed(cls, text: str) -> "Limit":
        """From `NAME>VALUE`, with <, >, <= or >=."""
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*", text)
        try:
            assert match
            return cls(match[1], match[2], float(match[3]))
        except (AssertionError, ValueError):
            raise BadArgument(
                f"--fail-if is '{text}'; expected a name, a comparison and a number, for example 'flicker_hz>2'"
            ) from None

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.value:g}"

    def broken_by(self, found: "Measured") -> bool | None:
        """Whether the measured value meets the condition; None where there is no value."""
        value = found[self.name].value
        return None if value is None else OPERATORS[self.operator](value, self.value)


def measure(
    videos: Annotated[list[str], typer.Argument(help="Video files, folders of videos, patterns, or URLs.")],
    reference: Annotated[Path | None, typer.Option(help="The true video: PSNR, SSIM, tOF, and its motion.")] = None,
    compare: Annotated[list[Path] | None, typer.Option(help="Another version of the video; may be repeated.")] = None,
    boundaries: Annotated[
        str, typer.Option(help="Where pieces begin: a period in frames, a list as 16,32,48, or auto to find it.")
    ] = "auto",
    metrics: Annotated[str | None, typer.Option(help="Only these, as warping,spectrum; 'list' names them.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Also measure features of this encoder: legato-tiny, a folder or a name.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Answers of a video-language model: JSONL with seconds and text.")
    ] = None,
    colour: Annotated[str | None, typer.Option(help="Track the speed of a thing of this colour, as 255,0,0.")] = None,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Measure frozen and shuffled frames as well.")
    ] = True,
    fail_if: Annotated[
        list[str] | None, typer.Option("--fail-if", help="Exit with 3 if so, as 'flicker_hz>2'; may be repeated.")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all numbers; - for standard output.")] = None,
    csv_out: Annotated[Path | None, typer.Option("--csv", help="Write a table with a row for each video.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Only this span, as 2:5.5, 10: or :3.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")] = False,
) -> None:
    """Measure temporal coherence: flicker, warping error, smoothness, seams, freezes, timing, speed, drift."""
    paths = [str(path) for path in in_folders(parse.expanded(videos))]
    span, limits = parse.parsed_span(seconds), [Limit.parsed(text) for text in fail_if or []]
    check_places({"--json": json_out, "--csv": csv_out, "--report": report})
    if len(paths) > 1 and (compare or reference or answers):
        raise BadArgument("--reference, --compare and --answers go with one video; give one")
    others = parse.expanded([str(path) for path in compare or []])
    several = len(paths) > 1
    check_spared(
        [*paths, *others, reference, answers, encoder],
        [
            ("--json", json_out),
            ("--csv", csv_out),
            *(("--report", parse.named_for(report, path, several)) for path in paths if report),
        ],
    )
    quiet = quiet or json_out == Path("-")
    makers = chosen_metrics(metrics, boundaries, encoder, colour, with_reference=reference is not None)
    if makers is None:
        return
    said = measured_answers(answers)
    check_names(limits, makers, said)
    results: list[dict[str, Any]] = []
    compared: list[tuple[str, Measured]] = []
    broken = False
    for path in [*paths, *others]:
        try:
            found, info = measure_file(
                path, makers, reference=reference, span=span, max_frames=max_frames, controls=controls, quiet=quiet
            )
        except VideoError as error:
            if len(paths) + len(others) == 1:
                raise
            tell(error)
            results.append({"video": {"path": path}, "error": str(error)})
            continue
        if path == paths[0]:
            found.measurements.extend(said)
        numbers = {"video": info, **found.summary()}
        failed = failed_limits(limits, found, path)
        broken = broken or bool(failed)
        if limits:
            numbers["failed"] = [str(limit) for limit in failed]
        results.append(numbers)
        compared.append((path, found))
        if not quiet:
            show(path, found, failed)
        if found.interrupted:
            break
    if json_out is not None:
        write_json(json_out, results if len(results) > 1 else results[0])
    if csv_out is not None:
        write_table(csv_out, compared)
    if report is not None and compared:
        from legato.report.measuring import measure_page
        from legato.report.render import write_page

        for path, found in compared[: len(paths)]:
            rest = [] if several else compared[1:]
            write_page(parse.named_for(report, path, several), measure_page(path, found, rest))
            if not quiet:
                typer.echo(f"report {parse.named_for(report, path, several)}")
    if compared and compared[-1][1].interrupted:
        raise typer.Exit(130)
    if broken:
        raise typer.Exit(BROKEN_LIMIT_EXIT)
    if any("error" in result for result in results):
        raise typer.Exit(2)


def measured_answers(path: Path | None) -> "list[Measurement]":
    """What can be said of a model's answers; nothing without a file."""
    from legato.metrics import answer_measurements, read_answers

    return answer_measurements(read_answers(path)) if path is not None else []


def check_names(limits: list[Limit], makers: "dict[str, Callable[[], Metric]]", said: "list[Measurement]") -> None:
    """Tell a limit on something that will not be measured before anything is: fresh metrics know their names.

    Raises:
        BadArgument: a limit names no measurement.
    """
    names = [m.name for make in makers.values() for m in make().result()] + [m.name for m in said]
    for limit in limits:
        if limit.name not in names:
            raise BadArgument(f"--fail-if: no measurement '{limit.name}'; there are {', '.join(names)}")


def in_folders(places: list[str]) -> list[str]:
    """Files as they are, folders as the videos in them."""
    found: list[str] = []
    for place in places:
        if "://" not in place and Path(place).is_dir():
            videos = sorted(str(p) for p in Path(place).iterdir() if p.suffix.lower() in SUFFIXES)
            if not videos:
                raise BadArgument(f"there is no video in the folder {place}; expected {', '.join(sorted(SUFFIXES))}")
            found += videos
        else:
            found.append(place)
    return found


def chosen_metrics(
    names: str | None, boundaries: str, encoder: str | None, colour: str | None, *, with_reference: bool
) -> "dict[str, Callable[[], Metric]] | None":
    """The metrics that the options name; None where they were only to be listed."""
    from legato.metrics import DEFAULT_METRICS, REFERENCE_METRICS, PerceptualDifference, Seams, Speed

    known = {**DEFAULT_METRICS, **REFERENCE_METRICS, "lpips": PerceptualDifference}
    known["seams"] = partial(Seams, parsed_boundaries(boundaries))
    if colour is not None:
        known["speed"] = partial(Speed, parsed_colour(colour))
    if names == "list":
        for name, make in known.items():
            described = (make.func if isinstance(make, partial) else make).__doc__ or ""
            typer.echo(f"{name:12s} {described.splitlines()[0]}")
        return None
    chosen = {name: known[name] for name in DEFAULT_METRICS}
    if with_reference:
        chosen |= {name: known[name] for name in REFERENCE_METRICS}
    if names is not None:
        asked = [name.strip() for name in names.split(",") if name.strip()]
        wrong = [name for name in asked if name not in known]
        if wrong or not asked:
            raise BadArgument(f"no metric '{', '.join(wrong)}'; there are {', '.join(known)}")
        lonely = [name for name in asked if name in (*REFERENCE_METRICS, "lpips")]
        if lonely and not with_reference:
            raise BadArgument(f"{', '.join(lonely)} compare with a true video; give one with --reference")
        chosen = {name: known[name] for name in asked}
    if encoder is not None:
        chosen["features"] = feature_metric(encoder)
    return chosen


def parsed_boundaries(text: str) -> int | list[int] | None:
    """A period, a list of frames, or None for `auto`."""
    if text == "auto":
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument(f"--boundaries is '{text}'; expected auto, a period as 16, or a list as 16,32,48") from None
    return numbers if "," in text else numbers[0]


def parsed_colour(text: str) -> tuple[int, int, int]:
    """`R,G,B` from 0 to 255."""
    try:
        red, green, blue = (int(part) for part in text.split(","))
    except ValueError:
        raise BadArgument(f"--colour is '{text}'; expected red,green,blue from 0 to 255, for example 255,0,0") from None
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise BadArgument(f"--colour is '{text}'; expected values from 0 to 255")
    return red, green, blue


def feature_metric(name: str) -> "Callable[[], Metric]":
    """Consistency of an encoder's CLS token, or of the mean of its tokens where it has none."""
    from transformers.utils import logging

    from legato.metrics import FeatureConsistency
    from legato.reuse import ReuseEncoder

    logging.disable_progress_bar()
    encoder = ReuseEncoder.from_pretrained(name)

    def embed(frame: Any) -> Any:
        tokens = encoder.dense(frame)
        return tokens[0] if encoder.parts.cls else tokens.mean(0)

    return partial(FeatureConsistency, embed)


def measure_file(
    path: str,
    makers: "dict[str, Callable[[], Metric]]",
    *,
    reference: Path | None = None,
    span: Span = (None, None),
    max_frames: int | None = None,
    controls: bool = True,
    quiet: bool = True,
) -> tuple["Measured", dict[str, Any]]:
    """Measure one video, or a span of it, at a bounded size; and facts about the file.

    Raises:
        VideoError: it or the reference cannot be read.
        BadArgument: no frame lies in the span.
    """
    from legato.metrics import Timing, measure_frames
    from legato.video import open_reduced, open_video

    with ExitStack() as stack:
        video = stack.enter_context(open_reduced(path, ANALYSIS_SIDE_PX))
        frames = progress(
            taken(video, span, max_frames), video.info, span, max_frames, quiet, seconds_of=lambda frame: frame.seconds
        )
        true = None
        if reference is not None:
            twin = stack.enter_context(open_video(reference, size_px=video.size_px))
            true = taken(twin, span, max_frames)
        rate = video.info.declared_rate
        made = {n: partial(Timing, float(rate)) if m is Timing and rate else m for n, m in makers.items()}
        try:
            found = measure_frames(frames, made, reference=true, controls=controls)
        except BadArgument as error:
            if "no frame" not in str(error):
                raise
            raise BadArgument(
                f"no frame of {path} lies in the span asked for; its video begins at {video.info.start_seconds:g} s"
            ) from None
        info = {
            "path": path,
            "frames": found.frames,
            "seconds": found.last_seconds - found.first_seconds,
            "width": video.info.width,
            "height": video.info.height,
            "declared_rate": float(rate) if rate else None,
            "frames_lost": video.frames_lost,
            "times_repaired": video.times_repaired,
            "cuts_seconds": list(found.cuts_seconds),
            "interrupted": found.interrupted,
        }
    return found, info


def failed_limits(limits: list[Limit], found: "Measured", path: str) -> list[Limit]:
    """The limits that a video breaks; those that nothing can be said about are told."""
    failed = []
    for limit in limits:
        if limit.name not in found:  # answers are about the first video alone
            continue
        broken = limit.broken_by(found)
        if broken is None:
            tell(BadArgument(f"{path}: {limit} cannot be checked: {found[limit.name].note}"))
        elif broken:
            failed.append(limit)
    return failed


def show(path: str, found: "Measured", failed: list[Limit]) -> None:
    """The table that a person wants to read."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from legato.metrics.measurement import readable

    console = Console(highlight=False)
    table = Table(title=Text(path), title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for kind in found.controls:
        table.add_column(kind, justify="right", style="dim", no_wrap=True)
    table.add_column("worst at (s)", no_wrap=True)
    cheats = {kind: {m.name: m for m in measurements} for kind, measurements in found.controls.items()}
    for m in found.measurements:
        style = "bold red" if m.beyond_limit or any(limit.name == m.name for limit in failed) else ""
        spoilt = m.better != "neither" and m.value not in (None, 0.0)
        worst = ", ".join(f"{s:.2f}" for s in m.worst_seconds[:2]) if spoilt else ""
        others = [readable(cheat[m.name].value) if m.name in cheat else "" for cheat in cheats.values()]
        table.add_row(m.name, Text(readable(m.value), style=style), m.unit, *others, worst)
    console.print(table)
    for m in found.measurements:
        if m.note and (m.value is None or m.beyond_limit or m.name in ("flicker_hz", "seams", "cuts")):
            console.print(Text(f"{m.name}: {m.note}", style="dim"))
    for limit in failed:
        console.print(Text.assemble(("failed ", "bold red"), str(limit)))


def write_table(path: Path, found: list[tuple[str, "Measured"]]) -> None:
    """A CSV file with a row for each video and a column for each measurement."""
    names = list(dict.fromkeys(m.name for _, measured in found for m in measured.measurements))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["video", *names])
    for video, measured in found:
        values = {m.name: m.value for m in measured.measurements}
        writer.writerow([video, *("" if values.get(n) is None else values[n] for n in names)])
    write_whole(path, table.getvalue().encode())
