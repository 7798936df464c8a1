"""Endless video from a trained generator: a rolling window with text, drive and decoding, frame by frame.

stream = VideoStream(generator, StreamAsk(rate=24, text="hello"))
for made in stream.frames(stream.begin(), count=240):
    show(made.frame)  # made.state goes on from here, also from a file and on another machine
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from legato.data.batch import pixels_to_signal, signal_to_pixels, whole_values
from legato.errors import BadArgument, StateMismatch
from legato.generate.appearance import Appearance
from legato.generate.driving import Drive, DriveState
from legato.generate.generator import VideoGenerator
from legato.generate.latents import DiffusersLatents
from legato.generate.objectives import FlowMatching
from legato.generate.piecewise import PiecewiseDecoder
from legato.generate.refine import Refinement
from legato.generate.rolling import RollingWindow, Tick, View, inferring
from legato.generate.samplers import Denoiser
from legato.generate.stream_state import StreamAsk, VideoStreamState
from legato.video.frames import Frame, Frames

Pictures = Float32[Tensor, "1 time channels height width"]

__all__ = ["DRIVEN", "UNDRIVEN", "Made", "VideoStream", "check_streams", "drive_side_px"]

DRIVEN = RollingWindow(6, 8, context_frames=2, appearance=Appearance(1))
"""The queue of a stream that is driven. With fewer windows or nothing clean in view seams are seen."""
UNDRIVEN = RollingWindow(4, 8, 8, context_frames=4, appearance=Appearance(1), fresh_above=0.0)
"""The queue of one that is not: nothing says what comes next but what is in view."""
TIMES_AHEAD = 64  # windows
FUSED = (
    "fuse context windows (legato.generate.fusion.FusedWindows: no seams, but memory grows with the length) or make "
    "overlapping batches (legato.generate.strategies: bounded, with seams)"
)
CLIP_FRAMES, CLIP_SECONDS = 24, 2.5  # of a clip in which a text is said once


@dataclass(frozen=True, eq=False)
class Made:
    """A frame, and the state to go on from after it.

    Attributes:
        frame: the picture.
        window: the state in which it was ready with others of its window.
        shown: how many of those are shown with it.
    """

    frame: Frame
    window: VideoStreamState
    shown: int

    @property
    def state(self) -> VideoStreamState:
        """The state after it."""
        return self.window.after(self.shown)


class VideoStream:
    """Frames without end from a generator.

    It keeps nothing between calls that the next frames depend on, but what the driver is: the state goes in and comes
    out.

    Args:
        generator: trained by flow matching with a noise level for each frame.
        ask: what to stream.
        window: the queue; `DRIVEN` or `UNDRIVEN` by default.
        drive: conditioning pictures, whose second 0 is the stream's first frame. With a bridge, the first frames that
            are made lie before that and are not shown.

    Raises:
        BadArgument: the generator cannot stream, or cannot do what is asked.
    """

    def __init__(
        self,
        generator: VideoGenerator,
        ask: StreamAsk,
        window: RollingWindow | None = None,
        drive: Drive | None = None,
    ) -> None:
        self.generator, self.ask, self.drive = generator, ask, drive
        self._told = ask.told(generator)
        self.window = window or (UNDRIVEN if drive is None else DRIVEN)
        self._objective = check_streams(generator)
        self._device = generator.device
        self._drive_shape = (
            (int(cast(Any, generator.model).drive_channels), *drive_side_px(generator)) if drive is not None else ()
        )
        self._many_seconds = lru_cache(maxsize=16)(self._latent_seconds)
        view = self._told.clip(torch.arange(self.window.most_frames, dtype=torch.float64)[None])
        generator.check(view)
        self._read = generator.read(view)

    def begin(self, given: Frames | None = None) -> VideoStreamState:
        """The state before the first frame.

        Args:
            given: a picture or a clip to go on from: its last frames, as far as they make whole latents, stay in view
                until those made take their place. The stream's first frame is one interval after the last of them,
                and after the bridge if there is one; 0 s without any.

        Raises:
            BadArgument: its size is not the generator's.
        """
        generator, latents, device = self.generator, self.generator.latents, self._device
        size = (
            int(cast(Any, generator.model).channels),
            generator.height // latents.stride_px,
            generator.width // latents.stride_px,
        )
        start, count, unseen = Fraction(0), 0, 0
        encoded, times, decoder = None, None, None
        if given is not None:
            if given.pixels.shape[-2:] != (generator.height, generator.width):
                height, width = given.pixels.shape[-2:]
                raise BadArgument(
                    f"frames to go on from are {width}x{height}; this checkpoint makes {generator.width}x"
                    f"{generator.height}: scale or crop them"
                )
            last = given[max(0, len(given) - self.reference_frames) :]
            last = last[(len(last) - 1) % (latents.whole_frames(2) - 1) :]
            count = len(last)
            start = int(last.pts[-1]) * last.time_base + (1 + self.bridge_frames(count)) / self.ask.rate
            with torch.inference_mode():
                encoded = latents.encode(pixels_to_signal(last.pixels)[None].to(device))
                seen, decoder = latents.decode_next(encoded)
            times, unseen = latents.seconds(last.seconds[None]), count - seen.shape[1]
        rolling = self.window.begin([self.ask.seed], size, given=encoded, seconds=times, device=device)
        bridge = self.bridge_frames(count)
        return VideoStreamState(
            self.ask, self.window, rolling, None, decoder, (), unseen + bridge, count, bridge, 0, start
        )

    def step(self, state: VideoStreamState) -> VideoStreamState:
        """One tick: a window is pushed with its driving pictures, and the clean one, if any, is ready to be shown.

        Raises:
            StateMismatch: the state is of another queue, rate or seed.
        """
        seconds, pictures, drive = self._pushed(state)
        decoder, ready, unseen = state.decoder, state.ready, state.unseen
        with inferring():
            tick = self._tick(state, seconds, pictures)
            if tick.latents.shape[1]:
                frames, decoder = self.generator.latents.decode_next(tick.latents, decoder)
                values = whole_values(frames[0])
                decoded = (values if values.is_cpu else values.to(torch.uint8).cpu()).unbind()
                ready += decoded[unseen:]
                unseen -= min(unseen, len(decoded))
        return state.changed(rolling=tick.state, drive=drive, decoder=decoder, ready=ready, unseen=unseen)

    def step_latents(
        self, state: VideoStreamState
    ) -> tuple[VideoStreamState, Float[Tensor, "1 time channels rows columns"]]:
        """The same without decoding: latents of the window that has become clean are given instead of made ready.

        Raises:
            StateMismatch: the state is of another queue, rate or seed.
        """
        seconds, pictures, drive = self._pushed(state)
        tick = self._tick(state, seconds, pictures)
        return state.changed(rolling=tick.state, drive=drive), tick.latents

    def frames(self, state: VideoStreamState, count: int | None = None) -> Iterator[Made]:
        """Frames as they are asked for, each with the state after it.

        Inside `torch.inference_mode()` no tick has to turn it on, which is a tenth of what ticks cost beside a small
        model.

        Args:
            state: from `begin`, from a frame before, or from a file.
            count: how many; without end by default, or with the drive's where that is to end the stream.

        Raises:
            BadArgument: the count is negative, or the drive's pictures do not fit.
            StateMismatch: the state is of another queue, rate or seed.
        """
        if count is not None and count < 0:
            raise BadArgument(f"{count} frames; expected 0 or more")
        self._check(state)
        base, made = state.time_base, 0
        first, interval = int(state.start / base), int(1 / (self.ask.rate * base))
        ends = self.drive is not None and self.drive.at_end == "end"
        while count is None or made < count:
            while not len(state.ready):
                if self._ended(state, state.shown):
                    return
                state = self.step(state)
            pictures = state.ready if count is None else state.ready[: count - made]
            for at, picture in enumerate(pictures):
                if ends and self._ended(state, state.shown + at):
                    return
                yield Made(Frame(_shown(picture), first + (state.shown + at) * interval, base), state, at + 1)
            made += len(pictures)
            state = state.after(len(pictures))

    # --- parts

    @property
    def reference_frames(self) -> int:
        """How many frames of a clip that is gone on from are kept in view."""
        seen = max(1, self.window.context_frames, self.window.appearance.sink_frames)
        latents = self.generator.latents
        return latents.whole_frames(latents.frames_of(seen - 1)[-1] + 1)

    def reference(self, picture: UInt8[Tensor, "3 height width"]) -> Frames:
        """A picture to begin from, at such a time that the first frame is shown at second 0."""
        rate, before = self.ask.rate, 1 + self.bridge_frames(1)
        return Frames(picture[None], torch.tensor([-before * rate.denominator]), 1 / (rate * rate.denominator))

    def own_reference(self) -> Frames | None:
        """The first picture of a clip in which the text is said once: a figure at rest, seen whole.

        Without a reference, what a stream makes first is drawn amid a text said over and over, with nothing clean in
        view. None where the text is not said so.
        """
        if self._told == self.ask:
            return None
        count = self.generator.latents.whole_frames(CLIP_FRAMES)
        seconds = torch.linspace(0, CLIP_SECONDS, count, dtype=torch.float64)
        clip = self.generator.sample(self.ask.clip(seconds[None]))
        return self.reference(signal_to_pixels(clip)[0, 0].cpu())

    def driving_seconds(self, state: VideoStreamState, ticks: int = 1) -> Float64[Tensor, " time"]:
        """When the pictures are that lead the next windows: a latent frame stands at the mean time of its frames."""
        return self._latent_seconds(state.rolling.ticks, ticks, state.given, state.bridge, Fraction(0))

    def bridge_frames(self, given: int) -> int:
        """How many frames are made and not shown before the first, see `Drive.bridge_seconds`: whole latents of them.

        Args:
            given: how many frames are gone on from.
        """
        seconds = 0.0 if self.drive is None else self.drive.bridge_seconds
        if not seconds:
            return 0
        latents = self.generator.latents
        last = given + math.ceil(Fraction(seconds).limit_denominator(10**6) * self.ask.rate) - 1
        return latents.frames_of(latents.latent_of(last))[-1] + 1 - given

    def _latent_seconds(
        self, tick: int, ticks: int, given: int, bridge: int, start: Fraction
    ) -> Float64[Tensor, " time"]:
        """Of some windows' latent frames, the mean of their frames'; in whole numbers up to a last division.

        Args:
            tick: in which the first of them is pushed.
            ticks: how many.
            given: see `VideoStreamState`.
            bridge: see there.
            start: of the stream's first frame.
        """
        latents, size = self.generator.latents, self.window.frames_per_window
        first = latents.latent_frames(given) if given else 0
        begin, before = first + tick * size, given + bridge
        twice = [latents.twice_middle(n) - 2 * before for n in range(begin, begin + ticks * size)]
        (a, b), (p, q) = start.as_integer_ratio(), self.ask.rate.as_integer_ratio()
        return torch.tensor([(2 * a * p + n * b * q) / (2 * b * p) for n in twice], dtype=torch.float64)

    def _pushed_seconds(self, state: VideoStreamState) -> Float64[Tensor, " time"]:
        """Of the next window's latent frames: worked out for many windows at a time, which costs hardly more."""
        place, size = state.rolling.ticks % TIMES_AHEAD, self.window.frames_per_window
        begin = state.rolling.ticks - place
        many = self._many_seconds(begin, TIMES_AHEAD, state.given, state.bridge, state.start)
        return many[place * size : (place + 1) * size]

    def _ended(self, state: VideoStreamState, shown: int) -> bool:
        """Whether the next frame after so many comes after the drive's last picture, where the stream ends with it."""
        if self.drive is None or self.drive.at_end == "hold" or state.drive is None:
            return False
        end = state.drive.end_seconds
        return end is not None and float(shown / self.ask.rate) > end + 1e-9

    def _pushed(self, state: VideoStreamState) -> tuple[Float64[Tensor, " time"], Pictures | None, DriveState | None]:
        """Seconds of the window that is pushed next, its driving pictures, taken from the driver now, and its state."""
        self._check(state)
        seconds = self._pushed_seconds(state)
        if self.drive is None:
            return seconds, None, state.drive
        pictures, kept = self.drive.at(self.driving_seconds(state) if state.start else seconds, state.drive)
        if pictures.shape[1:] != self._drive_shape:
            shape, expected = tuple(pictures.shape[1:]), self._drive_shape
            raise BadArgument(f"driving pictures are {shape}; this checkpoint takes {expected}")
        return seconds, pictures[None], kept

    def _tick(self, state: VideoStreamState, seconds: Float64[Tensor, " time"], pictures: Pictures | None) -> Tick:
        rolling = state.rolling.to(self._device)
        return self.window.tick(rolling, seconds[None], self._telling, self._objective, pictures)

    def _telling(self, view: View) -> Denoiser:
        """The generator's denoiser for what is in view."""
        ask = self._told.clip(
            view.seconds, drive=view.drive, drive_known=view.driven, given=view.latents, known=view.known
        )
        made: Denoiser = self.generator.denoiser(ask, self._read)
        return made

    def _check(self, state: VideoStreamState) -> None:
        for name, own, other in (
            ("window", self.window, state.window),
            ("rate", self.ask.rate, state.ask.rate),
            ("seed", self.ask.seed, state.ask.seed),
        ):
            if own is not other and own != other:
                raise StateMismatch(f"the state has {name} {other}, this stream {own}; go on with the state's")


def _shown(
    ready: Float32[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"],
) -> UInt8[Tensor, "3 height width"]:
    """A picture in memory of its own: who keeps it keeps no other, who draws on it draws on no state."""
    return ready.to(torch.uint8, copy=True)


def check_streams(generator: VideoGenerator) -> FlowMatching:
    """The objective of a generator that can stream.

    Raises:
        BadArgument: it cannot, with the reason and what to do.
        UnsupportedModel: its latents cannot be decoded piece by piece.
    """
    objective = generator.objective
    if isinstance(objective, Refinement):
        raise BadArgument(
            "this checkpoint refines between pictures: use `legato inbetween`; a stream goes down levels of noise"
        )
    if not isinstance(objective, FlowMatching):
        raise BadArgument(
            f"this checkpoint was trained by {type(objective).__name__}; a stream goes down flow matching's levels: "
            f"train one with objective.kind=flow and model.noise=frame; or, with this one, {FUSED}"
        )
    noise = getattr(generator.model, "noise", "sample")
    if noise != "frame":
        raise BadArgument(
            f"this checkpoint's model takes its noise level '{noise}', a stream needs one for each frame: train one "
            f"with model.noise=frame and a share of training.levels.staircase; or, with one level, {FUSED}"
        )
    if isinstance(generator.latents, DiffusersLatents) and generator.latents.video:
        PiecewiseDecoder.of(generator.latents.vae)
    return objective


def drive_side_px(generator: VideoGenerator) -> tuple[int, int]:
    """Height and width of the driving pictures that a generator takes.

    Raises:
        BadArgument: it takes none.
    """
    model = cast(Any, generator.model)
    if not getattr(model, "drive_channels", 0):
        raise BadArgument("this checkpoint takes no drive; ask it by text or class, or train one with drive_channels")
    times = model.drive_patch_px // model.patch_px
    stride = generator.latents.stride_px
    return generator.height // stride * times, generator.width // stride * times
