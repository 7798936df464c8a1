"""What do sparse keyframes and a refiner save against generating every frame, and what do they cost?

    python benchmarks/two_stages.py --checkpoint puppet-flow --refiner puppet-inbetween --guidance 2 --json two.json

Signs asked for by word, one clip each, `--seconds` at `--fps`: every frame generated; and a frame every so many seconds
generated, the rest filled in by the refiner, as `legato generate --keyframe-seconds` does it. Counted: tokens that
denoisers are shown, in all calls; wall time, encoding and decoding included, the ways taking turns word by word after one
round that does not count; signs recognised by their tracked hands (as in `order.py`); warping error times 1000. With
`--smooth`, the same once more for filled-in clips that are smoothed.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from about import save
from order import score
from rich.console import Console
from rich.table import Table

from legato.cli.generate import filled, fitting_refiner, keyframes_of, steadied
from legato.data.batch import signal_to_pixels
from legato.data.vocabulary import VOCABULARY
from legato.generate import Ask, VideoGenerator
from legato.generate.samplers import default_sampler
from legato.generate.work import counted
from legato.video import Timeline
