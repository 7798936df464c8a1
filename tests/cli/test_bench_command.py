"""`legato bench stream`, as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.bench import memory_bytes
from legato.errors import BadArgument
from tests.cli.test_stream_command import checkpoint

__all__ = ["checkpoint"]
register()


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["bench", "stream", *[str(a) for a in arguments], "--quiet"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_way_in_its_own_process_and_one_that_its_limit_ends(checkpoint: Path, tmp_path: Path) -> None:
    common = ("--checkpoint", checkpoint, "--frames", 8, "--way", "streaming", "--windows", 2)
    told = json.loads(call(*common, "--json", "-"))
    row = told["ways"][0]
    assert (row["way"], row["frames"]) == ("streaming", 8)
    assert row["peak_bytes"] > 1e7
    assert row["seconds_per_frame"] > 0
    table = call(*common, "--memory-limit", "9M", "--json", tmp_path / "b.json")
    assert "over the memory limit while" in table
    row = json.loads((tmp_path / "b.json").read_text())["ways"][0]
    assert row["failed"] == "over the memory limit while starting"


def test_sizes_are_read_and_wrong_arguments_are_told(checkpoint: Path) -> None:
    assert memory_bytes("600M") == 600 * 2**20
    assert memory_bytes("9.5GiB") == int(9.5 * 2**30)
    assert memory_bytes("0") == 0
    for told in ("lots", "-3M", ""):
        with pytest.raises(BadArgument, match="expected a size such as 600M"):
            memory_bytes(told)
    with pytest.raises(BadArgument, match="there is no way 'x'"):
        call("--checkpoint", checkpoint, "--way", "x")
    with pytest.raises(BadArgument, match="--windows is 0"):
        call("--checkpoint", checkpoint, "--windows", 0)
    with pytest.raises(BadArgument, match="--sink is -1"):
        call("--checkpoint", checkpoint, "--sink", -1)
