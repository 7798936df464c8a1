"""How far off are features between keyframes, filled in by each interpolator, on motion that nothing was fitted to?

    python benchmarks/tokens.py --fit FILES ... --videos FILES ... --json tokens.json

Latents are patches of 8 x 8 pixels of pictures 144 px high, as their first 16 principal components with unit variance;
the components are those of the frames of `--fit`. Of each of `--videos` (and of rendered puppets) every 4th or every
8th frame is kept, from evenly spread stretches of 17 frames, and the rest is filled in. MSE over the missing frames;
the mean of the fitted footage in their place would have about 1.

`one shift` is linear after the whole of each keyframe has been moved along one straight line: the mean displacement of
the matches. That is what straightening comes to if there is but one motion.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from about import save
from rich.console import Console
from rich.progress import track
from rich.table import Table

from legato.data.puppets import random_puppet
from legato.motion.between_features import (
    FeatureInterpolator,
    LinearFeatures,
    SphericalFeatures,
    TokenWarper,
    filled,
)
from legato.motion.transport import Transport
from legato.motion.warp import warp
from legato.video import open_video

HEIGHT_PX, PATCH_PX, STRETCH = 144, 8, 17
PUPPET_RATE = 15.0


@dataclass(frozen=True)
class OneShift:
    """Both keyframes moved along the mean displacement of their matches, then linear."""

    transport: Transport = Transport()  # noqa: RUF009 - immutable

    def __call__(self, first: torch.Tensor, second: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        matches = self.transport(first, second)
        weight = matches.forward_share[:, None]
        shift = (matches.forward * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-9)
        whole = shift[:, :, None, None].expand_as(matches.forward)
        made = []
        for share in shares.float().T:
            part = share[:, None, None, None]
            made.append(torch.lerp(warp(first, -part * whole), warp(second, (1 - part) * whole), part))
        return torch.stack(made, 1)


INTERPOLATORS: dict[str, FeatureInterpolator] = {
    "linear": LinearFeatures(),
    "spherical": SphericalFeatures(),
    "one shift": OneShift(),
    "warper": TokenWarper(),
    "unstraightened": TokenWarper(straightened=False),
}


def patches(pixels: torch.Tensor) -> torch.Tensor:
    """Patches `(time, values, rows, columns)` of pictures shrunk to 144 px, from -1 to 1."""
    height, width = pixels.shape[-2:]
    columns = round(width * HEIGHT_PX / height / PATCH_PX)
    small = F.interpolate(pixels.float(), (HEIGHT_PX, columns * PATCH_PX), mode="area")
    return F.pixel_unshuffle(small / 127.5 - 1, PATCH_PX)


def stretches(path: Path, count: int) -> torch.Tensor:
    """Patches of evenly spread stretches of a video, `(stretches, time, values, rows, columns)`."""
    with open_video(path) as video:
        frames = [patches(frame.pixels[None])[0].half() for frame in video]
    starts = torch.linspace(0, max(0, len(frames) - STRETCH), count).long().unique().tolist()
    return torch.stack([torch.stack(frames[start : start + STRETCH]) for start in starts]).float()


def puppets(count: int) -> torch.Tensor:
    made = []
    for seed in range(count):
        puppet = random_puppet(torch.Generator().manual_seed(95_000 + seed))
        times = 0.3 + torch.arange(STRETCH, dtype=torch.float64) / PUPPET_RATE
        made.append(patches(puppet.render(times, HEIGHT_PX, HEIGHT_PX)))
    return torch.stack(made)


@dataclass(frozen=True)
class Components:
    """Principal components of patches, with unit variance."""

    mean: torch.Tensor
    basis: torch.Tensor  # (values, channels)

    @staticmethod
    def of(samples: Sequence[torch.Tensor], channels: int) -> "Components":
        rows = torch.cat([some.movedim(-3, -1).flatten(0, -2)[::7] for some in samples])
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        return Components(rows.mean(0), (vectors / values.clamp_min(1e-9).sqrt()).flip(1)[:, :channels])

    def __call__(self, some: torch.Tensor) -> torch.Tensor:
        return ((some.movedim(-3, -1) - self.mean) @ self.basis).movedim(-1, -3)


def errors(clips: torch.Tensor, stride: int) -> dict[str, float]:
    """MSE over the missing frames."""
    kept = torch.zeros(clips.shape[:2], dtype=torch.bool)
    kept[:, ::stride] = True
    seconds = torch.arange(clips.shape[1], dtype=torch.float64).repeat(len(clips), 1) / 30
    return {
        name: float((filled(clips, seconds, kept, interpolator) - clips)[~kept].square().mean())
        for name, interpolator in INTERPOLATORS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, nargs="+", required=True, help="videos whose components are taken")
    parser.add_argument("--videos", type=Path, nargs="+", required=True, help="others, on which to measure")
    parser.add_argument("--stretches", type=int, default=4, help="of each video")
    parser.add_argument("--puppets", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    components = Components.of([stretches(path, 2) for path in args.fit], args.channels)
    rows: dict[str, dict[str, Any]] = {}
    for path in track([*args.videos, None], transient=True):
        clips = components(puppets(args.puppets) if path is None else stretches(path, args.stretches))
        for stride in (4, 8):
            rows[f"{path.stem if path else 'puppets'} /{stride}"] = errors(clips, stride)
    for stride in (4, 8):
        some = [row for name, row in rows.items() if name.endswith(f"/{stride}")]
        rows[f"mean /{stride}"] = {name: sum(row[name] for row in some) / len(some) for name in INTERPOLATORS}
    table = Table("kept", *INTERPOLATORS)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[kind]:.4f}" for kind in INTERPOLATORS))
    Console().print(table)
    save(args.json, {"rows": rows}, channels=args.channels, stretches=args.stretches, puppets=args.puppets)


if __name__ == "__main__":
    main()
