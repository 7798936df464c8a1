"""`legato bench stream`, as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.bench import memory_bytes
from legato.errors import BadArgument, ModelNotFound
from tests.cli.test_stream_command import checkpoint
from tests.generate.test_stream import generator

__all__ = ["checkpoint"]
register()


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["bench", "stream", *[str(a) for a in arguments], "--quiet"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_a_way_in_its_own_process_and_one_that_its_limit_ends(checkpoint: Path, tmp_path: Path) -> None:
    common = ("--checkpoint", checkpoint, "--frames", 8, "--way", "streaming", "--windows", 2)
    told = json.loads(call(*common, "--json", "-"))
    row = told["ways"][0]
    assert (row["way"], row["frames"]) == ("streaming", 8)
    assert row["peak_bytes"] > 1e7
    assert row["seconds_per_frame"] > 0
    table = call(*common, "--memory-limit", "9M", "--json", tmp_path / "b.json", code=1)
    assert "over the memory limit while" in table
    row = json.loads((tmp_path / "b.json").read_text())["ways"][0]
    assert row["failed"] == "over the memory limit while starting"


@pytest.mark.parametrize(("options", "steps"), [((), 1), (("--text-only",), 8), (("--steps", 2, "--text-only"), 2)])
def test_the_queue_is_that_of_what_leads(checkpoint: Path, options: tuple[object, ...], steps: int) -> None:
    common = ("--checkpoint", checkpoint, "--frames", 4, "--way", "streaming", "--memory-limit", "9M", "--json", "-")
    assert json.loads(call(*common, *options, code=1))["ways"][0]["window"]["steps"] == steps


def test_without_a_drive_text_leads(tmp_path: Path) -> None:
    made = generator(drive_channels=0)
    made.model._hub_mixin_config = {  # type: ignore[assignment]
        "channels": 4, "width": 32, "depth": 1, "heads": 2, "patch_px": 2, "text_bytes": 8, "text_depth": 1,
    }  # fmt: skip
    made.save_pretrained(tmp_path / "model", half=False)
    common = ("--checkpoint", tmp_path / "model", "--frames", 4, "--way", "streaming", "--memory-limit", "9M")
    assert json.loads(call(*common, "--json", "-", code=1))["ways"][0]["window"]["steps"] == 8


def test_sizes_are_read_and_wrong_arguments_are_told(checkpoint: Path) -> None:
    assert memory_bytes("600M") == 600 * 2**20
    assert memory_bytes("9.5GiB") == int(9.5 * 2**30)
    assert memory_bytes("0") == 0
    for told in ("lots", "-3M", ""):
        with pytest.raises(BadArgument, match="expected a size such as 600M"):
            memory_bytes(told)
    with pytest.raises(BadArgument, match="there is no way 'x'"):
        call("--checkpoint", checkpoint, "--way", "x")
    with pytest.raises(BadArgument, match="--device is 'foo'; expected cpu"):
        call("--checkpoint", checkpoint, "--device", "foo")
    for device in ("meta", "cpu:7", "cuda:99"):
        with pytest.raises(BadArgument, match=f"--device is '{device}'"):
            call("--checkpoint", checkpoint, "--device", device)
    with pytest.raises(ModelNotFound, match="no generator 'nowhere'"):
        call("--checkpoint", "nowhere")
    with pytest.raises(BadArgument, match="--windows is 0"):
        call("--checkpoint", checkpoint, "--windows", 0)
    with pytest.raises(BadArgument, match="--sink is -1"):
        call("--checkpoint", checkpoint, "--sink", -1)
