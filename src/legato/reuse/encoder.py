"""Encode a stream of frames with a stock vision encoder and recompute only what changed."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import BadArgument, StateMismatch
from legato.motion.change import ChangeMeasure, NoiseFloor, Relative
from legato.motion.cuts import AdaptiveCuts, Cut, CutDetector
from legato.reuse.attention import Rows, recomputing
from legato.reuse.audit import Audit, Tally
from legato.reuse.families import Parts, check_size, load_model, normalisation_of, parts_of
from legato.reuse.passes import ROWS_PER_PASS, Entry, Running, next_pass
from legato.reuse.plan import Plan
from legato.reuse.policy import MaxAge, Policy, Threshold
from legato.reuse.state import Memory, StreamState
from legato.reuse.track import Lookout, Sight, fitted, patches
from legato.video.frames import Frame

__all__ = ["Encoded", "ReuseEncoder"]

DEFAULT_THRESHOLD = 0.4
DEFAULT_MAX_AGE_SECONDS = 16.0
DEFAULT_TURNOVER = 20.0


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
        held_cosine: mean cosine of tokens recomputed on account of their age to what was held of them, over the
            last few: an estimate, for free, of how close held tokens are to the dense encoder's. 1 without any.
        state: give it to the stream's next call; the frames of one `run` share it.
        look_seconds: wall time of looking (resize, change, cut, plan).
        encode_seconds: wall time of the encoder, divided evenly among the frames of a call.
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
    held_cosine: float
    state: StreamState
    look_seconds: float
    encode_seconds: float


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
        audit: when held tokens count as stale, so that everything is recomputed; None to trust the policy.
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
        audit: Audit | None = Audit(),  # noqa: B008 - immutable
        measure: ChangeMeasure | None = None,
        cuts: CutDetector | None = AdaptiveCuts(),  # noqa: B008 - immutable
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    ):
        self.parts: Parts = parts_of(model)
        own = self.parts.model.config.image_size
        self.size_px: tuple[int, int] = size_px or ((own, own) if isinstance(own, int) else (own[0], own[1]))
        check_size(self.parts, self.size_px)
        depth = len(self.parts.layers)
        if layer is not None and not -depth - 1 <= layer <= depth:
            raise BadArgument(f"layer is {layer}; this model has hidden states 0 (embedding) to {depth}")
        self.layer = layer if layer is None or layer >= 0 else depth + 1 + layer
        self.lookout = Lookout(
            size_px=self.size_px,
            patch_px=self.parts.patch_px,
            policy=policy or MaxAge(Threshold(DEFAULT_THRESHOLD), DEFAULT_MAX_AGE_SECONDS, DEFAULT_TURNOVER),
            measure=measure or Relative(),
            noise_floor=NoiseFloor(),
            cuts=cuts,
        )
        self.audit = audit
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
        return self.lookout.grid

    @property
    def policy(self) -> Policy:
        """Which tokens to recompute."""
        return self.lookout.policy

    @property
    def token_count(self) -> int:
        """Number of patch tokens."""
        return self.grid[0] * self.grid[1]

    def with_policy(self, policy: Policy) -> "ReuseEncoder":
        """The same encoder, sharing the model, under another policy; states remain valid."""
        return self._changed(lookout=replace(self.lookout, policy=policy))

    def with_audit(self, audit: Audit | None) -> "ReuseEncoder":
        """The same encoder, sharing the model, under another audit; states remain valid."""
        return self._changed(audit=audit)

    def _changed(self, **attributes: Any) -> "ReuseEncoder":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **attributes)
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
        return self._advance([[frame]], [state], "refresh" if refresh else "")[0][0]

    def batch(self, frames: Sequence[Frame], states: Sequence[StreamState | None]) -> list[Encoded]:
        """Encode the next frame of each of several streams in one pass.

        The recomputed tokens of all streams lie end to end in one sequence, so nothing is padded; each
        attends to its own stream only.

        Args:
            frames: one frame per stream.
            states: one state per stream, None where it starts.

        Raises:
            BadArgument: not one state per frame.
            StateMismatch: a state was made by another encoder, layer, size or precision.
        """
        if len(frames) != len(states):
            raise BadArgument(f"{len(frames)} frames and {len(states)} states; expected one state per frame")
        return [encoded for (encoded,) in self._advance([[frame] for frame in frames], states)]

    def run(self, frames: Sequence[Frame], state: StreamState | None = None) -> list[Encoded]:
        """Encode the next few frames of one stream in one pass.

        The result is what one call after the other gives (to rounding), but the weights are read once for
        all frames, which is most of the work where little changes. The price is latency: wait for the
        frames. All results carry the state after the last frame.

        Args:
            frames: in order.
            state: what the last call returned; None starts a stream.

        Raises:
            StateMismatch: the state was made by another encoder, layer, size or precision.
        """
        return self._advance([list(frames)], [state])[0]

    def dense(self, frame: Frame) -> Float[Tensor, "all_tokens channels"]:
        """Encode a frame with the stock model alone: prefix and patch tokens of the chosen layer."""
        with torch.inference_mode():
            hidden = self._run_layers(self._embed_all(fitted(frame, self.size_px)), self._rotary)
        return hidden[0].clone()

    def _signature(self) -> str:
        sample = self.parts.projection.weight.detach().float().cpu().contiguous()
        digest = hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:12]
        kind = self.parts.model.config.model_type
        return f"{kind}-{digest} layer={self.layer} size={self.size_px[1]}x{self.size_px[0]} {self.dtype}"

    def _advance(
        self, streams: list[list[Frame]], states: Sequence[StreamState | None], refresh: str = ""
    ) -> list[list[Encoded]]:
        """Encode the next frames of several streams; every frame's result carries its stream's last state.

        `refresh` is the reason to recompute all of the first frame, if there is one.
        """
        for state in states:
            if state is not None and state.signature != self.signature:
                raise StateMismatch(
                    f"the state was made by '{state.signature}', this encoder is '{self.signature}'; "
                    "continue with the same model, layer, size and precision, or start with state None"
                )
        started = time.perf_counter()
        results: list[list[Encoded]] = [[] for _ in streams]
        waiting, current, reasons = [list(frames) for frames in streams], list(states), [refresh] * len(streams)
        looking = 0.0
        while any(waiting):
            with torch.inference_mode():
                sights = [self._look(*stream) for stream in zip(waiting, current, reasons, strict=True)]
                looking += sum(sight.look_seconds for seen in sights for sight in seen)
                running = [self._prepared(seen, state) for seen, state in zip(sights, current, strict=True)]
                self._encode(running)
            for number, stream in enumerate(running):
                done = stream.results
                results[number] += done
                waiting[number] = waiting[number][len(done) :]
                current[number] = done[-1].state if done else current[number]
                reasons[number] = "drift" if len(done) < len(sights[number]) else ""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        share = (time.perf_counter() - started - looking) / max(1, sum(map(len, streams)))
        return [[replace(out, encode_seconds=share, state=stream[-1].state) for out in stream] for stream in results]

    def _look(self, frames: list[Frame], state: StreamState | None, refresh: str) -> list[Sight]:
        """Look at the next frames of a stream, one after the other, until they fill a pass."""
        sights: list[Sight] = []
        track, rows = state.track if state else None, 0
        for frame in frames:
            if rows >= ROWS_PER_PASS:
                break
            sights.append(self.lookout.look(frame, track, refresh))
            track, refresh = sights[-1].track, ""
            rows += len(sights[-1].plan.tokens)
        return sights

    def _prepared(self, sights: list[Sight], state: StreamState | None) -> Running:
        """Tell every frame which rows are its own and whose keys and values it shares.

        The frames before the first full one write to a new version of the state's memory.
        """
        prefix, nothing = torch.arange(self.parts.prefix), torch.empty(0)
        before_full = takewhile(lambda sight: sight.plan.mode != "full", sights)
        touched = [sight.plan.tokens for sight in before_full if sight.plan.mode == "partial"]
        memory = state.memory if state else Memory([], axis=2)
        if touched:
            memory = memory.advance(torch.cat([prefix, torch.cat(touched).unique() + len(prefix)]).to(self.device))
        half = len(memory.tensors) // 2
        keys, values = memory.tensors[:half], memory.tensors[half:]
        entries = []
        for sight in sights:
            index: Tensor | None = torch.empty(0, dtype=torch.int64)
            count = 0
            if sight.plan.mode == "full":
                index, count = None, self.parts.prefix + self.token_count
                keys, values = [], []
            elif sight.plan.mode == "partial":
                index = torch.cat([prefix, sight.plan.tokens + len(prefix)]).to(self.device)
                count = len(index)
            entries.append(Entry(sight, Rows(count, index, keys, values, not sight.track.passed), nothing))
        tokens, tally = (state.tokens, state.tally) if state else (nothing, Tally())
        return Running(entries, tokens, memory, tally)

    def _encode(self, streams: list[Running]) -> None:
        """Encode all frames in passes of a bounded number of rows; a stream ends where its audit fails."""
        while now := next_pass(streams):
            busy = [entry for entry in now if entry.rows.count]
            if busy:
                hidden = torch.cat([self._embedded(entry.sight) for entry in busy], 1)
                with recomputing([entry.rows for entry in busy]):
                    fresh = self._run_layers(hidden, self._rotary_of([entry.rows.index for entry in busy]))
                for entry, part in zip(busy, fresh[0].split([entry.rows.count for entry in busy]), strict=True):
                    entry.fresh = part
            for stream in streams:
                while stream.entries and stream.entries[0] in now:
                    self._settle(stream, stream.entries.pop(0))

    def _settle(self, stream: Running, entry: Entry) -> None:
        """Scatter a frame's fresh rows and make its result, unless the audit fails: then the stream ends.

        What the caller gets are copies, out of the stream's reach.
        """
        sight, rows = entry.sight, entry.rows
        if rows.index is None:
            stream.tokens, stream.tally = entry.fresh, Tally()
            stream.memory = Memory(rows.keys + rows.values, axis=2)
        elif rows.count:
            if self.audit:
                patches_only = slice(self.parts.prefix, None)
                held = stream.tokens[rows.index[patches_only]]
                tally = self.audit.of(sight.plan, sight.change, entry.fresh[patches_only], held, stream.tally)
                if self.audit.failed(tally):
                    stream.entries = []
                    return
                stream.tally = tally
            stream.tokens = stream.tokens.index_copy(0, rows.index, entry.fresh)
        with torch.inference_mode(False), torch.no_grad():
            copy = stream.tokens.clone()
            pooled = self.parts.pool(copy[None])[0] if self.layer is None and self.parts.pool else None
        stream.results.append(
            Encoded(
                seconds=sight.track.seconds,
                tokens=copy[self.parts.prefix :],
                cls=copy[0] if self.parts.cls else None,
                pooled=pooled,
                age_seconds=sight.track.seconds - sight.track.recomputed_at,
                plan=sight.plan,
                change=sight.change,
                motion=sight.motion,
                cut=sight.cut,
                held_cosine=stream.tally.mean,
                state=StreamState(self.signature, sight.track, stream.tokens, stream.memory, stream.tally),
                look_seconds=sight.look_seconds,
                encode_seconds=0.0,
            )
        )

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

    def _rotary_of(self, indices: list[Tensor | None]) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of the rows of several frames, end to end."""
        if self._rotary is None:
            return None
        cos, sin = self._rotary
        picked = [(cos, sin) if index is None else (cos[index], sin[index]) for index in indices]
        return torch.cat([c for c, _ in picked]), torch.cat([s for _, s in picked])

    def _normalised(self, pixels: Tensor) -> Tensor:
        """uint8 pixels `(..., 3, height, width)` to the model's input."""
        return ((pixels.to(self.device).float() / 255 - self._mean) / self._std).to(self.dtype)

    def _embed_all(self, picture: Tensor) -> Tensor:
        return self.parts.embed(self._normalised(picture[None]))

    def _embedded(self, sight: Sight) -> Tensor:
        """Embed what a plan recomputes, `(1, rows, channels)`.

        The embedding of a patch is its projection plus what a blank picture's embedding holds at its place
        (position and bias), so no family needs code of its own.
        """
        if sight.plan.mode == "full":
            return self._embed_all(sight.picture)
        pixels = self._normalised(patches(sight.picture, sight.plan.tokens, self.parts.patch_px)).flatten(1)
        weight = self.parts.projection.weight.flatten(1)
        places = self._blank[self.parts.prefix + sight.plan.tokens.to(self.device)]
        return torch.cat([self._blank[: self.parts.prefix], torch.addmm(places, pixels, weight.T)])[None]
