"""Models as the options name them: which, on what device, in what precision."""

from typing import TYPE_CHECKING, Annotated

import typer

from legato.cli import parse

if TYPE_CHECKING:
    from legato.generate.generator import VideoGenerator

__all__ = ["Device", "Dtype", "load_generator"]

Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1 ...")]
Dtype = Annotated[str, typer.Option(help="Of the model's weights: float32, bfloat16 or float16.")]


def load_generator(name: str, device: str, dtype: str) -> "VideoGenerator":
    """A generator by name, folder, or name on the hub.

    Raises:
        BadArgument: the device is not there, or the precision is none of the three.
        ModelNotFound: there is no such generator.
    """
    place, precision = parse.parsed_device(device), parse.parsed_dtype(dtype)
    from legato.generate.generator import VideoGenerator

    return VideoGenerator.from_pretrained(name, device=place, dtype=precision)
