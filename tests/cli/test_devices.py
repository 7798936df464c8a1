"""`--device` and `--dtype` of all that generates."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from legato.cli import load
from legato.errors import BadArgument
from legato.video import open_video
from tests.cli.test_generate_command import call
from tests.other_device import DEVICE, other_device

FLOW = ["--checkpoint", "puppet-flow", "--text", "hello"]


@pytest.fixture
def keys(tmp_path: Path) -> list[object]:
    for name, level in (("a", 40), ("b", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((64, 64, 3), level, np.uint8))
    return ["--key", f"0={tmp_path / 'a.png'}", "--key", f"0.25={tmp_path / 'b.png'}"]


def commands(keys: list[object]) -> dict[str, list[object]]:
    return {
        "generate": ["generate", *FLOW, "--seconds", "0.4", "--steps", "2", "--keyframe-seconds", "0.2"],
        "stream": ["stream", *FLOW, "--frames", "9", "--windows", "2", "--frames-per-window", "4", "--steps", "2"],
        "inbetween": ["inbetween", "--checkpoint", "puppet-inbetween-step", *keys],
    }


def pixels(path: Path) -> torch.Tensor:
    return torch.stack([frame.pixels for frame in open_video(path)]).float()


@pytest.mark.parametrize("command", ["generate", "stream", "inbetween"])
def test_on_a_device_frames_are_those_of_the_processor(
    command: str, keys: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("legato.generate.generator._free_bytes", lambda device: 1 << 40)
    words = [*commands(keys)[command], "--quiet"]
    call(*words, "--out", tmp_path / "here.mp4")
    monkeypatch.setattr(load.parse, "parsed_device", lambda name: DEVICE)
    with other_device() as device:
        call(*words, "--device", device, "--out", tmp_path / "there.mp4")
    here, there = pixels(tmp_path / "here.mp4"), pixels(tmp_path / "there.mp4")
    assert here.shape == there.shape
    assert float((here - there).abs().mean()) < 0.5


@pytest.mark.parametrize("command", ["generate", "stream", "inbetween"])
def test_half_precision_is_told_and_hardly_seen(command: str, keys: list[object], tmp_path: Path) -> None:
    words = [*commands(keys)[command], "--quiet", "--json", tmp_path / "facts.json"]
    call(*words, "--out", tmp_path / "exact.mp4")
    assert json.loads((tmp_path / "facts.json").read_text())["dtype"] == "float32"
    call(*words, "--dtype", "bfloat16", "--out", tmp_path / "half.mp4")
    assert json.loads((tmp_path / "facts.json").read_text())["dtype"] == "bfloat16"
    exact, half = pixels(tmp_path / "exact.mp4"), pixels(tmp_path / "half.mp4")
    assert 0 < float((exact - half).abs().mean()) < 3


@pytest.mark.parametrize("command", ["generate", "stream", "inbetween"])
def test_what_is_not_there_is_told(command: str, keys: list[object], tmp_path: Path) -> None:
    words = [*commands(keys)[command], "--out", tmp_path / "out.mp4"]
    with pytest.raises(BadArgument, match="--dtype is 'int8'; expected one of float32, bfloat16, float16"):
        call(*words, "--dtype", "int8")
    with pytest.raises(BadArgument, match="--device is 'cuda:77'"):
        call(*words, "--device", "cuda:77")
    assert not (tmp_path / "out.mp4").exists()
