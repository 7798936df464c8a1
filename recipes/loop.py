"""A small training loop that goes on where it was stopped, for models that `legato train` does not know."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from legato.files import replacing_file


def fit(
    model: nn.Module,
    out: Path,
    steps: int,
    step: Callable[[int], tuple[Tensor, float]],
    *,
    name: str,
    rate: float,
    weight_decay: float = 0.0,
    decay_share: float = 0.3,
    every: int = 100,
) -> None:
    """Train a model in place.

    Args:
        model: what is trained.
        out: folder of `training.pt`, from which a stopped run goes on.
        steps: in all.
        step: by its number, the loss and a figure that is told as a mean.
        name: of the figure.
        rate: of learning, over a warm-up of 100 steps; it falls over the last `decay_share`.
        weight_decay: of AdamW.
        decay_share: see there.
        every: steps between checkpoints and lines.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    kept, done = out / "training.pt", 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    begun, figures = time.monotonic(), []
    for number in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (number + 1) / 100, (steps - number) / (decay_share * steps))
        torch.manual_seed(number)
        loss, figure = step(number)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        figures.append(figure)
        if (number + 1) % every == 0 or number + 1 == steps:
            recent = figures[-every:]
            each = (time.monotonic() - begun) / (number + 1 - done)
            print(f"step {number + 1} {name} {sum(recent) / len(recent):.4f} {each:.2f} s/step", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": number + 1}
            with replacing_file(kept) as part:
                torch.save(state, part)
