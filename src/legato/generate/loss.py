"""The loss of one batch: what a denoiser is told of it, and what it is set to do."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from legato.data.batch import NO_LABEL, ClipBatch
from legato.generate.generator import VideoGenerator
from legato.generate.latents import Pixels
from legato.generate.objectives import NoiseLevels, Objective, masked_mean

__all__ = [
    "conditions_of",
    "dispersive_loss",
    "encoded",
    "frame_errors",
    "frame_jitter",
    "motion_weights",
    "slow_shapes",
    "step_loss",
]

MOTIONS = 10  # directions that a clip's motion is about even in: where from and where to, of a few things


def dispersive_loss(features: Float[Tensor, "batch *shape"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """How close the features of a batch's samples are to each other (Wang and He 2025, "Diffuse and Disperse").

    log mean exp(-d / temperature) over all pairs, d being the mean square difference of two samples' features.
    """
    flat = features.float().flatten(1)
    apart = torch.cdist(flat, flat).square() / flat.shape[1]
    return (-apart / temperature).exp().mean().log()


def motion_weights(
    clean: Float[Tensor, "batch time *shape"],
    seconds: Float64[Tensor, "batch time"],
    noise: Float[Tensor, " batch"] | None = None,
    alike: float = 0.15,
) -> Float[Tensor, "batch degrees"]:
    """How much more each part of a clip's motion should count: its slope, its bend and its turn.

    Errors are squares of distances, and a percent of the speed is a distance that goes with the interval: high frame
    rates hardly count without weights, and what bends there, as a fall does, with its square. So each part counts by
    how much the batch's others of about a clip's span have of it. A clip's own change has no part in its weights: clips
    that change less than they could would be learned as what counts more, and motion would shrink.

    What is wrong where there is much noise is grown by all steps that follow it: a direction in which clips differ
    s times as much as noise does is grown, from noise level l down, by 1 / sqrt((1 - l)^2 + (l / s)^2), as a
    flow between two normal distributions does. Of motion s is large, since it moves many values at once.

    Args:
        clean: clips.
        seconds: of each frame.
        noise: level that each clip is seen at; motion counts the same at all where it is None.
        alike: spans are alike whose logarithms differ by about so much.
    """
    clean = clean.float().flatten(2)
    change = clean.var(1, correction=0).mean()
    shapes = slow_shapes(seconds, torch.ones_like(seconds, dtype=torch.bool)).to(clean)
    parts = (torch.einsum("btk,btn->bkn", shapes, clean) / seconds.shape[1]).square().mean(2)
    span = (seconds[:, -1] - seconds[:, 0]).log()
    near = (-0.5 * ((span[:, None] - span) / alike).square()).exp().to(change)
    near = (near + 1e-6).fill_diagonal_(1e-9)  # all others, where none is alike; itself, where there is no other
    usual = (near @ parts) / near.sum(1, keepdim=True)
    usual = usual.clamp_min(0.01 * change).clamp_min(1e-8)
    weights = change / usual
    if noise is None:
        return weights
    spread = usual * clean[0].numel() / MOTIONS
    noise = noise[:, None]
    return weights / ((1 - noise).square() + noise.square() / spread)


def frame_errors(
    error: Float[Tensor, "batch time channels height width"],
    seconds: Float64[Tensor, "batch time"],
    counts: Bool[Tensor, "batch time"],
    motion: Float[Tensor, "batch degrees"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Mean square error of each frame.

    Args:
        error: of what was said.
        seconds: of each frame.
        counts: frames whose error counts.
        motion: how often the slow parts of a clip's errors count: motion that is a tenth too slow is a hardly larger
            error than none, and lies in those parts.
    """
    error = error.float()
    if motion is None:
        return error.square().mean((2, 3, 4))
    shapes = slow_shapes(seconds, counts).to(error)
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    parts = torch.einsum("bt,btk,bt...->bk...", shares.to(error), shapes, error)
    slow = torch.einsum("btk,bk...->bt...", shapes, parts)
    weighed = torch.einsum("btk,bk,bk...->bt...", shapes, motion.sqrt(), parts)
    return (error - slow).square().mean((2, 3, 4)) + weighed.square().mean((2, 3, 4))


def frame_jitter(
    error: Float[Tensor, "batch time channels height width"], counts: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """Mean square of the steps of an error from frame to frame, half of each with either frame.

    What flickers is seen where what is wrong for good is not. Errors do not say which is which, and what is best to say
    stays the same: the mean of all that could be.

    Args:
        error: of what was said.
        counts: frames whose error counts; the others are as they should be.
    """
    wrong = error.float() * counts[:, :, None, None, None]
    steps = F.pad((wrong[:, 1:] - wrong[:, :-1]).square().mean((2, 3, 4)), (1, 1))
    return (steps[:, 1:] + steps[:, :-1]) / 2


def slow_shapes(
    seconds: Float64[Tensor, "batch time"], counts: Bool[Tensor, "batch time"], degrees: int = 3
) -> Float64[Tensor, "batch time degrees"]:
    """Polynomials of a clip's seconds: a slope, a bend, a turn. Over the frames that count they have no mean, a mean
    square of 1, and nothing in common."""
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).to(seconds)
    lever = seconds - (shares * seconds).sum(1, keepdim=True)
    lever = lever / lever.abs().amax(1, keepdim=True).clamp_min(1e-12)
    powers = torch.stack([lever**n for n in range(1, degrees + 1)], -1)
    powers = powers - (shares[:, :, None] * powers).sum(1, keepdim=True)
    little = 1e-9 * torch.eye(degrees, dtype=seconds.dtype, device=seconds.device)  # few frames have no bend
    common = torch.linalg.cholesky((shares[:, :, None] * powers).mT @ powers + little)
    return torch.linalg.solve_triangular(common, powers.mT, upper=False).mT


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
    motion_weight: float = 0.0,
    jitter_weight: float = 0.0,
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
        motion_weight: how often errors of motion count, see `frame_errors`, times `motion_weights`; 0 for once, all
            alike.
        jitter_weight: how often steps of errors from frame to frame count beside errors, see `frame_jitter`.
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

    task = objective.task(batch, levels, known, numbers, say)
    motion = None
    if motion_weight:
        noise = task.told.get("noise")
        if noise is not None:
            noise = (noise * task.counts).sum(1) / task.counts.sum(1).clamp_min(1)
        motion = motion_weight * motion_weights(clean, batch.seconds, noise)
    wrong = said(task.x, task.told) - task.target
    errors = frame_errors(wrong, batch.seconds, task.counts, motion)
    if jitter_weight:
        errors = errors + jitter_weight * frame_jitter(wrong, task.counts)
    return masked_mean(task.weight * errors, task.counts)
