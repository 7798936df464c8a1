"""`legato train` and `legato generate`, as a user types them."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.train import told_count
from legato.errors import BadArgument, UnsupportedOutput
from legato.generate import VideoDiT, VideoGenerator
from legato.generate.objectives import FlowMatching
from legato.generate.refine import Refinement
from legato.video import open_video

RECIPE = """
model: {kind: VideoDiT, width: 32, depth: 1, heads: 2, patch_px: 8, classes: 4}
objective: {kind: flow}
data: {kind: physics, side_px: 16, frames_per_batch: 8, lengths: [4]}
training: {steps: 2, checkpoint_every: 2}
"""
register()


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "r.yaml").write_text(RECIPE)
    told = call("train", folder / "r.yaml", "training.sample_every=2", "--out", folder / "out", "--quiet")
    assert "trained for 2 steps" in told
    assert "thousand parameters" in told
    assert (folder / "out" / "samples-000002.png").stat().st_size > 500
    assert list((folder / "out" / "logs").glob("events*"))
    return folder / "out" / "final"


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12"), (1000, "1.0 thousand"), (21_432, "21.4 thousand"), (6_300_000, "6.3 M")]
)
def test_small_models_are_counted_in_thousands(count: int, words: str) -> None:
    assert told_count(count) == words


def test_threads_below_one_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    for threads in (0, -1):
        with pytest.raises(BadArgument, match=f"--threads is {threads}; expected 1 or more"):
            call("train", tmp_path / "r.yaml", "--threads", threads, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def times_of(path: Path) -> list[Fraction]:
    with open_video(path) as video:
        return [frame.pts * frame.time_base for frame in video]


def test_frames_stand_in_the_file_at_the_times_asked_for(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    told = call("generate", "--checkpoint", trained, "--class", "line", "--seconds", 0.5, "--fps", 24, "--steps", 2,
                "--scale", 3, "--out", out, "--json", "-", "--sheet", tmp_path / "s.png", "--quiet")  # fmt: skip
    assert times_of(out) == [Fraction(i, 24) for i in range(12)]
    with open_video(out) as video:
        assert (video.info.width, video.info.height) == (48, 48)
    facts = json.loads(told)
    assert facts["frames"] == 12
    assert facts["class"] == "line"
    assert (tmp_path / "s.png").stat().st_size > 500


def test_uneven_times_slow_motion_and_a_speed_curve(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    common = ("generate", "--checkpoint", trained, "--steps", 2, "--out", out, "--quiet")
    call(*common, "--times", "0,0.1,0.25")
    assert [round(float(t), 6) for t in times_of(out)] == [0, 0.1, 0.25]
    call(*common, "--fps", 60, "--play-fps", 30, "--seconds", 0.2)
    assert times_of(out) == [Fraction(i, 30) for i in range(12)]
    told = call(*common, "--speed", "0:1,1:0.25", "--fps", 10, "--seconds", 1, "--json", "-")
    world = torch.tensor(json.loads(told)["world_seconds"])
    steps = world.diff()
    assert bool((steps.diff() < 0).all())
    assert float(steps[0]) == pytest.approx(0.1 * (1 - 0.75 * 0.05), abs=1e-6)


def test_rates_and_times_are_exact_fractions(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    common = ("generate", "--checkpoint", trained, "--steps", 1, "--out", out, "--quiet")
    call(*common, "--fps", "30000/1001", "--seconds", 0.2)
    assert times_of(out) == [Fraction(1001 * n, 30000) for n in range(6)]
    call(*common, "--fps", 24, "--play-fps", "24000/1001", "--seconds", 0.2)
    assert times_of(out) == [Fraction(1001 * n, 24000) for n in range(5)]
    call(*common, "--times", "0,1/3,2/3")
    assert times_of(out) == [Fraction(n, 3) for n in range(3)]
    call(*common, "--fps", 24, "--play-fps", "0.0001", "--seconds", 0.1)
    assert times_of(out) == [Fraction(10_000 * n) for n in range(3)]


def test_a_speed_curve_is_as_long_as_asked_for_and_begins_with_the_clip(trained: Path, tmp_path: Path) -> None:
    def world(*options: object) -> list[float]:
        told = call("generate", "--checkpoint", trained, "--steps", 1, "--out", tmp_path / "a.mp4", "--quiet", "--fps",
                    8, "--json", "-", *options)  # fmt: skip
        return json.loads(told)["world_seconds"]

    cut = world("--speed", "0:1,3:2", "--seconds", 1)
    assert cut == pytest.approx([n / 8 + (n / 8) ** 2 / 6 for n in range(8)])
    assert times_of(tmp_path / "a.mp4") == [Fraction(n, 8) for n in range(8)]
    assert len(world("--speed", "0:1,3:2")) == 24
    assert len(world("--speed", "0:1,1:2")) == 16
    late = world("--speed", "0.5:0.5,1:2", "--seconds", 1)
    assert late[:5] == pytest.approx([n / 16 for n in range(5)])
    assert late[5] - late[4] > 0.07


def test_the_length_told_is_that_of_the_file(trained: Path, tmp_path: Path) -> None:
    common = ("generate", "--checkpoint", trained, "--steps", 1, "--quiet", "--out", tmp_path / "a.mp4")
    for options, length in (
        (("--seconds", 1.5, "--fps", 8), 1.5),
        (("--seconds", 0.1, "--fps", 4), 0.25),
        (("--times", "0,0.5,0.6"), 0.7),
        (("--times", "0"), 0.04),
        (("--seconds", 0.5, "--fps", 8, "--play-fps", 4), 1.0),
    ):
        assert f" frames, {length:.2f} s, made in" in call(*common, *options)
        with open_video(tmp_path / "a.mp4") as video:
            assert video.info.duration_seconds == pytest.approx(length, abs=1e-3)


def test_times_that_a_format_does_not_hold_are_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    for name, words in (("a.gif", r"too close for .gif files, whose times are whole steps of 1/100 s"),
                        ("a.mkv", r"too close for .mkv files")):  # fmt: skip
        with pytest.raises(BadArgument, match=words):
            call("generate", "--checkpoint", "none", "--times", "0,0.1,0.1001", "--out", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_sheet_that_is_no_png_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    for name in ("sheet.nope", "sheet", "sheet.jpg"):
        with pytest.raises(UnsupportedOutput, match=r"a contact sheet is a PNG: expected \.png"):
            call("generate", "--checkpoint", "none", "--sheet", tmp_path / name, "--out", tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_several_clips_get_numbers(trained: Path, tmp_path: Path) -> None:
    call("generate", "--checkpoint", trained, "--steps", 1, "--seconds", 0.2, "--count", 2, "--seed", 7, "--out",
         tmp_path / "c.gif", "--quiet")  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c-0.gif", "c-1.gif"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fps", 0), "--fps is 0"),
        (("--seconds", -1), "--seconds is -1"),
        (("--times", "0,0.2,0.1"), "give rising times"),
        (("--times", "0,a"), "--times is '0,a'"),
        (("--times", "0,0.1", "--seconds", 2), "--seconds has nothing to say"),
        (("--times", "-1,0.1,0.2"), "--times begins at -1 s"),
        (("--times", "0,0.00000001"), "--times has 0 s after 0 s"),
        (("--fps", "inf"), "--fps is inf; expected a number over 0"),
        (("--play-fps", "inf"), "--play-fps is inf"),
        (("--play-fps", "0/1"), "--play-fps is 0/1"),
        (("--fps", 1e9), "--fps is 1000000000.0; expected .* from 1/100000 to 1000000"),
        (("--seconds", "nan"), "--seconds is nan"),
        (("--speed", "-1:1,1:2"), "begin at 0 or later"),
        (("--speed", "0:1,100000:2"), "a clip has up to 10000 frames"),
        (("--speed", "0:1,1:0"), "speeds over 0"),
        (("--speed", "fast"), "--speed is 'fast'"),
        (("--class", "jump"), "class 'jump' is unknown.*0 line"),
        (("--text", "hello"), "reads no text"),
        (("--sampler", "ddim"), "trained otherwise"),
        (("--sampler", "magic"), "no sampler 'magic'"),
        (("--count", 0), "--count is 0"),
        (("--class", "²"), "class '²' is unknown"),
        (("--scale", 100_000), "--scale is 100000, which makes .*; expected up to 256"),
        (("--steps", 0), "--steps is 0; expected 1 or more"),
        (("--guidance", "nan"), "--guidance is nan"),
        (("--guidance", "inf"), "--guidance is inf"),
        (("--seconds", 1e6), "a clip has up to"),
        (("--count", 1_000_000), "GiB are free"),
    ],
)
def test_wrong_arguments_are_told(trained: Path, tmp_path: Path, options: tuple, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        call("generate", "--checkpoint", trained, "--steps", 1, "--out", tmp_path / "a.mp4", "--quiet", *options)
    assert not list(tmp_path.iterdir())


def test_a_refiner_that_does_not_fit_is_told_before_generating(trained: Path, tmp_path: Path) -> None:
    for refiner, words in ((trained, "is no refiner"), ("puppet-inbetween", "works at 64x64")):
        with pytest.raises(BadArgument, match=words):
            call("generate", "--checkpoint", trained, "--keyframe-seconds", 0.5, "--refiner", refiner, "--out",
                 tmp_path / "v.mp4")  # fmt: skip
    with pytest.raises(BadArgument, match="more than 0"):
        call("generate", "--checkpoint", trained, "--keyframe-seconds", 0, "--out", tmp_path / "v.mp4")
    with pytest.raises(BadArgument, match=r"trained on other videos \(big, .*the checkpoint makes \(bounce, line, "):
        call("generate", "--checkpoint", "physics-flow", "--keyframe-seconds", 0.5, "--out", tmp_path / "v.mp4")
    with pytest.raises(BadArgument, match="fills in between pictures: use it as `legato inbetween"):
        call("generate", "--checkpoint", "puppet-inbetween", "--out", tmp_path / "v.mp4")
    with pytest.raises(BadArgument, match="say how far apart with --keyframe-seconds"):
        call("generate", "--checkpoint", trained, "--refiner", "puppet-inbetween", "--out", tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


def test_two_stages_say_what_they_saved_and_smoothing_keeps_keyframes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = VideoGenerator(VideoDiT(width=32, depth=1, heads=2, patch_px=8), FlowMatching(), 16, 16)
    second = VideoGenerator(VideoDiT(width=32, depth=1, heads=2, patch_px=8, drive_channels=6), Refinement(), 16, 16)
    torch.nn.init.normal_(first.model.project.weight)
    torch.nn.init.normal_(second.model.project.weight)
    for name, generator in (("first", first), ("second", second)):
        generator.save_pretrained(tmp_path / name)
    out, made = tmp_path / "v.mp4", []
    for smooth in (0, 0.2):
        told = call("generate", "--checkpoint", tmp_path / "first", "--seconds", 1.7, "--fps", 10, "--steps", 8,
                    "--keyframe-seconds", 0.4, "--refiner", tmp_path / "second", "--smooth", smooth, "--out", out,
                    "--sheet", tmp_path / f"{smooth}.png", "--json", "-", "--quiet")  # fmt: skip
        facts = json.loads(told)
        made.append(cv2.imread(str(tmp_path / f"{smooth}.png")))
    assert len(facts["generated_seconds"]) == 5  # 0, 0.4, 0.8, 1.2, 1.6
    tokens = 4  # of 16 px in patches of 8
    assert facts["denoiser_tokens"] == tokens * (8 * 5 + 3 * 17)
    assert facts["denoiser_tokens_saved"] == pytest.approx(1 - (8 * 5 + 3 * 17) / (8 * 17))
    width = made[0].shape[1] // 16  # of a frame in the sheet; of 17 frames it shows 16
    changed = [not np.array_equal(*(sheet[20:, n * width : n * width + 90] for sheet in made)) for n in range(4)]
    assert changed == [False, True, True, True]


def test_where_every_frame_is_generated_nothing_is_filled_in(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = VideoGenerator(VideoDiT(width=32, depth=1, heads=2, patch_px=8), FlowMatching(), 16, 16)
    second = VideoGenerator(VideoDiT(width=32, depth=1, heads=2, patch_px=8, drive_channels=6), Refinement(), 16, 16)
    for name, generator in (("first", first), ("second", second)):
        generator.save_pretrained(tmp_path / name)
    options = ("--checkpoint", tmp_path / "first", "--steps", 2, "--fps", 10, "--refiner", tmp_path / "second", "--out",
               tmp_path / "v.mp4", "--json", tmp_path / "v.json", "--quiet")  # fmt: skip
    for seconds, every, frames, words in ((0.1, 1, 1, None), (0.5, 0.1, 5, None), (0.5, 0.2, 5, "% more work")):
        told = call("generate", *options, "--seconds", seconds, "--keyframe-seconds", every)
        facts = json.loads((tmp_path / "v.json").read_text())
        assert facts["frames"] == frames
        assert (words or "") in told
        assert ("work" in told) == (words is not None)
        assert ("no frame between keyframes" in told) == (words is None)
        assert (facts["denoiser_tokens"] == 4 * 2 * frames) == (words is None)
