"""Do the answers of a video-language model hold still? Consistency and flicker of texts over seconds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

from legato.errors import BadArgument
from legato.metrics.measurement import Curve, Measurement

__all__ = ["Answer", "answer_measurements", "read_answers", "word_similarity"]

ALIKE_OVER, UNLIKE_UNDER = 0.8, 0.6
LEAST_MEAN, MOST_HZ = 0.7, 1.0


@dataclass(frozen=True)
class Answer:
    """What a model said at a time."""

    seconds: float
    text: str


def read_answers(path: str | Path) -> list[Answer]:
    """Answers from a JSONL file: one object a line with `seconds` (or `time`) and `text` (or `answer`).

    Raises:
        BadArgument: there is no such file, a line is not such an object, or times do not rise.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"{path} cannot be read as text: {error}") from error
    found: list[Answer] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            seconds = float(row["seconds"] if "seconds" in row else row["time"])
            text = str(row["text"] if "text" in row else row["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadArgument(
                f'{path}, line {number}: expected an object such as {{"seconds": 1.5, "text": "a cat"}}'
            ) from error
        if found and seconds <= found[-1].seconds:
            raise BadArgument(f"{path}, line {number}: {seconds:g} s does not come after {found[-1].seconds:g} s")
        found.append(Answer(seconds, text))
    return found


def word_similarity(a: str, b: str) -> float:
    """Words in common and in order, 0 to 1: twice the matching words over all words (Ratcliff and Obershelp)."""
    one, other = a.lower().split(), b.lower().split()
    return SequenceMatcher(None, one, other, autojunk=False).ratio() if one or other else 1.0


def answer_measurements(
    answers: Sequence[Answer], similarity: Callable[[str, str], float] = word_similarity
) -> list[Measurement]:
    """Consistency: mean similarity of neighbours. Flicker: how often per second an answer leaves and comes back.

    A flicker is an answer unlike the one before (similarity under 0.6) that is followed by one like the one before it
    again (over 0.8), at whatever number of unlike answers in between.

    Args:
        answers: in order.
        similarity: of two texts, 0 to 1.
    """
    consistency, flicker = Curve("higher"), Curve()
    away: Answer | None = None
    count = 0
    for before, now in pairwise(answers):
        alike = similarity(before.text, now.text)
        consistency.add(now.seconds, alike)
        back = away is not None and similarity(away.text, now.text) > ALIKE_OVER
        if back:
            count, away = count + 1, None
        elif away is None and alike < UNLIKE_UNDER:
            away = before
        flicker.add(now.seconds, float(back))
    span = answers[-1].seconds - answers[0].seconds if len(answers) > 1 else 0.0
    mean, hz = consistency.mean, count / span if span else None
    few = "fewer than two answers"
    calmer = "answers change from one to the next: give the model its last answer, or a longer window"
    steadier = "answers flip back and forth: vote over a second, or answer only when the scene changes"
    return [
        Measurement(
            "answer_consistency", mean, "similarity", "higher", "How alike neighbouring answers are.", consistency,
            limit=LEAST_MEAN, note=few if mean is None else calmer if mean < LEAST_MEAN else "", needs="answers",
            ),
        Measurement(
            "answer_flicker_hz", hz, "Hz", "lower", "How often per second an answer leaves and comes back.", flicker,
            limit=MOST_HZ, note=few if hz is None else steadier if hz > MOST_HZ else "", needs="answers",
            ),
    ]  # fmt: skip
