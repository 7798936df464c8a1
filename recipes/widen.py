"""A trained VideoDiT made twice as wide: at first it says about what it said, and what is new is there to be trained.

    python recipes/widen.py physics-flow --mlp-ratio 2 --out build/physics-wide

Every channel of a token gets a twin with the same content, so layer norm reads what it read, and nothing listens to the
twins yet (after Chen et al. 2016, Net2Net). New heads and hidden units begin at random, and unheard. Only the sines of
seconds and of places that are added to tokens differ a little: their frequencies lie closer together. It knows the
models of the physics recipes: without text or drive.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from legato.generate import VideoDiT, VideoGenerator


def twins(weights: Tensor, parts: int = 1) -> Tensor:
    """Rows for channels and their twins, side by side, in each of so many equal parts."""
    return torch.cat([part.repeat_interleave(2, 0) for part in weights.chunk(parts)])


def unheard(new: Tensor, old: Tensor) -> Tensor:
    """Columns for channels, and zeros for their twins."""
    out = torch.zeros_like(new)
    out[..., ::2] = old
    return out


def block(new: dict[str, Tensor], old: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """Weights of one block by name."""
    out = dict(new)
    hidden = old["mlp.rise.bias"].shape[0]
    out["offset"] = twins(old["offset"], 6)
    for at in range(3):  # queries, keys, values: the old heads come first
        rows, had = slice(2 * width * at, 2 * width * at + width), slice(width * at, width * (at + 1))
        for name in ("attention.qkv.weight", "attention.qkv.bias"):
            fresh, kept = out[name].clone(), old[name][had]
            fresh[rows] = unheard(fresh[rows], kept) if kept.ndim == 2 else kept
            out[name] = fresh
    for name, size in (("attention.out", width), ("mlp.fall", hidden)):
        weights = torch.zeros_like(new[f"{name}.weight"])
        weights[:, :size] = twins(old[f"{name}.weight"])
        out[f"{name}.weight"], out[f"{name}.bias"] = weights, twins(old[f"{name}.bias"])
    rise, bias = out["mlp.rise.weight"].clone(), out["mlp.rise.bias"].clone()
    rise[:hidden], bias[:hidden] = unheard(rise[:hidden], old["mlp.rise.weight"]), old["mlp.rise.bias"]
    out["mlp.rise.weight"], out["mlp.rise.bias"] = rise, bias
    out |= {name: old[name] for name in ("attention.q_norm.weight", "attention.k_norm.weight")}
    return out


def widened(model: VideoDiT, mlp_ratio: float) -> VideoDiT:
    """The model with twice the width and heads."""
    config = dict(model._hub_mixin_config)
    wide = VideoDiT(**config | {"width": 2 * model.width, "heads": 2 * config["heads"], "mlp_ratio": mlp_ratio})
    if wide.blocks[0].mlp.rise.out_features < model.blocks[0].mlp.rise.out_features:  # type: ignore[union-attr]
        raise SystemExit(f"--mlp-ratio {mlp_ratio:g} leaves a smaller hidden layer than the model has")
    old, new, width = model.state_dict(), wide.state_dict(), model.width
    out: dict[str, Tensor] = {}
    for name, fresh in new.items():
        top = name.split(".")[0]
        if top == "blocks":
            continue
        if top in ("embed", "motion", "trend", "known"):  # what tokens are made of
            out[name] = twins(old[name])
        elif top in ("condition", "final_condition"):
            rows = twins(old[name], 6 if top == "condition" else 2)
            out[name] = unheard(fresh, rows) if fresh.ndim == 2 else rows
        elif top == "project":
            out[name] = unheard(fresh, old[name]) if fresh.ndim == 2 else old[name]
        elif name in ("rate.unknown", "label.weight"):
            out[name] = unheard(fresh, old[name])
        elif name in ("rate.project.0.weight", "rate.project.0.bias", "noise_embed.0.weight", "noise_embed.0.bias"):
            kept = fresh.clone()
            kept[::2] = old[name]
            out[name] = kept
        elif name in ("rate.project.2.weight", "rate.project.2.bias", "noise_embed.2.weight", "noise_embed.2.bias"):
            kept = fresh.clone()
            kept[::2] = unheard(fresh[::2], old[name]) if fresh.ndim == 2 else old[name]
            out[name] = kept
        else:
            raise SystemExit(f"{name}: this recipe does not know how to widen it")
    for number in range(len(model.blocks)):
        start = f"blocks.{number}."
        mine, theirs = ({k.removeprefix(start): v for k, v in s.items() if k.startswith(start)} for s in (new, old))
        out |= {start + name: v for name, v in block(mine, theirs, width).items()}
    wide.load_state_dict(out)
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--mlp-ratio", type=float, default=2.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    assert isinstance(generator.model, VideoDiT)
    generator.model = widened(generator.model, args.mlp_ratio).eval()
    generator.trained = {"widened": args.checkpoint}
    generator.save_pretrained(args.out, half=False)


if __name__ == "__main__":
    main()
