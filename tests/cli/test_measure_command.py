"""`legato measure` as a user runs it."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from legato.cli.app import app, register
from legato.cli.measure import Limit
from legato.errors import BadArgument, LegatoError, NotAVideo, VideoNotFound
from legato.video import write_video
from tests import faults

register()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["measure", *map(str, arguments)])


def told(*arguments: object) -> str:
    """What a failing run says."""
    result = run(*arguments)
    assert isinstance(result.exception, LegatoError), result.output
    return str(result.exception)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(faults.moving_scene(seed=2, seconds=1.5), path)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.mp4"
    write_video(faults.brightness_flicker(faults.moving_scene(seed=2, seconds=1.5), 6, 0.2), path)
    return path


def test_numbers_page_and_table(clip: Path, bad: Path, tmp_path: Path) -> None:
    out, page, table = tmp_path / "o" / "n.json", tmp_path / "o" / "r.html", tmp_path / "o" / "t.csv"
    result = run(clip, "--compare", bad, "--json", out, "--report", page, "--csv", table)
    assert result.exit_code == 0, result.output
    first, second = json.loads(out.read_text())
    assert first["video"]["frames"] == 45
    assert {"value", "unit", "better", "worst_seconds"} <= set(first["metrics"]["warping_error"])
    assert set(first["controls"]) == {"frozen", "shuffled"}
    assert set(first["controls"]["frozen"]) == set(first["metrics"])
    assert second["metrics"]["flicker_hz"]["value"] == pytest.approx(6, abs=0.25)
    assert first["metrics"]["flicker_hz"]["value"] == 0
    text = page.read_text()
    assert "<script src" not in text
    assert "<link" not in text
    assert 'type="range"' in text
    assert text.count("data:image/jpeg") >= 10
    rows = list(csv.DictReader(table.open()))
    assert [Path(row["video"]).name for row in rows] == ["clip.mp4", "bad.mp4"]
    assert float(rows[1]["flicker_hz"]) == pytest.approx(6, abs=0.25)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["n.json", "r.html", "t.csv"]


def test_a_broken_limit_exits_with_three(clip: Path, bad: Path) -> None:
    assert run(clip, "--fail-if", "flicker_hz>2", "--quiet").exit_code == 0
    result = run(bad, "--fail-if", "flicker_hz>2", "--fail-if", "speed<-1")
    assert result.exit_code == 3
    assert "failed flicker_hz>2" in result.output
    assert "speed<-1" not in result.output


def test_a_shell_sees_the_exit_status(bad: Path) -> None:
    command = [sys.executable, "-m", "legato.cli.app", "measure", str(bad), "--quiet", "--metrics", "spectrum"]
    failing = subprocess.run([*command, "--fail-if", "flicker_hz > 2"], capture_output=True, text=True, check=False)
    assert failing.returncode == 3
    unknown = subprocess.run([*command, "--fail-if", "flicker>2"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2
    assert "no measurement 'flicker'; there are flicker_hz" in unknown.stderr.replace("\n", " ")
    assert "Traceback" not in unknown.stderr


def test_a_limit_on_what_is_not_measured_is_told_before_the_video_is_opened(tmp_path: Path) -> None:
    broken, answers = tmp_path / "broken.mp4", tmp_path / "answers.jsonl"
    broken.write_text("not a video")
    answers.write_text('{"seconds": 0, "text": "a"}\n')
    assert "no measurement 'flicker'; there are coherence_score" in told(broken, "--fail-if", "flicker>2")
    assert "no measurement 'speed'; there are flicker_hz" in told(
        broken, "--metrics", "spectrum", "--fail-if", "flicker_hz>2", "--fail-if", "speed>1"
    )
    assert "no measurement 'psnr'" in told(broken, "--fail-if", "psnr<30")
    for known in (["flicker_hz>2"], ["answer_flicker_hz>1", "--answers", answers], ["psnr<30", "--reference", broken]):
        assert isinstance(run(broken, "--fail-if", *known).exception, NotAVideo)
    answers.write_text("nonsense")
    assert "line 1: expected an object" in told(broken, "--answers", answers)


def test_a_limit_on_answers_is_for_the_video_that_they_are_about(clip: Path, bad: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"seconds": i / 4, "text": "ab"[i % 2]}) + "\n" for i in range(8)))
    limits = ["--fail-if", "answer_flicker_hz>1", "--fail-if", "flicker_hz>2"]
    result = run(clip, "--compare", bad, "--answers", answers, *limits, "--json", "-", "--metrics", "spectrum")
    first, second = json.loads(result.stdout)
    assert (first["failed"], second["failed"]) == (["answer_flicker_hz>1"], ["flicker_hz>2"])


def test_a_reference_brings_its_measures(clip: Path, bad: Path) -> None:
    result = run(bad, "--reference", clip, "--json", "-")
    assert result.exit_code == 0
    numbers = json.loads(result.stdout)["metrics"]
    assert 15 < numbers["psnr"]["value"] < 40
    assert numbers["tof"]["value"] >= 0


def test_a_folder_and_a_broken_file_in_it(clip: Path, bad: Path, tmp_path: Path) -> None:
    (tmp_path / "zzz.mp4").write_text("no video")
    result = run(tmp_path, "--csv", tmp_path / "t.csv", "--metrics", "order,speed", "--no-controls")
    assert result.exit_code == 2
    assert len(list(csv.DictReader((tmp_path / "t.csv").open()))) == 2


def test_answers_are_measured_beside(clip: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"seconds": i / 4, "text": "red ball" if i % 2 else "a blue car"}) + "\n" for i in range(8))
    )
    numbers = json.loads(run(clip, "--metrics", "order", "--answers", answers, "--json", "-").stdout)["metrics"]
    assert numbers["answer_flicker_hz"]["value"] > 1
    assert "vote" in numbers["answer_flicker_hz"]["note"]


def test_an_encoder_brings_feature_measures(clip: Path) -> None:
    result = run(clip, "--metrics", "order", "--encoder", "legato-tiny", "--max-frames", 8, "--json", "-")
    numbers = json.loads(result.stdout)["metrics"]
    assert 0.5 < numbers["subject_consistency"]["value"] <= 1


def test_metrics_can_be_listed(clip: Path) -> None:
    result = run(clip, "--metrics", "list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()][:3] == ["order", "coherence", "flickering"]


def test_mistakes_are_told_in_one_line(clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("not a video")
    assert "there are order, coherence" in told(clip, "--metrics", "nonsense")
    assert "give one with --reference" in told(clip, "--metrics", "tof")
    assert "expected auto, a period" in told(clip, "--boundaries", "soon")
    assert "2 or more" in told(clip, "--boundaries", "1")
    assert "for example 'flicker_hz>2'" in told(clip, "--fail-if", "flicker")
    assert "its video begins at 0 s" in told(clip, "--seconds", "50:60")
    assert "red,green,blue" in told(clip, "--colour", "red")
    (tmp_path / "empty").mkdir()
    assert "there is no video in the folder" in told(tmp_path / "empty")
    assert isinstance(run(broken).exception, NotAVideo)
    assert isinstance(run(tmp_path / "missing.mp4").exception, VideoNotFound)


@pytest.mark.parametrize("text", ["speed > 2", "speed>=2", " speed<1e-3"])
def test_limits_are_read(text: str) -> None:
    assert Limit.parsed(text).name == "speed"


@pytest.mark.parametrize("text", ["speed", "speed>", ">2", "speed==2", "speed>two"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(BadArgument, match="--fail-if"):
        Limit.parsed(text)


def test_one_frame_gets_a_clear_answer(make_clip: Callable[..., Path]) -> None:
    numbers = json.loads(run(make_clip(times=1), "--json", "-").stdout)
    assert numbers["video"]["frames"] == 1
    assert numbers["metrics"]["warping_error"]["value"] is None
    assert "two neighbouring frames" in numbers["metrics"]["warping_error"]["note"]
