"""A trained VideoDiT made wider: at first it says about what it said, and what is new is there to be trained.

    python recipes/widen.py physics-flow --heads 8 --mlp-ratio 2 --out build/physics-wide
    python recipes/widen.py build/puppet-flow-narrow/final --heads 6 --mlp-ratio 3 --out build/puppet-flow-wide

Heads keep their size, so the width grows with their number. New channels of a token get the content of their
neighbours, so layer norm reads about what it read, but see of a patch what the old ones do not, and nothing listens to
them yet (after Chen et al. 2016, Net2Net). New heads and hidden units begin at random, and unheard. What differs at
first are layer norm's sums and the sines of seconds and of places, whose frequencies lie closer together.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from legato.generate import VideoDiT, VideoGenerator

Weights = dict[str, Tensor]
CONDITION = ("rate.project.0", "rate.project.2", "noise_embed.0", "noise_embed.2", "text_pool")  # not in any token
SMALL = 0.1  # of a usual beginning: what cannot begin at zero, since nothing would ever change it


class Widening:
    """Where the channels of a narrow model are found in a wide one.

    Args:
        old: channels of the narrow one.
        new: channels of the wide one.
    """

    def __init__(self, old: int, new: int):
        self.old, self.new = old, new
        self.home = torch.arange(old) * new // old
        self.added = torch.ones(new, dtype=torch.bool).index_fill(0, self.home, False)
        self.source = torch.searchsorted(self.home, torch.arange(new), right=True) - 1

    def copied(self, weights: Tensor, parts: int = 1) -> Tensor:
        """Rows for all channels, new ones like their neighbours, in each of so many equal parts."""
        return torch.cat([part[self.source] for part in weights.chunk(parts)])

    def kept(self, new: Tensor, old: Tensor) -> Tensor:
        """Rows for the old channels, and new ones as they begin."""
        out = new.clone()
        out[self.home] = old
        return out

    def unheard(self, new: Tensor, old: Tensor) -> Tensor:
        """Columns for the old channels, and zeros for the new ones."""
        out = torch.zeros_like(new)
        out[..., self.home] = old
        return out


def embedding(wide: Widening, new: Tensor, old: Tensor) -> Tensor:
    """Rows that make tokens of patches: the new ones see what the old ones do not, as strongly as their neighbours."""
    out = wide.copied(old)
    seen = torch.linalg.qr(old.mT).Q
    fresh = new[wide.added] - new[wide.added] @ seen @ seen.mT
    if float(fresh.norm()) > 1e-3 * float(new.norm()):  # there are more values than old channels
        out[wide.added] = fresh * (out[wide.added].norm(dim=1) / fresh.norm(dim=1))[:, None]
    return out


def block(wide: Widening, new: Weights, old: Weights) -> Weights:
    """Weights of a block of the video model."""
    hidden = len(old["mlp.rise.bias"])
    out = {"offset": wide.copied(old["offset"], 6)}
    for name in ("attention.qkv.weight", "attention.qkv.bias"):
        parts = zip(new[name].chunk(3), old[name].chunk(3), strict=True)  # queries, keys, values; old heads come first
        out[name] = torch.cat([first_rows(wide, fresh, had) for fresh, had in parts])
    for name in ("mlp.rise.weight", "mlp.rise.bias"):
        out[name] = first_rows(wide, new[name], old[name])
    for name, size in (("attention.out", wide.old), ("mlp.fall", hidden)):
        weights = torch.zeros_like(new[f"{name}.weight"])
        weights[:, :size] = wide.copied(old[f"{name}.weight"])
        out[f"{name}.weight"], out[f"{name}.bias"] = weights, wide.copied(old[f"{name}.bias"])
    return out | {name: old[name] for name in ("attention.q_norm.weight", "attention.k_norm.weight")}


def first_rows(wide: Widening, new: Tensor, old: Tensor) -> Tensor:
    """The first rows are the old ones, which do not hear what is new."""
    out = new.clone()
    rows = slice(len(old))
    out[rows] = wide.unheard(out[rows], old) if old.ndim == 2 else old
    return out


def reader(wide: Widening, new: Weights, old: Weights) -> Weights:
    """Weights of the reader of texts: its heads stay as many and become larger."""
    out: Weights = {}
    for name, fresh in new.items():
        had = old[name]
        if name == "bytes.weight":
            out[name] = torch.cat([had, fresh[:, had.shape[1] :]], 1)
        elif name == "merge.weight":  # columns: bytes of a token, then their channels
            columns = torch.zeros(wide.new, 4, wide.new // 4)
            columns[:, :, : wide.old // 4] = wide.copied(had).view(wide.new, 4, -1)
            out[name] = columns.flatten(1)
        elif "attention.qkv" in name:
            out[name] = larger_heads(wide, SMALL * fresh, had)
        elif name.endswith("attention.out.weight"):
            columns = torch.zeros(wide.new, 4, wide.new // 4)
            columns[:, :, : wide.old // 4] = wide.copied(had).view(wide.new, 4, -1)
            out[name] = columns.flatten(1)
        elif name.endswith(("q_norm.weight", "k_norm.weight")):  # a mean over more values, divided by a larger root
            out[name] = torch.cat([had * (wide.old / wide.new) ** 0.25, fresh[len(had) :]])
        elif "mlp.rise" in name:
            out[name] = first_rows(wide, fresh, had)
        elif name.endswith("mlp.fall.weight"):
            out[name] = torch.zeros_like(fresh)
            out[name][:, : had.shape[1]] = wide.copied(had)
        elif name == "positions":
            out[name] = wide.copied(had.mT).mT
        else:
            out[name] = wide.copied(had)
    return out


def larger_heads(wide: Widening, new: Tensor, old: Tensor) -> Tensor:
    """Rows of queries, keys and values, four heads of each; a head's first channels are the old ones."""
    size, had = wide.new // 4, wide.old // 4
    out = new.reshape(12, size, *new.shape[1:]).clone()
    kept = old.reshape(12, had, *old.shape[1:])
    out[:, :had] = wide.unheard(out[:, :had], kept) if old.ndim == 2 else kept
    return out.reshape(new.shape)


def part(weights: Weights, start: str) -> Weights:
    """Weights whose names begin so, without that."""
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def widened(model: VideoDiT, heads: int, mlp_ratio: float) -> VideoDiT:
    """The model with more heads of the same size, and as many more channels."""
    config = dict(model._hub_mixin_config)
    width = model.width // config["heads"] * heads
    made = VideoDiT(**config | {"width": width, "heads": heads, "mlp_ratio": mlp_ratio})
    if width < model.width or made.blocks[0].mlp.rise.out_features < model.blocks[0].mlp.rise.out_features:  # type: ignore[union-attr]
        raise SystemExit(f"--heads {heads} and --mlp-ratio {mlp_ratio:g} make a smaller model than there is")
    wide, old, new = Widening(model.width, width), model.state_dict(), made.state_dict()
    out: Weights = {}
    for name, fresh in new.items():
        top, layer = name.split(".")[0], name.rsplit(".", 1)[0]
        if top in ("blocks", "text"):
            continue
        had = old[name]
        if name == "embed.weight":
            out[name] = embedding(wide, fresh, had)
        elif top in ("embed", "motion", "trend", "known", "drive", "no_drive"):  # what tokens are made of
            out[name] = wide.copied(had)
        elif top in ("condition", "final_condition"):
            rows = wide.copied(had, 6 if top == "condition" else 2)
            out[name] = wide.unheard(fresh, rows) if fresh.ndim == 2 else rows
        elif top == "project":
            out[name] = wide.unheard(fresh, had) if fresh.ndim == 2 else had
        elif name in ("rate.unknown", "label.weight"):
            out[name] = wide.unheard(fresh, had)
        elif layer in CONDITION:
            narrow = layer in ("rate.project.0", "noise_embed.0") or fresh.ndim == 1  # nothing before it is wider
            out[name] = wide.kept(fresh, had if narrow else wide.unheard(fresh[wide.home], had))
        else:
            raise SystemExit(f"{name}: this recipe does not know how to widen it")
    for number in range(len(model.blocks)):
        start = f"blocks.{number}."
        out |= {start + name: v for name, v in block(wide, part(new, start), part(old, start)).items()}
    out |= {"text." + name: v for name, v in reader(wide, part(new, "text."), part(old, "text.")).items()}
    made.load_state_dict(out)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--heads", type=int, required=True)
    parser.add_argument("--mlp-ratio", type=float, default=2.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    assert isinstance(generator.model, VideoDiT)
    generator.model = widened(generator.model, args.heads, args.mlp_ratio).eval()
    generator.trained = {"widened": args.checkpoint}
    generator.save_pretrained(args.out, half=False)


if __name__ == "__main__":
    main()
