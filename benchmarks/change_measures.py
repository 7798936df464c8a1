"""Which way to measure the change of a patch's picture predicts the change of its features?

    python benchmarks/change_measures.py --videos FILES ... --model build/vit-s14 --layer 9 --size 392 --json OUT.json

Pairs of frames 1 to 16 apart are encoded densely. For each form: rank correlation of its value with the token's
feature change (1 - cosine) over all pairs, and the share of all feature change that is left when the tenth or the
quarter of tokens with the largest value are recomputed.
"""

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import transformers
from about import save

from legato.reuse import ReuseEncoder
from legato.reuse.fidelity import token_cosines
from legato.video import open_video

Statistics = dict[str, np.ndarray]
FORMS: dict[str, Callable[[Statistics], np.ndarray]] = {
    "mean absolute": lambda s: s["mae"],
    "root mean square": lambda s: s["rms"],
    "share over 10 of 255": lambda s: s["share"] + 1e-6 * s["rms"],
    "rms / (brightness + 30)": lambda s: s["rms"] / (s["brightness"] + 30),
    "rms / (contrast + 16)": lambda s: s["rms"] / (s["contrast"] + 16),
    "rms + neighbours / 2": lambda s: s["rms"] + s["near"] / 2,
    "(rms + neighbours / 2) / (contrast + 16)": lambda s: (s["rms"] + s["near"] / 2) / (s["contrast"] + 16),
}


def statistics(a: np.ndarray, b: np.ndarray, patch_px: int) -> Statistics:
    """Per-patch statistics of two pictures `(height, width, 3)`, in grey levels, straightforwardly in float32."""

    def pooled(image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        return image.reshape(height // patch_px, patch_px, width // patch_px, patch_px).mean((1, 3))

    a, b = a.astype(np.float32), b.astype(np.float32)
    difference, grey = np.abs(a - b), b.mean(-1)
    rms = np.sqrt(pooled((difference**2).mean(-1)))
    brightness = pooled(grey)
    found = {
        "mae": pooled(difference.mean(-1)),
        "rms": rms,
        "share": pooled((np.sqrt((difference**2).sum(-1)) > 10).astype(np.float32)),
        "near": cv2.blur(rms, (3, 3)),
        "brightness": brightness,
        "contrast": np.sqrt(np.maximum(pooled(grey**2) - brightness**2, 0)),
    }
    return {name: value.ravel() for name, value in found.items()}


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="legato-tiny")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=20, help="every other frame from the start, this many")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    encoder = ReuseEncoder.from_pretrained(args.model, layer=args.layer, size_px=(args.size, args.size))
    prefix, patch_px = encoder.parts.prefix, encoder.parts.patch_px
    every: list[Statistics] = []
    changes: list[np.ndarray] = []
    for path in args.videos:
        with open_video(path, size_px=encoder.size_px) as video:
            frames = list(islice(video, 0, 2 * args.frames, 2))
        images = [f.pixels.permute(1, 2, 0).numpy() for f in frames]
        dense = [encoder.dense(f)[prefix:] for f in frames]
        for lag in (1, 2, 4, 8, 16):
            for i in range(0, len(frames) - lag, 3):
                every.append(statistics(images[i], images[i + lag], patch_px))
                changes.append(1 - token_cosines(dense[i], dense[i + lag]).numpy())
    joined = {name: np.concatenate([s[name] for s in every]) for name in every[0]}
    change = np.concatenate(changes)
    rows = []
    print(f"{'form':42s} {'rank corr.':>10s} {'left at 10 %':>13s} {'left at 25 %':>13s}")
    for name, form in FORMS.items():
        value = form(joined)
        order = np.argsort(-value)
        done = np.cumsum(change[order]) / change.sum()
        left = [float(1 - done[int(share * len(order))]) for share in (0.10, 0.25)]
        correlation = float(np.corrcoef(ranks(value), ranks(change))[0, 1])
        rows.append({"form": name, "rank_correlation": correlation, "left_at_10": left[0], "left_at_25": left[1]})
        print(f"{name:42s} {correlation:10.3f} {left[0]:13.3f} {left[1]:13.3f}")
    settings = {"model": args.model, "layer": args.layer, "size": args.size, "frames": args.frames}
    save(args.json, {"rows": rows}, clips=[p.stem for p in args.videos], **settings)


if __name__ == "__main__":
    main()
