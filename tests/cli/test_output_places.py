"""Outputs that cannot be written are told before any work, by every command."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.errors import FileNotWritten

register()
NO_MODEL = ("--checkpoint", "no-such-model")  # is looked for after the check
KEYS = ("--key", "0=NONE.png", "--key", "1=NONE.png")
VIDEO = "VIDEO"  # stands for a file that is there


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


def test_folders_of_outputs_are_made(tmp_path: Path) -> None:
    out, poses, truth = (tmp_path / name for name in ("a/v.mp4", "b/p.mp4", "c/t.json"))
    words = ["puppets", "--text", "yes", "--size", "32", "--rate", "2", "--fps", "5"]
    result = CliRunner().invoke(app, [*words, "--out", str(out), "--poses", str(poses), "--truth", str(truth)])
    assert result.exit_code == 0, result.exception
    assert all(path.stat().st_size > 100 for path in (out, poses, truth))
