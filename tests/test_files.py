"""Files written whole or not at all, and places that take none."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import torch

from legato.cli.output import write_json
from legato.errors import BadArgument, FileNotWritten, LegatoError
from legato.files import check_folder, check_place, replacing_file, replacing_folder, write_whole
from legato.generate.saved import load_values, save_values
from legato.report.render import write_page
from legato.report.sheets import contact_sheet
from legato.understand.features import FeatureWriter
from legato.yaml_file import read_yaml


def write_sheet(path: Path) -> None:
    contact_sheet(path, torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), torch.arange(2, dtype=torch.float64))


def test_what_is_merged_in_yaml_is_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &B {x: 0}\nouter: {inner: &A {<<: *B, x: 1}}\nc: {<<: *A, y: 2}\n")
    assert read_yaml(path, "recipe") == {"base": {"x": 0}, "outer": {"inner": {"x": 1}}, "c": {"x": 1, "y": 2}}
    path.write_text("a: {b: {x: 0, y: 1, x: 2}}")
    with pytest.raises(BadArgument, match="'x' is said twice"):
        read_yaml(path, "recipe")


def test_a_sheet_takes_clips_that_lie_on_an_accelerator(tmp_path: Path) -> None:
    class Elsewhere(torch.Tensor):
        """As a tensor on a device: it has to be brought here before NumPy reads it."""

        def cpu(self) -> torch.Tensor:  # type: ignore[override]
            return self.as_subclass(torch.Tensor)

        def numpy(self) -> None:  # type: ignore[override]
            raise TypeError("can't convert device tensor to numpy; use Tensor.cpu() first")

    clips = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8).as_subclass(Elsewhere)
    contact_sheet(tmp_path / "a.png", clips, torch.arange(2, dtype=torch.float64))
    assert (tmp_path / "a.png").stat().st_size > 2


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_whole(path, b"new"),
    "json": lambda path: write_json(path, {"a": 1}),
    "state": lambda path: save_values(path, {"a": torch.ones(3)}),
    "page": lambda path: write_page(path, "<p>new</p>"),
    "sheet": write_sheet,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "deep" / "a.png"
    for _ in range(2):
        WRITERS[writer](path)
        assert path.stat().st_size > 2
        assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_pipe_stays_a_pipe_and_gets_the_content(tmp_path: Path, writer: str) -> None:
    pipe, got = tmp_path / "pipe.png", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    WRITERS[writer](pipe)
    reader.join(timeout=10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(got[0]) > 2
    assert [p.name for p in tmp_path.iterdir()] == ["pipe.png"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_stays_and_leads_to_what_is_written(tmp_path: Path, writer: str) -> None:
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.png", tmp_path / "real" / "a.png"
    target.write_bytes(b"old")
    link.symlink_to(target)
    WRITERS[writer](link)
    assert link.is_symlink()
    assert target.read_bytes() not in (b"", b"old")
    assert [p.name for p in target.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("writer", WRITERS)
def test_where_no_file_can_be_an_error_is_told_and_nothing_is_left(tmp_path: Path, writer: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "folder.png", tmp_path / "file" / "a.png", tmp_path / "file" / "deep" / "a.png"):
        with pytest.raises(FileNotWritten, match=rf"{path.name} .*cannot be written") as told:
            WRITERS[writer](path)
        assert isinstance(told.value, LegatoError)
        assert "\n" not in str(told.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_the_users_beside_it_stays(tmp_path: Path, writer: str) -> None:
    (tmp_path / "a.png.part").write_text("mine")
    WRITERS[writer](tmp_path / "a.png")
    assert (tmp_path / "a.png.part").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.png.part"]


def stop_halfway(path: Path) -> None:
    with replacing_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt


def test_after_a_failure_the_old_file_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def fill(folder: Path, name: str, *, halfway: bool = False) -> None:
    with replacing_folder(folder) as part:
        (part / name).write_text(name)
        if halfway:
            raise KeyboardInterrupt


def test_a_folder_takes_the_place_of_an_older_one_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, mine = tmp_path / "deep" / "a", tmp_path / "deep" / "a.part"
    fill(folder, "old")
    mine.mkdir()
    with pytest.raises(KeyboardInterrupt):
        fill(folder, "half", halfway=True)
    assert [p.name for p in folder.iterdir()] == ["old"]
    fill(folder, "new")
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert sorted(folder.parent.iterdir()) == [folder, mine]


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    fill(folder, "old")
    rename = Path.replace

    def full(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FileNotWritten, match="cannot be written: No space left"):
        fill(folder, "new")
    assert [p.name for p in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_to_a_folder_stays_and_a_file_is_no_folder(tmp_path: Path) -> None:
    fill(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    fill(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["new"]
    (tmp_path / "file").write_text("old")
    for wrong in ("file", "file/a"):
        with pytest.raises(FileNotWritten, match="folder"):
            fill(tmp_path / wrong, "new")
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "real"]


def test_a_saved_state_reads_back(tmp_path: Path) -> None:
    save_values(tmp_path / "s.pt", {"a": torch.arange(3)})
    assert load_values(tmp_path / "s.pt")["a"].tolist() == [0, 1, 2]


def test_features_refuse_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("old")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "file" / "a"):
        with pytest.raises(FileNotWritten):
            FeatureWriter(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe"]


def test_places_are_checked_before_work_and_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "new" / "a")
    for good in ("file", "a", "deep/er/a", "pipe", "link"):
        check_place(tmp_path / good, "--out")
    with pytest.raises(FileNotWritten, match=r"--out is .*, a folder; name a file"):
        check_place(tmp_path, "--out")
    for wrong in ("file/a", "file/deep/a"):
        with pytest.raises(FileNotWritten, match=r"--out leads through .*file, which is no folder"):
            check_place(tmp_path / wrong, "--out")
    with pytest.raises(FileNotWritten, match="which is no folder"):
        check_folder(tmp_path / "file", "--out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "pipe"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="takes a folder in which nobody can make anything")
def test_a_folder_in_which_nothing_can_be_made_is_told() -> None:
    with pytest.raises(FileNotWritten, match=r"--out leads to /proc, where nothing can be made: .*; name another"):
        check_place("/proc/nope/a.mp4", "--out")


def test_features_leave_a_file_of_that_name_with_part_alone(tmp_path: Path) -> None:
    (tmp_path / "f.safetensors.part").write_text("mine")
    FeatureWriter(tmp_path / "f.safetensors").discard()
    assert (tmp_path / "f.safetensors.part").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["f.safetensors.part"]
