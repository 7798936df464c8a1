"""Guidance in one call: what a model says told everything, and told all but one thing, as samples of one batch."""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from legato.generate.ask import Ask

__all__ = ["guided", "left_out", "texts_of", "told_rows", "told_texts"]


def left_out(ask: Ask, seconds_guidance: float) -> dict[str, float]:
    """What is left out in turn, and how much more what that changes counts.

    `words` are text and class; of the `given` frames noise is seen instead; without `seconds` frames are counted.

    Args:
        ask: for what.
        seconds_guidance: what it says of that, or what is usual.
    """
    more = {
        "words": ask.guidance - 1,
        "drive": ask.drive_guidance - 1,
        "given": ask.given_guidance - 1,
        "seconds": seconds_guidance - 1,
    }
    return {name: by for name, by in more.items() if by and _told(ask, name)}


def texts_of(ask: Ask) -> tuple[str, ...]:
    """The text of each clip, and then as many empty ones."""
    none = ("",) * len(ask.seconds)
    return (none if ask.text is None else tuple(ask.text)) + none


def told_texts(ask: Ask, without: Collection[str]) -> list[int]:
    """Which of those each sample of the batch is told: the clips, then the clips for which one thing is left out."""
    count = len(ask.seconds)
    asked, none = list(range(count)), list(range(count, 2 * count))
    return asked + [at for name in without for at in (none if name == "words" else asked)]


def told_rows(ask: Ask, without: Collection[str]) -> dict[str, Tensor]:
    """All other conditions that an ask has, of the same samples; what is left out is blank, as in training.

    They are not to be written to: what all samples of one clip are told alike may be there once.
    """
    all_clips = torch.ones(len(ask.seconds), dtype=torch.bool) if "seconds" in without else None
    told: dict[str, Tensor | None] = {
        "rate_known": all_clips if ask.rate_known is None else ask.rate_known,
        "known": ask.known,
    }
    if _labelled(ask):
        told["labels"] = ask.labels
    if ask.drive is not None:
        all_frames = torch.ones(ask.seconds.shape, dtype=torch.bool) if "drive" in without else None
        told |= {"drive": ask.drive, "drive_known": all_frames if ask.drive_known is None else ask.drive_known}
    if not without:
        return {name: rows for name, rows in told.items() if rows is not None}
    blank = {("words", "labels"): -1, ("drive", "drive_known"): 0, ("given", "known"): 0, ("seconds", "rate_known"): 0}

    def versions(name: str, rows: Tensor) -> Tensor:
        if len(rows) == 1 and not any((one, name) in blank for one in without):
            return rows.expand(1 + len(without), *rows.shape[1:])
        others = (torch.full_like(rows, blank[one, name]) if (one, name) in blank else rows for one in without)
        return torch.cat([rows, *others])

    return {name: versions(name, rows) for name, rows in told.items() if rows is not None}


def guided(said: Tensor, by: dict[str, float], levels: Float[Tensor, "batch time"]) -> Tensor:
    """What the samples of a batch say together (Ho and Salimans 2022): x + (w - 1) (x - what was said without).

    The drive counts so the less the clearer a frame is (after Kynkaanniemi et al. 2024, who leave guidance out of the
    last steps): how a frame follows is decided amid noise, and what is moved when it is nearly clear no longer fits
    those next to it that are.
    """
    full, *others = said.chunk(1 + len(by))
    out = full
    for other, (name, more) in zip(others, by.items(), strict=True):
        amount = more * levels[..., None, None, None] if name == "drive" else more
        out = out + amount * (full - other)
    return out


def _told(ask: Ask, name: str) -> bool:
    """Whether there is anything to leave out."""
    if name == "words":
        return _worded(ask) or _labelled(ask)
    if name == "drive":
        return ask.drive is not None
    if name == "given":
        return ask.known is not None and bool(ask.known.any())
    return ask.rate_known is None or bool(ask.rate_known.any())


def _worded(ask: Ask) -> bool:
    return ask.text is not None and any(ask.text)


def _labelled(ask: Ask) -> bool:
    return ask.labels is not None and bool((ask.labels >= 0).any())
