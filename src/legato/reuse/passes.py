"""Frames on their way through the encoder, and how they are packed into passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from legato.reuse.attention import Rows
from legato.reuse.audit import Tally
from legato.reuse.state import Memory
from legato.reuse.track import Sight

__all__ = ["ROWS_PER_PASS", "Entry", "Running", "next_pass"]

ROWS_PER_PASS = 512  # more at once gain nothing, and are lost where an audit fails


@dataclass(eq=False)
class Entry:
    """One frame: what was seen, its rows (none where it holds), and what they became."""

    sight: Sight
    rows: Rows
    fresh: Tensor


@dataclass(eq=False)
class Running:
    """A stream during a call.

    Attributes:
        entries: frames that wait, in order.
        tokens: output of prefix and patch tokens as of the last frame settled.
        memory: keys and values that go with it.
        tally: of the audit.
        results: one for each frame settled.
    """

    entries: list[Entry]
    tokens: Tensor
    memory: Memory
    tally: Tally
    results: list[Any] = field(default_factory=list)


def next_pass(streams: Sequence[Running]) -> list[Entry]:
    """Frames to encode together: the first that wait in each stream, until there are enough rows."""
    now: list[Entry] = []
    rows = 0
    for stream in streams:
        for entry in stream.entries:
            if rows >= ROWS_PER_PASS:
                break
            now.append(entry)
            rows += entry.rows.count
    return now
