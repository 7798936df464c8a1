"""What a figure depends on besides the question: written beside the results of every benchmark."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch

PACKAGES = ("av", "numpy", "torch", "transformers")


def about(**settings: Any) -> dict[str, Any]:
    """Commit, versions, device and threads, and the settings of the run: seeds, models, sizes."""
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "commit": told.stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            "opencv": cv2.__version__,
            **{name: version(name) for name in PACKAGES},
        },
        "device": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": {"torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()},
        **settings,
    }


def save(path: Path | None, results: dict[str, Any], **settings: Any) -> None:
    """Write results as JSON with what they depend on; nothing without a path."""
    if path is not None:
        path.write_text(json.dumps({"about": about(**settings), **results}, indent=1))
