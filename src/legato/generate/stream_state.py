"""What a stream is asked for and what it keeps between two frames: plain values, which can be saved and moved."""

import math
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from legato.data.vocabulary import AGAIN
from legato.errors import BadArgument, check_finite
from legato.generate.ask import Ask
from legato.generate.driving import DriveState
from legato.generate.generator import VideoGenerator
from legato.generate.piecewise import DecoderState
from legato.generate.rolling import RollingState, RollingWindow
from legato.generate.saved import load_values, save_values

__all__ = ["StreamAsk", "VideoStreamState"]

SAVED_AS = "legato stream 4"


@dataclass(frozen=True)
class StreamAsk:
    """What to stream.

    Attributes:
        rate: frames per second.
        seed: of the noise.
        text: what is to be seen, or None; said over and over by generators that can, see `told`.
        label: number of a class, or None.
        guidance: see `Ask`.
        drive_guidance: see `Ask`.

    Raises:
        BadArgument: the rate is not positive, or guidance is not finite.
    """

    rate: Fraction = Fraction(24)
    seed: int = 0
    text: str | None = None
    label: int | None = None
    guidance: float = 1.0
    drive_guidance: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise BadArgument(f"the rate is {float(self.rate):g} frames per second; expected more than 0")
        check_finite(guidance=self.guidance, drive_guidance=self.drive_guidance)

    def seconds(self, first: int, count: int) -> Float64[Tensor, " time"]:
        """When frames are shown, by their numbers; those before the stream's first are negative."""
        return torch.tensor([float(n / self.rate) for n in range(first, first + count)], dtype=torch.float64)

    def told(self, generator: VideoGenerator) -> "StreamAsk":
        """The same as the generator is told it: that the text is said over and over, where it knows what that means.

        Raises:
            BadArgument: the text is too long to be said so.
        """
        if not self.text or AGAIN not in generator.words or self.text.endswith(AGAIN):
            return self
        text = f"{self.text} {AGAIN}"
        most = getattr(getattr(generator.model, "text", None), "most_bytes", None)
        if most is not None and len(text.encode()) > most:
            own, more = len(self.text.encode()), len(f" {AGAIN}".encode())
            raise BadArgument(
                f"the text '{self.text}' has {own} bytes; this model reads up to {most - more} where a text is said "
                "over and over, as in a stream"
            )
        return replace(self, text=text)

    def clip(self, seconds: Float64[Tensor, "1 time"], **conditions: Any) -> Ask:
        """An ask for some of its frames.

        Args:
            seconds: of each.
            conditions: what else an `Ask` has: drive, given frames.
        """
        return Ask(
            seconds,
            [self.seed],
            text=None if self.text is None else (self.text,),
            labels=None if self.label is None else torch.tensor([self.label]),
            guidance=self.guidance,
            drive_guidance=self.drive_guidance,
            **conditions,
        )


@dataclass(frozen=True, eq=False)
class VideoStreamState:
    """Everything that a stream is: what was asked, the queue, the drive. A value of constant size.

    Attributes:
        ask: what is streamed.
        window: the queue it goes through.
        rolling: its state.
        drive: what is kept of the drive; None without one, or before the first tick.
        decoder: what the latents' decoder keeps; None where frames do not depend on each other, or before the first.
        ready: frames that are made and not shown yet, 0 to 255 in whole numbers.
        unseen: frames that are decoded next and not shown: of the bridge, and those gone on from that the decoder has
            not given yet.
        given: how many frames were gone on from; the first latent frame stands for one frame without any.
        bridge: how many frames lie between those and the first that is shown.
        shown: how many frames were.
        start: time of the stream's first frame, exact.
        notes: plain values that whoever streams wants to find again; the stream itself never looks at them.
    """

    ask: StreamAsk
    window: RollingWindow
    rolling: RollingState
    drive: DriveState | None
    decoder: DecoderState | None
    ready: tuple[Float32[Tensor, "3 height width"] | UInt8[Tensor, "3 height width"], ...]
    unseen: int
    given: int
    bridge: int
    shown: int
    start: Fraction
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def time_base(self) -> Fraction:
        """Of the frames' stamps."""
        return Fraction(1, math.lcm(self.start.denominator, self.ask.rate.numerator))

    @property
    def nbytes(self) -> int:
        """Memory of its tensors."""
        kept = self.ready if self.drive is None else (*self.ready, *self.drive.pictures)
        decoder = 0 if self.decoder is None else self.decoder.nbytes
        stored = {store.data_ptr(): store.nbytes() for store in (tensor.untyped_storage() for tensor in kept)}
        return self.rolling.nbytes + decoder + sum(stored.values())

    def after(self, frames: int) -> "VideoStreamState":
        """The state when so many of the frames that are ready have been shown."""
        return self.changed(ready=self.ready[frames:], shown=self.shown + frames)

    def changed(self, **values: Any) -> "VideoStreamState":
        """The same with other values; `dataclasses.replace` takes several times as long right after a model's call."""
        new = object.__new__(VideoStreamState)
        new.__dict__.update(self.__dict__, **values)
        return new

    def save(self, path: str | Path) -> None:
        """Write it to a file, complete or not at all; `load` goes on from there to the same frames."""
        ask = asdict(self.ask) | {"rate": str(self.ask.rate)}
        values = {
            "kind": SAVED_AS,
            "ask": ask,
            "window": asdict(self.window),
            "rolling": self.rolling.to("cpu").values,
            "drive": None if self.drive is None else dict(vars(self.drive)),
            "decoder": None if self.decoder is None else dict(vars(self.decoder.to("cpu"))),
            "ready": tuple(picture.to(torch.uint8) for picture in self.ready),
            "unseen": self.unseen,
            "given": self.given,
            "bridge": self.bridge,
            "shown": self.shown,
            "start": str(self.start),
            "notes": dict(self.notes),
        }
        save_values(path, values)

    @classmethod
    def load(cls, path: str | Path) -> "VideoStreamState":
        """Read what `save` wrote.

        Raises:
            BadArgument: the file is missing or holds something else.
        """
        values = load_values(path)
        kind = str(values.get("kind"))
        if kind != SAVED_AS and kind.startswith("legato stream"):
            raise BadArgument(f"{path} is the state of a stream that another version of legato saved; stream anew")
        if kind != SAVED_AS:
            raise BadArgument(f"{path} is not the state of a stream that this legato can read")
        try:
            return cls(
                StreamAsk(**values["ask"] | {"rate": Fraction(values["ask"]["rate"])}),
                RollingWindow.from_values(values["window"]),
                RollingState.from_values(values["rolling"], path),
                None if values["drive"] is None else DriveState.from_values(values["drive"]),
                None if values["decoder"] is None else DecoderState(**values["decoder"]),
                values["ready"],
                values["unseen"],
                values["given"],
                values["bridge"],
                values["shown"],
                Fraction(values["start"]),
                dict(values.get("notes", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadArgument(f"{path} is not the state of a stream that this legato can read: {error}") from error
