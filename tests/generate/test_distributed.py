"""Training on two processes: the weights stay one, and batches are dealt out."""

import os
import subprocess
import sys
from pathlib import Path

import torch

RECIPE = """
model: {kind: VideoDiT, width: 32, depth: 1, heads: 2, patch_px: 8, drive_channels: 3}
objective: {kind: flow}
data: {kind: puppets, side_px: 16, frames_per_batch: 8, lengths: [4], drive: 0.5}
training: {steps: 3, warmup_steps: 1, checkpoint_every: 3}
"""


def launched(processes: int, recipe: Path, out: Path, step: int = 3) -> dict[str, torch.Tensor]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "legato.cli.app", "train", str(recipe), "--out", str(out), "--quiet", "--threads", "1",
    ]  # fmt: skip
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return torch.load(out / f"step-{step:06d}" / "training.pt", weights_only=True)["model"]


def test_two_processes_take_the_steps_of_one_with_both_their_batches(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    two = launched(2, recipe, tmp_path / "two")
    recipe.write_text(RECIPE.replace("steps: 3,", "steps: 3, accumulate: 2,"))
    one = launched(1, recipe, tmp_path / "one")
    apart = torch.cat([(two[name] - one[name]).abs().flatten() for name in one])
    assert float(apart.quantile(0.99)) < 1e-4  # AdamW turns rounding of a zero gradient into a step
    assert any(not torch.equal(two[name], torch.zeros_like(two[name])) for name in two if "project" in name)


def test_a_sharded_run_is_the_run_of_copies_and_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    longer = RECIPE.replace("steps: 3,", "steps: 6, decay_share: 0,")
    recipe.write_text(longer)
    copies = launched(2, recipe, tmp_path / "copies", step=6)
    recipe.write_text(longer.replace("steps: 6,", "steps: 3, shard: true,"))
    launched(2, recipe, tmp_path / "sharded")
    recipe.write_text(longer.replace("steps: 6,", "steps: 6, shard: true,"))
    sharded = launched(2, recipe, tmp_path / "sharded", step=6)
    assert {name: v.shape for name, v in sharded.items()} == {name: v.shape for name, v in copies.items()}
    apart = torch.cat([(sharded[name] - copies[name]).abs().flatten() for name in copies])
    assert float(apart.quantile(0.99)) < 3e-4
