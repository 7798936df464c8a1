"""legato: video models that keep time.

Every frame carries its time in seconds, and everything takes those times. The public names load on
first use, so that importing legato costs little more than importing torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Frame": "legato.video",
    "Frames": "legato.video",
    "ReuseEncoder": "legato.reuse",
    "Timeline": "legato.video",
    "open_video": "legato.video",
    "write_video": "legato.video",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'legato' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
