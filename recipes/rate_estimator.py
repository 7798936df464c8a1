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
import time
from pathlib import Path

import torch

from legato.clock.estimator import RateEstimator, estimate_loss
from legato.data.batch import pixels_to_signal
from legato.data.physics import random_trial

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
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    kept, done = out / "training.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    begun, errors = time.monotonic(), []
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100, (steps - step) / (0.3 * steps))
        frames, logs = batch(step + 1_000_000, clips)
        estimate = model(frames)
        loss = estimate_loss(estimate, logs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        errors.append(float(((estimate.log_interval - logs).exp() - 1).abs().mean()))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            recent = sum(errors[-100:]) / len(errors[-100:])
            each = (time.monotonic() - begun) / (step + 1 - done)
            print(f"step {step + 1} error {recent:.3f} {each:.2f} s/step", flush=True)
            out.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, part)
            part.replace(kept)
    model.half().save_pretrained(out / "final")


def test(path: Path, count: int) -> dict[str, float]:
    model = RateEstimator.from_pretrained(str(path)).float().eval()
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
