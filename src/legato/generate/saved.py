"""Files of tensors and plain values: what a stream is, whole or not at all, and checked when it is read."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from legato.errors import BadArgument
from legato.files import write_whole

__all__ = ["load_values", "save_values"]


def save_values(path: str | Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values to a file, complete or not at all.

    Raises:
        FileNotWritten: it cannot be written there.
    """
    content = io.BytesIO()
    torch.save(values, content)
    write_whole(path, content.getbuffer())


def load_values(path: str | Path) -> dict[str, Any]:
    """Read what `save_values` wrote; nothing in a file is run.

    Raises:
        BadArgument: the file is missing or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            broken = parts.testzip()
        values = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadArgument(f"there is no saved state {path}") from error
    except Exception as error:  # what a reader says of a file of another kind can be anything
        raise BadArgument(f"{path} is not a saved state, or was cut short") from error
    if values is None:
        raise BadArgument(f"the saved state {path} is damaged; go on from another one")
    if not isinstance(values, dict):
        raise BadArgument(f"{path} is not a saved state; it holds {type(values).__name__}")
    return values
