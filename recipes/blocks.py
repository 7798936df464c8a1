"""A trained VideoDiT with other blocks: some left out, some new ones between them, to be trained on.

    python recipes/blocks.py build/puppet-inbetween-wide --blocks 0 1 2 4 5 --out build/puppet-inbetween-short
    python recipes/blocks.py build/puppet-inbetween-wide --blocks 0 1 2 3 4 +4 +4 5 --out build/puppet-inbetween-deep

`+4` is a copy of block 4 that says nothing yet: what it reads is as there, what it writes begins at zero. New blocks
belong before the last one, which may write fifty times what there was before it: what comes after that counts for
nothing, and learns nothing (docs/experiments.md, "Two blocks that did nothing").
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import nn

from legato.generate import VideoDiT, VideoGenerator


def with_blocks(model: VideoDiT, names: list[str]) -> VideoDiT:
    """The model with blocks by their numbers, and silent copies of those with a plus."""
    made = copy.deepcopy(model)
    made.blocks = nn.ModuleList()
    for name in names:
        block = copy.deepcopy(model.blocks[int(name.removeprefix("+"))])
        if name.startswith("+"):
            for said in (block.attention.out, block.mlp.fall):  # type: ignore[union-attr]
                nn.init.zeros_(said.weight)  # type: ignore[union-attr, arg-type]
                nn.init.zeros_(said.bias)  # type: ignore[union-attr, arg-type]
        made.blocks.append(block)
    made._hub_mixin_config["depth"] = len(names)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--blocks", nargs="+", required=True, help="numbers from 0, and +N for a silent copy of N")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    generator = VideoGenerator.from_pretrained(args.checkpoint)
    if not isinstance(generator.model, VideoDiT):
        raise SystemExit(f"{args.checkpoint} is a {type(generator.model).__name__}; expected a VideoDiT")
    known = {sign + str(number) for number in range(len(generator.model.blocks)) for sign in ("", "+")}
    if not set(args.blocks) <= known:
        raise SystemExit(f"--blocks {' '.join(args.blocks)}: expected some of {' '.join(sorted(known))}")
    with torch.no_grad():
        generator.model = with_blocks(generator.model, args.blocks).eval()
    generator.trained = {"blocks": args.blocks, "of": args.checkpoint}
    generator.save_pretrained(args.out, half=False)


if __name__ == "__main__":
    main()
