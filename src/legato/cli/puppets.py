"""`legato puppets`: a clip of a signing puppet, its pose maps and its truth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from legato.cli import parse
from legato.cli.output import check_places, write_json
from legato.errors import BadArgument

__all__ = ["puppets"]

LEAST_SIDE_PX = 8
MOST_FRAMES = 10_000  # all are in memory at once


def puppets(
    text: Annotated[str | None, typer.Option(help="Signs, as 'hello friend'; a random sentence without it.")] = None,
    out: Annotated[Path, typer.Option(help="The clip: .mp4, .webm or .gif.")] = Path("puppet.mp4"),
    poses: Annotated[Path | None, typer.Option(help="Also write pose maps.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Also write hands, joints and signs over seconds (JSON).")] = None,
    fps: Annotated[str, typer.Option(help="Frames per second, as 30000/1001; any shows the same motion.")] = "30",
    rate: Annotated[float | None, typer.Option(help="Signing rate; random from 0.5 to 2 without it.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or one number.")] = "256",
    seed: Annotated[int, typer.Option(help="Of the figure, and of what is random.")] = 0,
) -> None:
    """Write a clip of a signing puppet with exact truth at any frame rate."""
    from dataclasses import replace

    import torch

    from legato.data.puppets import random_puppet
    from legato.video import Timeline, write_video
    from legato.video.write import check_ending

    frame_rate = parse.parsed_rate(fps)
    check_places({"--out": out, "--poses": poses, "--truth": truth})
    for path in (out, poses):
        if path is not None:
            check_ending(path)
    made = random_puppet(torch.Generator().manual_seed(seed), text=text)
    if rate is not None:
        made = replace(made, rate=rate)
    parsed = parse.parsed_size(size)
    assert parsed is not None
    height, width = parsed
    if min(height, width) < LEAST_SIDE_PX:
        raise BadArgument(f"--size is '{size}'; a puppet is drawn from {LEAST_SIDE_PX} pixels a side on")
    if made.seconds * frame_rate > MOST_FRAMES:
        raise BadArgument(
            f"{made.seconds:.1f} s of signing at {float(frame_rate):g} fps are too much; a clip has up to "
            f"{MOST_FRAMES} frames: lower --fps, or raise --rate"
        )
    timeline = Timeline.constant(seconds=made.seconds, rate=frame_rate)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_video(made.frames(timeline, height, width), out)
    if poses is not None:
        pixels = made.poses(timeline, height, width)
        frames = made.frames(timeline, height, width)
        poses.parent.mkdir(parents=True, exist_ok=True)
        write_video(replace(frames, pixels=pixels), poses)
    if truth is not None:
        write_json(truth, told(made, timeline))
    typer.echo(
        f"{out}: '{' '.join(made.text)}' in {made.seconds:.2f} s at rate {made.rate:.2f}, {len(timeline)} frames"
    )


def told(made: Any, timeline: Any) -> dict[str, Any]:
    """Everything that is known of a clip, as plain numbers; places as fractions of a square frame's side."""
    joints = made.joints(timeline)
    names = ("neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_hand", "right_hand")
    return {
        "text": " ".join(made.text),
        "rate": made.rate,
        "seconds": made.seconds,
        "signs": [vars(gloss) for gloss in made.glosses],
        "frames": [
            {"seconds": float(at), **dict(zip(names, frame, strict=True))}
            for at, frame in zip(timeline, joints.tolist(), strict=True)
        ],
    }
