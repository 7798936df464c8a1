"""Signs of the puppets' language: where the two hands go, in body units from the neck.

x grows to the right of the picture, y downwards; a body unit is the height of the figure from neck to hip divided by
0.75. A sign is a path through points, passed evenly in its time, with a beginning, a middle and an end that differ.
"""

from dataclasses import dataclass

__all__ = ["AGAIN", "REST", "VOCABULARY", "Sign"]

Point = tuple[float, float]

AGAIN = "..."
"""Ends a text that is said over and over."""

REST: tuple[Point, Point] = ((-0.26, 0.56), (0.26, 0.56))


@dataclass(frozen=True)
class Sign:
    """A word.

    Attributes:
        left: points of the hand on the left of the picture; a single one stays there.
        right: points of the other hand.
        seconds: how long it takes at a signing rate of 1.
    """

    left: tuple[Point, ...]
    right: tuple[Point, ...]
    seconds: float = 0.8


_LOW: tuple[Point, ...] = (REST[0],)

VOCABULARY: dict[str, Sign] = {
    "hello": Sign(_LOW, ((0.18, -0.2), (0.42, -0.26), (0.5, -0.1)), 0.8),
    "thanks": Sign(_LOW, ((0.05, -0.12), (0.2, 0.05), (0.4, 0.2)), 0.7),
    "please": Sign(_LOW, ((0.1, 0.1), (0.25, 0.2), (0.1, 0.3), (-0.02, 0.2)), 0.9),
    "yes": Sign(_LOW, ((0.3, 0.05), (0.3, 0.25), (0.3, 0.08)), 0.6),
    "no": Sign(_LOW, ((0.15, 0.0), (0.45, 0.0), (0.2, 0.0)), 0.6),
    "eat": Sign(_LOW, ((0.4, 0.25), (0.12, -0.08), (0.25, 0.1)), 0.7),
    "drink": Sign(_LOW, ((0.3, 0.15), (0.15, -0.1), (0.1, -0.22)), 0.8),
    "sleep": Sign(((-0.1, 0.2), (-0.12, -0.05)), ((0.1, 0.2), (-0.02, -0.1)), 0.9),
    "book": Sign(((-0.05, 0.2), (-0.3, 0.22)), ((0.05, 0.2), (0.3, 0.22)), 0.7),
    "house": Sign(((-0.02, -0.1), (-0.3, 0.05), (-0.3, 0.35)), ((0.02, -0.1), (0.3, 0.05), (0.3, 0.35)), 1.0),
    "tree": Sign(((-0.1, 0.35),), ((0.2, 0.35), (0.25, 0.0), (0.4, -0.2)), 0.8),
    "rain": Sign(((-0.25, -0.2), (-0.3, 0.05), (-0.25, 0.3)), ((0.25, -0.2), (0.2, 0.05), (0.25, 0.3)), 0.8),
    "sun": Sign(_LOW, ((0.45, 0.1), (0.4, -0.25), (0.1, -0.35)), 1.0),
    "moon": Sign(_LOW, ((0.1, -0.3), (0.35, -0.15), (0.15, 0.05)), 0.9),
    "friend": Sign(((-0.25, 0.15), (-0.03, 0.15), (-0.2, 0.3)), ((0.25, 0.15), (0.03, 0.15), (0.2, 0.3)), 0.9),
    "mother": Sign(_LOW, ((0.35, 0.1), (0.08, -0.05), (0.25, -0.05)), 0.7),
    "father": Sign(_LOW, ((0.35, -0.1), (0.08, -0.3), (0.28, -0.3)), 0.7),
    "school": Sign(((-0.2, 0.2), (-0.05, 0.22), (-0.2, 0.2)), ((0.2, 0.0), (0.05, 0.18), (0.2, 0.0)), 0.7),
    "work": Sign(((-0.1, 0.3),), ((0.15, 0.1), (0.05, 0.27), (0.2, 0.12), (0.05, 0.27)), 0.9),
    "play": Sign(((-0.35, 0.1), (-0.2, 0.2), (-0.4, 0.25)), ((0.2, 0.1), (0.4, 0.2), (0.2, 0.28)), 0.8),
    "go": Sign(((-0.3, 0.3), (-0.15, 0.1)), ((0.1, 0.3), (0.45, 0.05)), 0.6),
    "come": Sign(((-0.35, 0.0), (-0.1, 0.25)), ((0.5, 0.0), (0.12, 0.25)), 0.7),
    "big": Sign(((-0.08, 0.15), (-0.45, 0.05)), ((0.08, 0.15), (0.45, 0.05)), 0.7),
    "small": Sign(((-0.35, 0.15), (-0.06, 0.18)), ((0.35, 0.15), (0.06, 0.18)), 0.6),
    "up": Sign(_LOW, ((0.3, 0.4), (0.3, 0.0), (0.3, -0.38)), 0.7),
    "down": Sign(((-0.3, -0.2), (-0.3, 0.1), (-0.3, 0.4)), (REST[1],), 0.7),
    "love": Sign(((-0.3, 0.1), (0.08, 0.18)), ((0.3, 0.1), (-0.08, 0.14)), 0.9),
    "think": Sign(_LOW, ((0.3, 0.1), (0.12, -0.28), (0.18, -0.34)), 0.8),
}
