"""The loss of one batch: what a denoiser is told of it, and what it is set to do."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.data.batch import NO_LABEL, ClipBatch
from legato.generate.generator import VideoGenerator
from legato.generate.latents import Pixels
from legato.generate.objectives import NoiseLevels, Objective, masked_mean

__all__ = ["conditions_of", "dispersive_loss", "encoded", "motion_weights", "step_loss"]


def dispersive_loss(features: Float[Tensor, "batch *shape"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """How close the features of a batch's samples are to each other (Wang and He 2025, "Diffuse and Disperse").

    log mean exp(-d / temperature) over all pairs, d being the mean square difference of two samples' features.
    """
    flat = features.float().flatten(1)
    apart = torch.cdist(flat, flat).square() / flat.shape[1]
    return (-apart / temperature).exp().mean().log()


def motion_weights(clean: Float[Tensor, "batch time *shape"]) -> Float[Tensor, " batch"]:
    """One over how much each clip changes over time, with mean 1.

    A percent of the speed is a distance that goes with the speed and the interval, and errors are squares of distances:
    without weights slow clips and high frame rates hardly count. A tenth of the mean change is added, so that clips at
    rest do not outweigh all others.
    """
    change = clean.float().var(1, correction=0).flatten(1).mean(1)
    weights = 1 / (change + 0.1 * change.mean()).clamp_min(1e-8)
    return weights / weights.mean()


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
    batch: ClipBatch,
    numbers: torch.Generator,
    *,
    takes: frozenset[str],
    levels: NoiseLevels,
    known: float = 0.0,
    drop: float = 0.0,
    relative: bool = False,
    teacher: nn.Module | None = None,
) -> Float[Tensor, ""]:
    """The loss of one batch.

    Args:
        model: the denoiser, perhaps wrapped for several processes.
        objective: what it is to say.
        batch: clips, in the latents that it works in.
        numbers: what is drawn from.
        takes: which conditions it takes, see `conditions_of`; what else a batch has is left out.
        levels: how noise levels are drawn.
        known: share of clips some of whose frames are given.
        drop: share of samples whose text, class or drive is hidden, each on its own.
        relative: where two frames or more are given, errors count relative to how much a clip changes, see
            `motion_weights`. Clips that are not determined by what is given have no weights: those would be learned as
            more of what weighs more.
        teacher: is asked instead of the denoiser itself, where the objective asks.
    """
    clean = batch.frames
    b, t = batch.seconds.shape
    conditions: dict[str, Any] = {"seconds": batch.seconds, "rate_known": batch.rate_known}
    hidden = torch.rand(b, 3, generator=numbers) < drop
    if "text" in takes and any(batch.text):
        conditions["text"] = tuple("" if out else text for text, out in zip(batch.text, hidden[:, 0], strict=True))
    if "labels" in takes and bool((batch.labels >= 0).any()):
        conditions["labels"] = torch.where(hidden[:, 1].to(clean.device), NO_LABEL, batch.labels)
    if "drive" in takes and batch.drive is not None:
        conditions["drive"] = batch.drive
        conditions["drive_known"] = (~hidden[:, 2:]).expand(b, t).to(clean.device)

    def said(x: Tensor, told: dict[str, Tensor], by: nn.Module = model) -> Tensor:
        if "noise" in told and "frame levels" not in takes:
            told = {**told, "noise": told["noise"][:, 0]}
        output: Tensor = by(x, **{**conditions, **told})
        return output

    @torch.no_grad()
    def say(x: Tensor, told: dict[str, Tensor]) -> Tensor:
        return said(x, told, teacher or model)

    task = objective.task(clean, batch.seconds, levels, known, numbers, say)
    error = task.error(said(task.x, task.told))
    if relative and "known" in task.told:
        determined = task.told["known"].sum(1, keepdim=True) > 1
        error = torch.where(determined, error * motion_weights(clean)[:, None], error)
    return masked_mean(error, task.counts)
