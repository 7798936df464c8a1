"""Train the autoencoders whose latents the shipped generators work in.

    python recipes/latents.py train --world puppets --steps 8000
    python recipes/latents.py polish --world puppets --steps 1500
    python recipes/latents.py test --world puppets [--folder build/puppets-latents/polished]

A frame of 64 x 64 becomes 4 x 4 latents, of 16 channels for puppets, of 8 for physics. `train` goes on where it was
stopped. `polish` trains the decoder alone, with what moves counting more, into a folder `polished`: what was trained
in these latents stays valid. `test` prints PSNR on other worlds, and how well hands or discs are tracked in what
comes back.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from loop import fit

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.data.physics import random_trial, track
from legato.data.puppets import hand_positions, random_puppet
from legato.data.scenes import World
from legato.generate.latents import TinyAutoencoder
from legato.nn import load_folder

SIDE_PX = 64
NOISE = 0.15  # on latents in training, so that what is decoded does not hang on their last digit


@dataclass(frozen=True)
class Kind:
    """A world and the autoencoder for it."""

    channels: int
    patch_px: int
    widths: tuple[int, ...]
    make: Callable[[torch.Generator], World]
    seconds: float
    track: Callable[[torch.Tensor], torch.Tensor]  # pixels to (time, things, x and y) in pixels


WORLDS = {
    "puppets": Kind(16, 8, (96, 128), random_puppet, 4.0, hand_positions),
    "physics": Kind(8, 4, (32, 64, 96), random_trial, 1.0, lambda pixels: SIDE_PX * track(pixels)[:, None]),
}


def frames(kind: Kind, number: int, count: int) -> torch.Tensor:
    """Random moments of random worlds, `(1, count, 3, side, side)`."""
    numbers = torch.Generator().manual_seed(number)
    made = []
    for _ in range(count // 4):
        world = kind.make(numbers)
        at = torch.rand(4, generator=numbers, dtype=torch.float64) * getattr(world, "seconds", kind.seconds)
        made.append(world.render(at, SIDE_PX, SIDE_PX))
    return pixels_to_signal(torch.cat(made))[None]


def train(kind: Kind, out: Path, steps: int, count: int) -> None:
    torch.manual_seed(0)
    model = TinyAutoencoder(kind.channels, kind.widths, kind.patch_px)

    def step(number: int) -> tuple[torch.Tensor, float]:
        x = frames(kind, number + 1_000_000, count)
        latents = model.encode(x)
        error = model.decode(latents + NOISE * torch.randn_like(latents)) - x
        square = error.square().mean()
        return square + 0.2 * error.abs().mean(), float(10 * torch.log10(4 / square.detach()))

    fit(model, out, steps, step, name="PSNR", rate=2e-3, decay_share=0.4)
    with torch.no_grad():
        spread = model.encode(frames(kind, 3, 1024)).std((0, 1, 3, 4))
        model.scale.mul_(spread)
    model.half().save_pretrained(out / "final")


def moving(x: torch.Tensor) -> torch.Tensor:
    """Weights with mean 1 of the pixels of `frames`: how far each is from the mean of its world's four moments."""
    worlds = x[0].unflatten(0, (-1, 4))
    away = (worlds - worlds.mean(1, keepdim=True)).abs().mean(2, keepdim=True)
    weights = 0.1 + away / away.mean()
    return (weights / weights.mean()).flatten(0, 1)[None]


def polish(kind: Kind, out: Path, steps: int, count: int) -> None:
    model = load_folder(TinyAutoencoder, out / "final").float()
    model.encoder.requires_grad_(False)

    def step(number: int) -> tuple[torch.Tensor, float]:
        x = frames(kind, number + 2_000_000, count)
        with torch.no_grad():
            latents = model.encode(x)
        error = model.decode(latents + NOISE * torch.randn_like(latents)) - x
        weighted = (moving(x) * error.square()).mean()
        return weighted + 0.2 * (moving(x) * error.abs()).mean(), float(10 * torch.log10(4 / weighted.detach()))

    fit(model, out / "polishing", steps, step, name="PSNR, weighted", rate=5e-4, decay_share=0.6)
    model.half().save_pretrained(out / "polished")


def test(kind: Kind, path: Path) -> dict[str, float]:
    model = load_folder(TinyAutoencoder, path)
    x = frames(kind, 5, 400)
    with torch.inference_mode():
        back = model.decode(model.encode(x))
    truth, made = (kind.track(signal_to_pixels(v[0])) for v in (x, back))
    apart = (truth - made).norm(dim=-1)
    seen = truth.isfinite().all(-1)
    return {
        "psnr_db": float(10 * torch.log10(4 / (back - x).square().mean())),
        "found": float((made.isfinite().all(-1) & seen).sum() / seen.sum()),
        "error_px_median": float(apart[apart.isfinite()].median()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "polish", "test"])
    parser.add_argument("--world", choices=list(WORLDS), required=True)
    parser.add_argument("--out", type=Path, help="build/WORLD-latents by default")
    parser.add_argument("--folder", type=Path, help="what to test; OUT/final by default")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--count", type=int, default=16, help="frames in a batch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kind, out = WORLDS[args.world], args.out or Path(f"build/{args.world}-latents")
    if args.what == "train":
        train(kind, out, args.steps, args.count)
    elif args.what == "polish":
        polish(kind, out, args.steps, args.count)
    else:
        print(json.dumps(test(kind, args.folder or out / "final"), indent=1))


if __name__ == "__main__":
    main()
