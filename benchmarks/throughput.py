"""VideoDiT's forward and training step against a diffusers video transformer of equal shape, interleaved in one run.

    python benchmarks/throughput.py [--json OUT]

Width, depth, heads, patch, tokens of video and of text are equal; both attend over the whole clip in one go. diffusers'
CogVideoX is the closest in shape.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from about import save

from legato.generate import VideoDiT
from legato.generate.text import TextTokens

WIDTH, DEPTH, HEADS, PATCH, SIDE, FRAMES, TEXT = 256, 6, 4, 2, 16, 16, 8


class GivenText(torch.nn.Module):
    """Text tokens that are already encoded, as diffusers' model takes them."""

    def __init__(self, tokens: torch.Tensor):
        super().__init__()
        self.tokens = torch.nn.Parameter(tokens, requires_grad=False)

    def forward(self, texts: Any) -> TextTokens:
        return TextTokens(self.tokens.expand(len(texts), -1, -1))


def ours(batch: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    model = VideoDiT(channels=4, patch_px=PATCH, width=WIDTH, depth=DEPTH, heads=HEADS, text_bytes=4 * TEXT)
    model.text = GivenText(torch.randn(1, TEXT, WIDTH))  # type: ignore[assignment]
    x = torch.randn(batch, FRAMES, 4, SIDE, SIDE)
    seconds = (torch.arange(FRAMES, dtype=torch.float64) / 24).repeat(batch, 1)
    noise = torch.rand(batch, FRAMES)
    return model, lambda: model(x, seconds=seconds, noise=noise, text=("a",) * batch)


def theirs(batch: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=4, out_channels=4, num_layers=DEPTH,
        sample_width=SIDE, sample_height=SIDE, sample_frames=FRAMES, patch_size=PATCH, temporal_compression_ratio=1,
        max_text_seq_length=TEXT, text_embed_dim=WIDTH, time_embed_dim=WIDTH, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    x = torch.randn(batch, FRAMES, 4, SIDE, SIDE)
    text = torch.randn(batch, TEXT, WIDTH)
    steps = torch.randint(0, 1000, (batch,))
    places = FRAMES * (SIDE // PATCH) ** 2
    turn = (torch.randn(places, WIDTH // HEADS), torch.randn(places, WIDTH // HEADS))
    return model, lambda: model(x, text, steps, image_rotary_emb=turn, return_dict=False)[0]


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    sides = {"legato": ours(args.batch), "diffusers": theirs(args.batch)}
    results: dict[str, Any] = {
        name: {"parameters": sum(p.numel() for p in model.parameters()), "forward": [], "step": []}
        for name, (model, _) in sides.items()
    }

    def step(model: torch.nn.Module, call: Callable[[], torch.Tensor]) -> None:
        call().square().mean().backward()
        model.zero_grad(set_to_none=True)

    for round_number in range(args.rounds + 1):
        for name, (model, call) in sides.items():
            with torch.no_grad():
                forward = timed(call)
            whole = timed(lambda model=model, call=call: step(model, call))
            if round_number:  # the first one warms up
                results[name]["forward"].append(forward)
                results[name]["step"].append(whole)
    for part in ("forward", "step"):
        ratios = [a / b for a, b in zip(results["diffusers"][part], results["legato"][part], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        results[f"{part}_ratio"] = {"median": middle, "quartiles": [low, high]}
        mine, other = (1000 * statistics.median(results[name][part]) for name in sides)
        print(f"{part}: legato {mine:.0f} ms, diffusers {other:.0f} ms, {middle:.2f} x ({low:.2f} to {high:.2f})")
    save(args.json, results, batch=args.batch, rounds=args.rounds)


if __name__ == "__main__":
    main()
