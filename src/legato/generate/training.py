"""Training: one loop for every denoiser, objective and source of clips, on one process or many.

A step depends on its number and the seed alone, so a run that was killed goes on from its last checkpoint as if nothing
had happened, bit for bit on a CPU.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from legato.clock import load_older
from legato.data.batch import NO_LABEL, ClipBatch, Source
from legato.errors import BadArgument, TrainingFailed
from legato.generate.generator import VideoGenerator
from legato.generate.latents import Pixels
from legato.generate.objectives import NoiseLevels, Objective, masked_mean, random_levels

__all__ = ["Progress", "Training", "dispersive_loss", "random_known", "step_loss", "train"]

STATE_NAME = "training.pt"


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        steps: of the optimiser.
        learning_rate: at its highest; it rises over `warmup_steps` and falls over the last `decay_share` of all steps.
        warmup_steps: see there.
        decay_share: see there.
        weight_decay: of AdamW, on matrices only.
        clip_norm: largest norm of a gradient.
        accumulate: batches to a step.
        ema: decay of the averaged weights, which are what a checkpoint gives.
        precision: `no`, `bf16` or `fp16`.
        seed: of all that is drawn.
        levels: how noise levels are drawn.
        drop: share of samples whose text, class or drive is hidden, each on its own, for guidance.
        known: share of clips some of whose frames are given.
        dispersive: weight of `dispersive_loss` on the features after a quarter of the blocks; 0 for none.
        checkpoint_every: steps.
        keep: so many checkpoints.
        sample_every: steps between sample sheets; 0 for none.
        init_from: a folder whose weights to start with; what it lacks keeps its initial values and is listed.
        train_only: beginnings of the names of parameters to train; all where it is empty.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    accumulate: int = 1
    ema: float = 0.999
    precision: str = "no"
    seed: int = 0
    levels: NoiseLevels = field(default_factory=NoiseLevels)
    drop: float = 0.1
    known: float = 0.0
    dispersive: float = 0.0
    checkpoint_every: int = 200
    keep: int = 2
    sample_every: int = 0
    init_from: str | None = None
    train_only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, good in {
                "steps": self.steps > 0,
                "learning_rate": self.learning_rate > 0,
                "decay_share": 0 <= self.decay_share <= 1,
                "clip_norm": self.clip_norm > 0,
                "accumulate": self.accumulate > 0,
                "ema": 0 <= self.ema < 1,
                "precision": self.precision in ("no", "bf16", "fp16"),
                "drop": 0 <= self.drop <= 1,
                "known": 0 <= self.known <= 1,
                "checkpoint_every": self.checkpoint_every > 0,
                "keep": self.keep > 0,
            }.items()
            if not good
        ]
        if wrong:
            told = ", ".join(f"training.{name} is {getattr(self, name)!r}" for name in wrong)
            raise BadArgument(f"{told}, which is out of its range")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, the first being 0."""
        rise = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        left = (self.steps - step) / max(self.decay_share * self.steps, 1e-9)
        return self.learning_rate * rise * min(1.0, left)


@dataclass(frozen=True)
class Progress:
    """Told after each step.

    Attributes:
        step: number of steps done.
        loss: of the step.
        gradient_norm: before clipping.
        learning_rate: of the step.
        skipped: steps left out so far because their loss was not a number.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: int


def random_known(batch: int, time: int, share: float, numbers: torch.Generator) -> Bool[Tensor, "batch time"]:
    """Which frames are given: none, or the first one to four, or some anywhere; never all."""
    draw = torch.rand(batch, 3, generator=numbers)
    first = torch.arange(time)[None] < 1 + (draw[:, 1:2] * min(4, time - 1)).floor()
    anywhere = torch.rand(batch, time, generator=numbers) < 0.4 * draw[:, 1:2]
    known = torch.where(draw[:, 2:] < 0.6, first, anywhere) & (draw[:, :1] < share)
    known[:, -1] &= ~known.all(1)
    return known


def dispersive_loss(features: Float[Tensor, "batch *shape"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """How close the features of a batch's samples are to each other (Wang and He 2025, "Diffuse and Disperse").

    log mean exp(-d / temperature) over all pairs, d being the mean square difference of two samples' features.
    """
    flat = features.float().flatten(1)
    apart = torch.cdist(flat, flat).square() / flat.shape[1]
    return (-apart / temperature).exp().mean().log()


def encoded(batch: ClipBatch, generator: VideoGenerator) -> ClipBatch:
    """The batch in the generator's latents."""
    latents = generator.latents
    if batch.encoded or isinstance(latents, Pixels):
        return batch
    with torch.no_grad():
        return replace(batch, frames=latents.encode(batch.frames), seconds=latents.seconds(batch.seconds))


def conditions_of(model: nn.Module) -> frozenset[str]:
    """What a denoiser can be told besides the seconds."""
    parts = {"text": "text", "labels": "label", "drive": "drive"}
    taken = {name for name, part in parts.items() if getattr(model, part, None) is not None}
    return frozenset(taken | ({"frame levels"} if getattr(model, "noise", "frame") == "frame" else set()))


def step_loss(
    model: nn.Module,
    objective: Objective,
    settings: Training,
    batch: ClipBatch,
    numbers: torch.Generator,
    *,
    takes: frozenset[str],
) -> Float[Tensor, ""]:
    """The loss of one batch.

    Args:
        model: the denoiser, perhaps wrapped for several processes.
        objective: what it is to say.
        settings: how.
        batch: clips, in the latents that it works in.
        numbers: what is drawn from.
        takes: which conditions it takes, see `conditions_of`; what else a batch has is left out.
    """
    clean = batch.frames
    b, t = batch.seconds.shape
    device = clean.device
    if objective.hidden:
        noise = torch.rand(b, 1, generator=numbers).expand(b, t)
    else:
        noise = random_levels(settings.levels, b, t, numbers)
    known = random_known(b, t, settings.known, numbers)
    epsilon = torch.randn(clean.shape, generator=numbers).to(device)
    hidden = torch.rand(b, 3, generator=numbers) < settings.drop
    noise, known_here = noise.to(device), known.to(device)
    x = torch.where(known_here[:, :, None, None, None], clean, objective.noised(clean, epsilon, noise))
    conditions: dict[str, Any] = {"seconds": batch.seconds, "rate_known": batch.rate_known}
    if not objective.hidden:
        told = torch.where(known_here, 0.0, noise)
        conditions["noise"] = told if "frame levels" in takes else noise[:, 0]
    if settings.known:
        conditions["known"] = known_here
    if "text" in takes and any(batch.text):
        conditions["text"] = tuple("" if out else text for text, out in zip(batch.text, hidden[:, 0], strict=True))
    if "labels" in takes and bool((batch.labels >= 0).any()):
        conditions["labels"] = torch.where(hidden[:, 1].to(device), NO_LABEL, batch.labels)
    if "drive" in takes and batch.drive is not None:
        conditions["drive"] = batch.drive
        conditions["drive_known"] = (~hidden[:, 2:]).expand(b, t).to(device)
    output = model(x, **conditions)
    return masked_mean(objective.loss(output, clean, epsilon, noise), ~known_here)


def train(
    generator: VideoGenerator,
    source: Source,
    settings: Training,
    out: Path,
    *,
    told: Callable[[Progress], None] | None = None,
    sheet: Callable[[VideoGenerator, Path], None] | None = None,
    log: bool = True,
) -> VideoGenerator:
    """Train a generator's model, or go on where a run in the same folder stopped.

    Under `torchrun` or `accelerate launch` the batches are dealt out to the processes.

    Args:
        generator: its model is trained in place.
        source: batches.
        settings: how.
        out: for checkpoints (`step-NNNNNN/`, each a generator with averaged weights and the state to go on from) and
            TensorBoard's logs; the last generator lies in `out/final` at the end.
        told: called after each step.
        sheet: writes a sample sheet of a generator to a path.
        log: write TensorBoard's logs.

    Returns:
        The generator with averaged weights.

    Raises:
        BadArgument: a checkpoint does not fit the model, or `train_only` matches nothing.
        TrainingFailed: the loss was not a number ten steps in a row.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, set_seed
    from diffusers.training_utils import EMAModel

    # a batch without text or drive leaves their layers without gradients
    sparse = DistributedDataParallelKwargs(find_unused_parameters=True)
    # without cpu=True several processes on a machine without an accelerator would not find each other
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), mixed_precision=settings.precision, kwargs_handlers=[sparse]
    )
    model = generator.model
    trained = _chosen(model, settings.train_only)
    optimizer = torch.optim.AdamW(_groups(trained, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.99))
    found = last_checkpoint(out)
    if found is None and settings.init_from:
        start_from(model, Path(settings.init_from))
    done = 0
    ema = EMAModel(model.parameters(), decay=settings.ema, use_ema_warmup=True, power=0.75)
    if found is not None:
        state = torch.load(found / STATE_NAME, weights_only=True)
        load_older(model, state["model"], may_lack=())
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        done = state["step"]
    takes = conditions_of(model)
    model.train()
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    ema.to(accelerator.device)
    wrapped.train()
    middle: list[Tensor] = []
    if settings.dispersive:
        blocks: Any = model.blocks
        blocks[len(blocks) // 4].register_forward_hook(lambda module, inputs, output: middle.append(output))
    writer = _writer(out) if log and accelerator.is_main_process else None
    skipped = in_a_row = 0
    for step in range(done, settings.steps):
        rate = settings.rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        for part in range(settings.accumulate):
            number = (step * settings.accumulate + part) * accelerator.num_processes + accelerator.process_index
            numbers = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
            set_seed(settings.seed * 7919 + number)
            batch = encoded(source(number).to(accelerator.device), generator)
            with accelerator.autocast():
                loss = step_loss(wrapped, generator.objective, settings, batch, numbers, takes=takes)
                if settings.dispersive:
                    loss = loss + settings.dispersive * dispersive_loss(middle.pop())
                loss = loss / settings.accumulate
            total += float(loss.detach())
            accelerator.backward(loss)
        norm = float(accelerator.clip_grad_norm_(trained, settings.clip_norm))
        if math.isfinite(total) and math.isfinite(norm):
            optimizer.step()
            ema.step(model.parameters())
            in_a_row = 0
        else:  # a bad batch is left out; a bad run is stopped
            skipped, in_a_row = skipped + 1, in_a_row + 1
            if in_a_row == 10:
                raise TrainingFailed(
                    f"the loss was not a number ten steps in a row, up to step {step + 1}; go on from {out} with a "
                    "lower training.learning_rate or training.clip_norm"
                )
        optimizer.zero_grad(set_to_none=True)
        now = Progress(step + 1, total, norm, rate, skipped)
        if writer:
            for name in ("loss", "gradient_norm", "learning_rate"):
                writer.add_scalar(name, getattr(now, name), now.step)
        if told and accelerator.is_main_process:
            told(now)
        last = now.step == settings.steps
        if last or now.step % settings.checkpoint_every == 0:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                _save(generator, optimizer, ema, now.step, out, settings.keep)
        if sheet and settings.sample_every and accelerator.is_main_process and now.step % settings.sample_every == 0:
            with _averaged(model, ema):
                model.eval()
                sheet(generator, out / f"samples-{now.step:06d}.png")
                model.train()
    if writer:
        writer.close()
    accelerator.wait_for_everyone()
    ema.copy_to(model.parameters())
    model.eval()
    generator.trained = {**generator.trained, "steps": settings.steps}
    if accelerator.is_main_process:
        generator.save_pretrained(out / "final")
    accelerator.end_training()
    return generator


def last_checkpoint(out: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = sorted(path for path in out.glob("step-*") if (path / STATE_NAME).exists())
    return found[-1] if found else None


def start_from(model: nn.Module, folder: Path) -> list[str]:
    """Take over the weights of an older model, for example one without frame positions.

    Returns:
        The names that the older model lacks; they keep their initial values.

    Raises:
        BadArgument: nothing fits.
    """
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if not path.exists():
        raise BadArgument(f"training.init_from is {folder}; there is no {path.name} in it")
    state = load_file(path)
    own = model.state_dict()
    fitting = {name: v for name, v in state.items() if name in own and own[name].shape == v.shape}
    if not fitting:
        raise BadArgument(f"not one weight of {folder} fits this model")
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


# --- parts


class _averaged:  # noqa: N801 - used like a function
    """Within it the model has its averaged weights."""

    def __init__(self, model: nn.Module, ema: Any):
        self.model, self.ema = model, ema

    def __enter__(self) -> None:
        self.kept = [p.detach().clone() for p in self.model.parameters()]
        self.ema.copy_to(self.model.parameters())

    def __exit__(self, *error: object) -> None:
        with torch.no_grad():
            for parameter, kept in zip(self.model.parameters(), self.kept, strict=True):
                parameter.copy_(kept)


def _save(generator: VideoGenerator, optimizer: Any, ema: Any, step: int, out: Path, keep: int) -> None:
    """Write a checkpoint, complete or not at all, and remove the oldest."""
    folder = out / f"step-{step:06d}"
    part = out / f"unfinished-{step:06d}"
    raw = {name: v.detach().cpu().clone() for name, v in generator.model.state_dict().items()}
    with _averaged(generator.model, ema):
        generator.trained = {**generator.trained, "steps": step}
        generator.save_pretrained(part, half=False)
    state = {
        "model": raw,
        "optimizer": optimizer.state_dict(),
        "ema": ema.state_dict(),
        "step": step,
    }
    torch.save(state, part / STATE_NAME)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    for old in sorted(out.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _chosen(model: nn.Module, train_only: tuple[str, ...]) -> list[nn.Parameter]:
    chosen = []
    for name, parameter in model.named_parameters():
        wanted = not train_only or any(name.startswith(part) or f".{part}" in name for part in train_only)
        parameter.requires_grad_(wanted)
        if wanted:
            chosen.append(parameter)
    if not chosen:
        raise BadArgument(f"training.train_only is {list(train_only)}; no parameter's name begins so")
    return chosen


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, the rest does not."""
    matrices, rest = ([p for p in parameters if (p.ndim >= 2) == wanted] for wanted in (True, False))
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _writer(out: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "logs"))
