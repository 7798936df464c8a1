"""`legato watch`: encode videos and recompute only what changed."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legato.cli import parse
from legato.cli.load import Device, Dtype
from legato.cli.output import check_places, check_spared, tell, write_json
from legato.cli.progress import progress
from legato.errors import BadArgument, VideoError

if TYPE_CHECKING:
    from legato.reuse.encoder import ReuseEncoder
    from legato.video import Frame, Video

__all__ = ["watch", "watch_video"]


def watch(
    videos: Annotated[list[str], typer.Argument(help="Video files, patterns such as 'clips/*.mp4', or URLs.")],
    model: Annotated[
        str, typer.Option(help="Encoder: legato-tiny (bundled), a local folder, or a Hugging Face name.")
    ] = "legato-tiny",
    layer: Annotated[int | None, typer.Option(help="Hidden state to return; default the last, normed.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Encoder input, as 392 or 448x252 (width x height); default the model's own.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Which tokens to recompute: threshold:0.4, top:0.1, hierarchical:0.1 or random:0.1.")
    ] = "threshold",
    max_age: Annotated[
        float | None, typer.Option(min=0, help="No token older than this many seconds (default 16); 0 for no limit.")
    ] = None,
    audit: Annotated[
        float,
        typer.Option(help="Recompute all when aged tokens agree less than this with their refreshed selves; 0: never."),
    ] = parse.AUDIT_FLOOR,
    fidelity: Annotated[
        float | None,
        typer.Option(help="Calibrate the threshold on the first second for this mean token cosine, as 0.98."),
    ] = None,
    lookahead: Annotated[
        int, typer.Option(min=1, help="Frames encoded in one pass: more is faster, 1 has the least latency.")
    ] = 16,
    compare: Annotated[bool, typer.Option("--compare", help="Also encode every frame densely and compare.")] = False,
    features: Annotated[Path | None, typer.Option(help="Write features with seconds and ages (safetensors).")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all numbers; - for standard output.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Only this span, as 2:5.5, 10: or :3.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")] = False,
) -> None:
    """Encode videos with a vision encoder and recompute only what changed."""
    paths = parse.expanded(videos)
    span = parse.parsed_span(seconds)
    chosen = parse.parsed_policy(policy, max_age)
    if fidelity is not None and not 0 < fidelity < 1:
        raise BadArgument(f"--fidelity is {fidelity}; expected a mean token cosine between 0 and 1, for example 0.98")
    check_places({"--features": features, "--report": report, "--json": json_out})
    several = len(paths) > 1
    check_spared(
        [*paths, model],
        [
            ("--json", json_out),
            *(("--features", parse.named_for(features, video, several)) for video in paths if features),
            *(("--report", parse.named_for(report, video, several)) for video in paths if report),
        ],
    )
    checked = parse.parsed_audit(audit)
    encoder = load_encoder(model, layer, parse.parsed_size(size), chosen, checked, device, dtype)
    quiet = quiet or json_out == Path("-")
    results: list[dict[str, Any]] = []
    for video in paths:
        try:
            numbers = watch_video(
                video,
                encoder,
                model=model,
                lookahead=lookahead,
                compare=compare,
                fidelity=fidelity,
                span=span,
                max_frames=max_frames,
                quiet=quiet,
                features=parse.named_for(features, video, several) if features else None,
                report=parse.named_for(report, video, several) if report else None,
            )
        except VideoError as error:
            if not several:
                raise
            tell(error)
            numbers = {"video": video, "error": str(error)}
        results.append(numbers)
        if numbers.get("interrupted"):
            break
    if json_out is not None:
        write_json(json_out, results if several else results[0])
    if results[-1].get("interrupted"):
        raise typer.Exit(130)
    if any("error" in numbers for numbers in results):
        raise typer.Exit(2)


def load_encoder(
    model: str,
    layer: int | None,
    size_px: tuple[int, int] | None,
    policy: "Policy",
    audit: "Audit | None",
    device: str,
    dtype: str,
) -> "ReuseEncoder":
    """The encoder that the options name, with progress bars of the libraries below kept quiet."""
    place, precision = parse.parsed_device(device), parse.parsed_dtype(dtype)
    from transformers.utils import logging

    from legato.reuse import ReuseEncoder

    logging.disable_progress_bar()
    options: dict[str, Any] = {"policy": policy, "audit": audit} | ({"size_px": size_px} if size_px else {})
    return ReuseEncoder.from_pretrained(model, layer=layer, device=place, dtype=precision, **options)


def watch_video(
    path: str,
    encoder: "ReuseEncoder",
    *,
    model: str,
    lookahead: int = 16,
    compare: bool = False,
    fidelity: float | None = None,
    span: tuple[float | None, float | None] = (None, None),
    max_frames: int | None = None,
    quiet: bool = False,
    features: Path | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Watch one video, write what was asked for, and return the numbers.

    An interrupt ends the video early: what was encoded so far is kept, written and marked `interrupted`.
    """
    from legato.report.render import write_page
    from legato.report.watching import Sheet, watch_page
    from legato.understand.features import FeatureWriter
    from legato.understand.watch import Account
    from legato.understand.watch import watch as follow
    from legato.video import open_video

    account = Account(encoder.token_count)
    with ExitStack() as stack:
        video = stack.enter_context(open_video(path, size_px=encoder.size_px))
        info = video.info
        sheet = Sheet(aspect=info.height / (info.width * float(info.sample_aspect_ratio or 1)))
        frames: Iterable[Frame] = taken(video, span, max_frames)
        if not compare:
            from legato.video.prefetch import prefetched

            frames = prefetched(frames, depth=3)
        writer = None
        if features is not None:
            rows, columns = encoder.grid
            metadata = {"model": model, "layer": str(encoder.layer), "grid": f"{rows}x{columns}", "video": str(path)}
            writer = stack.enter_context(FeatureWriter(features, metadata))
        try:
            steps = follow(frames, encoder, lookahead=lookahead, compare=compare, fidelity=fidelity, account=account)

            def told() -> str:
                rate = len(account.records) / account.wall_seconds if account.wall_seconds else 0.0
                return f"{rate:.1f} fps, {account.recomputed_share:.0%} recomputed"

            bar = progress(
                steps, video.info, span, max_frames, quiet, seconds_of=lambda step: step[0].seconds, told=told
            )
            for frame, out in bar:
                if writer is not None:
                    writer.add(out)
                if report is not None:
                    sheet.add(frame, out, encoder.grid)
        except KeyboardInterrupt:
            account.interrupted = True
    if not account.records:
        raise BadArgument(
            f"no frame of {path} lies in the span asked for; its video begins at {video.info.start_seconds:g} s"
        )
    numbers = {
        "video": str(path),
        "model": model if encoder.layer is None else f"{model}, layer {encoder.layer}",
        "size": f"{encoder.size_px[1]}x{encoder.size_px[0]}",
        "policy": str(encoder.policy),
        "frames_lost": video.frames_lost,
        "times_repaired": video.times_repaired,
        **account.summary(),
    }
    if report is not None:
        write_page(report, watch_page(Path(str(path)).name, numbers, sheet))
    if not quiet:
        show(numbers, features, report)
    return numbers


def taken(video: "Video", span: tuple[float | None, float | None], max_frames: int | None) -> Iterator["Frame"]:
    """The frames of a span, at most so many."""
    import math
    from itertools import islice

    first, last = span
    frames: Iterable[Frame] = video
    if first is not None or last is not None:
        start = first if first is not None else -math.inf
        frames = video.between(start, last if last is not None else math.inf)
    return islice(frames, max_frames)


def show(numbers: dict[str, Any], features: Path | None, report: Path | None) -> None:
    """The few lines a person wants to read after a run."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=numbers["video"], title_justify="left", show_header=False, box=None, pad_edge=False)
    modes, latency = numbers["modes"], numbers["latency_ms"]
    counted = ", ".join(f"{count} {mode}" for mode, count in modes.items())
    table.add_row("frames", f"{numbers['frames']} in {numbers['duration_seconds']:.1f} s, {len(numbers['cuts'])} cuts")
    table.add_row("recomputed", f"{numbers['recomputed_share']:.1%} of tokens; frames: {counted}")
    table.add_row("speed", f"{numbers['frames_per_second']:.1f} frames/s, latency p95 {latency['p95']:.0f} ms")
    if "calibration" in numbers:
        found = numbers["calibration"]
        promise = f"a mean token cosine of {found['promised_cosine']:g}"
        table.add_row("calibration", f"threshold {found['threshold']:.3f} for {promise}")
    if "speedup" in numbers:
        encoder = f"{numbers['encoder_speedup']:.2f} x without decoding (ceiling {numbers['ceiling']:.1f} x)"
        table.add_row("against dense", f"{numbers['speedup']:.2f} x end to end, {encoder}")
        worst = f"worst hundredth {numbers['token_cosine_p01']:.3f}, CLS {numbers['cls_cosine_mean']:.4f}"
        table.add_row("token cosine", f"mean {numbers['token_cosine_mean']:.4f}, {worst}")
    if numbers["frames_lost"] or numbers["times_repaired"]:
        damage = f"{numbers['frames_lost']} frames lost, {numbers['times_repaired']} times repaired"
        table.add_row("damage", damage)
    if numbers["interrupted"]:
        table.add_row("interrupted", "what was encoded until then is kept")
    for name, path in (("features", features), ("report", report)):
        if path is not None:
            table.add_row(name, str(path))
    console.print(table)
