"""A fault generator: videos with one known fault of a known strength, made from sound ones."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import torch
from torch import Tensor

from legato.data.scenes import random_scene
from legato.video import Frame, Timeline, open_video

__all__ = [
    "brightness_flicker", "colour_drift", "dropped", "freeze", "ghost", "jitter", "loaded", "moving_scene", "played",
    "resharpened", "seams", "time_jitter",
]  # fmt: skip


def loaded(path: str, width: int = 320, most: int = 60, first: int = 0) -> list[Frame]:
    """The first frames of a real clip at a bounded width."""
    with open_video(path) as video:
        height = max(2, round(video.info.height * width / video.info.width))
    with open_video(path, size_px=(height, width)) as video:
        frames = []
        for number, frame in enumerate(video):
            if number >= first + most:
                break
            if number >= first:
                frames.append(frame)
    return frames


def moving_scene(
    seed: int = 0,
    rate: int | Fraction = 30,
    seconds: float = 2.0,
    height: int = 120,
    width: int = 160,
    speed: float = 0.3,
) -> list[Frame]:
    """Textured things that move over a textured ground."""
    scene = random_scene(torch.Generator().manual_seed(seed), speed=speed)
    return list(scene.frames(Timeline.constant(seconds=seconds, rate=rate), height, width))


def with_pixels(frame: Frame, image: np.ndarray) -> Frame:
    """The frame with another picture, float (height, width, 3)."""
    pixels = torch.from_numpy(np.clip(np.rint(image), 0, 255).astype(np.uint8)).permute(2, 0, 1)
    return replace(frame, pixels=pixels)


def image_of(frame: Frame) -> np.ndarray:
    return frame.pixels.permute(1, 2, 0).numpy().astype(np.float32)


def brightness_flicker(frames: Sequence[Frame], hz: float, depth: float) -> list[Frame]:
    """Light that swings by `depth` of itself, `hz` times a second."""
    return [with_pixels(f, image_of(f) * (1 + depth * math.sin(2 * math.pi * hz * f.seconds))) for f in frames]


def jitter(frames: Sequence[Frame], widths: float, seed: int = 0) -> list[Frame]:
    """Every frame shifted at random, by `widths` of the picture on average in each direction."""
    numbers = np.random.default_rng(seed)
    shifts = numbers.normal(0, 1, (len(frames), 2)) * widths * frames[0].width
    return [with_pixels(f, moved(image_of(f), x, y)) for f, (x, y) in zip(frames, shifts, strict=True)]


def moved(image: np.ndarray, x: float, y: float) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)
    size = (image.shape[1], image.shape[0])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def seams(frames: Sequence[Frame], every: int, strength: float, seed: int = 0) -> list[Frame]:
    """Pieces of `every` frames, each displaced by `strength` widths and brightened or darkened as much, by turns."""
    numbers = np.random.default_rng(seed)
    turns = numbers.uniform(0, 2 * math.pi, len(frames) // every + 1)
    made = []
    for number, frame in enumerate(frames):
        piece = number // every
        way, sign = turns[0] + piece * math.pi, 1 if piece % 2 else -1
        x, y = strength * frame.width * math.cos(way), strength * frame.width * math.sin(way)
        made.append(with_pixels(frame, moved(image_of(frame), x, y) * (1 + sign * strength)))
    return made


def freeze(frames: Sequence[Frame], first: int, count: int) -> list[Frame]:
    """The picture stands still for `count` frames after frame `first`."""
    held = frames[first].pixels
    return [replace(f, pixels=held) if first < i <= first + count else f for i, f in enumerate(frames)]


def dropped(frames: Sequence[Frame], at: Sequence[int], *, leave_gap: bool) -> list[Frame]:
    """Frames left out; with a gap in the times, or with times assigned afterwards as if nothing were missing."""
    kept = [f for i, f in enumerate(frames) if i not in set(at)]
    if leave_gap:
        return kept
    return [replace(f, pts=t.pts, time_base=t.time_base) for f, t in zip(kept, frames, strict=False)]


def ghost(frames: Sequence[Frame], opacity: float) -> list[Frame]:
    """A trail: each frame is blended with the result before it."""
    made = [frames[0]]
    last = image_of(frames[0])
    for frame in frames[1:]:
        last = (1 - opacity) * image_of(frame) + opacity * last
        made.append(with_pixels(frame, last))
    return made


def colour_drift(frames: Sequence[Frame], per_second: float) -> list[Frame]:
    """Red goes up and blue goes down, by so much of the full range each second."""
    start = frames[0].seconds
    shift = np.array([255.0, 0.0, -255.0], dtype=np.float32)
    return [with_pixels(f, image_of(f) + shift * per_second * (f.seconds - start)) for f in frames]


def resharpened(frames: Sequence[Frame], blur_px_per_second: float) -> list[Frame]:
    """Ever more blur."""
    start = frames[0].seconds
    made = []
    for frame in frames:
        sigma = blur_px_per_second * (frame.seconds - start)
        image = image_of(frame)
        made.append(with_pixels(frame, cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.05 else image))
    return made


def played(frames: Sequence[Frame], speed: float) -> list[Frame]:
    """The same pictures at another playback speed."""
    scale = Fraction(speed).limit_denominator(1000)
    return [replace(f, time_base=f.time_base / scale) for f in frames]


def time_jitter(frames: Sequence[Frame], share: float, seed: int = 0) -> list[Frame]:
    """Presentation times off by up to `share` of an interval; the pictures are those of the right times."""
    numbers = np.random.default_rng(seed)
    interval = float(frames[1].time - frames[0].time)
    off = numbers.uniform(-0.5, 0.5, len(frames)) * share * interval
    base = Fraction(1, 1_000_000)
    return [
        replace(f, pts=round((f.seconds + o) / float(base)), time_base=base) for f, o in zip(frames, off, strict=True)
    ]


def shuffled(frames: Sequence[Frame], seed: int = 0) -> list[Frame]:
    """The pictures in random order at the same times."""
    order: Tensor = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))
    return [replace(f, pixels=frames[int(i)].pixels) for f, i in zip(frames, order, strict=True)]
