"""Speed and fidelity of token reuse on real clips, against the ways people do without it.

    python recipes/teacher.py --out build/vit-s14
    python benchmarks/reuse.py --videos DIR [DIR ...] --model build/vit-s14 --layer 9 --size 392 --json OUT.json

Every method sees the same frames in one process: a few frames are decoded, then the dense encoder and all
methods take their turn on them, so that a busy machine slows all alike. A speed-up is end to end: decoding is
added to both sides, looking and scattering to the side of reuse. Fidelity is the cosine of patch tokens to the
dense encoder's, over all frames and tokens: mean and 1st percentile.

Methods: `ours` thresholds change against the content at last recomputation; `hierarchical` hands out a token
budget; `frame-to-frame` thresholds change against the previous frame (drifts); `random` recomputes an equal
share at random; `hold N` encodes every N-th frame and holds it.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import transformers
from about import save

from legato.reuse import Audit, Hierarchical, MaxAge, RandomFraction, ReuseEncoder, Threshold
from legato.reuse.cost import EncoderCost
from legato.reuse.encoder import DEFAULT_MAX_AGE_SECONDS, DEFAULT_THRESHOLD, DEFAULT_TURNOVER
from legato.reuse.fidelity import CosineTally, token_cosines
from legato.video import Frame, open_video

CHUNK = 16
MEAN, P01 = 0.98, 0.85  # what a method has to reach before its speed counts
SUFFIXES = {".mp4", ".mkv", ".avi", ".webm", ".mov"}


@dataclass
class Method:
    """One way to encode a stream, and its running account."""

    name: str
    encoder: ReuseEncoder
    drifts: bool = False
    state: object = None
    tally: CosineTally = field(default_factory=CosineTally)
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    operations: int = 0

    def take(self, frames: list[Frame], dense: list[torch.Tensor], cost: EncoderCost) -> None:
        if self.drifts:  # every frame becomes the reference of the next, so frames go one by one
            results = []
            for frame in frames:
                started = time.perf_counter()
                results.append(self.encoder(frame, self.state))
                track = results[-1].state.track
                self.state = replace(results[-1].state, track=replace(track, reference=track.previous))
                self.seconds.append(time.perf_counter() - started)
        else:
            started = time.perf_counter()
            results = self.encoder.run(frames, self.state)
            self.state = results[-1].state
            self.seconds.append(time.perf_counter() - started)
        for out, expected in zip(results, dense, strict=True):
            self.tally.add(token_cosines(out.tokens, expected))
            self.tokens += len(out.plan.tokens)
            self.operations += cost.of_plan(out.plan)


def methods(encoder: ReuseEncoder, max_age: float, quick: bool) -> list[Method]:
    thresholds = [0.3, 0.4, 0.6, 0.9] if quick else [0.15, 0.25, 0.4, 0.5, 0.6, 0.8, 1.2]
    made = [
        Method(f"ours {t}", encoder.with_policy(MaxAge(Threshold(t), max_age, DEFAULT_TURNOVER))) for t in thresholds
    ]
    for floor in (0.94, 0.97):
        usual = encoder.with_policy(MaxAge(Threshold(DEFAULT_THRESHOLD), max_age, DEFAULT_TURNOVER))
        made.append(Method(f"ours {DEFAULT_THRESHOLD}, audit {floor}", usual.with_audit(Audit(floor))))
    encoder = encoder.with_audit(None)
    for fraction in [0.1] if quick else [0.05, 0.15, 0.4]:
        made.append(
            Method(
                f"hierarchical {fraction}",
                encoder.with_policy(MaxAge(Hierarchical(fraction), max_age, DEFAULT_TURNOVER)),
            )
        )
        made.append(Method(f"random {fraction}", encoder.with_policy(RandomFraction(fraction))))
    made.append(Method("frame-to-frame 0.4", encoder.with_policy(Threshold(0.4)), drifts=True))
    return made


def chunks(path: Path, size_px: tuple[int, int], limit: int) -> Iterator[tuple[list[Frame], float]]:
    """A few frames at a time, with the seconds it took to decode them."""
    with open_video(path, size_px=size_px) as video:
        frames = islice(video, limit)
        while True:
            started = time.perf_counter()
            chunk = list(islice(frames, CHUNK))
            if not chunk:
                return
            yield chunk, time.perf_counter() - started


def measure_clip(path: Path, encoder: ReuseEncoder, limit: int, max_age: float, quick: bool) -> dict[str, object]:
    cost, prefix = EncoderCost.of(encoder), encoder.parts.prefix
    tried = methods(encoder, max_age, quick)
    strides = [2, 3, 4, 6, 8, 12, 16, 24, 32]
    held: dict[int, tuple[CosineTally, torch.Tensor | None]] = {n: (CosineTally(), None) for n in strides}
    decode = dense_seconds = 0.0
    count = 0
    for chunk, decoding in chunks(path, encoder.size_px, limit):
        decode += decoding
        started = time.perf_counter()
        dense = [encoder.dense(frame)[prefix:] for frame in chunk]
        dense_seconds += time.perf_counter() - started
        for method in tried:
            method.take(chunk, dense, cost)
        for tokens in dense:
            for stride, (tally, last) in held.items():
                last = tokens if count % stride == 0 else last
                tally.add(token_cosines(last, tokens))
                held[stride] = (tally, last)
            count += 1
    rows = []
    for method in tried:
        spent = sum(method.seconds)
        rows.append(
            {
                "method": method.name,
                "share": method.tokens / (encoder.token_count * count),
                "mean": method.tally.mean,
                "p01": method.tally.quantile(0.01),
                "speedup": (decode + dense_seconds) / (decode + spent),
                "encoder_speedup": dense_seconds / spent,
                "ceiling": cost.dense * count / max(1, method.operations),
            }
        )
    for stride, (tally, _) in held.items():
        encoded = -(-count // stride)
        part = dense_seconds * encoded / count
        speed = {"speedup": (decode + dense_seconds) / (decode + part), "encoder_speedup": dense_seconds / part}
        rows.append(
            {"method": f"hold {stride}", "share": 1 / stride, "mean": tally.mean, "p01": tally.quantile(0.01), **speed}
        )
    return {
        "clip": path.stem,
        "frames": count,
        "decode_ms": decode / count * 1000,
        "dense_ms": dense_seconds / count * 1000,
        "rows": rows,
    }


def best(rows: list[dict[str, object]], prefix: str, p01: float = P01, mean: float = MEAN) -> dict[str, object] | None:
    """The fastest row of a method that reaches the fidelity."""
    good = [r for r in rows if r["method"].startswith(prefix) and r["mean"] >= mean and r["p01"] >= p01]
    return max(good, key=lambda r: r["speedup"], default=None)


def print_clip(group: str, clip: dict[str, object]) -> None:
    costs = f"decode {clip['decode_ms']:.1f} ms, dense {clip['dense_ms']:.0f} ms"
    print(f"\n{group}/{clip['clip']}: {clip['frames']} frames, {costs}")
    print(f"  {'method':22s} {'share':>6s} {'mean':>7s} {'p01':>6s} {'speed-up':>9s} {'encoder':>8s} {'ceiling':>8s}")
    for r in clip["rows"]:
        ceiling = f"{r['ceiling']:8.1f}" if "ceiling" in r else ""
        fidelity = f"{r['share']:6.1%} {r['mean']:7.4f} {r['p01']:6.3f}"
        print(f"  {r['method']:22s} {fidelity} {r['speedup']:9.2f} {r['encoder_speedup']:8.2f} {ceiling}")
    ours = best(clip["rows"], "ours")
    if ours is None:
        print(f"  -> no threshold reaches mean {MEAN} and p01 {P01}: dense, 1.00 x")
        return
    hold = best(clip["rows"], "hold", p01=ours["p01"], mean=0)
    rival = f"hold at its p01 {hold['speedup']:.2f} x ({hold['method']})" if hold else "no stride holds its p01"
    print(f"  -> {ours['method']}: {ours['speedup']:.2f} x; {rival}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True, help="folders (one class each) or files")
    parser.add_argument("--model", default="legato-tiny")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--max-frames", type=int, default=160)
    parser.add_argument("--max-age", type=float, default=DEFAULT_MAX_AGE_SECONDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    size = {"size_px": (args.size, args.size)} if args.size else {}
    transformers.utils.logging.disable_progress_bar()
    encoder = ReuseEncoder.from_pretrained(args.model, layer=args.layer, **size)
    groups: dict[str, list[dict[str, object]]] = {}
    for place in args.videos:
        files = sorted(p for p in place.iterdir() if p.suffix in SUFFIXES) if place.is_dir() else [place]
        for path in files:
            clip = measure_clip(path, encoder, args.max_frames, args.max_age, args.quick)
            groups.setdefault(path.parent.name, []).append(clip)
            print_clip(path.parent.name, clip)
    print(f"\nGeometric mean of the fastest threshold at mean >= {MEAN} and p01 >= {P01} (1.0 where none reaches it):")
    summary = {}
    for group, clips in groups.items():
        speeds = [(best(c["rows"], "ours") or {"speedup": 1.0})["speedup"] for c in clips]
        usual = [next(r for r in c["rows"] if r["method"] == f"ours {DEFAULT_THRESHOLD}") for c in clips]
        summary[group] = {
            "best": float(np.exp(np.mean(np.log(speeds)))),
            "default": float(np.exp(np.mean(np.log([r["speedup"] for r in usual])))),
            "default_mean": float(np.mean([r["mean"] for r in usual])),
            "default_worst_p01": min(r["p01"] for r in usual),
        }
        told = "{best:5.2f} x; by default {default:5.2f} x, mean {default_mean:.4f}, p01 from {default_worst_p01:.3f}"
        print(f"  {group:12s} {told.format(**summary[group])} ({len(clips)} clips)")
    save(
        args.json, {"geometric_mean": summary, "classes": groups},
        model=args.model, layer=args.layer, size=args.size, max_frames=args.max_frames, max_age_seconds=args.max_age,
        turnover=DEFAULT_TURNOVER,
    )  # fmt: skip


if __name__ == "__main__":
    main()
