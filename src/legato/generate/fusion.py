"""Context-window fusion: long clips from models that have one noise level for all frames.

Not a stream: all frames go through all levels together, and memory grows with their number. At every step the model
sees overlapping windows and what it says of a frame is averaged over those that hold it, after Bar-Tal et al. 2023,
"MultiDiffusion", along time. Every frame is sampled in view of its neighbours, so there is no seam; what is
further away than a window counts only through what lies between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from legato.data.batch import signal_to_pixels
from legato.errors import BadArgument, check_at_least
from legato.generate.ask import Ask
from legato.generate.generator import VideoGenerator
from legato.generate.objectives import FlowMatching
from legato.generate.samplers import Denoiser, Euler, Start, default_sampler, noise_at
from legato.generate.strategies import LongAsk, Pixels, Strategy

__all__ = ["FusedWindows", "fused", "window_weights"]

WEIGHTS = ("flat", "pyramid", "linear")


@dataclass(frozen=True)
class FusedWindows(Strategy):
    """A long clip out of overlapping windows that are fused at every step, for models without noise by frame.

    Attributes:
        frames: in a window, a length that the model was trained on.
        overlap: frames that two windows share.
        weights: of a window's frames, see `window_weights`.
        calls: of the model for each window.
        decoded_frames: how many are decoded at a time.
    """

    frames: int = 16
    overlap: int = 8
    weights: str = "pyramid"
    calls: int = 8
    decoded_frames: int = 16

    def __post_init__(self) -> None:
        _check(self.frames, self.overlap, self.weights)
        check_at_least(1, calls=self.calls, decoded_frames=self.decoded_frames)

    def pieces(self, generator: VideoGenerator, asked: LongAsk) -> Iterator[Pixels]:
        """See `Strategy`; all frames are sampled before the first is there."""
        if asked.reference is not None:
            raise BadArgument("fused windows take no reference; leave it out, or stream")
        if generator.latents.stride_frames != 1:
            raise BadArgument(f"a latent stands for {generator.latents.stride_frames} frames; fusion takes one for one")
        seconds = asked.stream.seconds(0, asked.count)
        drive = None if asked.drive is None else asked.drive.at(seconds)[0][None]
        ask = asked.stream.told(generator).clip(seconds[None], drive=drive)
        generator.check(ask)
        with torch.inference_mode():
            made = self._sampled(generator, ask)
        for part in made.split(self.decoded_frames, 1):
            with torch.inference_mode():
                frames = generator.latents.decode(part)
            yield signal_to_pixels(frames[0]).cpu()

    def _sampled(self, generator: VideoGenerator, ask: Ask) -> Float[Tensor, "1 time channels rows columns"]:
        latents, device = generator.latents, generator.device
        shape = (latents.channels, generator.height // latents.stride_px, generator.width // latents.stride_px)
        noise = noise_at(ask.seconds, shape, ask.seeds).to(device)
        none = torch.zeros(ask.seconds.shape, dtype=torch.bool, device=device)
        denoiser = fused(generator, ask, frames=self.frames, overlap=self.overlap, weights=self.weights)
        start = Start(noise, torch.zeros_like(noise), none, ask.seconds, ask.seeds)
        flow = isinstance(generator.objective, FlowMatching)  # goes down the same stairs as in all other ways
        sampler = Euler(self.calls) if flow else default_sampler(generator.objective, self.calls)
        return sampler(denoiser, generator.objective, start)


def fused(generator: VideoGenerator, ask: Ask, *, frames: int, overlap: int, weights: str = "pyramid") -> Denoiser:
    """A denoiser of a clip of any length out of the generator's of windows.

    Args:
        generator: whose model sees the windows one after another.
        ask: of the whole clip.
        frames: in a window.
        overlap: frames that two windows share.
        weights: see `window_weights`.

    Raises:
        BadArgument: an argument is outside its range.
    """
    _check(frames, overlap, weights)
    count = ask.seconds.shape[1]
    length = min(frames, count)
    firsts = sorted({min(first, count - length) for first in range(0, max(1, count - overlap), frames - overlap)})
    windows = [slice(first, first + length) for first in firsts]
    denoisers = [generator.denoiser(_part(ask, window)) for window in windows]

    def denoise(x: Tensor, levels: Tensor) -> Tensor:
        said, whole = torch.zeros_like(x), x.new_zeros(count)
        for window, denoiser in zip(windows, denoisers, strict=True):
            ends = (window.start > 0, window.stop < count)
            share = window_weights(weights, length, overlap, ends).to(x)
            said[:, window] += share[:, None, None, None] * denoiser(x[:, window], levels[:, window])
            whole[window] += share
        return said / whole[:, None, None, None]

    return denoise


def window_weights(
    kind: str, frames: int, overlap: int, neighbours: tuple[bool, bool] = (True, True)
) -> Float[Tensor, " time"]:
    """How much each frame of a window counts, before weights are brought to a sum of 1.

    Args:
        kind: `flat` (all alike), `pyramid` (falls from the middle to both ends), or `linear` (falls over an overlap
            alone, as in a cross-fade).
        frames: in the window.
        overlap: frames shared with a neighbour.
        neighbours: whether there is one before and one after; a pyramid and a fade only fall towards one.

    Raises:
        BadArgument: another kind.
    """
    if kind not in WEIGHTS:
        raise BadArgument(f"weights are '{kind}'; expected one of {', '.join(WEIGHTS)}")
    before, after = neighbours
    place = torch.arange(1, frames + 1, dtype=torch.float32)
    reach = (frames + 1) / 2 if kind == "pyramid" else overlap + 1
    share = torch.ones(frames)
    if kind == "flat":
        return share
    if before:
        share = torch.minimum(share, place / reach)
    if after:
        share = torch.minimum(share, place.flip(0) / reach)
    return share


def _part(ask: Ask, window: slice) -> Ask:
    """What is asked of a window's frames."""

    def cut(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows[:, window]

    return replace(
        ask,
        seconds=ask.seconds[:, window],
        drive=cut(ask.drive),
        drive_known=cut(ask.drive_known),
        given=cut(ask.given),
        known=cut(ask.known),
        proposed=cut(ask.proposed),
    )


def _check(frames: int, overlap: int, weights: str) -> None:
    if frames < 2 or not 0 < overlap < frames:
        raise BadArgument(
            f"windows of {frames} frames that share {overlap}; expected 2 or more, and 1 to all but one shared"
        )
    if weights not in WEIGHTS:
        raise BadArgument(f"weights are '{weights}'; expected one of {', '.join(WEIGHTS)}")
