"""Training: one loop for every denoiser, objective and source of clips, on one process or many.

A step depends on its number and the seed alone, so a run that was killed goes on from its last checkpoint as if nothing
had happened, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from legato.clock import load_older
from legato.data.batch import Source
from legato.errors import BadArgument, TrainingFailed
from legato.generate.checkpoints import STATE_NAME, averaged, last_checkpoint, restore, save_checkpoint, start_from
from legato.generate.generator import VideoGenerator
from legato.generate.loss import conditions_of, dispersive_loss, encoded, step_loss
from legato.generate.objectives import NoiseLevels
from legato.generate.sharding import gathered, shard

__all__ = ["Progress", "Training", "train"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        precision: `float32`, or `bfloat16` for what is multiplied while weights stay float32; float16 would need its
            loss scaled.
        seed: of all that is drawn.
        levels: how noise levels are drawn.
        drop: share of samples whose text, class or drive is hidden, each on its own, for guidance.
        known: share of clips some of whose frames are given.
        motion_weight: how often errors of motion count (what is slow in a clip's errors), relative to how much clips of
            its span move, so that a percent of the speed counts the same at any frame rate, and by what a sampler
            makes of them; 0 for once, all alike.
        jitter_weight: how often steps of errors from frame to frame count beside errors, see `frame_jitter`.
        dispersive: weight of `dispersive_loss` on the features after a quarter of the model's blocks; 0 for none.
        checkpoint_every: steps.
        keep: so many checkpoints.
        sample_every: steps between sample sheets; 0 for none.
        init_from: a folder whose weights to start with; what it lacks keeps its initial values and is listed.
        init_without: beginnings of the names of weights that are not taken from there.
        train_only: beginnings of the names of parameters to train; all where it is empty.
        teacher: a generator whose model objectives ask that learn from another one.
        shard: deal the model out to all processes (FSDP2) instead of copying it to each (DDP); no sample sheets then.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    accumulate: int = 1
    ema: float = 0.999
    precision: str = "float32"
    seed: int = 0
    levels: NoiseLevels = field(default_factory=NoiseLevels)
    drop: float = 0.1
    known: float = 0.0
    motion_weight: float = 0.0
    jitter_weight: float = 0.0
    dispersive: float = 0.0
    checkpoint_every: int = 200
    keep: int = 2
    sample_every: int = 0
    init_from: str | None = None
    init_without: tuple[str, ...] = ()
    train_only: tuple[str, ...] = ()
    teacher: str | None = None
    shard: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadArgument(f"training.precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}")
        wrong = [
            name
            for name, good in {
                "steps": self.steps > 0,
                "learning_rate": 0 < self.learning_rate < math.inf,
                "warmup_steps": self.warmup_steps >= 0,
                "decay_share": 0 <= self.decay_share <= 1,
                "weight_decay": self.weight_decay >= 0,
                "clip_norm": self.clip_norm > 0,
                "accumulate": self.accumulate > 0,
                "ema": 0 <= self.ema < 1,
                "drop": 0 <= self.drop <= 1,
                "known": 0 <= self.known <= 1,
                "checkpoint_every": self.checkpoint_every > 0,
                "keep": self.keep > 0,
                "sample_every": self.sample_every >= 0,
                "motion_weight": self.motion_weight >= 0,
                "jitter_weight": self.jitter_weight >= 0,
                "dispersive": self.dispersive >= 0,
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
        unreadable: videos that were drawn for this step but could not be read.
        missing: names of weights that `init_from` did not give, told after the first step.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: int
    unreadable: tuple[Any, ...] = ()
    missing: tuple[str, ...] = ()


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
        generator: its model is trained in place; its latents go to the model's device.
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
        BadArgument: a checkpoint does not fit the model, is of other parameters or has more steps than are asked for;
            `train_only` matches nothing; or the model has no blocks that `dispersive` could look at.
        TrainingFailed: the loss was not a number ten steps in a row.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, set_seed
    from diffusers.training_utils import EMAModel

    # a batch without text or drive leaves their layers without gradients
    sparse = DistributedDataParallelKwargs(find_unused_parameters=True)
    # without cpu=True several processes on a machine without an accelerator would not find each other
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no", kwargs_handlers=[sparse])
    precision = PRECISIONS[settings.precision]
    mixed = torch.autocast(accelerator.device.type, precision, enabled=precision != torch.float32)
    model = generator.model
    found = last_checkpoint(out)
    state: dict[str, Any] = {"step": 0}
    missing: tuple[str, ...] = ()
    if found is not None:
        state = torch.load(found / STATE_NAME, weights_only=True)
        if state["step"] > settings.steps:
            raise BadArgument(
                f"training.steps is {settings.steps}, and {found} has {state['step']} steps already: ask for "
                f"{state['step']} or more, or train into another folder"
            )
        load_older(model, state["model"], may_lack=())
    elif settings.init_from:
        missing = tuple(start_from(model, Path(settings.init_from), settings.init_without))
    sharded = settings.shard and accelerator.num_processes > 1
    if sharded:
        model.to(accelerator.device)
        shard(model, accelerator.device, accelerator.num_processes)
    trained = _chosen(model, settings.train_only)
    optimizer = torch.optim.AdamW(_groups(trained, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.99))
    ema = EMAModel(model.parameters(), decay=settings.ema, use_ema_warmup=True, power=0.75)
    if found is not None:
        restore(model, optimizer, ema, state)
    begin = state["step"]
    del state  # as large as the model, its averaged weights and the optimiser's moments together
    takes = conditions_of(model)
    teacher = None
    if settings.teacher:
        teacher = VideoGenerator.from_pretrained(settings.teacher, device=accelerator.device).model
    model.train()
    wrapped: nn.Module = model
    if not sharded:
        wrapped, optimizer = accelerator.prepare(model, optimizer)
    ema.to(accelerator.device)
    generator.latents = generator.latents.to(accelerator.device)
    wrapped.train()
    middle: list[Tensor] = []
    hook = _kept_middle(model, middle) if settings.dispersive else None
    writer = _writer(out) if log and accelerator.is_main_process else None
    skipped = in_a_row = 0
    for step in range(begin, settings.steps):
        rate = settings.rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        begun, total, clips = time.monotonic(), 0.0, 0
        unreadable: list[Any] = []
        for part in range(settings.accumulate):
            number = (step * settings.accumulate + part) * accelerator.num_processes + accelerator.process_index
            numbers = torch.Generator().manual_seed((settings.seed * 1_000_003 + number) % 2**64)
            set_seed((settings.seed * 7919 + number) % 2**32)
            drawn = source(number).to(accelerator.device)
            unreadable += drawn.failures
            clips += len(drawn) * accelerator.num_processes
            batch = encoded(drawn, generator)
            with mixed:
                loss = step_loss(
                    wrapped, generator.objective, batch, numbers, takes=takes, levels=settings.levels,
                    known=settings.known, drop=settings.drop, motion_weight=settings.motion_weight,
                    jitter_weight=settings.jitter_weight, teacher=teacher,
                )  # fmt: skip
                if settings.dispersive:
                    loss = loss + settings.dispersive * dispersive_loss(middle.pop())
                loss = loss / settings.accumulate
            total += float(loss.detach())
            accelerator.backward(loss)
        norm = float(gathered(accelerator.clip_grad_norm_(trained, settings.clip_norm)))
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
        now = Progress(step + 1, total, norm, rate, skipped, tuple(unreadable), missing)
        missing = ()
        if writer:
            for name in ("loss", "gradient_norm", "learning_rate"):
                writer.add_scalar(name, getattr(now, name), now.step)
            took = time.monotonic() - begun
            writer.add_scalar("seconds_per_step", took, now.step)
            writer.add_scalar("clips_per_second", clips / took, now.step)
        if told and accelerator.is_main_process:
            told(now)
        last = now.step == settings.steps
        if last or now.step % settings.checkpoint_every == 0:
            accelerator.wait_for_everyone()
            save_checkpoint(
                generator, optimizer, ema, now.step, out, keep=settings.keep, writes=accelerator.is_main_process
            )
        draws = sheet and settings.sample_every and accelerator.is_main_process and not sharded
        if sheet and draws and now.step % settings.sample_every == 0:
            with averaged(model, ema):
                model.eval()
                sheet(generator, out / f"samples-{now.step:06d}.png")
                model.train()
    if writer:
        writer.close()
    if hook:
        hook.remove()
    accelerator.wait_for_everyone()
    ema.copy_to(model.parameters())
    model.eval()
    generator.trained = {**generator.trained, "steps": settings.steps}
    weights = gathered(model.state_dict())
    if accelerator.is_main_process:
        generator.save_pretrained(out / "final", weights=weights)
    accelerator.end_training()
    return generator


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


def _kept_middle(model: nn.Module, kept: list[Tensor]) -> RemovableHandle:
    """A hook that keeps what the block after a quarter of all said last, where it is to be learned from.

    What a model says to itself, or in a sample sheet, would stay for ever.
    """
    blocks: Any = getattr(model, "blocks", None)
    if not blocks:
        raise BadArgument(
            f"training.dispersive looks at a model's blocks, and {type(model).__name__} has none: use VideoDiT, or 0"
        )

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if module.training and torch.is_grad_enabled():
            kept[:] = [output]

    handle: RemovableHandle = blocks[len(blocks) // 4].register_forward_hook(keep)
    return handle


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, the rest does not."""
    matrices, rest = ([p for p in parameters if (p.ndim >= 2) == wanted] for wanted in (True, False))
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _writer(out: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "logs"))
