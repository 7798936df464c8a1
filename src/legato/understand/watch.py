"""Follow a video with a reuse encoder and keep the account: what was recomputed, how long it took, how close it is."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.cuts import Cut
from legato.reuse.audit import Audit
from legato.reuse.cost import EncoderCost
from legato.reuse.encoder import Encoded, ReuseEncoder
from legato.reuse.fidelity import Calibration, CosineTally, calibrated_threshold, token_cosines
from legato.reuse.policy import MaxAge, Policy, Threshold
from legato.reuse.state import StreamState
from legato.video.frames import Frame

__all__ = ["Account", "FrameRecord", "watch"]


@dataclass(frozen=True)
class FrameRecord:
    """One frame of the account; times of the stages in milliseconds, the dense side only with compare.

    The latency runs from when the frame's decoding began until its features were there, with those of the
    frames encoded in the same pass.
    """

    seconds: float
    mode: str
    reason: str
    motion: float
    change: float
    tokens: int
    held_cosine: float
    decode_ms: float
    look_ms: float
    encode_ms: float
    latency_ms: float
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

    def compared_with_dense(
        self, record: FrameRecord, out: Encoded, frame: Frame, encoder: ReuseEncoder
    ) -> FrameRecord:
        """Run the dense encoder on the frame, tally the cosines, and return the record with both."""
        started = time.perf_counter()
        dense = encoder.dense(frame)
        dense_ms = (time.perf_counter() - started) * 1000
        cosines = token_cosines(out.tokens, dense[encoder.parts.prefix :])
        self.tokens_cosine.add(cosines)
        if out.cls is not None:
            self.cls_cosine.add(token_cosines(out.cls[None], dense[:1]))
        worst = float(cosines.quantile(0.01))
        return replace(record, dense_ms=dense_ms, token_cosine=float(cosines.mean()), token_cosine_p01=worst)

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
        latency = np.array([r.latency_ms for r in records] or [0.0])
        numbers: dict[str, Any] = {
            "frames": len(records),
            "duration_seconds": seconds[-1] - seconds[0] + interval if seconds else 0.0,
            "cuts": [{"frame": c.frame, "seconds": c.seconds} for c in self.cuts],
            "drifts": sum(r.reason == "drift" for r in records),
            "modes": {mode: sum(r.mode == mode for r in records) for mode in ("full", "partial", "hold")},
            "latency_ms": {
                "p50": float(np.percentile(latency, 50)),
                "p95": float(np.percentile(latency, 95)),
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

    def take(self, out: Encoded) -> bool:
        """Keep a frame if it was encoded densely; True when there are enough. A cut starts over."""
        if out.plan.mode != "full":
            return False
        if out.plan.reason == "cut":
            self.pictures, self.dense = [], []
        self.pictures.append(out.state.track.previous)
        self.dense.append(out.tokens)
        self.next_seconds = out.seconds + self.over_seconds / self.frames
        return len(self.pictures) >= self.frames

    def result(self, encoder: ReuseEncoder) -> Calibration:
        """The calibration over the frames kept."""
        return calibrated_threshold(
            self.pictures,
            self.dense,
            measure=encoder.lookout.measure,
            patch_px=encoder.parts.patch_px,
            fidelity=self.fidelity,
        )


def watch(
    frames: Iterable[Frame],
    encoder: ReuseEncoder,
    *,
    lookahead: int = 16,
    compare: bool = False,
    fidelity: float | None = None,
    account: Account | None = None,
) -> Iterator[tuple[Frame, Encoded]]:
    """Encode a stream and keep the account.

    Args:
        frames: in order; with compare they should not be prefetched, so that decoding is timed alone.
        encoder: carries the policy; with `fidelity` its threshold is replaced after the first second.
        lookahead: frames encoded in one pass: more is faster where little changes, 1 has the least latency.
        compare: also run the dense encoder on every frame, interleaved, and compare features.
        fidelity: mean token cosine to calibrate for on the first frames, None to keep the encoder's policy.
        account: filled as the frames go by.

    Yields:
        Each frame with its features.

    Raises:
        BadArgument: lookahead under 1, or fidelity not between 0 and 1.
    """
    if lookahead < 1:
        raise BadArgument(f"lookahead is {lookahead}; expected 1 frame or more")
    account = account if account is not None else Account(encoder.token_count)
    calibrator = _Calibrator(fidelity) if fidelity is not None else None
    cost = EncoderCost.of(encoder)
    state: StreamState | None = None
    recent: dict[float, int] = {}
    iterator = iter(frames)
    began = time.perf_counter()
    while chunk := list(_timed(iterator, 1 if calibrator else lookahead)):
        started = time.perf_counter()
        if calibrator and calibrator.wants(chunk[0][0].seconds):
            results = [encoder(chunk[0][0], state, refresh=True)]
        else:
            results = encoder.run([frame for frame, _ in chunk], state)
        state = results[-1].state
        if calibrator and calibrator.take(results[0]):
            account.calibration = calibrator.result(encoder)
            encoder = encoder.with_policy(with_threshold(encoder.policy, account.calibration.threshold))
            if encoder.audit is not None:
                encoder = encoder.with_audit(Audit.promising(calibrator.fidelity))
            calibrator = None
        pass_ms = (time.perf_counter() - started) * 1000
        look_ms = sum(out.look_seconds for out in results) * 1000
        waits_ms = list(accumulate((ms for _, ms in reversed(chunk)), initial=0.0))[:0:-1]
        for (frame, decode_ms), wait_ms, out in zip(chunk, waits_ms, results, strict=True):
            index = len(account.records)
            recent[frame.seconds] = index
            if len(recent) > 64:
                recent.pop(next(iter(recent)))
            record = FrameRecord(
                seconds=frame.seconds,
                mode=out.plan.mode,
                reason=out.plan.reason,
                motion=out.motion,
                change=float(out.change.mean()),
                tokens=len(out.plan.tokens),
                held_cosine=out.held_cosine,
                decode_ms=decode_ms,
                look_ms=out.look_seconds * 1000,
                encode_ms=(pass_ms - look_ms) / len(chunk),
                latency_ms=wait_ms + pass_ms,
            )
            account.records.append(account.compared_with_dense(record, out, frame, encoder) if compare else record)
            account.reuse_operations += cost.of_plan(out.plan)
            account.dense_operations += cost.dense
            if out.cut is not None:
                account.cuts.append(Cut(recent.get(out.cut.seconds, index), out.cut.seconds))
            if compare:
                account.wall_seconds += record.total_ms / 1000
            else:
                account.wall_seconds = time.perf_counter() - began
            yield frame, out
    if state is not None and encoder.lookout.cuts is not None:
        last = encoder.lookout.cuts.finish(state.track.cuts)
        if last is not None:
            account.cuts.append(Cut(recent.get(last.seconds, len(account.records) - 1), last.seconds))


def _timed(frames: Iterator[Frame], count: int) -> Iterator[tuple[Frame, float]]:
    """The next few frames, each with the milliseconds that it took to come."""
    for _ in range(count):
        started = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, (time.perf_counter() - started) * 1000


def with_threshold(policy: Policy, threshold: float) -> Policy:
    """The same policy at another threshold; what is no threshold policy is replaced by one under its age limit."""
    if isinstance(policy, MaxAge):
        return replace(policy, policy=with_threshold(policy.policy, threshold))
    if isinstance(policy, Threshold):
        return Threshold(threshold, policy.dilation, policy.strong)
    return Threshold(threshold)
