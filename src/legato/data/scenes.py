"""Synthetic worlds in continuous time: the same content at any frame rate and size, with exact motion.

A `Scene` is textured discs and bars on analytic paths before a textured background, seen by a camera that may pan,
under light that may change. It is a function of time: `scene.render(seconds, height, width)` at any times, and
`scene.motion(from_seconds, to_seconds, height, width)` is the exact optical flow between any two.

Units: positions are fractions of the frame, x of its width from the left and y of its height from the top; lengths
(a radius, a wavelength) are fractions of the frame's height; speeds are per second; angles are in turns, clockwise.

    scene = Scene(things=(Disc(Linear(start=(0.2, 0.5), velocity=(0.3, 0)), radius=0.15, texture=Texture(seed=1)),))
    pixels = scene.render([0, 0.04, 0.1], height=90, width=160)
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor

from legato.data.paths import (
    Circular,
    Fade,
    Flash,
    Light,
    Linear,
    Number,
    Oscillating,
    Path,
    Seconds,
    Still,
    Waypoints,
)
from legato.errors import BadArgument
from legato.video.frames import Frames
from legato.video.timeline import Timeline

__all__ = [
    "Bar",
    "Circular",
    "Disc",
    "Fade",
    "Film",
    "Flash",
    "Linear",
    "Motion",
    "Oscillating",
    "Path",
    "Scene",
    "Still",
    "Texture",
    "Thing",
    "Waypoints",
    "World",
    "float64_seconds",
    "random_scene",
]

Moment = int | float | Fraction
Times = Timeline | Iterable[Moment] | Tensor
Points = Float64[np.ndarray, "*points"]
TURN = 2 * math.pi


# --- what is seen


@dataclass(frozen=True)
class Texture:
    """An endless smooth pattern: a sum of plane waves of random direction, length and tint.

    A sum of plane waves can be turned and shifted exactly, and on a pixel grid each wave is an outer product, so
    painting is one small matrix product.

    Attributes:
        seed: which pattern.
        colour: mean RGB, 0 to 1.
        contrast: standard deviation of the brightness around it, about; 0 is a flat colour.
        finest: shortest wavelength, a fraction of the frame's height. Under two pixels it would alias.
        coarsest: longest wavelength.
    """

    seed: int = 0
    colour: tuple[Number, Number, Number] = (0.5, 0.5, 0.5)
    contrast: Number = 0.15
    finest: Number = 0.05
    coarsest: Number = 0.5

    def paint(
        self, x: Float64[np.ndarray, " width"], y: Float64[np.ndarray, " height"], turns: Number = 0.0
    ) -> Float32[np.ndarray, "3 height width"]:
        """The pattern, turned clockwise, at columns `x` and rows `y` in frame heights from its origin; 0 to 1."""
        numbers = torch.Generator().manual_seed(self.seed)
        count = 48
        length = self.finest * (self.coarsest / self.finest) ** _uniform(count, numbers)
        direction = TURN * (_uniform(count, numbers) + turns)
        phase = TURN * _uniform(count, numbers)
        tint = 1 + 0.4 * torch.randn(count, 3, generator=numbers, dtype=torch.float64).numpy()
        strength = np.sqrt(length)  # long waves carry more, as in photographs
        strength *= self.contrast * math.sqrt(2) / np.linalg.norm(strength)
        across = np.outer(x, TURN / length * np.cos(direction)) + phase
        down = np.outer(y, TURN / length * np.sin(direction))
        columns = np.hstack([np.sin(across), np.cos(across)]).astype(np.float32)  # (width, 2 waves)
        rows = np.hstack([np.cos(down), np.sin(down)]).astype(np.float32)  # (height, 2 waves)
        tints = np.tile(strength[:, None] * tint, (2, 1)).astype(np.float32)  # (2 waves, 3)
        tinted = (rows * tints.T[:, None]).reshape(3 * len(y), -1)  # (3 height, 2 waves)
        # OpenBLAS's threads would wait for each other on a busy machine longer than this takes
        pattern = cv2.gemm(tinted, columns, 1, None, 0, flags=cv2.GEMM_2_T).reshape(3, len(y), len(x))
        return np.clip(pattern + np.array(self.colour, dtype=np.float32)[:, None, None], 0, 1)


class Thing(ABC):
    """Something with an edge that moves as one piece: `path` of its centre, `texture`, and how it turns."""

    path: Path
    texture: Texture
    angle_turns: Number
    turns_per_second: Number

    @property
    @abstractmethod
    def reach(self) -> float:
        """Largest distance of its edge from its centre."""

    @abstractmethod
    def distance(self, x: Points, y: Points) -> Points:
        """Distance to its edge, negative inside, of points relative to its centre and before it is turned."""

    def turns(self, seconds: Number) -> float:
        """How far it is turned at a time."""
        return self.angle_turns + self.turns_per_second * seconds


@dataclass(frozen=True)
class Disc(Thing):
    """A round thing."""

    path: Path
    radius: Number = 0.15
    texture: Texture = Texture(seed=1)
    angle_turns: Number = 0.0
    turns_per_second: Number = 0.0

    @property
    def reach(self) -> float:
        """Its radius."""
        return self.radius

    def distance(self, x: Points, y: Points) -> Points:
        """Distance to the rim, negative inside."""
        return np.hypot(x, y) - self.radius


@dataclass(frozen=True)
class Bar(Thing):
    """A rectangle, `length` along x before it is turned, `breadth` along y."""

    path: Path
    length: Number = 0.4
    breadth: Number = 0.1
    texture: Texture = Texture(seed=2)
    angle_turns: Number = 0.0
    turns_per_second: Number = 0.0

    @property
    def reach(self) -> float:
        """Half its diagonal."""
        return math.hypot(self.length, self.breadth) / 2

    def distance(self, x: Points, y: Points) -> Points:
        """Distance to the outline, negative inside."""
        over_x, over_y = np.abs(x) - self.length / 2, np.abs(y) - self.breadth / 2
        return np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0)) + np.minimum(np.maximum(over_x, over_y), 0)


# --- worlds


class World(ABC):
    """Anything that has a picture at every time."""

    @abstractmethod
    def render(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """Pictures at the given times, RGB, edges anti-aliased."""

    def frames(self, timeline: Timeline, height: int, width: int) -> Frames:
        """Pictures with their exact times, in the coarsest time base that holds them all."""
        time_base = Fraction(1, math.lcm(*(time.denominator for time in timeline)))
        return Frames(self.render(timeline, height, width), timeline.pts(time_base), time_base)


@dataclass(frozen=True)
class Motion:
    """Exact motion between two times, for every pixel of the first.

    Attributes:
        flow: where the point at each pixel centre goes, in pixels, x then y.
        visible: whether it is still seen then, neither covered nor out of the frame.
        layer: what the pixel shows: 0 the background, n the n-th thing.
    """

    flow: Float32[Tensor, "2 height width"]
    visible: Bool[Tensor, "height width"]
    layer: Int64[Tensor, "height width"]


@dataclass(frozen=True)
class Scene(World):
    """Things before a background, in one shot.

    Attributes:
        things: later ones cover earlier ones.
        background: endless.
        camera: how far the view is moved over the whole world, things and background; at (0, 0) world and frame agree.
        light: gain on all pixel values as a function of time.
    """

    things: tuple[Thing, ...] = ()
    background: Texture = Texture()
    camera: Path = Still((0.0, 0.0))  # noqa: RUF009 - immutable
    light: Light = torch.ones_like

    def render(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """Pictures at the given times, RGB, edges anti-aliased."""
        times = float64_seconds(seconds)
        pictures = np.empty((len(times), 3, height, width), dtype=np.uint8)
        for picture, time, gain in zip(pictures, times.tolist(), self.light(times).tolist(), strict=True):
            picture[:] = np.clip(np.rint(255 * gain * self._picture(time, height, width)), 0, 255)
        return torch.from_numpy(pictures)

    def positions(self, seconds: Times) -> Float64[Tensor, "time things 2"]:
        """Where the centre of each thing is in the frame: x as a fraction of its width, y of its height."""
        times = float64_seconds(seconds)
        if not self.things:
            return torch.empty(len(times), 0, 2, dtype=torch.float64)
        return torch.stack([thing.path(times) for thing in self.things], 1) - self.camera(times)[:, None]

    def motion(self, from_seconds: Moment, to_seconds: Moment, height: int, width: int) -> Motion:
        """Exact optical flow between two times, forwards or backwards."""
        x, y = _pixel_centres(height, width)
        aspect, start, end = width / height, float(from_seconds), float(to_seconds)
        layer = self._layer(x, y, start, aspect)
        x_then, y_then = np.empty_like(x), np.empty_like(y)
        for number in range(len(self.things) + 1):
            here = layer == number
            local = self._pose(number, start, aspect).local(x[here], y[here])
            x_then[here], y_then[here] = self._pose(number, end, aspect).placed(*local)
        inside = (x_then >= 0) & (x_then < aspect) & (y_then >= 0) & (y_then < 1)
        visible = inside & (self._layer(x_then, y_then, end, aspect) == layer)
        flow = height * np.stack([x_then - x, y_then - y])
        return Motion(torch.from_numpy(flow).float(), torch.from_numpy(visible), torch.from_numpy(layer))

    def layers(self, seconds: Times, height: int, width: int) -> Int64[Tensor, "time height width"]:
        """What each pixel centre shows: 0 the background, n the n-th thing."""
        x, y = _pixel_centres(height, width)
        shown = [self._layer(x, y, time, width / height) for time in float64_seconds(seconds).tolist()]
        return torch.from_numpy(np.stack(shown)) if shown else torch.empty(0, height, width, dtype=torch.int64)

    def _pose(self, number: int, seconds: float, aspect: float) -> "_Pose":
        """Where a layer's origin is in the frame, and how far it is turned."""
        time = torch.tensor([seconds], dtype=torch.float64)
        thing = self.things[number - 1] if number else None
        x, y = ((thing.path(time) if thing else torch.zeros(1, 2)) - self.camera(time))[0].tolist()
        return _Pose(x * aspect, y, thing.turns(seconds) if thing else 0.0)

    def _layer(self, x: Points, y: Points, seconds: float, aspect: float) -> Int64[np.ndarray, "*points"]:
        shown = np.zeros(x.shape, dtype=np.int64)
        for number, thing in enumerate(self.things, start=1):
            inside = thing.distance(*self._pose(number, seconds, aspect).local(x, y)) <= 0
            shown[inside] = number
        return shown

    def _picture(self, seconds: float, height: int, width: int) -> Float32[np.ndarray, "3 height width"]:
        """The picture before the light, 0 to 1."""
        x, y = _pixel_centres(height, width)
        columns, rows = x[0], y[:, 0]
        pose = self._pose(0, seconds, width / height)
        canvas = self.background.paint(columns - pose.x, rows - pose.y)
        for number, thing in enumerate(self.things, start=1):
            pose = self._pose(number, seconds, width / height)
            across = _near(columns, pose.x, thing.reach + 1 / height)
            down = _near(rows, pose.y, thing.reach + 1 / height)
            if not (columns[across].size and rows[down].size):
                continue
            distance_px = height * thing.distance(*pose.local(x[down, across], y[down, across]))
            cover = np.clip(0.5 - distance_px, 0, 1)  # the part of the pixel inside a straight edge
            painted = thing.texture.paint(columns[across] - pose.x, rows[down] - pose.y, pose.turns)
            canvas[:, down, across] += cover.astype(np.float32) * (painted - canvas[:, down, across])
        return canvas


@dataclass(frozen=True)
class Film(World):
    """Scenes one after the other with hard cuts between them.

    Attributes:
        scenes: one more than cuts; each runs on its own clock from 0 seconds of the film.
        cuts: rising times in seconds at which the next scene begins.

    Raises:
        BadArgument: the numbers do not fit, or the cuts do not rise.
    """

    scenes: tuple[Scene, ...]
    cuts: tuple[Moment, ...] = ()

    def __post_init__(self) -> None:
        if len(self.scenes) != len(self.cuts) + 1 or any(b <= a for a, b in itertools.pairwise(self.cuts)):
            raise BadArgument(
                f"a film of {len(self.scenes)} scenes has cuts at {list(map(float, self.cuts))}; "
                "expected one cut fewer than scenes, rising"
            )

    def render(self, seconds: Times, height: int, width: int) -> UInt8[Tensor, "time 3 height width"]:
        """Pictures at the given times, RGB, edges anti-aliased."""
        times = float64_seconds(seconds)
        begins = torch.tensor([float(cut) for cut in self.cuts], dtype=torch.float64)
        pictures = torch.empty(len(times), 3, height, width, dtype=torch.uint8)
        playing = torch.searchsorted(begins, times, right=True)
        for number, scene in enumerate(self.scenes):
            pictures[playing == number] = scene.render(times[playing == number], height, width)
        return pictures


def random_scene(numbers: torch.Generator, *, things: int = 4, speed: Number = 0.3) -> Scene:
    """Discs and bars in unlike colours on straight, round and swinging paths before a panning background.

    Args:
        numbers: what to draw from.
        things: how many discs and bars.
        speed: their typical speed in frame sizes per second; the background pans at a third of it.
    """
    made: list[Thing] = []
    for number in range(things):
        a, b, c, d, e = _uniform(5, numbers).tolist()
        centre, heading = (0.2 + 0.6 * a, 0.2 + 0.6 * b), TURN * c
        velocity = (speed * math.cos(heading), speed * math.sin(heading))
        swing = (velocity[0] * 2 / TURN, velocity[1] * 2 / TURN)  # peak speed as asked, period 2 s
        paths = (
            Linear(centre, velocity),
            Circular(centre, speed * 2 / TURN, 2.0, c),
            Oscillating(centre, swing, 2.0, d),
        )
        texture = _random_texture(numbers)
        spin = 0.2 * (e - 0.5)
        if number % 2:
            made.append(
                Bar(paths[number % 3], 0.3 + 0.3 * d, 0.08 + 0.08 * e, texture, angle_turns=d, turns_per_second=spin)
            )
        else:
            made.append(Disc(paths[number % 3], 0.08 + 0.12 * d, texture, turns_per_second=spin))
    pan = TURN * _uniform(1, numbers).item()
    camera = Linear((0.0, 0.0), (speed / 3 * math.cos(pan), speed / 3 * math.sin(pan)))
    return Scene(tuple(made), _random_texture(numbers), camera)


# --- parts


@dataclass(frozen=True)
class _Pose:
    """A place in the frame in frame heights, and a clockwise angle."""

    x: float
    y: float
    turns: float

    def local(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Points of the frame as seen from here."""
        return _turned(x - self.x, y - self.y, -self.turns)

    def placed(self, x: Points, y: Points) -> tuple[Points, Points]:
        """The way back."""
        x, y = _turned(x, y, self.turns)
        return x + self.x, y + self.y


def _turned(x: Points, y: Points, turns: float) -> tuple[Points, Points]:
    cos, sin = math.cos(TURN * turns), math.sin(TURN * turns)
    return cos * x - sin * y, sin * x + cos * y


def _pixel_centres(height: int, width: int) -> tuple[Points, Points]:
    """x and y of every pixel's centre in frame heights, each `(height, width)`."""
    if height < 1 or width < 1:
        raise BadArgument(f"the frame is {width}x{height}; expected at least one pixel")
    x, y = np.meshgrid((np.arange(width) + 0.5) / height, (np.arange(height) + 0.5) / height)
    return x, y


def _near(places: Float64[np.ndarray, " places"], centre: float, reach: float) -> slice:
    """Those of the rising `places` within reach of the centre."""
    begin, end = np.searchsorted(places, [centre - reach, centre + reach])
    return slice(int(begin), int(end))


def float64_seconds(seconds: Times) -> Seconds:
    """Times of any kind as float64 seconds."""
    if isinstance(seconds, Timeline):
        return seconds.seconds
    if isinstance(seconds, Tensor):
        return seconds.to(torch.float64)
    return torch.tensor([float(time) for time in seconds], dtype=torch.float64)


def _uniform(count: int, numbers: torch.Generator) -> Float64[np.ndarray, " count"]:
    return torch.rand(count, generator=numbers, dtype=torch.float64).numpy()


def _random_texture(numbers: torch.Generator) -> Texture:
    seed = int(torch.randint(2**31, (1,), generator=numbers))
    red, green, blue = (0.2 + 0.6 * _uniform(3, numbers)).tolist()
    return Texture(seed, (red, green, blue))
