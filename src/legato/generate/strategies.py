"""Five ways to make a long video with one model, behind one interface: so that they can be held against each other.

Each takes the same model, drive and noise and the same number of calls on each frame's way from noise; what differs is
which frames see each other, what is in memory at a time, and when the first frame is there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.errors import BadArgument
from legato.generate.driving import Drive, DriveState
from legato.generate.generator import VideoGenerator
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import Euler
from legato.generate.shelf import Shelf
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk, VideoStreamState

__all__ = ["AllAtOnce", "IndependentBatches", "LongAsk", "OverlappingBatches", "SlidingWindow", "Strategy", "Streaming"]

Pixels = UInt8[Tensor, "time 3 height width"]
Picture = UInt8[Tensor, "3 height width"]


@dataclass(frozen=True, eq=False)
class LongAsk:
    """What a long video is to be, however it is made.

    Attributes:
        stream: text, class, guidance, rate and seed.
        count: of frames.
        drive: conditioning pictures, or None. It is taken from as they are made: ask anew for another video.
        reference: a picture that is given, or None; batches see it one interval before their first frame.
    """

    stream: StreamAsk
    count: int
    drive: Drive | None = None
    reference: Picture | None = None


class Strategy(ABC):
    """A way to make a long video."""

    @abstractmethod
    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """Frames in the order of time, as many as asked for, in the pieces in which they are made.

        Args:
            generator: that makes them.
            asked: what.

        Raises:
            BadArgument: the generator cannot do it.
        """

    def boundaries(self, count: int, stride_frames: int = 1) -> list[int]:
        """First frames of pieces that were sampled apart from the frame before them, or joined there.

        Args:
            count: of frames.
            stride_frames: of the generator's latents.
        """
        return []


@dataclass(frozen=True)
class AllAtOnce(Strategy):
    """Every frame sees every other; nothing is there before the end, and memory grows with the length.

    Attributes:
        calls: of the model.
    """

    calls: int = 8

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`."""
        yield _Sampling(generator, asked, self.calls).frames(0, asked.count)


@dataclass(frozen=True)
class IndependentBatches(Strategy):
    """One batch after another; none knows of the others but by text, drive and time.

    Attributes:
        frames: in a batch.
        calls: of the model for each.
    """

    frames: int = 16
    calls: int = 8

    def __post_init__(self) -> None:
        _check_batch(self.frames, 0)

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`."""
        sampling = _Sampling(generator, asked, self.calls)
        for first in range(0, asked.count, self.frames):
            yield sampling.frames(first, self.frames)[: asked.count - first]

    def boundaries(self, count: int, stride_frames: int = 1) -> list[int]:
        """See `Strategy`."""
        return list(range(self.frames, count, self.frames))


@dataclass(frozen=True)
class OverlappingBatches(Strategy):
    """Batches that make the last frames of the batch before once more, from the same noise.

    Attributes:
        frames: in a batch.
        overlap: frames that two batches share.
        blend: fade from one batch to the next over them; otherwise the second's are discarded.
        calls: of the model for each batch.
    """

    frames: int = 16
    overlap: int = 4
    blend: bool = True
    calls: int = 8

    def __post_init__(self) -> None:
        _check_batch(self.frames, self.overlap)

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`."""
        sampling = _Sampling(generator, asked, self.calls)
        step, left, tail = self.frames - self.overlap, asked.count, None
        for first in range(0, max(1, asked.count - self.overlap), step):
            made = sampling.frames(first, self.frames)
            if tail is not None:
                made[: self.overlap] = self._joined(tail, made[: self.overlap])
            tail = made[step:].clone()
            whole = made if first + step >= asked.count - self.overlap else made[:step]
            yield whole[:left]
            left -= len(whole)

    def boundaries(self, count: int, stride_frames: int = 1) -> list[int]:
        """See `Strategy`; where a blend begins and where it has ended, or where the second batch takes over."""
        step = self.frames - self.overlap
        firsts = range(step, max(1, count - self.overlap), step)
        shift = (0, self.overlap) if self.blend else (self.overlap,)
        return sorted({first + more for first in firsts for more in shift if first + more < count})

    def _joined(self, old: Pixels, new: Pixels) -> Pixels:
        if not self.blend:
            return old
        share = (torch.arange(1, self.overlap + 1) / (self.overlap + 1))[:, None, None, None]
        return torch.lerp(old.float(), new.float(), share).round().to(torch.uint8)


@dataclass(frozen=True)
class SlidingWindow(Strategy):
    """A rolling window with everything computed up front: all drive taken first, all latents kept and decoded last.

    Attributes:
        window: the queue.
        offload: keep drive and latents in a file until they are wanted, and decode window by window.
    """

    window: RollingWindow = field(default_factory=RollingWindow)
    offload: bool = False

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`."""
        stream, state = _begun(generator, asked, self.window)
        latents, size = generator.latents, self.window.frames_per_window
        given = latents.latent_frames(state.given) if state.given else 0
        wanted = latents.latent_frames(latents.whole_frames(state.given + state.bridge + asked.count)) - given
        wanted += latents.lookahead
        ticks = -(-wanted // size) + self.window.windows - 1
        with Shelf() as pictures, Shelf() as made:
            drive = self._taken(asked.drive, stream.driving_seconds(state, ticks), pictures)
            parts = self._clean(VideoStream(generator, asked.stream, self.window, drive), state, ticks, made)
            decoder, unseen, left = state.decoder, state.unseen, asked.count
            for part in parts:
                with torch.inference_mode():
                    frames, decoder = latents.decode_next(part[:, :wanted], decoder)
                shown = signal_to_pixels(frames[0]).cpu()[unseen:][:left]
                wanted, unseen, left = wanted - part.shape[1], max(0, unseen - frames.shape[1]), left - len(shown)
                yield shown

    def _taken(self, drive: Drive | None, seconds: Float64[Tensor, " time"], shelf: Shelf) -> Drive | None:
        """The drive with all its pictures taken, into memory or onto the shelf."""
        if drive is None:
            return None
        if not self.offload:
            return Drive(zip(seconds.tolist(), drive.at(seconds)[0], strict=True))
        state: DriveState | None = None
        for now in seconds.split(self.window.frames_per_window):
            pictures, state = drive.at(now, state)
            shelf.add(pictures)
        return Drive((float(at), shelf.part(n, 1)[0]) for n, at in enumerate(seconds))

    def _clean(
        self, stream: VideoStream, state: VideoStreamState, ticks: int, shelf: Shelf
    ) -> Iterator[Float[Tensor, "1 time channels rows columns"]]:
        """Latents after all ticks: at once out of memory, or window by window off the shelf."""
        kept = []
        for _ in range(ticks):
            state, clean = stream.step_latents(state)
            if self.offload and clean.shape[1]:
                shelf.add(clean[0])
            elif not self.offload:
                kept.append(clean)
        if not self.offload:
            yield torch.cat(kept, 1)
            return
        device, size = state.rolling.latents.device, self.window.frames_per_window
        for number in range(ticks - self.window.windows + 1):
            yield shelf.part(number * size, size)[None].to(device)


@dataclass(frozen=True)
class Streaming(Strategy):
    """A rolling window in which everything is just in time, see `VideoStream`.

    Attributes:
        window: the queue.
    """

    window: RollingWindow = field(default_factory=RollingWindow)

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`."""
        stream, state = _begun(generator, asked, self.window)
        for made in stream.frames(state, asked.count):
            yield made.frame.pixels[None]

    def boundaries(self, count: int, stride_frames: int = 1) -> list[int]:
        """See `Strategy`; where windows meet, though none was sampled apart."""
        size = self.window.frames_per_window
        step = size * stride_frames
        return list(range(step - stride_frames + 1, count, step)) if size > 1 else []


def _begun(generator: VideoGenerator, asked: LongAsk, window: RollingWindow) -> tuple[VideoStream, VideoStreamState]:
    """A stream of what is asked, and its state before the first frame."""
    stream = VideoStream(generator, asked.stream, window, asked.drive)
    return stream, stream.begin(None if asked.reference is None else stream.reference(asked.reference))


class _Sampling:
    """Clips out of a long video, each at its own times, sampled all at once."""

    def __init__(self, generator: VideoGenerator, asked: LongAsk, calls: int):
        self._generator, self._drive, self._sampler = generator, asked.drive, Euler(calls)
        self._stream = asked.stream.told(generator)
        picture = asked.reference
        self._given = None if picture is None else pixels_to_signal(picture[None])  # (1, 3, height, width)
        self._state: DriveState | None = None
        self._taken: Float32[Tensor, "time channels height width"] | None = None
        self._taken_from = 0

    def frames(self, first: int, count: int) -> Pixels:
        """The frames from number `first` on; earlier ones than the last clip's first are not asked for any more."""
        before = 0 if self._given is None else 1
        whole = self._generator.latents.whole_frames(before + count)
        drive = None if self._drive is None else self._pictures(self._drive, first, whole - before)[None]
        given = known = None
        if self._given is not None:
            given = torch.cat([self._given, torch.zeros(whole - 1, *self._given.shape[1:])])[None]
            known = torch.arange(whole)[None] < 1
            drive = drive if drive is None else torch.cat([torch.zeros_like(drive[:, :1]), drive], 1)
        ask = self._stream.clip(
            self._stream.seconds(first - before, whole)[None],
            drive=drive,
            drive_known=None if known is None or drive is None else ~known,
            given=given,
            known=known,
        )
        return signal_to_pixels(self._generator.sample(ask, self._sampler)[0, before : before + count]).cpu()

    def _pictures(self, drive: Drive, first: int, count: int) -> Float[Tensor, "time channels height width"]:
        """Driving pictures, of which those of the clip before are kept for an overlap."""
        begin = self._taken_from + (0 if self._taken is None else len(self._taken))
        fresh, self._state = drive.at(self._stream.seconds(begin, first + count - begin), self._state)
        every = fresh if self._taken is None else torch.cat([self._taken, fresh])
        self._taken, self._taken_from = every[first - self._taken_from :].clone(), first
        return self._taken


def _check_batch(frames: int, overlap: int) -> None:
    if frames < 2 or not 0 <= overlap <= frames // 2:
        raise BadArgument(f"batches of {frames} frames that share {overlap}; expected 2 or more, and up to half shared")
