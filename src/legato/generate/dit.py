"""VideoDiT: a diffusion transformer over all patches of a clip that is told every frame's seconds.

After Peebles and Xie 2023, "Scalable Diffusion Models with Transformers". One attention sees the whole clip, so times
need no order of layers; what differs from frame to frame (noise level, interval, given or not) goes into adaptive norm
frame by frame.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from legato.clock import (
    TREND_SECONDS,
    FramePositions,
    RateEmbedding,
    SecondsEmbedding,
    SecondsRotary,
    changes,
    frame_intervals,
    rotated,
    trends,
)
from legato.clock.seconds import Turn
from legato.errors import BadArgument, check_at_least
from legato.generate.text import ByteText, FrozenText, TextTokens
from legato.nn import Attention, Mlp, grid_embedding, modulated, patched, sinusoids, unpatched

__all__ = ["CLOCKS", "SIZES", "VideoDiT"]

CLOCKS = ("rotary", "seconds", "both", "index", "learned", "none")
NOISES = ("frame", "sample", "hidden")
KEPT_AT_FIRST, MOST_KEPT = -3.0, 20.0  # logarithms of weights beside 1
Video = Float[Tensor, "batch time channels height width"]

SIZES: dict[str, dict[str, int]] = {
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}


class DiTBlock(nn.Module):
    """Attention over the clip and an MLP, both scaled, shifted and gated by each frame's condition."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float = 4.0):
        super().__init__()
        self.attention, self.mlp = Attention(channels, heads), Mlp(channels, mlp_ratio)
        self.offset = nn.Parameter(torch.zeros(6 * channels))

    def forward(
        self,
        x: Float[Tensor, "batch time patches channels"],
        told: Float[Tensor, "batch text channels"],
        condition: Float[Tensor, "batch time six_channels"],
        turning: Any,
        mask: Tensor | None,
    ) -> Float[Tensor, "batch time patches channels"]:
        """The block's output; the text is seen and stays as it is."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (condition + self.offset).chunk(6, -1)
        b, t, p, c = x.shape
        sequence = torch.cat([told, modulated(x, shift1, scale1).reshape(b, t * p, c)], 1)
        seen = self.attention(sequence, turning, mask)[:, told.shape[1] :].reshape(b, t, p, c)
        x = x + gate1[:, :, None].to(x.dtype) * seen
        return x + gate2[:, :, None].to(x.dtype) * self.mlp(modulated(x, shift2, scale2))


class VideoDiT(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="legato",
    tags=["video-generation"],
    license="apache-2.0",
):
    """A denoiser for clips of any length, rate and size.

    Args:
        channels: of a frame: 3 for pixels, more for latents.
        patch_px: side of a patch in pixels or latents.
        width: channels of a token, a multiple of 4.
        depth: blocks.
        heads: of attention.
        clock: how it is told the time: `rotary` (seconds turn queries and keys), `seconds` (sines and cosines of
            seconds are added), `both` of these, `index` (the same of the frame's number), `learned`
            (`FramePositions`), `none`.
        rate: also tell each frame's interval, see `RateEmbedding`.
        noise: one level per `frame` or per `sample`, or `hidden` where the objective tells none.
        classes: kinds that a clip can be asked for by number; 0 for none.
        text_bytes: read texts of up to so many bytes (`ByteText`); 0 for none.
        text_depth: blocks of that reader.
        text_encoder: a frozen encoder's name instead (`FrozenText`).
        drive_channels: of per-frame conditioning pictures; 0 for none.
        drive_stride: how many times larger they are than x: 1 beside pixels, the latents' stride beside latents.
        frames: of the learned positions.
        zero_positions: start them at zero.
        motion: tokens also see by how much their patch changed since the frame before, per thirtieth of a second and
            as far as both frames are clear of noise: how fast given frames move is read there instead of by comparing
            tokens.
        trend: and the slopes of lines fitted through all frames around, for which noisy frames count as far as they
            are clear, see `legato.clock.trends`: how fast frames move that are still being made.
        pull: say a field as gain x (clean clip - x), with a gain for each frame: where a patch has about as many
            values as a token, a clean clip is easier to say than a field that has the noise in it.
        mlp_ratio: how many times wider than a token the hidden layer of a block is.
        keep: mix what is said, value by value, with the given frame before (the first one, for frames before it) and
            with x: what stands still and what is clear of noise is copied instead of said again, and does not flicker.
            For models that say the clean clip.

    Raises:
        BadArgument: an argument is outside what is said here.
    """

    def __init__(
        self,
        channels: int = 3,
        patch_px: int = 8,
        width: int = 192,
        depth: int = 6,
        heads: int = 4,
        clock: str = "rotary",
        rate: bool = True,
        noise: str = "frame",
        classes: int = 0,
        text_bytes: int = 0,
        text_depth: int = 2,
        text_encoder: str | None = None,
        drive_channels: int = 0,
        drive_stride: int = 1,
        frames: int = 16,
        zero_positions: bool = False,
        motion: bool = False,
        trend: bool = False,
        pull: bool = False,
        mlp_ratio: float = 4.0,
        keep: bool = False,
    ):
        super().__init__()
        for name, value, known in (("clock", clock, CLOCKS), ("noise", noise, NOISES)):
            if value not in known:
                raise BadArgument(f"{name} is '{value}'; expected one of {', '.join(known)}")
        check_at_least(
            1, channels=channels, patch_px=patch_px, width=width, depth=depth, heads=heads, drive_stride=drive_stride
        )
        if not 1 <= width * mlp_ratio < float("inf"):
            raise BadArgument(f"mlp_ratio is {mlp_ratio:g}; expected one that leaves a hidden layer of 1 or more")
        check_at_least(0, classes=classes, text_bytes=text_bytes, text_depth=text_depth, drive_channels=drive_channels)
        if width % 4 or width % heads:
            raise BadArgument(f"width {width} and {heads} heads; expected a multiple of 4 that the heads divide")
        self.channels, self.patch_px, self.width, self.clock, self.noise = channels, patch_px, width, clock, noise
        self.classes, self.drive_channels, self.mlp_ratio = classes, drive_channels, mlp_ratio
        values = channels * patch_px**2
        self.embed = nn.Linear(values, width)
        self.known = nn.Parameter(torch.zeros(width))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.final_condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.project = nn.Linear(width, values)
        self.noise_embed = (
            nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width)) if noise != "hidden" else None
        )
        self.rate = RateEmbedding(width) if rate else None
        self.label = nn.Embedding(classes + 1, width) if classes else None  # the last stands for none
        self.text: ByteText | FrozenText | None = None
        if text_encoder:
            self.text = FrozenText(width, text_encoder)
        elif text_bytes:
            self.text = ByteText(width, text_bytes, text_depth)
        self.text_pool = nn.Linear(width, width) if self.text else None
        self.drive_patch_px = patch_px * drive_stride
        self.drive = nn.Linear(drive_channels * self.drive_patch_px**2, width) if drive_channels else None
        self.no_drive = nn.Parameter(torch.zeros(width)) if drive_channels else None
        self.rotary = SecondsRotary(width // heads) if clock in ("rotary", "both") else None
        added = clock in ("seconds", "both", "index")
        self.sines = SecondsEmbedding(width, textbook=clock == "index") if added else None
        self.frame_positions = FramePositions(width, frames, zero_init=zero_positions) if clock == "learned" else None
        self.motion = nn.Linear(values, width) if motion else None
        self.trend = nn.Linear(values * len(TREND_SECONDS), width) if trend else None
        self.pull = nn.Linear(width, 1) if pull else None
        self.keep = nn.Linear(width, 2 * values) if keep else None
        self._initialise()

    def _initialise(self) -> None:
        """Gates and output start at zero: at first the model says nothing and every block passes its input on."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        silent: list[Any] = [self.condition[1], self.final_condition[1], self.project]
        for layer in [*silent, self.motion, self.trend, self.pull, self.keep]:
            if layer is not None:
                nn.init.zeros_(layer.weight)
        if self.keep is not None:
            nn.init.constant_(self.keep.bias, KEPT_AT_FIRST)

    def forward(
        self,
        x: Video,
        *,
        seconds: Float64[Tensor, "batch time"],
        noise: Float[Tensor, "batch time"] | Float[Tensor, " batch"] | None = None,
        text: Sequence[str] | TextTokens | None = None,
        labels: Int64[Tensor, " batch"] | None = None,
        drive: Float[Tensor, "batch time drive_channels drive_height drive_width"] | None = None,
        drive_known: Bool[Tensor, "batch time"] | None = None,
        known: Bool[Tensor, "batch time"] | None = None,
        rate_known: Bool[Tensor, " batch"] | None = None,
    ) -> Video:
        """What the objective asks for (the clean clip, a velocity, a field), of the shape of x.

        Args:
            x: noisy frames.
            seconds: of each frame, rising.
            noise: level of each sample or frame, 0 clean to 1 noise; None where it is hidden.
            text: of each sample; "" and None stand for none. Or what `text`, the model's own reader, made of them.
            labels: class of each sample; -1 and None stand for none.
            drive: conditioning pictures.
            drive_known: frames that have one; all by default.
            known: frames that are given; theirs are clean in x.
            rate_known: samples whose seconds can be believed; all by default.

        Raises:
            BadArgument: sizes that do not fit, or a condition that this model does not take.
        """
        b, t, _, height, width = x.shape
        self._check(x, seconds, noise, labels, drive, text)
        patches = patched(x, self.patch_px)  # (b, t, patches, values)
        h = self.embed(patches)  # (b, t, patches, width)
        rows, columns = height // self.patch_px, width // self.patch_px
        h = h + grid_embedding(rows, columns, self.width).to(h)
        if known is not None:
            h = h + known[:, :, None, None] * self.known
        if (self.motion is not None or self.trend is not None) and t > 1:
            h = h + self._moving(patches, seconds, noise, known)
        if self.drive is not None and self.no_drive is not None:
            h = h + self._driven(drive, drive_known, x, h)
        h = self._clocked(h, seconds)
        condition, tokens = self._condition(h, seconds, noise, text, labels, rate_known)
        told = tokens.tokens.to(h.dtype) if tokens is not None else h.new_zeros(b, 0, self.width)
        turning = None
        if self.rotary is not None:
            turning = partial(rotated, turn=_with_text(self.rotary(seconds), told.shape[1], h.shape[2]))
        mask = None
        if tokens is not None and tokens.mask is not None:
            seen = torch.ones(b, t * h.shape[2], dtype=torch.bool, device=x.device)
            mask = torch.cat([tokens.mask, seen], 1)[:, None, None]
        six = self.condition(condition)
        if h.dtype == torch.float16:  # the sum of what blocks say may be more than 65504; what they read is normed
            h = h.float()
        for block in self.blocks:
            h = block(h, told, six, turning, mask)
        h = modulated(h, *self.final_condition(condition).chunk(2, -1))
        values = self.project(h)
        if self.keep is not None:
            values = _mixed(values, patches, known, self.keep(h).float().clamp_max(MOST_KEPT).exp())
        said = unpatched(values, self.patch_px, height, width)
        if self.pull is None:
            return said
        gain = self.pull(h.mean(2)).exp()[..., None, None]  # (b, t, 1, 1, 1)
        return gain * (said - x)

    # --- parts

    def _clocked(self, h: Tensor, seconds: Tensor) -> Tensor:
        """Add what tells the order or time of frames to the tokens, where it is added."""
        if self.sines is not None:
            times = seconds - seconds[:, :1] if self.clock != "index" else torch.arange(h.shape[1]).to(seconds)[None]
            return h + self.sines(times)[:, :, None].to(h.dtype)
        if self.frame_positions is not None:
            return h + self.frame_positions.at(h.shape[1])[..., 0].transpose(2, 3).to(h.dtype)
        return h

    def _moving(self, patches: Tensor, seconds: Tensor, noise: Tensor | None, known: Tensor | None) -> Tensor:
        """What tokens are told of how fast their patches change; untold the noise, given frames are clear."""
        clear = seconds.new_zeros(seconds.shape) if known is None else known.to(seconds)
        if noise is not None:
            clear = (1 - (noise if noise.ndim == 2 else noise[:, None])).to(seconds).expand(seconds.shape)
        told = patches.new_zeros(())
        if self.motion is not None:
            told = told + self.motion(changes(patches, seconds, clear))
        if self.trend is not None:
            told = told + self.trend(trends(patches, seconds, clear))
        return told

    def _driven(self, drive: Tensor | None, drive_known: Tensor | None, x: Tensor, h: Tensor) -> Tensor:
        assert self.drive is not None
        assert self.no_drive is not None
        if drive is None:  # blank pictures that count for nothing: every layer has a gradient in every process
            stride = self.drive_patch_px // self.patch_px
            drive = x.new_zeros(*x.shape[:2], self.drive_channels, *(side * stride for side in x.shape[-2:]))
            drive_known = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        led = self.drive(patched(drive, self.drive_patch_px).to(h.dtype))
        if led.shape != h.shape:
            raise BadArgument(
                f"drive is {tuple(drive.shape)}; expected pictures for each frame that give {h.shape[2]} patches of "
                f"{self.drive_patch_px} pixels"
            )
        if drive_known is None:
            return led
        return torch.where(drive_known[:, :, None, None], led, self.no_drive.to(h.dtype))

    def _condition(
        self,
        h: Tensor,
        seconds: Tensor,
        noise: Tensor | None,
        text: Sequence[str] | TextTokens | None,
        labels: Tensor | None,
        rate_known: Tensor | None,
    ) -> tuple[Float[Tensor, "batch time width"], TextTokens | None]:
        """What adaptive norm is told of each frame, and the text's tokens."""
        b, t = seconds.shape
        condition = h.new_zeros(b, t, self.width)
        if self.noise_embed is not None and noise is not None:
            levels = noise if noise.ndim == 2 else noise[:, None].expand(b, t)
            condition = condition + self.noise_embed(sinusoids(levels * 1000, 256).to(h.dtype))
        if self.rate is not None:
            believed = rate_known
            if t == 1:  # one frame has no interval
                intervals = torch.ones_like(seconds)
                believed = torch.zeros(b, dtype=torch.bool, device=seconds.device)
            else:
                intervals = frame_intervals(seconds)
            condition = condition + self.rate(intervals, believed).to(h.dtype)
        if self.label is not None:
            none = torch.full((b,), self.classes, device=h.device)
            chosen = none if labels is None else torch.where(labels < 0, none, labels)
            condition = condition + self.label(chosen)[:, None]
        tokens = None
        if self.text is not None and self.text_pool is not None:
            tokens = text if isinstance(text, TextTokens) else self.text(text if text is not None else ("",) * b)
            condition = condition + self.text_pool(tokens.pooled.to(h.dtype))[:, None]
        return condition, tokens

    def _check(
        self,
        x: Tensor,
        seconds: Tensor,
        noise: Tensor | None,
        labels: Tensor | None,
        drive: Tensor | None,
        text: Sequence[str] | TextTokens | None,
    ) -> None:
        b, t, c, _, _ = x.shape
        if c != self.channels:
            raise BadArgument(f"frames have {c} channels; this model takes {self.channels}")
        if seconds.shape != (b, t):
            raise BadArgument(f"seconds have shape {tuple(seconds.shape)}; expected {(b, t)}, one time per frame")
        if (noise is None) != (self.noise == "hidden"):
            raise BadArgument(f"noise is {'not ' if noise is None else ''}given; this model takes it '{self.noise}'")
        if noise is not None and noise.ndim == 2 and self.noise == "sample":
            raise BadArgument("noise has a level for each frame; this model takes one for each sample")
        if labels is not None and int(labels.max()) >= max(self.classes, 1):
            raise BadArgument(f"class {int(labels.max())} is unknown; this model has {self.classes}, from 0")
        if drive is not None and (self.drive is None or drive.shape[2] != self.drive_channels):
            raise BadArgument(f"drive has {drive.shape[2]} channels; this model takes {self.drive_channels}")
        if text is not None and len(text) != b:
            raise BadArgument(f"{len(text)} texts for {b} samples; expected one for each")
        if self.text is None and text is not None and (isinstance(text, TextTokens) or any(text)):
            raise BadArgument("this model reads no text")


def _mixed(
    said: Float[Tensor, "batch time patches values"],
    patches: Float[Tensor, "batch time patches values"],
    known: Bool[Tensor, "batch time"] | None,
    weights: Float[Tensor, "batch time patches two_values"],
) -> Float[Tensor, "batch time patches values"]:
    """What is said, what is there, and the given frame before if there is one, by weights; what is said counts once."""
    own, before = weights.chunk(2, -1)
    total, count = said + own * patches.float(), 1 + own
    if known is not None:
        before = before * known.any(1)[:, None, None, None]
        total, count = total + before * _given_before(patches, known), count + before
    return (total / count).to(said.dtype)


def _given_before(
    patches: Float[Tensor, "batch time patches values"], known: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time patches values"]:
    """Of each frame the last given one up to it, of those before the first given one that one."""
    places = torch.arange(known.shape[1], device=known.device)
    last = torch.where(known, places, 0).cummax(1).values
    first = known.int().argmax(1, keepdim=True)
    rows = torch.arange(len(known), device=known.device)[:, None]
    return patches[rows, torch.maximum(last, first)]


def _with_text(turn: Turn, text: int, patches: int) -> Turn:
    """Turns for the whole sequence: text stands at the clip's beginning, a frame's patches share its time."""
    cos, sin = (v.repeat_interleave(patches, 1) for v in (turn.cos, turn.sin))
    b, _, pairs = cos.shape
    return Turn(torch.cat([cos.new_ones(b, text, pairs), cos], 1), torch.cat([sin.new_zeros(b, text, pairs), sin], 1))
