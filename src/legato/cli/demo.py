"""`legato demo`: the main job on a bundled clip, start to end."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, the numbers and the features.")] = Path("demo"),
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
) -> None:
    """Watch a bundled clip with the bundled encoder, compare with dense encoding, and say where the report is."""
    from legato.cli.output import write_json
    from legato.cli.parse import AUDIT_FLOOR, parsed_audit, parsed_policy
    from legato.cli.watch import load_encoder, watch_video
    from legato.files import check_folder
    from legato.samples import BIG_BUCK_BUNNY

    check_folder(out, "--out")
    model = "legato-tiny"
    encoder = load_encoder(
        model, None, None, parsed_policy("threshold", None), parsed_audit(AUDIT_FLOOR), "cpu", "float32"
    )
    numbers = watch_video(
        str(BIG_BUCK_BUNNY),
        encoder,
        model=model,
        compare=True,
        max_frames=max_frames,
        features=out / "features.safetensors",
        report=out / "report.html",
    )
    write_json(out / "numbers.json", numbers)
    typer.echo(f"\nThe report: {(out / 'report.html').resolve()}")
    typer.echo("Now your own: legato watch VIDEO --compare --report report.html")
