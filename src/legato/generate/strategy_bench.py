"""What a way of making a long video costs, and whether it shows: measured in a process of its own, under a limit.

A signing puppet's pose maps lead, where the generator takes a drive. The process reads what to do as JSON from standard
input and tells its stages and figures as lines of JSON, so that whoever started it knows how far it came.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import psutil
import torch
from torch import Tensor

from legato.data.batch import pixels_to_signal
from legato.data.puppets import Puppet, hand_positions, random_puppet
from legato.errors import BadArgument
from legato.generate.driving import Drive
from legato.generate.fusion import FusedWindows
from legato.generate.generator import VideoGenerator
from legato.generate.puppet_judge import PuppetJudge
from legato.generate.rolling import RollingWindow
from legato.generate.strategies import (
    AllAtOnce,
    IndependentBatches,
    LongAsk,
    OverlappingBatches,
    SlidingWindow,
    Strategy,
    Streaming,
)
from legato.generate.stream import DRIVEN, drive_side_px
from legato.generate.stream_state import StreamAsk

__all__ = ["WAYS", "BenchAsk", "measured"]

BATCH_FRAMES = 24
SENTENCE = "hello friend"
PUPPET_SEED = 9_000_001
LIMIT_EXIT = 3
WATCH_SECONDS = 0.003
EARLY_FRAMES = 100  # by then all that a stream keeps is there


@dataclass(frozen=True)
class BenchAsk:
    """One row of the table.

    Attributes:
        checkpoint: of the generator.
        way: a name out of `WAYS`.
        frames: how many.
        window: the queue; batches make as many calls as a frame meets in it.
        reference: whether a picture of the puppet at rest is given.
        driven: whether the puppet's pose maps lead, where the generator takes a drive; its text alone otherwise.
        drive_guidance: see `Ask`.
        fps: of what is made.
        seed: of the noise.
        memory_limit_bytes: of the process, weights and libraries included; none for 0.
        device: to run on.
        dtype: of the weights, by name.
        threads: of the processor.
    """

    checkpoint: str
    way: str
    frames: int
    window: RollingWindow = DRIVEN
    reference: bool = False
    driven: bool = True
    drive_guidance: float = 2.0
    fps: float = 24.0
    seed: int = 0
    memory_limit_bytes: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise BadArgument(f"there is no way '{self.way}'; expected one of {', '.join(WAYS)}")
        if self.frames < 4:
            raise BadArgument(f"{self.frames} frames; expected 4 or more, which a second difference needs")

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "BenchAsk":
        """Of the plain values that `dataclasses.asdict` gives."""
        return cls(**values | {"window": RollingWindow.from_values(values["window"])})

    @property
    def calls(self) -> int:
        """Of the model on a frame's way."""
        return self.window.windows * self.window.steps


WAYS: dict[str, Callable[[BenchAsk], Strategy]] = {
    "all-at-once": lambda ask: AllAtOnce(ask.calls),
    "independent": lambda ask: IndependentBatches(BATCH_FRAMES, ask.calls),
    "overlap-discard": lambda ask: OverlappingBatches(BATCH_FRAMES, 6, False, ask.calls),
    "overlap-blend": lambda ask: OverlappingBatches(BATCH_FRAMES, 6, True, ask.calls),
    "overlap-12": lambda ask: OverlappingBatches(BATCH_FRAMES, 12, True, ask.calls),
    "fused": lambda ask: FusedWindows(BATCH_FRAMES, BATCH_FRAMES // 2, "pyramid", ask.calls),
    "precomputed": lambda ask: SlidingWindow(ask.window),
    "precomputed-offload": lambda ask: SlidingWindow(ask.window, offload=True),
    "streaming": lambda ask: Streaming(ask.window),
}


def measured(ask: BenchAsk, tell: Callable[[str], None] = lambda stage: None) -> dict[str, Any]:
    """One way at one length, in this process.

    Args:
        ask: what.
        tell: called with the stage that begins, each time another one does.

    Raises:
        BadArgument: the generator cannot do it.
    """
    torch.set_num_threads(ask.threads)
    puppet = random_puppet(torch.Generator().manual_seed(PUPPET_SEED), text=SENTENCE)
    hand_positions(puppet.render([0.0], 64, 64))  # OpenCV's matrix product takes memory once, and dies if refused it
    with Watch(ask.memory_limit_bytes, tell) as watch, torch.inference_mode():
        watch.begin("loading")
        generator = VideoGenerator.from_pretrained(ask.checkpoint, device=ask.device, dtype=getattr(torch, ask.dtype))
        driven = ask.driven and bool(getattr(generator.model, "drive_channels", 0))
        text = SENTENCE if getattr(generator.model, "text", None) is not None else None
        told = StreamAsk(
            Fraction(ask.fps).limit_denominator(1001),
            seed=ask.seed,
            text=text,
            drive_guidance=ask.drive_guidance if driven else 1.0,
        )
        if generator.words and any(word not in generator.words for word in SENTENCE.split()):
            told = StreamAsk(told.rate, seed=ask.seed, drive_guidance=told.drive_guidance)
        warm = WAYS[ask.way](replace(ask, window=RollingWindow(2, 2)))
        led = _led(generator, puppet, told.rate, Taken()) if driven else None
        list(warm.pieces(generator, LongAsk(told, 2, led)))
        reference = puppet.render([0.0], generator.height, generator.width)[0] if ask.reference else None
        parts = Parts(generator, watch)
        taken, judge = Taken(), PuppetJudge(puppet, generator.height, generator.width, told.rate, driven)
        drive = _led(generator, puppet, told.rate, taken) if driven else None
        strategy = WAYS[ask.way](ask)
        boundaries = strategy.boundaries(ask.frames, generator.latents.stride_frames)
        watch.start()
        watch.begin("conditioning")
        spent = worked = first = 0.0
        latency = early = 0
        half: tuple[float, int] | None = None
        begun, began = time.monotonic(), time.process_time()
        for piece in strategy.pieces(generator, LongAsk(told, ask.frames, drive, reference)):
            spent += time.monotonic() - begun
            worked += time.process_time() - began
            if not judge.count:
                first = spent
            watch.begin("judging")
            latency = max(latency, taken.count - judge.count - 1)
            for picture in piece:
                judge.add(picture)
            early = early or (watch.now() if judge.count >= EARLY_FRAMES else 0)
            half = half or ((spent, judge.count) if 2 * judge.count >= ask.frames else None)
            begun, began = time.monotonic(), time.process_time()
        late = watch.now()
    weights = parts.weights_bytes
    left = ask.frames - (half[1] if half else ask.frames)
    return {
        **asdict(ask),
        "peak_bytes": watch.peak,
        "added_bytes": watch.peak - watch.base,
        "gpu_peak_bytes": torch.cuda.max_memory_allocated(ask.device) if ask.device.startswith("cuda") else None,
        "memory": {
            "libraries": watch.base - weights,
            "weights": weights,
            "queue": parts.queue_bytes,
            "conditioning": parts.conditioning_bytes,
            "temporary": max(0, watch.peak - watch.base - parts.queue_bytes - parts.conditioning_bytes),
        },
        "seconds_per_frame": spent / ask.frames,
        "cpu_seconds_per_frame": worked / ask.frames,
        "seconds_per_frame_first_half": half[0] / half[1] if half and left else None,
        "seconds_per_frame_second_half": (spent - half[0]) / left if half and left else None,
        "bytes_after_100_frames": early or None,
        "bytes_at_the_end": late,
        "first_frame_seconds": first,
        "model_seconds": parts.model_seconds,
        "decoding_seconds": parts.decoding_seconds,
        "latency_frames": latency if driven else None,
        **judge.figures(boundaries),
    }


@dataclass
class Taken:
    """How many driving pictures were taken."""

    count: int = 0


def _led(generator: VideoGenerator, puppet: Puppet, rate: Fraction, taken: Taken) -> Drive:
    """The puppet's pose maps without end: its sentence begins anew when it is over."""
    height, width = drive_side_px(generator)

    def poses() -> Iterator[tuple[float, Tensor]]:
        while True:
            at = float(taken.count / rate)
            taken.count += 1
            yield at, pixels_to_signal(puppet.poses([at % puppet.seconds], height, width)[0])

    return Drive(poses())


class Watch:
    """Resident memory of this process from a thread, the stage it is in, and an end where it passes a limit.

    Args:
        limit_bytes: none for 0.
        tell: see `measured`.
    """

    def __init__(self, limit_bytes: int, tell: Callable[[str], None]):
        self.limit, self.stage, self._tell = limit_bytes, "", tell
        self._process, self._over = psutil.Process(), threading.Event()
        self.base = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, name="legato-watch", daemon=True)

    def __enter__(self) -> "Watch":
        self.begin("starting")
        self._thread.start()
        self._cap()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def begin(self, stage: str) -> None:
        """Say what is done from here on."""
        if stage != self.stage:
            self.stage = stage
            self._tell(stage)

    def now(self) -> int:
        """Resident memory."""
        return int(self._process.memory_info().rss)

    def start(self) -> None:
        """Count from here on: all that is loaded once is there."""
        self.base = self.peak = self._process.memory_info().rss

    def _cap(self) -> None:
        """Let a single allocation beyond the limit fail at once, where the system can."""
        own = self._process.memory_info()
        if self.limit and own.rss > self.limit:
            raise MemoryError
        if not self.limit or not hasattr(own, "data"):
            return
        import resource

        most = own.data + self.limit - own.rss
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            now = self._process.memory_info().rss
            self.peak = max(self.peak, now)
            if self.limit and now > self.limit:
                _say({"failed": _over_limit(self.stage), "peak_bytes": now})
                os._exit(LIMIT_EXIT)


class Parts:
    """Looks on as a generator works: what its calls hold, and where the time goes."""

    def __init__(self, generator: VideoGenerator, watch: Watch):
        vae = generator.latents if isinstance(generator.latents, torch.nn.Module) else None
        modules = [generator.model] + ([] if vae is None else [vae])
        self.weights_bytes = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
        self.queue_bytes = self.conditioning_bytes = 0
        self.model_seconds = self.decoding_seconds = 0.0
        self._watch, self._begun = watch, 0.0
        generator.model.register_forward_pre_hook(self._before, with_kwargs=True)
        generator.model.register_forward_hook(self._after)
        self._decoding = False
        for name in ("decode", "decode_next"):
            setattr(generator.latents, name, self._timed(getattr(generator.latents, name)))

    def _timed(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """A way of decoding that counts its time, once where one calls the other."""

        def timed(*args: Any) -> Any:
            if self._decoding:
                return decode(*args)
            self._watch.begin("decoding")
            self._decoding, begun = True, time.monotonic()
            try:
                return decode(*args)
            finally:
                self.decoding_seconds += time.monotonic() - begun
                self._decoding = False

        return timed

    def _before(self, module: Any, args: tuple[Any, ...], told: dict[str, Any]) -> None:
        self._watch.begin("sampling")
        self._begun = time.monotonic()
        held = [(args[0], "queue_bytes"), (told.get("drive"), "conditioning_bytes")]
        for tensor, name in held:
            if isinstance(tensor, Tensor):
                one = tensor[0]  # guidance asks about one clip several times over
                setattr(self, name, max(getattr(self, name), one.numel() * one.element_size()))

    def _after(self, *_: Any) -> None:
        self.model_seconds += time.monotonic() - self._begun


def _over_limit(stage: str) -> str:
    return f"over the memory limit while {stage}"


def main() -> None:
    """Do what standard input asks."""
    from legato.errors import LegatoError

    ask = BenchAsk.from_values(json.loads(sys.stdin.read()))
    stages = [""]

    def tell(stage: str) -> None:
        if stage not in stages[-3:]:
            _say({"stage": stage})
        stages[-3:] = [*stages[-2:], stage]

    try:
        _say(measured(ask, tell))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        peak = psutil.Process().memory_info().rss
        _say({"failed": _over_limit(stages[-1]), "peak_bytes": peak})
        sys.exit(LIMIT_EXIT)
    except LegatoError as error:
        _say({"failed": str(error)})
        sys.exit(2)


def _say(row: dict[str, Any]) -> None:
    """A line of JSON, in one piece: two threads speak, and `print` would write the line's end by itself."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
