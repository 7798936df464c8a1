"""Encode a stream of frames with a stock vision encoder and recompute only what changed."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import BadArgument, StateMismatch
from legato.motion.change import ChangeMeasure, NoiseFloor, Relative
from legato.motion.cuts import AdaptiveCuts, Cut, CutDetector
from legato.reuse.attention import Rows, recomputing
from legato.reuse.families import Parts, check_size, load_model, normalisation_of, parts_of
from legato.reuse.plan import Look, Plan
from legato.reuse.policy import MaxAge, Policy, Threshold
from legato.reuse.state import Memory, StreamState
from legato.video.frames import Frame

__all__ = ["Encoded", "ReuseEncoder"]

FULL_ABOVE = 0.9  # a partial pass over more than this share of the tokens costs what a full one does


@dataclass(frozen=True, eq=False)
class Encoded:
    """One frame's features.

    Attributes:
        seconds: time of the frame.
        tokens: patch features, `(rows * columns, channels)`, row-major.
        cls: the CLS token, `(channels,)`, or None where the model has none.
        pooled: the model's own pooled output, `(channels,)`; None with a chosen layer or without a pooler.
        age_seconds: time since each token's last recomputation, `float64 (rows * columns,)`.
        plan: what was done and why.
        change: what was measured, `(rows, columns)`; zeros where a stream starts.
        motion: mean absolute difference to the previous frame, 0 to 1; 0 for a first frame.
        cut: a cut that is certain now; it may lie a frame or two back.
        state: give it to the call for the stream's next frame.
        look_seconds: wall time of looking (resize, change, cut, plan).
        encode_seconds: wall time of the encoder itself, shared by the frames of a batch.
    """

    seconds: float
    tokens: Float[Tensor, "tokens channels"]
    cls: Float[Tensor, " channels"] | None
    pooled: Float[Tensor, " channels"] | None
    age_seconds: Float[Tensor, " tokens"]
    plan: Plan
    change: Float[Tensor, "rows columns"]
    motion: float
    cut: Cut | None
    state: StreamState
    look_seconds: float
    encode_seconds: float


@dataclass
class _Step:
    """A frame on its way through a batch."""

    frame: Frame
    picture: Tensor
    state: StreamState | None
    plan: Plan
    change: Tensor
    motion: float
    noise: float
    cuts: Any
    cut: Cut | None
    look_seconds: float
    memory: Memory | None = None
    rows: Rows | None = None


class ReuseEncoder:
    """A stock vision encoder that follows streams.

    State goes in and comes out, so one encoder serves any number of streams:

        encoder = ReuseEncoder.from_pretrained("facebook/dinov2-small")
        state = None
        for frame in open_video("street.mp4", size_px=encoder.size_px):
            out = encoder(frame, state)
            state = out.state

    Args:
        model: a transformers vision encoder of a supported family, used as it is.
        layer: which hidden state to return, as transformers counts them: 0 is the embedding, k the output
            of layer k, negative ones count from the end; None is the last hidden state, normed as the
            model norms it, with the pooled output.
        size_px: height and width that frames are resized to (the whole frame, nothing cropped).
        policy: which tokens to recompute.
        measure: how change is measured.
        cuts: detector whose proposals reset the stream at once; None for footage without cuts.
        normalisation: mean and standard deviation per channel of pixels in 0..1.

    Raises:
        UnsupportedModel: the model's family cannot be reused.
        BadArgument: size or layer do not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: int | None = None,
        size_px: tuple[int, int] | None = None,
        policy: Policy | None = None,
        measure: ChangeMeasure | None = None,
        cuts: CutDetector | None = AdaptiveCuts(),  # noqa: B008 - immutable
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    ):
        self.parts: Parts = parts_of(model)
        own = self.parts.model.config.image_size
        self.size_px = size_px or ((own, own) if isinstance(own, int) else (own[0], own[1]))
        check_size(self.parts, self.size_px)
        depth = len(self.parts.layers)
        if layer is not None and not -depth - 1 <= layer <= depth:
            raise BadArgument(f"layer is {layer}; this model has hidden states 0 (embedding) to {depth}")
        self.layer = layer if layer is None or layer >= 0 else depth + 1 + layer
        self.policy = policy or MaxAge(Threshold(0.05), seconds=2)
        self.measure = measure or Relative()
        self.noise_floor = NoiseFloor()
        self.cuts = cuts
        weight = self.parts.projection.weight
        self.device, self.dtype = weight.device, weight.dtype
        mean, std = normalisation or self.parts.normalisation
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(3, 1, 1)
        with torch.inference_mode():
            blank = torch.zeros(1, 3, *self.size_px, device=self.device, dtype=self.dtype)
            self._blank = self.parts.embed(blank)[0]
            self._arguments = self.parts.layer_arguments(*self.size_px)
            self._rotary = self._rotary_of_all_tokens()
        self.signature = self._signature()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        layer: int | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> "ReuseEncoder":
        """Load a bundled encoder, a local folder, or a model of the Hugging Face hub by name.

        Args:
            name_or_path: "legato-tiny", a folder with config.json, or a name such as "facebook/dinov2-small".
            layer: see the class.
            device: where the model runs.
            dtype: float32, bfloat16 or float16.
            options: further arguments of the class.

        Raises:
            ModelNotFound: there is no such model.
            UnsupportedModel: its family cannot be reused.
        """
        from legato.checkpoints import bundled

        found = bundled(str(name_or_path)) or str(name_or_path)
        model = load_model(found, dtype).to(device)
        options.setdefault("normalisation", normalisation_of(found))
        return cls(model, layer=layer, **options)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens."""
        return self.size_px[0] // self.parts.patch_px, self.size_px[1] // self.parts.patch_px

    @property
    def token_count(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    def with_policy(self, policy: Policy) -> "ReuseEncoder":
        """The same encoder, sharing the model, under another policy; states remain valid."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, policy=policy)
        return other

    def __call__(self, frame: Frame, state: StreamState | None = None, *, refresh: bool = False) -> Encoded:
        """Encode the next frame of a stream.

        Args:
            frame: any size; resized unless it has the encoder's.
            state: what the call for the previous frame returned; None starts a stream.
            refresh: recompute everything, whatever the policy says.

        Raises:
            StateMismatch: the state was made by another encoder, layer, size or precision.
        """
        return self.batch([frame], [state], refresh=refresh)[0]

    def batch(
        self, frames: Sequence[Frame], states: Sequence[StreamState | None], *, refresh: bool = False
    ) -> list[Encoded]:
        """Encode one frame of each of several streams in one pass.

        The recomputed tokens of all streams lie end to end in one sequence, so nothing is padded; each
        attends to its own stream only.

        Args:
            frames: one frame per stream.
            states: one state per stream, None where it starts.
            refresh: recompute everything, whatever the policy says.

        Raises:
            BadArgument: not one state per frame.
            StateMismatch: a state was made by another encoder, layer, size or precision.
        """
        if len(frames) != len(states):
            raise BadArgument(f"{len(frames)} frames and {len(states)} states; expected one state per frame")
        with torch.inference_mode():
            steps = [self._look(frame, state, refresh) for frame, state in zip(frames, states, strict=True)]
            started = time.perf_counter()
            active = [step for step in steps if step.plan.mode != "hold"]
            fresh = dict(zip(map(id, active), self._encode(active), strict=True)) if active else {}
            followed = [self._remember(step, fresh.get(id(step))) for step in steps]
        # outside of inference mode, so that what the caller gets are ordinary tensors
        features = [self._features(state) for state in followed]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elapsed = time.perf_counter() - started
        return [
            Encoded(
                seconds=state.seconds,
                tokens=tokens[self.parts.prefix :],
                cls=tokens[0] if self.parts.cls else None,
                pooled=pooled,
                age_seconds=state.seconds - state.recomputed_at,
                plan=step.plan,
                change=step.change,
                motion=step.motion,
                cut=step.cut,
                state=state,
                look_seconds=step.look_seconds,
                encode_seconds=elapsed,
            )
            for step, state, (tokens, pooled) in zip(steps, followed, features, strict=True)
        ]

    def dense(self, frame: Frame) -> Float[Tensor, "all_tokens channels"]:
        """Encode a frame with the stock model alone: prefix and patch tokens of the chosen layer."""
        with torch.inference_mode():
            hidden = self._run_layers(self._embed_all(self.fit(frame)), self._rotary)
        return hidden[0].clone()

    def fit(self, frame: Frame) -> Tensor:
        """Resize a frame's picture to the encoder's size, `uint8 (3, height, width)`."""
        if (frame.height, frame.width) == self.size_px:
            return frame.pixels
        height, width = self.size_px
        shrinks = frame.height > height and frame.width > width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.ascontiguousarray(frame.pixels.permute(1, 2, 0).numpy())
        return torch.from_numpy(cv2.resize(image, (width, height), interpolation=method)).permute(2, 0, 1)

    def _signature(self) -> str:
        sample = self.parts.projection.weight.detach().float().cpu().contiguous()
        digest = hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:12]
        kind = self.parts.model.config.model_type
        return f"{kind}-{digest} layer={self.layer} size={self.size_px[1]}x{self.size_px[0]} {self.dtype}"

    def _look(self, frame: Frame, state: StreamState | None, refresh: bool) -> _Step:
        started = time.perf_counter()
        if state is not None and state.signature != self.signature:
            raise StateMismatch(
                f"the state was made by '{state.signature}', this encoder is '{self.signature}'; "
                "continue with the same model, layer, size and precision, or start with state None"
            )
        picture = self.fit(frame)
        why_full = _why_start_over(frame, state)
        past = None if why_full else state
        cuts = cut = None
        if self.cuts is not None:
            seen = self.cuts.step(replace(frame, pixels=picture), past.cuts if past else None)
            cuts, cut = seen.state, seen.confirmed
            if past and seen.proposed:
                why_full = "cut"
        if refresh and not why_full:
            why_full = "refresh"
        change, noise, motion = torch.zeros(self.grid), 0.0, 0.0
        if past:
            patch_px, elapsed = self.parts.patch_px, frame.seconds - past.seconds
            noise, motion = self.noise_floor.step(picture, past.previous, patch_px, past.noise, elapsed)
            change = self.measure(picture, past.reference, patch_px, noise)
        if why_full or past is None:
            plan = Plan.full(self.token_count, why_full or "cold start")
        else:
            look = Look(frame.seconds, change, past.recomputed_at.view(self.grid))
            plan = Plan.of(self.policy.select(look), FULL_ABOVE)
        return _Step(frame, picture, state, plan, change, motion, noise, cuts, cut, time.perf_counter() - started)

    def _encode(self, steps: list[_Step]) -> list[Tensor]:
        """Run the layers over the rows of all steps; returns each step's fresh rows, `(rows, channels)`."""
        hidden, cosines = [], []
        for step in steps:
            if step.plan.mode == "full":
                step.rows = Rows(self.parts.prefix + self.token_count, None)
                hidden.append(self._embed_all(step.picture))
            else:
                assert step.state is not None
                index = torch.cat([torch.arange(self.parts.prefix), step.plan.tokens + self.parts.prefix])
                index = index.to(self.device)
                step.memory = step.state.memory.advance(index)
                half = len(step.memory.tensors) // 2
                step.rows = Rows(len(index), index, step.memory.tensors[:half], step.memory.tensors[half:])
                hidden.append(self._embed_rows(step.picture, step.plan.tokens))
            cosines.append(step.rows.index)
        rotary = self._rotary
        if rotary is not None:
            picked = [rotary if i is None else (rotary[0][i], rotary[1][i]) for i in cosines]
            rotary = (torch.cat([c for c, _ in picked]), torch.cat([s for _, s in picked]))
        rows = [step.rows for step in steps if step.rows is not None]
        with recomputing(rows):
            fresh = self._run_layers(torch.cat(hidden, 1), rotary)
        return list(fresh[0].split([r.count for r in rows]))

    def _run_layers(self, hidden: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Embedded tokens `(1, rows, channels)` to the chosen hidden state."""
        arguments = self._arguments if rotary is None else {**self._arguments, "position_embeddings": rotary}
        hidden = self.parts.after_embedding(hidden)
        for layer in self.parts.layers[: self.layer]:
            hidden = layer(hidden, **arguments)
        return self.parts.finish(hidden) if self.layer is None else hidden

    def _rotary_of_all_tokens(self) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of prefix and patch tokens; the prefix is turned by nothing."""
        if self.parts.rotary is None:
            return None
        cos, sin = self.parts.rotary(*self.size_px)
        still = cos.new_ones(self.parts.prefix, cos.shape[-1])
        return torch.cat([still, cos]), torch.cat([torch.zeros_like(still), sin])

    def _normalised(self, pixels: Tensor) -> Tensor:
        """uint8 pixels `(..., 3, height, width)` to the model's input."""
        return ((pixels.to(self.device).float() / 255 - self._mean) / self._std).to(self.dtype)

    def _embed_all(self, picture: Tensor) -> Tensor:
        return self.parts.embed(self._normalised(picture[None]))

    def _embed_rows(self, picture: Tensor, tokens: Tensor) -> Tensor:
        """Embed the prefix and the chosen patches, `(1, prefix + count, channels)`.

        The embedding of a patch is its projection plus what a blank picture's embedding holds at its place
        (position and bias), so no family needs code of its own.
        """
        patches = self._normalised(_patches(picture, tokens, self.parts.patch_px)).flatten(1)
        weight = self.parts.projection.weight.flatten(1)
        prefix = self._blank[: self.parts.prefix]
        places = self._blank[self.parts.prefix + tokens.to(self.device)]
        return torch.cat([prefix, torch.addmm(places, patches, weight.T)])[None]

    def _remember(self, step: _Step, fresh: Tensor | None) -> StreamState:
        """The stream's next state from a step and its fresh rows; None where the step holds."""
        seconds = step.frame.seconds
        source_size = (step.frame.height, step.frame.width)
        if fresh is None:
            assert step.state is not None
            return replace(
                step.state, seconds=seconds, previous=step.picture, noise=step.noise, cuts=step.cuts,
                source_size_px=source_size,
            )  # fmt: skip
        assert step.rows is not None
        if step.plan.mode == "full":
            tokens = fresh
            memory = Memory(step.rows.keys + step.rows.values, axis=2)
            reference = step.picture
            recomputed_at = torch.full((self.token_count,), seconds, dtype=torch.float64)
        else:
            assert step.state is not None
            assert step.memory is not None
            assert step.rows.index is not None
            memory = step.memory
            tokens = step.state.tokens.index_copy(0, step.rows.index, fresh)
            reference = _with_patches(step.state.reference, step.picture, step.plan.tokens, self.parts.patch_px)
            recomputed_at = step.state.recomputed_at.index_fill(0, step.plan.tokens, seconds)
        return StreamState(
            self.signature, seconds, source_size, reference, step.picture, tokens, recomputed_at, step.noise,
            step.cuts, memory,
        )  # fmt: skip

    @torch.no_grad()
    def _features(self, state: StreamState) -> tuple[Tensor, Tensor | None]:
        """Tokens and pooled output as the caller gets them: copies, so that the stream is out of his reach."""
        tokens = state.tokens.clone()
        pool = self.parts.pool if self.layer is None else None
        return tokens, pool(tokens[None])[0] if pool else None


def _why_start_over(frame: Frame, state: StreamState | None) -> str | None:
    """Why a frame cannot build on the state, or None where it can."""
    if state is None:
        return "cold start"
    if frame.seconds <= state.seconds:
        return "seek"
    if (frame.height, frame.width) != state.source_size_px:
        return "resolution change"
    return None


def _grid_of(picture: Tensor, patch_px: int) -> np.ndarray:
    """View a picture `(3, height, width)` as patches `(rows, columns, patch, patch, 3)`."""
    image = picture.permute(1, 2, 0).numpy()
    height, width, _ = image.shape
    return image.reshape(height // patch_px, patch_px, width // patch_px, patch_px, 3).swapaxes(1, 2)


def _patches(picture: Tensor, tokens: Tensor, patch_px: int) -> Tensor:
    """Gather patches of a picture, `uint8 (count, 3, patch, patch)`."""
    grid = _grid_of(picture, patch_px)
    rows, columns = np.divmod(tokens.numpy(), grid.shape[1])
    return torch.from_numpy(grid[rows, columns]).permute(0, 3, 1, 2)


def _with_patches(picture: Tensor, newer: Tensor, tokens: Tensor, patch_px: int) -> Tensor:
    """A copy of a picture with some patches taken from a newer one."""
    image = np.array(picture.permute(1, 2, 0).numpy())
    copy = torch.from_numpy(image).permute(2, 0, 1)
    grid = _grid_of(copy, patch_px)
    rows, columns = np.divmod(tokens.numpy(), grid.shape[1])
    grid[rows, columns] = _grid_of(newer, patch_px)[rows, columns]
    return copy
