"""Follow a video with a reuse encoder and keep the account: what was recomputed, how long it took, how close it is."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legato.motion.cuts import Cut
from legato.reuse.cost import EncoderCost
from legato.reuse.encoder import Encoded, ReuseEncoder
from legato.reuse.fidelity import Calibration, CosineTally, calibrated_threshold, token_cosines
from legato.reuse.policy import MaxAge, Policy, Threshold
from legato.reuse.state import StreamState
from legato.video.frames import Frame

__all__ = ["Account", "FrameRecord", "watch"]


@dataclass(frozen=True)
class FrameRecord:
    """One frame of the account; times of the stages in milliseconds, the dense side only with compare."""

    seconds: float
    mode: str
    reason: str
    motion: float
    change: float
    tokens: int
    decode_ms: float
    look_ms: float
    encode_ms: float
    dense_ms: float | None = None
    token_cosine: float | None = None
    token_cosine_p01: float | None = None

    @property
    def total_ms(self) -> float:
        """Decode, look and encode."""
        return self.decode_ms + self.look_ms + self.encode_ms


@dataclass
class Account:
    """What a run over one video did.

    Attributes:
        token_count: patch tokens per frame.
        records: one per frame.
        cuts: first frame of each new shot.
        calibration: what the fidelity calibration found, if one ran.
        tokens_cosine: tally of token cosines to the dense encoder, with compare.
        cls_cosine: tally of the CLS token's cosines, with compare.
        reuse_operations: multiply-adds of all plans.
        dense_operations: multiply-adds of the dense encoder on the same frames.
        wall_seconds: time of the reuse side; with compare the sum of its stages.
        interrupted: whether the run was stopped early.
    """

    token_count: int
    records: list[FrameRecord] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    calibration: Calibration | None = None
    tokens_cosine: CosineTally = field(default_factory=CosineTally)
    cls_cosine: CosineTally = field(default_factory=CosineTally)
    reuse_operations: int = 0
    dense_operations: int = 0
    wall_seconds: float = 0.0
    interrupted: bool = False

    @property
    def compared(self) -> bool:
        """Whether the dense encoder ran beside."""
        return any(r.dense_ms is not None for r in self.records)

    @property
    def tokens_recomputed(self) -> int:
        """Patch tokens recomputed over all frames."""
        return sum(r.tokens for r in self.records)

    @property
    def recomputed_share(self) -> float:
        """Share of all patch tokens of all frames that were recomputed."""
        return self.tokens_recomputed / max(1, self.token_count * len(self.records))

    def summary(self) -> dict[str, Any]:
        """The account as plain numbers, for `--json` and the report."""
        records = self.records
        seconds = [r.seconds for r in records]
        interval = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
        total = np.array([r.total_ms for r in records] or [0.0])
        numbers: dict[str, Any] = {
            "frames": len(records),
            "duration_seconds": seconds[-1] - seconds[0] + interval if seconds else 0.0,
            "cuts": [{"frame": c.frame, "seconds": c.seconds} for c in self.cuts],
            "modes": {mode: sum(r.mode == mode for r in records) for mode in ("full", "partial", "hold")},
            "latency_ms": {
                "p50": float(np.percentile(total, 50)),
                "p95": float(np.percentile(total, 95)),
                "frame_interval": interval * 1000,
            },
            "tokens_total": self.token_count * len(records),
            "tokens_recomputed": self.tokens_recomputed,
            "recomputed_share": self.recomputed_share,
            "wall_seconds": self.wall_seconds,
            "frames_per_second": len(records) / self.wall_seconds if self.wall_seconds else 0.0,
            "interrupted": self.interrupted,
        }
        if self.calibration is not None:
            numbers["calibration"] = vars(self.calibration)
        if self.compared:
            dense = [r for r in records if r.dense_ms is not None]
            dense_encode = sum(r.dense_ms or 0.0 for r in dense) / 1000
            reuse_encode = sum(r.look_ms + r.encode_ms for r in dense) / 1000
            dense_wall = dense_encode + sum(r.decode_ms for r in dense) / 1000
            numbers |= {
                "dense_wall_seconds": dense_wall,
                "speedup": dense_wall / self.wall_seconds,
                "encoder_speedup": dense_encode / reuse_encode,
                "ceiling": self.dense_operations / max(1, self.reuse_operations),
                "token_cosine_mean": self.tokens_cosine.mean,
                "token_cosine_p01": self.tokens_cosine.quantile(0.01),
                "cls_cosine_mean": self.cls_cosine.mean,
            }
        numbers["per_frame"] = [{k: v for k, v in vars(r).items() if v is not None} for r in records]
        return numbers


class _Calibrator:
    """Encodes every n-th of the first frames densely, then says which threshold keeps the promise."""

    def __init__(self, fidelity: float, frames: int = 8, over_seconds: float = 1.0):
        self.fidelity = fidelity
        self.frames = frames
        self.over_seconds = over_seconds
        self.pictures: list[Tensor] = []
        self.dense: list[Tensor] = []
        self.next_seconds = -float("inf")

    def wants(self, seconds: float) -> bool:
        """Whether this frame should be encoded in full."""
        return seconds >= self.next_seconds

    def take(self, picture: Tensor, tokens: Tensor, seconds: float) -> bool:
        """Keep a densely encoded frame; True when there are enough."""
        self.pictures.append(picture)
        self.dense.append(tokens)
        self.next_seconds = seconds + self.over_seconds / self.frames
        return len(self.pictures) >= self.frames

    def restart(self) -> None:
        """Forget what was kept: a cut came in between."""
        self.pictures, self.dense = [], []

    def result(self, encoder: ReuseEncoder) -> Calibration:
        """The calibration over the frames kept."""
        return calibrated_threshold(
            self.pictures,
            self.dense,
            measure=encoder.measure,
            patch_px=encoder.parts.patch_px,
            fidelity=self.fidelity,
        )


def watch(
    frames: Iterable[Frame],
    encoder: ReuseEncoder,
    *,
    compare: bool = False,
    fidelity: float | None = None,
    account: Account | None = None,
) -> Iterator[tuple[Frame, Encoded]]:
    """Encode a stream frame by frame and keep the account.

    Args:
        frames: in order; with compare they should not be prefetched, so that decoding is timed alone.
        encoder: carries the policy; with `fidelity` its threshold is replaced after the first second.
        compare: also run the dense encoder on every frame, interleaved, and compare features.
        fidelity: mean token cosine to calibrate for on the first frames, None to keep the encoder's policy.
        account: filled as the frames go by.

    Yields:
        Each frame with its features.
    """
    account = account if account is not None else Account(encoder.token_count)
    cost = EncoderCost.of(encoder)
    calibrator = _Calibrator(fidelity) if fidelity is not None else None
    state: StreamState | None = None
    recent: dict[float, int] = {}
    iterator = iter(frames)
    began = time.perf_counter()
    while True:
        started = time.perf_counter()
        frame = next(iterator, None)
        if frame is None:
            break
        decode_seconds = time.perf_counter() - started
        index = len(account.records)
        recent[frame.seconds] = index
        if len(recent) > 64:
            recent.pop(next(iter(recent)))

        extra = 0.0
        wants_full = calibrator is not None and calibrator.wants(frame.seconds)
        out = encoder(frame, state, refresh=wants_full)
        state = out.state
        if calibrator is not None and out.plan.mode == "full":
            started = time.perf_counter()
            if out.plan.reason == "cut":
                calibrator.restart()
            if calibrator.take(out.state.previous, out.tokens, frame.seconds):
                account.calibration = calibrator.result(encoder)
                encoder = encoder.with_policy(with_threshold(encoder.policy, account.calibration.threshold))
                calibrator = None
            extra = time.perf_counter() - started

        dense_ms = cosine = cosine_p01 = None
        if compare:
            started = time.perf_counter()
            dense = encoder.dense(frame)
            dense_ms = (time.perf_counter() - started) * 1000
            prefix = encoder.parts.prefix
            cosines = token_cosines(out.tokens, dense[prefix:])
            account.tokens_cosine.add(cosines)
            if out.cls is not None:
                account.cls_cosine.add(token_cosines(out.cls[None], dense[:1]))
            cosine, cosine_p01 = float(cosines.mean()), float(cosines.quantile(0.01))
        if out.cut is not None:
            account.cuts.append(Cut(recent.get(out.cut.seconds, index), out.cut.seconds))
        account.reuse_operations += cost.of_plan(out.plan)
        account.dense_operations += cost.dense
        account.records.append(
            FrameRecord(
                seconds=frame.seconds,
                mode=out.plan.mode,
                reason=out.plan.reason,
                motion=out.motion,
                change=float(out.change.mean()),
                tokens=len(out.plan.tokens),
                decode_ms=decode_seconds * 1000,
                look_ms=out.look_seconds * 1000,
                encode_ms=(out.encode_seconds + extra) * 1000,
                dense_ms=dense_ms,
                token_cosine=cosine,
                token_cosine_p01=cosine_p01,
            )
        )
        if compare:
            account.wall_seconds += account.records[-1].total_ms / 1000
        else:
            account.wall_seconds = time.perf_counter() - began
        yield frame, out
    if state is not None and encoder.cuts is not None:
        last = encoder.cuts.finish(state.cuts)
        if last is not None:
            account.cuts.append(Cut(recent.get(last.seconds, len(account.records) - 1), last.seconds))


def with_threshold(policy: Policy, threshold: float) -> Policy:
    """The same policy at another threshold; what is no threshold policy is replaced by one under its age limit."""
    if isinstance(policy, MaxAge):
        return MaxAge(with_threshold(policy.policy, threshold), policy.seconds)
    if isinstance(policy, Threshold):
        return Threshold(threshold, policy.dilation, policy.strong)
    return Threshold(threshold)
