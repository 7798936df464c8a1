"""`legato bench`: what ways of making a video cost, side by side, each in a process of its own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from legato.cli import parse
from legato.cli.load import Device, Dtype
from legato.cli.output import check_places, check_spared, write_json
from legato.errors import BadArgument, check_at_least, check_finite, check_share

__all__ = ["app"]

app = typer.Typer(help="Measure ways of doing something against each other.", no_args_is_help=True)
UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@app.callback()
def bench() -> None:
    """Measure ways of doing something against each other, each in a process of its own."""


@app.command("stream")
def bench_stream(
    checkpoint: Annotated[str, typer.Option(help="Name of a bundled generator, a folder, or a name on the hub.")],
    frames: Annotated[list[int] | None, typer.Option(help="Length; may be given several times. 48 and 192.")] = None,
    way: Annotated[list[str] | None, typer.Option(help="Which way; may be given several times. All.")] = None,
    windows: Annotated[
        int | None, typer.Option(help="In the queue; batches make as many calls; 6, or 4 with --text-only.")
    ] = None,
    frames_per_window: Annotated[int | None, typer.Option(help="Frames made at a time; 8.")] = None,
    steps: Annotated[int | None, typer.Option(help="Calls of the model for those; 1, or 8 with --text-only.")] = None,
    context: Annotated[int | None, typer.Option(help="Shown frames kept in view; 2, or 4 with --text-only.")] = None,
    sink: Annotated[int | None, typer.Option(help="First frames kept in view for ever; 1.")] = None,
    keyframes: Annotated[int | None, typer.Option(help="Most later frames kept so too; 0.")] = None,
    fresh_above: Annotated[
        float | None,
        typer.Option(help="The queue draws noise anew at levels above this, 0 to 1 (never); 1, or 0 with --text-only."),
    ] = None,
    slope: Annotated[
        float | None, typer.Option(help="How far levels rise within a window of the queue, 0 to 1; 0.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Give each way a picture of the puppet at rest to begin from.")
    ] = False,
    text_only: Annotated[bool, typer.Option("--text-only", help="Without the drive, by text alone.")] = False,
    drive_guidance: Annotated[float, typer.Option(help="Over 1 the drive counts more.")] = 1.0,
    fps: Annotated[str, typer.Option(help="Frames per second, as 24 or 30000/1001.")] = "24",
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    memory_limit: Annotated[
        str, typer.Option(help="Most that a process may take, such as 600M or 9.3G, libraries included; none for 0.")
    ] = "0",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    threads: Annotated[int, typer.Option(help="Of the processor.")] = 1,
    json: Annotated[Path | None, typer.Option("--json", help="All figures as JSON; - for standard output.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Make one long video in nine ways: memory, time, latency, seams, drift, and how well a drive is followed."""
    from dataclasses import asdict, replace

    from rich.console import Console
    from rich.progress import Progress

    from legato.generate.generator import VideoGenerator
    from legato.generate.strategy_bench import WAYS, BenchAsk
    from legato.generate.stream import DRIVEN, UNDRIVEN

    shape = _given(windows=windows, frames_per_window=frames_per_window, steps=steps)
    kept = _given(sink_frames=sink, keyframes=keyframes)
    context_frames, shares = _given(context_frames=context), _given(fresh_above=fresh_above, slope=slope)
    names = {"sink_frames": "sink", "context_frames": "context"}
    check_at_least(1, **{parse.option(name): value for name, value in (shape | {"threads": threads}).items()})
    counts = kept | context_frames
    check_at_least(0, **{parse.option(names.get(name, name)): value for name, value in counts.items()})
    check_share(**{parse.option(name): value for name, value in shares.items()})
    check_finite(**{"--drive-guidance": drive_guidance})
    parse.parsed_device(device)
    parse.parsed_dtype(dtype)
    check_places({"--json": json})
    check_spared([checkpoint], [("--json", json)])
    takes_drive = bool(getattr(VideoGenerator.from_pretrained(checkpoint).model, "drive_channels", 0))
    usual = DRIVEN if takes_drive and not text_only else UNDRIVEN
    window = replace(usual, **shape, **context_frames, **shares, appearance=replace(usual.appearance, **kept))
    rate = float(parse.parsed_rate(fps))
    most = memory_bytes(memory_limit)
    asks = [
        BenchAsk(
            checkpoint,
            name,
            count,
            window=window,
            reference=reference,
            driven=not text_only,
            drive_guidance=drive_guidance,
            fps=rate,
            seed=seed,
            memory_limit_bytes=most,
            device=device,
            dtype=dtype,
            threads=threads,
        )
        for count in frames or [48, 192]
        for name in way or list(WAYS)
    ]
    rows: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=sum(ask.frames for ask in asks))
        for ask in asks:
            bar.update(task, description=f"{ask.way}, {ask.frames} frames")
            rows.append(asdict(ask) | _apart(asdict(ask)))
            bar.advance(task, ask.frames)
    if json is not None:
        write_json(json, {"about": _about(), "ways": rows})
    if json != Path("-"):
        Console(width=max(120, Console().width)).print(_table(rows))
        for row in rows:
            if "failed" in row:
                typer.echo(f"{row['way']}, {row['frames']} frames, failed: {row['failed']}")
    if all("failed" in row for row in rows):
        raise typer.Exit(1)


def _given(**options: Any) -> dict[str, Any]:
    """Those that were."""
    return {name: value for name, value in options.items() if value is not None}


def memory_bytes(told: str) -> int:
    """Bytes of `600M` or `9.3G`.

    Raises:
        BadArgument: it is something else.
    """
    number, unit = told.upper().removesuffix("B").removesuffix("I"), ""
    if number and number[-1] in UNITS:
        number, unit = number[:-1], number[-1]
    try:
        most = float(number)
    except ValueError:
        most = -1.0
    if not 0 <= most < float("inf"):
        raise BadArgument(f"--memory-limit is '{told}'; expected a size such as 600M or 9.3G, or 0 for none")
    return int(most * UNITS[unit])


def _apart(ask: dict[str, Any]) -> dict[str, Any]:
    """The figures of one way, made in a process of its own; or where that ended."""
    import json
    import subprocess
    import sys

    words = [sys.executable, "-m", "legato.generate.strategy_bench"]
    done = subprocess.run(words, input=json.dumps(ask), capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    stages = [one["stage"] for one in told if "stage" in one]
    last: dict[str, Any] = told[-1] if told else {}
    if "failed" in last or "peak_bytes" in last:
        return last
    stage = stages[-1] if stages else "starting"
    reason = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
    return {"failed": f"while {stage}: {reason[0]}"}


def _about() -> dict[str, Any]:
    import os
    import platform
    from importlib.metadata import version

    return {
        "versions": {name: version(name) for name in ("legato", "torch")},
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
    }


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Column, Table

    table = Table(
        "frames", Column("way", no_wrap=True), "peak MiB", "added MiB", "ms/frame", "CPU ms", "first s", "latency",
        "seam", "hands (own)", "colour drift", "hand error",
    )  # fmt: skip

    def number(one: dict[str, Any], name: str, form: str, times: float = 1.0) -> str:
        return "-" if one.get(name) is None else format(one[name] * times, form)

    for one in rows:
        if "failed" in one:
            peak = number(one, "peak_bytes", ".0f", 2**-20)
            table.add_row(str(one["frames"]), one["way"], peak, "failed")
            continue
        own = number(one, "seam_hands_truth", ".2f")
        table.add_row(
            str(one["frames"]),
            one["way"],
            number(one, "peak_bytes", ".0f", 2**-20),
            number(one, "added_bytes", ".1f", 2**-20),
            number(one, "seconds_per_frame", ".1f", 1000.0),
            number(one, "cpu_seconds_per_frame", ".1f", 1000.0),
            number(one, "first_frame_seconds", ".2f"),
            number(one, "latency_frames", ".0f"),
            number(one, "seam", ".2f"),
            f"{number(one, 'seam_hands', '.2f')} ({own})",
            number(one, "colour_drift", ".2%"),
            number(one, "hand_error", ".1%"),
        )
    return table
