"""The mean of weights that began as one model and were trained apart (Wortsman et al. 2022, "Model soups").

    python recipes/average.py build/physics-33/final build/physics-34/final --out build/physics-mean

What noise in training has done to each is halved; what they were trained for stays.
"""

import argparse
from pathlib import Path

import torch

from legato.generate import VideoGenerator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="folders, or names of bundled ones; all of one model")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    generators = [VideoGenerator.from_pretrained(name) for name in args.checkpoints]
    states = [generator.model.state_dict() for generator in generators]
    mean = {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}
    generators[0].save_pretrained(args.out, weights=mean)
    print(args.out)


if __name__ == "__main__":
    main()
