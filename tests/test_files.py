"""Files written whole or not at all, and places that take none."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import torch

from legato.cli.output import write_json
from legato.errors import FileNotWritten, LegatoError
from legato.files import check_folder, check_place, write_whole
from legato.generate.rolling import load_values, save_values
from legato.report import write_page
from legato.report.sheets import contact_sheet
from legato.understand.features import FeatureWriter


def write_sheet(path: Path) -> None:
    contact_sheet(path, torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), torch.arange(2, dtype=torch.float64))


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
