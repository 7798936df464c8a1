"""`legato puppets` as a user runs it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.data.puppets import hand_positions
from legato.errors import BadArgument
from legato.video import open_video

register()


def test_a_clip_its_poses_and_its_truth(tmp_path: Path) -> None:
    out, poses, truth = tmp_path / "v.mp4", tmp_path / "p.mp4", tmp_path / "t.json"
    words = [
        "puppets",
        "--text",
        "hello friend",
        "--out",
        out,
        "--poses",
        poses,
        "--truth",
        truth,
        "--size",
        "128",
        "--fps",
        "24000/1001",
    ]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    known = json.loads(truth.read_text())
    assert [sign["sign"] for sign in known["signs"]] == ["hello", "friend"]
    with open_video(out) as video:
        frames = video.read()
    with open_video(poses) as video:
        assert len(video.read()) == len(frames) == len(known["frames"])
    assert frames.seconds.tolist() == pytest.approx([f["seconds"] for f in known["frames"]], abs=1e-4)
    seen = hand_positions(frames.pixels)[:, 1] / 128
    off = [((seen[i] - seen.new_tensor(f["right_hand"])).norm()) for i, f in enumerate(known["frames"])]
    assert float(sorted(off)[len(off) // 2]) < 0.02


def test_unknown_words_and_rates_are_told(tmp_path: Path) -> None:
    for words, told in (
        (["--text", "xyzzy"], "no sign for 'xyzzy'"),
        (["--fps", "0"], "--fps is 0"),
        (["--fps", "inf"], "--fps is inf"),
        (["--fps", "100000"], "up to 10000 frames"),
        (["--size", "0"], "--size is '0'; expected"),
        (["--size", "1"], "--size is '1'; a puppet is drawn from 8 pixels"),
        (["--size", "100000"], "from 1 to 4096"),
        (["--size", "²"], "--size is '²'; expected"),
        (["--rate", "inf"], "signing rate"),
        (["--rate", "-1"], "signing rate"),
    ):
        result = CliRunner().invoke(app, ["puppets", "--out", str(tmp_path / "v.mp4"), *words])
        assert isinstance(result.exception, BadArgument)
        assert told in str(result.exception)
    assert not list(tmp_path.iterdir())
