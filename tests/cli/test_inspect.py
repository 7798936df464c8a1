"""`legato inspect` as a user runs it."""

import json
from fractions import Fraction

import pytest
import torch
import typer
from typer.testing import CliRunner

from legato.cli import inspect
from legato.clock import RateEstimator
from legato.errors import BadArgument, FileNotWritten, ModelNotFound, NotAVideo, VideoNotFound

app = typer.Typer()
app.command()(inspect.inspect)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_the_table_tells_the_facts_and_the_warnings(make_clip):
    clip = make_clip("[odd] name.mp4", [Fraction(i, 25) for i in range(30) if i != 12])
    result = run(clip)
    assert result.exit_code == 0
    assert "[odd] name.mp4" in result.stdout
    assert "h264 in mov, 64x48" in result.stdout
    assert "constant with gaps" in result.stdout
    assert "0.44 s (0.08 s long)" in result.stdout
    assert "! 1 gap in the times, the first at 0.440 s" in result.stdout


def test_json_on_standard_output_is_nothing_but_json(make_clip):
    result = run(make_clip(times=10), "--json", "-")
    numbers = json.loads(result.stdout)
    assert (numbers["frames"], numbers["whole"], numbers["times"]["kind"]) == (10, True, "constant")


def test_several_videos_give_a_list_and_a_bad_one_does_not_stop_the_rest(make_clip, tmp_path):
    good = make_clip("b.mp4", 10)
    (tmp_path / "a.mp4").write_text("no video")
    out = tmp_path / "out.json"
    result = run(tmp_path / "*.mp4", "--json", out, "--quiet")
    bad, fine = json.loads(out.read_text())
    assert "not a video" in bad["error"]
    assert "a.mp4" in result.stderr
    assert (fine["video"], fine["frames"]) == (str(good), 10)
    assert result.stdout == ""
    assert result.exit_code == 2


def test_a_span_and_a_number_of_frames_limit_the_look(make_clip):
    clip = make_clip(times=50)
    part = json.loads(run(clip, "--seconds", "0.4:1.2", "--json", "-").stdout)
    assert (part["frames"], part["start_seconds"], part["whole"]) == (20, pytest.approx(0.4), False)
    few = json.loads(run(clip, "--max-frames", 7, "--json", "-").stdout)
    assert (few["frames"], few["whole"], few["warnings"]) == (7, False, [])


def test_errors_say_what_is_wrong(make_clip, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    for arguments, kind, words in (
        ((tmp_path / "none.mp4",), VideoNotFound, "there is no file"),
        ((tmp_path / "*.webm",), VideoNotFound, "no file matches"),
        ((text,), NotAVideo, "not a video"),
        ((make_clip(times=5), "--seconds", "9:10"), BadArgument, "begins at 0 s"),
        ((make_clip(times=5), "--seconds", "nine"), BadArgument, "START:END"),
        ((make_clip(times=5), "--json", tmp_path), FileNotWritten, "a folder; name a file"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, kind)
        assert words in str(error)


def test_an_interrupt_keeps_what_was_found(make_clip, monkeypatch):
    given = inspect.taken

    def broken_off(*arguments):
        for number, frame in enumerate(given(*arguments)):
            if number == 6:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(inspect, "taken", broken_off)
    result = run(make_clip(times=20), "--json", "-")
    assert result.exit_code == 130
    numbers = json.loads(result.stdout)
    assert (numbers["frames"], numbers["interrupted"], numbers["whole"]) == (6, True, False)


def test_the_rate_is_estimated_with_an_estimator_and_without_one_that_is_told_first(make_clip, tmp_path):
    torch.manual_seed(0)
    RateEstimator(side_px=16, width=32, depth=1, heads=2, frames=8).save_pretrained(tmp_path / "e")
    clip, out = make_clip(times=12), tmp_path / "i.json"
    result = run(clip, "--json", out, "--quiet", "--rate-estimator", tmp_path / "e")
    assert result.exit_code == 0, result.output
    estimated = json.loads(out.read_text())["estimated_rate"]
    assert estimated["interval"][0] < estimated["fps"] < estimated["interval"][1]
    out.unlink()
    result = run(clip, "--json", out, "--quiet", "--rate-estimator", tmp_path / "none")
    assert isinstance(result.exception, ModelNotFound)
    assert not out.exists()
