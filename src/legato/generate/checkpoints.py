"""What a training run keeps on disk, and how it goes on from there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from legato.errors import BadArgument
from legato.files import replacing_folder
from legato.generate.generator import VideoGenerator
from legato.generate.sharding import dealt_like, gathered

__all__ = ["STATE_NAME", "averaged", "last_checkpoint", "restore", "save_checkpoint", "start_from"]

STATE_NAME = "training.pt"


def last_checkpoint(out: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = [path for path in _by_step(out) if (path / STATE_NAME).exists()]
    return found[-1] if found else None


def _by_step(out: Path) -> list[Path]:
    """Folders of checkpoints by their number of steps: from a million on, names are longer and sort otherwise."""
    numbered = ((path.name.removeprefix("step-"), path) for path in out.glob("step-*"))
    return [path for _, path in sorted((int(number), path) for number, path in numbered if number.isdecimal())]


def start_from(model: nn.Module, folder: Path, without: tuple[str, ...] = ()) -> list[str]:
    """Take over the weights of an older model, for example one without frame positions.

    Args:
        model: takes them.
        folder: of the older model.
        without: beginnings of the names of weights that are left there.

    Returns:
        The names of weights that were not taken over; they keep their initial values.

    Raises:
        BadArgument: nothing fits.
    """
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if not path.exists():
        raise BadArgument(f"training.init_from is {folder}; there is no {path.name} in it")
    state = load_file(path)
    own = model.state_dict()
    fitting = {
        name: v
        for name, v in state.items()
        if name in own and own[name].shape == v.shape and not name.startswith(without)
    }
    if not fitting:
        raise BadArgument(f"not one weight of {folder} fits this model")
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


@contextmanager
def averaged(model: nn.Module, ema: Any) -> Iterator[None]:
    """Within it the model has its averaged weights."""
    kept = [p.detach().clone() for p in model.parameters()]
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.copy_(value)


def save_checkpoint(
    generator: VideoGenerator, optimizer: Any, ema: Any, step: int, out: Path, *, keep: int, writes: bool
) -> None:
    """Write a checkpoint, complete or not at all, and remove the oldest; all processes call it, one of them writes."""
    folder = out / f"step-{step:06d}"
    state = gathered(
        {
            "model": generator.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "ema": ema.state_dict(),
            "step": step,
            "trained": _trained(generator.model),
        }
    )
    with averaged(generator.model, ema):
        weights = gathered(generator.model.state_dict())
    generator.trained = {**generator.trained, "steps": step}
    if not writes:
        return
    with replacing_folder(folder) as part:
        generator.save_pretrained(part, half=False, weights=weights)
        torch.save(state, part / STATE_NAME)
    for old in _by_step(out)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, ema: Any, state: dict[str, Any]) -> None:
    """Take over an optimiser's state and averaged weights from a checkpoint, for parameters whole or sharded.

    Raises:
        BadArgument: other parameters were trained then.
    """
    kept = state["optimizer"]
    now, then = (
        [len(group["params"]) for group in groups] for groups in (optimizer.param_groups, kept["param_groups"])
    )
    names = _trained(model)
    if now != then or state.get("trained", names) != names:  # older checkpoints tell no names
        raise BadArgument(
            f"the checkpoint of step {state['step']} trained {sum(then)} parameters and this run trains others, "
            f"{sum(now)} of them: leave training.train_only as it was, or train into another folder and take the "
            "weights over by training.init_from"
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for at, values in kept["state"].items():
        kept["state"][at] = {
            name: dealt_like(v, parameters[at]) if isinstance(v, torch.Tensor) else v for name, v in values.items()
        }
    optimizer.load_state_dict(kept)
    own = ema.shadow_params
    shadow = [dealt_like(v, mine) for v, mine in zip(state["ema"]["shadow_params"], own, strict=True)]
    ema.load_state_dict({**state["ema"], "shadow_params": shadow})


def _trained(model: nn.Module) -> list[str]:
    """Names of the parameters that are trained."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
