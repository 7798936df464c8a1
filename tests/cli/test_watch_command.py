"""`legato watch` as a user runs it: a file in, numbers, a page and features out; mistakes told in one line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from legato.cli.app import app, register
from legato.errors import BadArgument, LegatoError, ModelNotFound, NotAVideo, VideoNotFound
from tests.reuse.models import make_model

register()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder with a small random DINOv2."""
    folder = tmp_path / "model"
    make_model("dinov2").save_pretrained(folder)
    return str(folder)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["watch", *map(str, arguments)])


def test_everything_at_once(make_clip: Callable[..., Path], model: str, tmp_path: Path) -> None:
    clip = make_clip(times=20)
    out, page, features = tmp_path / "o" / "n.json", tmp_path / "o" / "r.html", tmp_path / "o" / "f.safetensors"
    result = run(clip, "--model", model, "--compare", "--json", out, "--report", page, "--features", features)
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    expected = {
        "frames", "duration_seconds", "frames_lost", "cuts", "modes", "latency_ms", "per_frame", "tokens_total",
        "tokens_recomputed", "recomputed_share", "wall_seconds", "dense_wall_seconds", "speedup", "encoder_speedup",
        "ceiling", "token_cosine_mean", "token_cosine_p01", "cls_cosine_mean",
    }  # fmt: skip
    assert expected <= set(numbers)
    assert numbers["frames"] == 20 == len(numbers["per_frame"])
    assert {"seconds", "mode", "motion", "tokens", "decode_ms", "look_ms", "encode_ms"} <= set(numbers["per_frame"][0])
    assert {"p50", "p95", "frame_interval"} == set(numbers["latency_ms"])
    assert load_file(features)["tokens"].shape == (20, 36, 32)
    text = page.read_text()
    assert "<script src" not in text
    assert "<link" not in text
    assert text.count("data:image/jpeg") >= 10
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["f.safetensors", "n.json", "r.html"]
    assert "against dense" in result.output


def test_several_videos_and_a_broken_one(make_clip: Callable[..., Path], model: str, tmp_path: Path) -> None:
    make_clip("a.mp4", times=4)
    make_clip("b.mp4", times=5)
    (tmp_path / "c.mp4").write_text("no video")
    result = run(tmp_path / "*.mp4", "--model", model, "--json", tmp_path / "all.json", "--report", tmp_path / "r.html")
    assert result.exit_code == 2
    found = json.loads((tmp_path / "all.json").read_text())
    assert [n.get("frames") for n in found] == [4, 5, None]
    assert "c.mp4" in found[2]["error"]
    assert (tmp_path / "r-a.html").exists()
    assert (tmp_path / "r-b.html").exists()


def test_a_span_and_a_limit(make_clip: Callable[..., Path], model: str, tmp_path: Path) -> None:
    clip, out = make_clip(times=30), tmp_path / "n.json"
    assert run(clip, "--model", model, "--seconds", "0.4:0.8", "--json", out).exit_code == 0
    seconds = [r["seconds"] for r in json.loads(out.read_text())["per_frame"]]
    assert seconds[0] == pytest.approx(0.4)
    assert seconds[-1] < 0.8 + 1e-9
    assert run(clip, "--model", model, "--max-frames", 3, "--json", out).exit_code == 0
    assert json.loads(out.read_text())["frames"] == 3


def test_json_on_standard_output_is_nothing_but_json(make_clip: Callable[..., Path], model: str) -> None:
    result = run(make_clip(times=3), "--model", model, "--json", "-")
    assert json.loads(result.stdout)["frames"] == 3


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["nowhere.mp4"], VideoNotFound, "nowhere.mp4"),
        (["none-*.mp4"], VideoNotFound, "no file matches"),
        (["CLIP", "--policy", "best"], BadArgument, "no policy 'best'"),
        (["CLIP", "--policy", "top:2"], BadArgument, "from 0 to 1"),
        (["CLIP", "--policy", "threshold:x"], BadArgument, "not a number"),
        (["CLIP", "--seconds", "5:2"], BadArgument, "START:END"),
        (["CLIP", "--seconds", "90:"], BadArgument, "no frame"),
        (["CLIP", "--size", "big"], BadArgument, "WIDTHxHEIGHT"),
        (["CLIP", "--size", "50"], BadArgument, "patches of 8 px"),
        (["CLIP", "--layer", "77"], BadArgument, "hidden states"),
        (["CLIP", "--fidelity", "2"], BadArgument, "between 0 and 1"),
        (["CLIP", "--dtype", "int8"], BadArgument, "float32"),
        (["CLIP", "--device", "toaster"], BadArgument, "cpu, cuda"),
        (["CLIP", "--model", "./no/such/model"], ModelNotFound, "no/such/model"),
        (["TEXT"], NotAVideo, "text.mp4"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    error: type[LegatoError],
    says: str,
    make_clip: Callable[..., Path],
    model: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.mp4").write_text("words, not pictures")
    named = {"CLIP": str(make_clip(times=3)), "TEXT": str(tmp_path / "text.mp4")}
    result = run("--model", model, *(named.get(a, a) for a in arguments))
    assert isinstance(result.exception, error), result.output
    assert says in str(result.exception)


def test_the_program_prints_one_line_and_no_traceback() -> None:
    command = [sys.executable, "-m", "legato.cli.app", "watch", "nowhere.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("legato: ")
    assert "Traceback" not in done.stderr


def test_importing_legato_stays_light() -> None:
    """What is heavy beside torch comes in on first use."""
    code = "import sys, torch, legato; print([m for m in ('transformers', 'av', 'cv2', 'plotly') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_making_video_does_not_wait_for_what_only_encoders_and_many_processes_need() -> None:
    """Each of these takes one second or two to come in."""
    used = "legato.generate.stream, legato.generate.between_keys, legato.report.sheets, legato.motion.retime"
    heavy = "('transformers.modeling_utils', 'diffusers.models', 'torch.distributed.tensor', 'torch._dynamo')"
    code = f"import sys, {used}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
