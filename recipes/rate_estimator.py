"""Train `rate-estimator`: the frame interval of clips in which one law of motion holds.

    python recipes/rate_estimator.py train --steps 6000
    python recipes/rate_estimator.py test

Clips are discs that bounce, swing and turn under one gravity, at an even interval drawn evenly in the logarithm from
1/60 to 1/12 s. `train` goes on where it was stopped; `test` prints the mean absolute percentage error on clips with
other seeds, for each kind of motion.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from loop import fit

from legato.clock.estimator import RateEstimator, estimate_loss
from legato.data.batch import pixels_to_signal
from legato.data.physics import random_trial
from legato.nn import load_folder

KINDS = ("bounce", "swing", "turn")
SLOWEST, FASTEST = 1 / 12, 1 / 60


def batch(number: int, count: int, kind: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips `(count, 16, 3, 32, 32)` and the logarithms of their intervals."""
    numbers = torch.Generator().manual_seed(number)
    clips, logs = [], []
    for _ in range(count):
        which = kind or KINDS[int(torch.randint(3, (1,), generator=numbers))]
        trial = random_trial(numbers, which, lawful=True)  # type: ignore[arg-type]
        a, b = torch.rand(2, generator=numbers, dtype=torch.float64).tolist()
        log = math.log(FASTEST) + (math.log(SLOWEST) - math.log(FASTEST)) * a
        times = 3 * b + torch.arange(16, dtype=torch.float64) * math.exp(log)
        clips.append(pixels_to_signal(trial.render(times, 32, 32)))
        logs.append(log)
    return torch.stack(clips), torch.tensor(logs)


def train(out: Path, steps: int, clips: int) -> None:
    torch.manual_seed(0)
    model = RateEstimator()

    def step(number: int) -> tuple[torch.Tensor, float]:
        frames, logs = batch(number + 1_000_000, clips)
        estimate = model(frames)
        error = ((estimate.log_interval.detach() - logs).exp() - 1).abs().mean()
        return estimate_loss(estimate, logs), float(error)

    fit(model, out, steps, step, name="error", rate=1e-3, weight_decay=0.01)
    model.half().save_pretrained(out / "final")


def test(path: Path, count: int) -> dict[str, float]:
    model = load_folder(RateEstimator, path)
    found = {}
    with torch.inference_mode():
        for kind in KINDS:
            frames, logs = batch(7, count, kind)
            said = torch.cat([model(part).interval_seconds for part in frames.split(50)])
            found[kind] = float((said / logs.exp() - 1).abs().mean())
    found["all"] = sum(found.values()) / len(KINDS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "test"])
    parser.add_argument("--out", type=Path, default=Path("build/rate-estimator"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--clips", type=int, default=16, help="in a batch")
    parser.add_argument("--count", type=int, default=300, help="clips of each kind to test on")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "train":
        train(args.out, args.steps, args.clips)
    else:
        print(json.dumps(test(args.out / "final", args.count), indent=1))


if __name__ == "__main__":
    main()
