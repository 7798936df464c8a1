"""Outputs that cannot be written, or lie over inputs, are told before any work, by every command."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.output import check_spared
from legato.errors import BadArgument, FileNotWritten

register()
NO_MODEL = ("--checkpoint", "no-such-model")  # is looked for after the check
KEYS = ("--key", "0=NONE.png", "--key", "1=NONE.png")
VIDEO = "VIDEO"  # stands for a file that is there
OTHER = "OTHER.mp4"
FOLDER = "FOLDER"  # of a model


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("generate", *NO_MODEL), ("--out", "--sheet", "--json")),
        (("stream", *NO_MODEL, "--frames", "3"), ("--out", "--state", "--json")),
        (("bench", "stream", *NO_MODEL), ("--json",)),
        (("inbetween", *KEYS), ("--out", "--sheet", "--json")),
        (("puppets", "--size", "32", "--text", "hello"), ("--out", "--poses", "--truth")),
        (("retime", VIDEO, "--fps", "60"), ("--out", "--json")),
        (("watch", VIDEO), ("--features", "--report", "--json")),
        (("measure", VIDEO), ("--json", "--csv", "--report")),
        (("inspect", VIDEO), ("--json",)),
        (("train", VIDEO), ("--out",)),
        (("demo",), ("--out",)),
    ],
)
def test_places_that_take_no_file_are_told_by_their_option(
    tmp_path: Path, words: tuple[str, ...], options: tuple[str, ...]
) -> None:
    video = tmp_path / "file"
    video.write_text("nothing to be read")
    given = [str(video) if word == VIDEO else word for word in words]
    if words[0] == "retime":
        given += ["--out", str(tmp_path / "a.mp4")]
    for option in options:
        ending = ".png" if option == "--sheet" else ".mp4"
        result = CliRunner().invoke(app, [*given, option, str(video / f"x{ending}")])
        assert isinstance(result.exception, FileNotWritten), (option, result.exception)
        assert str(result.exception) == f"{option} leads through {video}, which is no folder; name another place"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("words", [("generate", *NO_MODEL, "--json"), ("puppets", "--truth")])
def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, str(tmp_path), "--out", str(tmp_path / "a.mp4")])
    assert str(result.exception) == f"{words[-1]} is {tmp_path}, a folder; name a file"
    assert not list(tmp_path.iterdir())


def test_two_outputs_in_one_place_are_told(tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    for other in ("a.mp4", "link.mp4"):
        words = ["generate", *NO_MODEL, "--out", str(tmp_path / "a.mp4"), "--json", str(tmp_path / other)]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, BadArgument)
        assert str(result.exception).startswith(f"--out and --json are both {tmp_path / other}")
    words = ["generate", *NO_MODEL, "--out", str(tmp_path / "a.mp4"), "--json", os.devnull, "--sheet", os.devnull]
    assert "are both" not in str(CliRunner().invoke(app, words).exception)


def test_folders_of_outputs_are_made(tmp_path: Path) -> None:
    out, poses, truth = (tmp_path / name for name in ("a/v.mp4", "b/p.mp4", "c/t.json"))
    words = ["puppets", "--text", "yes", "--size", "32", "--rate", "2", "--fps", "5"]
    result = CliRunner().invoke(app, [*words, "--out", str(out), "--poses", str(poses), "--truth", str(truth)])
    assert result.exit_code == 0, result.exception
    assert all(path.stat().st_size > 100 for path in (out, poses, truth))


STREAM = ("stream", *NO_MODEL, "--frames", "3")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((*STREAM, "--drive", VIDEO), ("--out", "--state", "--json")),
        ((*STREAM, "--reference", VIDEO), ("--out", "--state", "--json")),
        ((*STREAM, "--reference-pose", VIDEO, "--drive", "-"), ("--out", "--state", "--json")),
        ((*STREAM, "--resume", VIDEO), ("--out", "--json")),
        (("stream", "--checkpoint", FOLDER, "--frames", "3"), ("--out", "--state", "--json")),
        (("generate", "--checkpoint", FOLDER), ("--out", "--sheet", "--json")),
        (("generate", *NO_MODEL, "--keyframe-seconds", "0.1", "--refiner", FOLDER), ("--json",)),
        (("bench", "stream", "--checkpoint", FOLDER), ("--json",)),
        (("retime", VIDEO, "--fps", "60", "--out", "NEW.mp4"), ("--json",)),
        (("watch", VIDEO), ("--features", "--report", "--json")),
        (("watch", VIDEO, "--model", FOLDER), ("--features", "--report", "--json")),
        (("measure", VIDEO), ("--json", "--csv", "--report")),
        (("measure", VIDEO, "--compare", VIDEO), ("--json", "--csv", "--report")),
        (("measure", OTHER, "--reference", VIDEO), ("--json", "--csv", "--report")),
        (("measure", OTHER, "--answers", VIDEO), ("--json", "--csv", "--report")),
        (("inspect", VIDEO), ("--json",)),
        (("inspect", OTHER, "--rate-estimator", FOLDER), ("--json",)),
    ],
)
def test_what_is_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], options: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(OTHER).write_text("something else")
    Path(FOLDER).mkdir()
    for name in (VIDEO, f"{FOLDER}/config.json"):
        Path(name).write_text("nothing to be read")
    read = f"{FOLDER}/config.json" if FOLDER in words else VIDEO
    for ending in (".mp4", ".png"):
        os.link(read, f"hard{ending}")
        Path(f"soft{ending}").symlink_to(read)
    for option in options:
        for kind in ("hard", "soft"):
            place = kind + (".png" if option == "--sheet" else ".mp4")
            result = CliRunner().invoke(app, [*words, option, place])
            assert isinstance(result.exception, BadArgument), (option, place, result.exception)
            assert str(result.exception) == f"{option} is {place}, a file that is read here; give it another name"
    assert Path(read).read_text() == "nothing to be read"
    assert not Path("NEW.mp4").exists()


def test_reports_of_several_videos_lie_over_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "r-b.mp4"):
        Path(name).write_text("nothing to be read")
    for command in ("watch", "measure"):
        result = CliRunner().invoke(app, [command, "a.mp4", "b.mp4", "r-b.mp4", "--report", "r.mp4"])
        assert str(result.exception) == "--report is r-b.mp4, a file that is read here; give it another name"
    assert all(path.read_text() == "nothing to be read" for path in tmp_path.iterdir())


def test_a_state_may_take_the_place_of_the_one_gone_on_from(tmp_path: Path) -> None:
    state = tmp_path / "a.state"
    state.write_text("no state")
    result = CliRunner().invoke(app, [*STREAM, "--resume", str(state), "--state", str(state)])
    assert "is not a saved state" in str(result.exception)


def test_what_is_no_file_may_be_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("a file of this name is not standard output")
    os.mkfifo("pipe")
    check_spared(["-", "pipe", "/dev/null", "https://a/b.mp4", None], [("--out", Path("-")), ("--json", Path("pipe"))])
    check_spared(["/dev/null", "new"], [("--out", Path("/dev/null")), ("--json", Path("new")), ("--state", None)])
    Path("new").write_text("")
    with pytest.raises(BadArgument, match="--json is new, a file that is read here"):
        check_spared([f"file://{tmp_path}/new"], [("--json", Path("new"))])
