"""Does motion run at the right speed at any frame rate? Generated clips of discs, tracked.

    python benchmarks/speed.py --checkpoint physics-flow [--quick] [--json OUT]

The physical speed is random and hidden in training, so a model draws one for each sample.

- `free`: straight lines at 15, 20, 30, 45 and 60 frames a second (recipes/physics-flow.yaml shows no
  even 20 and 45). The
  median displacement per frame has to grow with the interval: slope of its logarithm on that of the interval, with
  a bootstrap interval and R^2 over the medians; and speeds have to spread as the data's do (quartile ratio, and the
  Kolmogorov-Smirnov distance). Everywhere with the guidance on seconds that the checkpoint is sampled with, or
  `--seconds-guidance`; what is called unguided is without.
- `pinned`: the first two frames are given, so the speed is determined; generated against true speed, also on an uneven
  timeline, with guidance on the given frames (`--given-guidance`) too, and without any (`pinned_unguided`).
- `gravity`: free falls, acceleration against the data's; and unguided.
- `ramp`: the interval grows threefold within a clip; speed in its last third against its first.
- `unknown`: the model is told that the rate is unknown; it has to take one of its training.
- `seed`: one seed at 15 and 30 a second; distance of the frames at equal seconds against that of other seeds.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from about import save
from rich.console import Console
from rich.table import Table

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.data.physics import KINDS, random_trial, track
from legato.generate import Ask, VideoGenerator
from legato.generate.samplers import Sampler, default_sampler

RATES = (15.0, 20.0, 30.0, 45.0, 60.0)
FRAMES = 16
LINE, BOUNCE = KINDS.index("line"), KINDS.index("bounce")


def even(rate: float, frames: int = FRAMES) -> torch.Tensor:
    return torch.arange(frames, dtype=torch.float64) / rate


def uneven(numbers: torch.Generator, frames: int = FRAMES) -> torch.Tensor:
    """Intervals from 1/60 to 1/15 s drawn frame by frame."""
    low, high = math.log(1 / 60), math.log(1 / 15)
    steps = (low + (high - low) * torch.rand(frames - 1, generator=numbers, dtype=torch.float64)).exp()
    return torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])


def generated(
    generator: VideoGenerator, seconds: torch.Tensor, seeds: range, sampler: Sampler, label: int, **more: Any
) -> torch.Tensor:
    """Pixels of clips, a row of seconds each, in batches."""
    clips = []
    for begin in range(0, len(seconds), 32):
        part = slice(begin, begin + 32)
        some = {name: v[part] if isinstance(v, torch.Tensor) else v for name, v in more.items()}
        ask = Ask(seconds[part], seeds[part], labels=torch.full((len(seconds[part]),), label), **some)
        clips.append(signal_to_pixels(generator.sample(ask, sampler)))
    return torch.cat(clips)


def line_fit(clip: torch.Tensor, seconds: torch.Tensor, part: slice = slice(None)) -> np.ndarray:
    """Velocity (x, y) in frame sizes per second, fitted to where the disc is seen; NaN with under 4 sightings."""
    places, at = track(clip[part]).numpy(), seconds[part].numpy()
    seen = np.isfinite(places[:, 0])
    if seen.sum() < 4:
        return np.full(2, np.nan)
    return np.polyfit(at[seen], places[seen], 1)[0]


def fall_fit(clip: torch.Tensor, seconds: torch.Tensor) -> float:
    """Acceleration of the first fall in heights per second squared; NaN with under 5 frames of it.

    The lowest frame is left out: it may show the disc after it has bounced (rendered falls at 15 a second read 8 % less
    with it).
    """
    y, at = track(clip)[:, 1].numpy(), seconds.numpy()
    lowest = int(np.nanargmax(y)) if np.isfinite(y).any() else 0
    y, at = y[:lowest], at[:lowest]
    seen = np.isfinite(y)
    if seen.sum() < 5:
        return math.nan
    return float(2 * np.polyfit(at[seen], y[seen], 2)[0])


def slope_of(displacements: dict[float, np.ndarray]) -> tuple[float, float]:
    """Slope of log(median displacement per frame) on log(interval), and R^2 over the medians."""
    x = np.log([1 / rate for rate in displacements])
    y = np.log([np.median(v) for v in displacements.values()])
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (slope * x + offset)
    return float(slope), float(1 - rest.var() / max(y.var(), 1e-12))


def free(generator: VideoGenerator, count: int, sampler: Sampler, **more: Any) -> dict[str, Any]:
    truth = np.array([random_trial(torch.Generator().manual_seed(s), "line", 1.0).speed for s in range(4000)])
    rates, displacements = {}, {}
    for rate in RATES:
        seconds = even(rate).repeat(count, 1)
        clips = generated(generator, seconds, range(1000, 1000 + count), sampler, LINE, **more)
        speeds = np.array([np.linalg.norm(line_fit(c, t)) for c, t in zip(clips, seconds, strict=True)])
        tracked = np.isfinite(speeds)
        speeds = speeds[tracked]
        displacements[rate] = speeds / rate
        quartiles = np.percentile(speeds, [25, 50, 75])
        values = np.sort(np.concatenate([speeds, truth]))
        apart = np.searchsorted(np.sort(speeds), values, "right") / len(speeds)
        apart -= np.searchsorted(np.sort(truth), values, "right") / len(truth)
        rates[rate] = {
            "tracked": float(tracked.mean()),
            "speed_quartiles": quartiles.tolist(),
            "ks_distance": float(np.abs(apart).max()),
        }
    slope, r2 = slope_of(displacements)
    numbers = np.random.default_rng(0)
    drawn = [slope_of({rate: numbers.choice(v, len(v)) for rate, v in displacements.items()})[0] for _ in range(1000)]
    return {
        "slope": slope,
        "slope_interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
        "r2": r2,
        "rates": rates,
        "data_speed_quartiles": np.percentile(truth, [25, 50, 75]).tolist(),
        "samples_per_rate": count,
    }


def pinned(generator: VideoGenerator, count: int, sampler: Sampler, given: int = 2, **guidance: Any) -> dict[str, Any]:
    out = {}
    for name in (*RATES, "uneven"):
        seconds, pixels, speeds = [], [], []
        for number in range(count):
            numbers = torch.Generator().manual_seed(50_000 + number)
            trial = random_trial(numbers, "line", 1.0)
            times = uneven(numbers) if name == "uneven" else even(float(name))
            seconds.append(times)
            pixels.append(pixels_to_signal(trial.render(times, generator.height, generator.width)))
            speeds.append(trial.speed)
        known = torch.zeros(count, FRAMES, dtype=torch.bool)
        known[:, :given] = True
        told = {"given": torch.stack(pixels), "known": known, **guidance}
        clips = generated(generator, torch.stack(seconds), range(count), sampler, LINE, **told)
        later = slice(given, None)
        made = np.array([np.linalg.norm(line_fit(c, t, later)) for c, t in zip(clips, seconds, strict=True)])
        ratio = made / np.array(speeds)
        ratio = ratio[np.isfinite(ratio)]
        out[str(name)] = {
            "error": float(np.median(np.abs(ratio - 1))),
            "mean_log_ratio": float(np.mean(np.log(ratio))),
            "median_log_ratio": float(np.median(np.log(ratio))),
            "tracked": float(len(ratio) / count),
        }
    return out


def gravity(generator: VideoGenerator, count: int, sampler: Sampler, guidance: float | None) -> dict[str, Any]:
    truth = [random_trial(torch.Generator().manual_seed(s), "bounce").speed for s in range(4000)]
    out: dict[str, Any] = {"data_median": float(np.median(truth))}
    for rate in RATES:
        seconds = even(rate).repeat(count, 1)
        seeds = range(3000, 3000 + count)
        clips = generated(generator, seconds, seeds, sampler, BOUNCE, seconds_guidance=guidance)
        found = np.array([fall_fit(c, t) for c, t in zip(clips, seconds, strict=True)])
        found = found[np.isfinite(found)]
        median = float(np.median(found)) if len(found) else math.nan
        out[str(rate)] = {"median": median, "ratio": median / out["data_median"], "tracked": len(found) / count}
    return out


def ramp(generator: VideoGenerator, count: int, sampler: Sampler, guidance: float | None) -> dict[str, float]:
    """Intervals from 1/60 to 1/20 s, evenly in the logarithm."""
    frames = 24
    steps = torch.linspace(math.log(1 / 60), math.log(1 / 20), frames - 1, dtype=torch.float64).exp()
    seconds = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])
    seeds = range(7000, 7000 + count)
    clips = generated(generator, seconds.repeat(count, 1), seeds, sampler, LINE, seconds_guidance=guidance)
    third = frames // 3
    ratio = []
    for clip in clips:
        early = np.linalg.norm(line_fit(clip, seconds, slice(0, third)))
        late = np.linalg.norm(line_fit(clip, seconds, slice(-third, None)))
        ratio.append(late / early)
    found = np.array(ratio)[np.isfinite(ratio)]
    return {"median_ratio": float(np.median(found)), "tracked": len(found) / count}


def same_seed(generator: VideoGenerator, count: int, sampler: Sampler) -> dict[str, float]:
    slow, fast = even(15), even(30, 2 * FRAMES - 1)
    a = generated(generator, slow.repeat(count, 1), range(count), sampler, LINE).float()
    b = generated(generator, fast.repeat(count, 1), range(count), sampler, LINE).float()[:, ::2]
    same = (a - b).square().mean((1, 2, 3, 4)).sqrt()
    other = (a - b.roll(1, 0)).square().mean((1, 2, 3, 4)).sqrt()
    return {"rms_same_seed": float(same.median()), "rms_other_seed": float(other.median())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--controls", nargs="*", default=[], help="checkpoints that are told the time wrongly or not")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--given-guidance", type=float, default=2.0, help="where two frames are given")
    parser.add_argument("--seconds-guidance", type=float, help="1: none; as the checkpoint says by default")
    parser.add_argument("--quick", action="store_true", help="192 free samples a rate instead of 800, and so on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    count = 48 if args.quick else 200
    torch.set_grad_enabled(False)
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    sampler = default_sampler(generator.objective, args.steps)
    # Medians of 800 are known to some 2 %.
    result = free(generator, 4 * count, sampler, seconds_guidance=args.seconds_guidance)
    result["unguided"] = free(generator, 2 * count, sampler, seconds_guidance=1.0)
    guidance = {"given_guidance": args.given_guidance, "seconds_guidance": args.seconds_guidance}
    result["pinned"] = pinned(generator, max(count // 2, 32), sampler, **guidance)
    result["pinned_unguided"] = pinned(generator, max(count // 2, 32), sampler, seconds_guidance=1.0)
    result["pinned_error"] = max(row["error"] for row in result["pinned"].values())
    # Medians of 100 are known to 5 to 9 %.
    result["gravity"] = gravity(generator, count, sampler, args.seconds_guidance)
    result["gravity_unguided"] = gravity(generator, count, sampler, 1.0)
    result["ramp"] = ramp(generator, max(count // 2, 32), sampler, args.seconds_guidance)
    unknown = free(generator, count // 2, sampler, rate_known=torch.zeros(count // 2, dtype=torch.bool))
    result["unknown"] = {"slope": unknown["slope"]}
    result["seed"] = same_seed(generator, 32, sampler)
    result["controls"] = {}
    for name in args.controls:
        other = VideoGenerator.from_pretrained(name)
        there = free(other, max(count // 2, 32), sampler)
        row = {key: there[key] for key in ("slope", "slope_interval", "r2")}
        row["pinned_error"] = max(
            r["error"] for r in pinned(other, 32, sampler, given_guidance=args.given_guidance).values()
        )
        result["controls"][name] = row
    show(result)
    save(
        args.json,
        result,
        checkpoint=args.checkpoint,
        trained=generator.trained,
        sampler=repr(sampler),
        given_guidance=args.given_guidance,
        seconds_guidance=generator.seconds_guidance(Ask(even(15)[None], [0], seconds_guidance=args.seconds_guidance)),
    )


def show(result: dict[str, Any]) -> None:
    console = Console()
    low, high = result["slope_interval"]
    bare = result["unguided"]
    console.print(f"free: slope {result['slope']:.3f} ({low:.3f} to {high:.3f}), R2 {result['r2']:.4f}", end="; ")
    low, high = bare["slope_interval"]
    medians = " ".join(f"{row['speed_quartiles'][1]:.2f}" for row in bare["rates"].values())
    console.print(f"unguided {bare['slope']:.3f} ({low:.3f} to {high:.3f}), medians {medians}")
    table = Table(
        "rate",
        "tracked",
        "speed quartiles",
        "KS",
        "pinned error",
        "unguided",
        "mean log ratio",
        "gravity / data",
        "unguided",
    )
    for rate, row in result["rates"].items():
        pin, fall = result["pinned"][str(rate)], result["gravity"][str(rate)]
        bare, bare_fall = result["pinned_unguided"][str(rate)], result["gravity_unguided"][str(rate)]
        table.add_row(
            f"{rate:g}",
            f"{row['tracked']:.0%}",
            " ".join(f"{v:.2f}" for v in row["speed_quartiles"]),
            f"{row['ks_distance']:.2f}",
            f"{pin['error']:.1%}",
            f"{bare['error']:.1%}",
            f"{pin['mean_log_ratio']:+.3f}",
            f"{fall['ratio']:.2f}",
            f"{bare_fall['ratio']:.2f}",
        )
    pin, bare = result["pinned"]["uneven"], result["pinned_unguided"]["uneven"]
    errors = (f"{pin['error']:.1%}", f"{bare['error']:.1%}")
    table.add_row("uneven", "", "", "", *errors, f"{pin['mean_log_ratio']:+.3f}", "", "")
    console.print(table)
    console.print("data", " ".join(f"{v:.2f}" for v in result["data_speed_quartiles"]))
    console.print(f"ramp: late over early {result['ramp']['median_ratio']:.2f}, unknown rate: slope", end=" ")
    console.print(f"{result['unknown']['slope']:.3f}; seeds {result['seed']}; controls {result['controls']}")


if __name__ == "__main__":
    main()
