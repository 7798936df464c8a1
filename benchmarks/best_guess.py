"""Does a denoiser say as much motion as can be known? Against the best guess, level by level.

    python benchmarks/best_guess.py --checkpoint physics-flow [--rate 15] [--kind line] [--json OUT]

The best guess of a clean clip from a noisy one is its mean over all clips that could be under the noise. Of a world
that is rendered, many of those can be had: each counts by how likely it makes what is seen. Where few of them count
(`alike`, their effective number) the guess is a poor one; from some hundred on it is the best there is.

- `error`: mean square, of the model and of the best guess.
- `explained`: motion that is said along the true motion, over the true motion, which is a clip less its mean over time.
- `slow`: what the said motion has to be multiplied by to come nearest to the truth. Of anything that says all it knows
  it is 1; a model above 1 says less motion than it knows of, and a sampler's clips come out slow.
"""

import argparse
from pathlib import Path

import torch
from about import save
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from legato.data.batch import pixels_to_signal
from legato.data.physics import KINDS, random_trial
from legato.generate import VideoGenerator
from legato.generate.objectives import FlowMatching, best_guess, likely

LEVELS = (0.5, 0.8, 0.88, 0.92, 0.95, 0.97, 0.985)
FRAMES = 16


def rendered(generator: VideoGenerator, kind: str, rate: float, seeds: range) -> Tensor:
    """Latents of clips, each of its own seed."""
    seconds = torch.arange(FRAMES, dtype=torch.float64) / rate
    clips = []
    for seed in track(seeds, f"{len(seeds)} clips"):
        trial = random_trial(torch.Generator().manual_seed(seed), kind, 1.0)  # type: ignore[arg-type] - a choice
        pixels = trial.render(seconds, generator.height, generator.width)
        clips.append(generator.latents.encode(pixels_to_signal(pixels)[None])[0])
    return torch.stack(clips)


def judged(said: Tensor, true: Tensor) -> dict[str, float]:
    motion, actual = (clip - clip.mean(1, keepdim=True) for clip in (said, true))
    along = float((motion * actual).sum())
    return {
        "error": float((said - true).square().mean()),
        "explained": along / float(actual.square().sum()),
        "slow": along / float(motion.square().sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="physics-flow")
    parser.add_argument("--rate", type=float, default=15.0)
    parser.add_argument("--kind", choices=KINDS, default="line")
    parser.add_argument("--clips", type=int, default=12_000, help="that could be under the noise")
    parser.add_argument("--count", type=int, default=128, help="of noisy clips")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    objective = generator.objective
    if not isinstance(objective, FlowMatching):
        raise SystemExit(f"{args.checkpoint} was not trained by flow matching")
    clips = rendered(generator, args.kind, args.rate, range(10_000_000, 10_000_000 + args.clips))
    true = rendered(generator, args.kind, args.rate, range(77_000_000, 77_000_000 + args.count))
    seconds = (torch.arange(FRAMES, dtype=torch.float64) / args.rate).expand(args.count, -1)
    told = {"seconds": seconds, "labels": torch.full((args.count,), KINDS.index(args.kind))}
    epsilon = torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    table = Table("level", "alike", "error", "best", "explained", "best", "slow", "best")
    rows = {}
    for level in LEVELS:
        noise = torch.full((args.count, FRAMES), level)
        x = objective.noised(true, epsilon, noise)
        said = objective.clean(generator.model(x, noise=noise, **told), x, noise)
        mixed = objective.shares(noise)
        guess = best_guess(x, clips, *mixed)
        alike = float((1 / likely(x, clips, *mixed).square().sum(1)).median())
        row = {"alike": alike, "model": judged(said, true), "best": judged(guess, true)}
        cells = (f"{row[who][key]:.3f}" for key in ("error", "explained", "slow") for who in ("model", "best"))
        table.add_row(f"{level:g}", f"{alike:.0f}", *cells)
        rows[level] = row
    Console(width=100).print(table)
    save(args.json, {"levels": rows}, checkpoint=args.checkpoint, rate=args.rate, kind=args.kind, clips=args.clips,
         trained=generator.trained)  # fmt: skip


if __name__ == "__main__":
    main()
