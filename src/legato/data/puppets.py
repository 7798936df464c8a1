"""Signing puppets: a figure in continuous time whose every joint is known.

A `Puppet` signs a sentence: torso, head, two arms of two joints, the left hand blue and the right hand red so that they
can be tracked. It is a function of time like every `World`: `puppet.render(seconds, height, width)` at any times, and
`hands`, `joints`, `poses` and `motion` are the truth. Its signing rate is its own and appears nowhere in the picture.

    puppet = random_puppet(torch.Generator().manual_seed(0), text="hello friend")
    pixels = puppet.render([0, 0.04, 0.1], height=64, width=64)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from legato.data.scenes import Moment, Texture, Times, World, float64_seconds
from legato.data.vocabulary import REST, VOCABULARY
from legato.errors import BadArgument

__all__ = ["LEFT_HAND_RGB", "RIGHT_HAND_RGB", "Figure", "Gloss", "Puppet", "hand_positions", "random_puppet"]

LEFT_HAND_RGB, RIGHT_HAND_RGB = (30, 90, 255), (255, 50, 30)
POSE_RGB = {
    "torso": (90, 90, 90), "head": (150, 150, 150), "left upper arm": (0, 140, 140), "right upper arm": (140, 140, 0),
    "left forearm": (0, 200, 120), "right forearm": (200, 120, 0),
    "left hand": LEFT_HAND_RGB, "right hand": RIGHT_HAND_RGB,
}  # fmt: skip
REST_SECONDS, TRANSITION_SECONDS = 0.15, 0.3
LEFT, RIGHT = 0, 1
PIXELS_AT_ONCE = 1 << 16

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Figure:
    """How a puppet looks and where it stands.

    Attributes:
        neck: where its neck is, x and y as fractions of the frame.
        scale: height of the frame per body unit.
        shoulder_width: from shoulder to shoulder, in body units, likewise the rest.
        arm: length of upper arm and forearm each.
        limb_radius: half the thickness of an arm.
        hand_radius: of a hand.
        head_radius: of the head.
        skin: RGB 0 to 1 of head and forearms.
        cloth: RGB of torso and upper arms.
        background: behind it.
    """

    neck: tuple[float, float] = (0.5, 0.42)
    scale: float = 0.62
    shoulder_width: float = 0.4
    arm: float = 0.36
    limb_radius: float = 0.045
    hand_radius: float = 0.08
    head_radius: float = 0.13
    skin: Colour = (0.8, 0.62, 0.5)
    cloth: Colour = (0.35, 0.4, 0.35)
    background: Texture = Texture(colour=(0.75, 0.78, 0.75), contrast=0.1)  # noqa: RUF009 - immutable


@dataclass(frozen=True)
class Gloss:
    """A sign in time: from its first point to its last."""

    sign: str
    begin_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class _Part:
    """A capsule from a to b (a disc where they are one) over time, `(time, 2)`, in fractions of the frame's height."""

    name: str
    a: np.ndarray
    b: np.ndarray
    radius: float


@dataclass(frozen=True)
class Puppet(World):
    """A figure that signs a sentence, rests before and after it.

    Attributes:
        text: signs of the vocabulary, one to four.
        rate: its personal speed; 2 signs twice as fast.
        figure: how it looks.

    Raises:
        BadArgument: an unknown sign, no sign, or a rate that is not positive.
    """

    text: tuple[str, ...]
    rate: float = 1.0
    figure: Figure = Figure()

    def __post_init__(self) -> None:
        unknown = [word for word in self.text if word not in VOCABULARY]
        if unknown or not self.text:
            raise BadArgument(
                f"no sign for '{' '.join(unknown) or 'nothing'}'; the vocabulary has {', '.join(VOCABULARY)}"
            )
        if not 0 < self.rate < math.inf:
            raise BadArgument(f"the signing rate is {self.rate}; expected more than 0, for example 1")

    @cached_property
    def glosses(self) -> tuple[Gloss, ...]:
        """When each sign begins and ends."""
        at, found = REST_SECONDS, []
        for word in self.text:
            begin = at + TRANSITION_SECONDS
            at = begin + VOCABULARY[word].seconds
            found.append(Gloss(word, begin / self.rate, at / self.rate))
        return tuple(found)

    @property
    def seconds(self) -> float:
        """Length of the sentence with the rests."""
        return self.glosses[-1].end_seconds + (TRANSITION_SECONDS + REST_SECONDS) / self.rate

    @cached_property
    def _knots(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Times and places that each hand passes, in body units."""
        hands = []
        for side in (LEFT, RIGHT):
            times, places = [0.0, REST_SECONDS / self.rate], [REST[side]] * 2
            for gloss in self.glosses:
                sign = VOCABULARY[gloss.sign]
                path = sign.left if side == LEFT else sign.right
                if len(path) == 1:
                    path = path * 2
                times += np.linspace(gloss.begin_seconds, gloss.end_seconds, len(path)).tolist()
                places += list(path)
            times += [self.seconds - REST_SECONDS / self.rate, self.seconds]
            places += [REST[side]] * 2
            hands.append((np.array(times), np.array(places)))
        return tuple(hands)

    def hands(self, seconds: Times) -> Float64[Tensor, "time 2 2"]:
        """Where the left and the right hand are in a square frame, x and y as fractions of its side; see `joints`."""
        return self.joints(seconds)[:, [5, 6]]

    def joints(self, seconds: Times) -> Float64[Tensor, "time 7 2"]:
        """Neck, left and right shoulder, left and right elbow, left and right hand.

        x and y are distances from the left edge and the top of a square frame, as fractions of its side. In a frame
        of another shape the figure keeps its proportions and its neck moves with the width.
        """
        times = float64_seconds(seconds).numpy()
        body = np.zeros((len(times), 7, 2))
        half = self.figure.shoulder_width / 2
        for side, sign in ((LEFT, -1), (RIGHT, 1)):
            hand = _along(times, *self._knots[side])
            shoulder = np.array([sign * half, 0.08])
            elbow, hand = _elbow(shoulder, hand, self.figure.arm, bend=sign)
            body[:, 1 + side], body[:, 3 + side], body[:, 5 + side] = shoulder, elbow, hand
        return torch.from_numpy(np.array(self.figure.neck) + self.figure.scale * body)

    def render(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """Pictures at the given times, RGB, edges anti-aliased."""
        f = self.figure
        left, right = (np.array(rgb) / 255 for rgb in (LEFT_HAND_RGB, RIGHT_HAND_RGB))
        skin, cloth = np.array(f.skin), np.array(f.cloth)
        colours = {
            "torso": cloth, "head": skin, "left upper arm": cloth * 0.85, "right upper arm": cloth * 0.85,
            "left forearm": skin, "right forearm": skin, "left hand": left, "right hand": right,
        }  # fmt: skip
        columns, rows = (np.arange(width) + 0.5) / height, (np.arange(height) + 0.5) / height
        ground = f.background.paint(columns, rows)
        return self._drawn(seconds, height, width, ground, colours)

    def poses(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """Pose maps: each part in its own fixed colour on black."""
        colours = {name: np.array(rgb) / 255 for name, rgb in POSE_RGB.items()}
        return self._drawn(seconds, height, width, np.zeros((3, height, width), np.float32), colours)

    def motion(
        self, from_seconds: Moment, to_seconds: Moment, height: int, width: int
    ) -> tuple[Float32[Tensor, "2 height width"], Bool[Tensor, "height width"]]:
        """Exact flow of the figure between two times in pixels, x then y; and which pixels it covers. 0 elsewhere."""
        parts = self._parts(self.joints([float(from_seconds), float(to_seconds)]).numpy(), height, width)
        x, y = np.meshgrid((np.arange(width) + 0.5) / height, (np.arange(height) + 0.5) / height)
        points = np.stack([x, y], -1)
        flow, moving = np.zeros((height, width, 2)), np.zeros((height, width), bool)
        for part in parts:
            inside = _distance(x, y, part.a[0], part.b[0], part.radius) <= 0
            (before, after), (origin, there) = _angles(part), part.a
            turn = after - before
            rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
            flow[inside] = (points[inside] - origin) @ rotation + there - points[inside]
            moving |= inside
        return torch.from_numpy(height * flow.transpose(2, 0, 1)).float(), torch.from_numpy(moving)

    def _parts(self, joints: np.ndarray, height: int, width: int) -> list[_Part]:
        """What is drawn, from the back to the front."""
        f, s = self.figure, self.figure.scale
        moved = joints + np.array([(width / height - 1) * f.neck[0], 0.0])
        neck, left_shoulder, right_shoulder, left_elbow, right_elbow, left, right = moved.transpose(1, 0, 2)
        hip, head = neck + np.array([0.0, 0.75 * s]), neck - np.array([0.0, (f.head_radius + 0.05) * s])
        limb, hand = f.limb_radius * s, f.hand_radius * s
        return [
            _Part("torso", neck + np.array([0, 0.17 * s]), hip, (f.shoulder_width / 2 - 0.02) * s),
            _Part("head", head, head, f.head_radius * s),
            _Part("left upper arm", left_shoulder, left_elbow, limb * 1.2),
            _Part("right upper arm", right_shoulder, right_elbow, limb * 1.2),
            _Part("left forearm", left_elbow, left, limb),
            _Part("right forearm", right_elbow, right, limb),
            _Part("left hand", left, left, hand),
            _Part("right hand", right, right, hand),
        ]

    def _drawn(
        self, seconds: Times, height: int, width: int, ground: np.ndarray, colours: dict[str, np.ndarray]
    ) -> UInt8[Tensor, "time 3 height width"]:
        joints = self.joints(seconds).numpy()
        pictures = np.empty((len(joints), 3, height, width), dtype=np.uint8)
        together = max(1, PIXELS_AT_ONCE // (height * width))  # small pictures are drawn many at once
        for begin in range(0, len(joints), together):
            some = slice(begin, begin + together)
            canvas = np.repeat(ground[None], len(joints[some]), 0)
            for part in self._parts(joints[some], height, width):
                _paint(canvas, part, colours[part.name].astype(np.float32))
            pictures[some] = np.clip(np.rint(255 * canvas), 0, 255)
        return torch.from_numpy(pictures)


def random_puppet(numbers: torch.Generator, *, text: str | Sequence[str] | None = None, most_signs: int = 4) -> Puppet:
    """A puppet with random proportions, colours, place, background, and a rate from 0.5 to 2.

    Args:
        numbers: what to draw from.
        text: signs to sign, apart by spaces; a random sentence where it is None.
        most_signs: of a random sentence.
    """
    words = list(VOCABULARY)
    if text is None:
        count = int(torch.randint(1, most_signs + 1, (1,), generator=numbers))
        chosen = tuple(words[int(i)] for i in torch.randint(len(words), (count,), generator=numbers))
    else:
        chosen = tuple(text.split() if isinstance(text, str) else text)
    u = torch.rand(16, generator=numbers).tolist()
    grey = 0.55 + 0.4 * u[0]
    figure = Figure(
        neck=(0.5 + 0.1 * (u[1] - 0.5), 0.42 + 0.06 * (u[2] - 0.5)),
        scale=0.56 + 0.12 * u[3],
        shoulder_width=0.36 + 0.08 * u[4],
        arm=0.33 + 0.06 * u[5],
        limb_radius=0.04 + 0.015 * u[6],
        head_radius=0.12 + 0.03 * u[7],
        skin=(0.45 + 0.4 * u[8], 0.35 + 0.3 * u[8], 0.28 + 0.25 * u[8]),
        cloth=(0.2 + 0.35 * u[9], 0.25 + 0.4 * u[10], 0.2 + 0.3 * u[11]),
        background=Texture(
            seed=int(u[12] * 1e6), colour=(grey, grey * (0.94 + 0.08 * u[13]), grey * (0.9 + 0.1 * u[14])), contrast=0.1
        ),
    )
    return Puppet(chosen, 2.0 ** (2 * u[15] - 1), figure)


def hand_positions(pixels: UInt8[Tensor, "time 3 height width"]) -> Float64[Tensor, "time 2 2"]:
    """Track the hands by their colours: centroids of left and right hand in pixels, x then y; NaN where not seen.

    A pixel belongs to a hand if its colour is nearer to the hand's than 110 (Euclidean, of 255 a channel).
    """
    picture = pixels.float()
    _, _, height, width = picture.shape
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = torch.arange(height, dtype=torch.float64) + 0.5
    found = []
    for rgb in (LEFT_HAND_RGB, RIGHT_HAND_RGB):
        distance = (picture - picture.new_tensor(rgb).view(1, 3, 1, 1)).norm(dim=1)
        weight = (110 - distance).clamp_min(0).double()
        total = weight.sum((1, 2))
        place = torch.stack([(weight * x).sum((1, 2)), (weight * y[:, None]).sum((1, 2))], -1) / total[:, None]
        enough = (weight > 0).sum((1, 2)) >= 3
        found.append(torch.where(enough[:, None], place, torch.full_like(place, math.nan)))
    return torch.stack(found, 1)


# --- parts


def _along(times: np.ndarray, knots: np.ndarray, places: np.ndarray) -> Float64[np.ndarray, "time 2"]:
    """A smooth path through places at times: cubic Hermite, at rest at both ends and where a place is held."""
    slopes = np.zeros_like(places)
    steps = np.diff(knots)[:, None]
    rises = np.diff(places, axis=0) / steps
    before, after = rises[:-1], rises[1:]
    mean = (steps[1:] * before + steps[:-1] * after) / (steps[1:] + steps[:-1])
    held = (np.abs(before).sum(1) == 0) | (np.abs(after).sum(1) == 0)
    slopes[1:-1] = np.where(held[:, None], 0.0, mean)
    at = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    step = (knots[at + 1] - knots[at])[:, None]
    u = np.clip((times - knots[at])[:, None] / step, 0, 1)
    return (
        places[at] * (1 + 2 * u) * (1 - u) ** 2
        + places[at + 1] * u**2 * (3 - 2 * u)
        + step * slopes[at] * u * (1 - u) ** 2
        - step * slopes[at + 1] * u**2 * (1 - u)
    )


def _elbow(
    shoulder: np.ndarray, hand: Float64[np.ndarray, "time 2"], arm: float, bend: int
) -> tuple[Float64[np.ndarray, "time 2"], Float64[np.ndarray, "time 2"]]:
    """Elbow of an arm of two equal parts, bent outwards; a hand out of reach is brought within it."""
    reach = hand - shoulder
    length = np.linalg.norm(reach, axis=1, keepdims=True)
    most = 1.98 * arm
    reach = reach * np.minimum(1, most / np.maximum(length, 1e-9))
    length = np.minimum(length, most)
    off = np.sqrt(np.maximum(arm**2 - (length / 2) ** 2, 0))
    across = np.stack([-reach[:, 1], reach[:, 0]], 1) / np.maximum(length, 1e-9)
    return shoulder + reach / 2 - bend * off * across, shoulder + reach


def _paint(canvas: Float32[np.ndarray, "time 3 height width"], part: _Part, rgb: np.ndarray) -> None:
    """Draw a part over the pictures, edges anti-aliased; only the box in which it ever is gets looked at."""
    _, _, height, width = canvas.shape
    columns, rows = (np.arange(width) + 0.5) / height, (np.arange(height) + 0.5) / height
    reach = part.radius + 1 / height
    low, high = np.minimum(part.a, part.b).min(0) - reach, np.maximum(part.a, part.b).max(0) + reach
    across = slice(*np.searchsorted(columns, [low[0], high[0]]))
    down = slice(*np.searchsorted(rows, [low[1], high[1]]))
    if across.start == across.stop or down.start == down.stop:
        return
    x, y = columns[None, None, across], rows[None, down, None]
    distance_px = height * _distance(x, y, part.a[:, None, None], part.b[:, None, None], part.radius)
    cover = np.clip(0.5 - distance_px, 0, 1).astype(np.float32)[:, None]  # (time, 1, rows, columns)
    place = canvas[:, :, down, across]
    place += cover * (rgb[:, None, None] - place)


def _distance(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance of points to capsules, negative inside; the last axis of the ends a and b is (x, y)."""
    along_x, along_y = np.moveaxis(b - a, -1, 0)
    away_x, away_y = x - a[..., 0], y - a[..., 1]
    square = np.maximum(along_x**2 + along_y**2, 1e-12)
    share = np.clip((away_x * along_x + away_y * along_y) / square, 0, 1)
    return np.hypot(away_x - share * along_x, away_y - share * along_y) - radius


def _angles(part: _Part) -> list[float]:
    """How a part is turned at each time."""
    return [math.atan2(y, x) for x, y in part.b - part.a]
