"""`legato demo`: the main job on a bundled clip, start to end."""
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(out: Annotated[Path, typer.Option(help="Folder for the report, the features and the numbers.")] = Path("demo")) -> None:
    """Watch a bundled clip and show where the report is."""
