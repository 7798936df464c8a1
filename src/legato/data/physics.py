"""Things that obey physics at a speed that the picture does not tell: for models that have to learn seconds.

A `Trial` is a bright disc on a plain ground: constant velocity, falling and bouncing, swinging, turning. Its physical
speed is drawn at random and hidden; `trial.scene` is a world like any other, and `track` finds the
disc again in rendered or generated pixels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from legato.data.paths import Circular, Linear, Number, Oscillating, Pair, Path, Seconds
from legato.data.scenes import Disc, Scene, Texture, Times, World, float64_seconds
from legato.errors import BadArgument

__all__ = ["KINDS", "LAWFUL_GRAVITY", "Bounce", "Kind", "Trial", "random_trial", "track"]

Kind = Literal["line", "bounce", "swing", "turn"]
KINDS: tuple[Kind, ...] = ("line", "bounce", "swing", "turn")

DISC_RGB = (255, 60, 40)
RADIUS = 0.09
LAWFUL_GRAVITY = 2.0


@dataclass(frozen=True)
class Bounce(Path):
    """Falls from rest at `height` above the floor and bounces for ever without loss, going sideways evenly.

    Attributes:
        start: where it is at 0 seconds, at rest vertically.
        floor: y of its centre at the lowest point.
        gravity: in frame heights per second squared.
        drift: sideways speed per second.
    """

    start: Pair = (0.5, 0.2)
    floor: Number = 0.9
    gravity: Number = 2.0
    drift: Number = 0.0

    def __post_init__(self) -> None:
        if not self.gravity > 0 or not self.start[1] < self.floor:
            raise BadArgument(
                f"gravity {self.gravity} and start {self.start}; expected a fall to the floor at {self.floor}"
            )

    @property
    def fall_seconds(self) -> float:
        """From the top to the floor."""
        return math.sqrt(2 * (self.floor - self.start[1]) / self.gravity)

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        fall = self.fall_seconds
        since_top = (seconds + fall).remainder(2 * fall) - fall
        y = self.start[1] + 0.5 * self.gravity * since_top.square()
        return torch.stack([self.start[0] + self.drift * seconds, y], -1)


@dataclass(frozen=True)
class Trial(World):
    """One clip's world and what is hidden in it.

    Attributes:
        kind: of motion.
        speed: frame sizes per second (`line`), gravity in heights per second squared (`bounce`), swings or turns per
            second.
        path: of the disc's centre.
        ground: RGB 0 to 1 behind it.
    """

    kind: Kind
    speed: float
    path: Path
    ground: tuple[float, float, float]

    @property
    def scene(self) -> Scene:
        """The same as a scene, with exact motion and layers."""
        red, green, blue = (value / 255 for value in DISC_RGB)
        disc = Disc(self.path, RADIUS, Texture(colour=(red, green, blue), contrast=0.0))
        return Scene((disc,), Texture(colour=self.ground, contrast=0.0))

    def render(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """What the scene renders, many times faster: training asks for thousands of pictures a minute."""
        places = self.path(float64_seconds(seconds)).float()
        x, y = ((torch.arange(size) + 0.5) / height for size in (width, height))
        away_x = x - places[:, :1] * width / height
        away_y = y - places[:, 1:]
        distance_px = height * (torch.hypot(away_x[:, None], away_y[:, :, None]) - RADIUS)
        cover = (0.5 - distance_px).clamp(0, 1)[:, None]  # (time, 1, height, width)
        ground = torch.tensor(self.ground).view(3, 1, 1) * 255
        disc = torch.tensor(DISC_RGB).view(3, 1, 1)
        return torch.lerp(ground, disc.float(), cover).round().to(torch.uint8)


def random_trial(
    numbers: torch.Generator, kind: Kind | None = None, seconds: float = 2.0, *, lawful: bool = False
) -> Trial:
    """A trial with a random hidden speed, whose thing stays in the frame for so many seconds.

    Args:
        numbers: what to draw from.
        kind: of motion; drawn where it is None.
        seconds: how long a straight path has to stay inside.
        lawful: one law for all instead of a hidden speed, so that the picture tells the time: gravity is
            `LAWFUL_GRAVITY`, and what swings or turns is slower the wider it goes, as a pendulum of that length.
    """
    if kind is None:
        kind = KINDS[int(torch.randint(len(KINDS), (1,), generator=numbers))]
    a, b, c, d, e = torch.rand(5, generator=numbers, dtype=torch.float64).tolist()
    grey = 0.05 + 0.25 * e
    path: Path
    if kind == "line":
        most = 0.76 / seconds
        speed = most * (0.25 + 0.75 * a)
        way, heading = speed * seconds, 2 * math.pi * b
        x, y = math.cos(heading), math.sin(heading)
        start = tuple(0.12 + (0.76 - way * abs(v)) * u + (way * abs(v) if v < 0 else 0) for v, u in ((x, c), (y, d)))
        path = Linear((start[0], start[1]), (speed * x, speed * y))
    elif kind == "bounce":
        speed = LAWFUL_GRAVITY if lawful else 0.8 * 4.0**a
        path = Bounce((0.2 + 0.6 * b, 0.15 + 0.3 * c), 0.88, speed, 0.0)
    elif kind == "swing":
        reach = 0.15 + 0.2 * b
        speed = _pendulum(reach) if lawful else 0.3 * 4.0**a
        turn = 2 * math.pi * c
        path = Oscillating((0.5, 0.5), (reach * math.cos(turn), reach * math.sin(turn)), 1 / speed, d)
    else:
        reach = 0.2 + 0.15 * b
        speed = _pendulum(reach) if lawful else 0.2 * 4.0**a
        path = Circular((0.5, 0.5), reach, 1 / speed, d)
    return Trial(kind, float(speed), path, (grey, grey, grey * 1.1))


def _pendulum(reach: float) -> float:
    """Swings per second of a pendulum as long as its reach."""
    return math.sqrt(LAWFUL_GRAVITY / reach) / (2 * math.pi)


def track(pixels: UInt8[Tensor, "time 3 height width"]) -> Float64[Tensor, "time 2"]:
    """Where the disc is in each frame, x and y as fractions of the frame; NaN where it is not seen."""
    picture = pixels.double()
    distance = (picture - picture.new_tensor(DISC_RGB).view(1, 3, 1, 1)).norm(dim=1)
    weight = (150 - distance).clamp_min(0)
    _, _, height, width = pixels.shape
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    total = weight.sum((1, 2))
    place = torch.stack([(weight * x).sum((1, 2)), (weight * y[:, None]).sum((1, 2))], -1) / total[:, None]
    return torch.where((total > 60)[:, None], place, torch.full_like(place, math.nan))
