"""What README.md shows works: its Python runs, its commands run on the bundled clip."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.samples import BIG_BUCK_BUNNY

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("legato ")
]
register()


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "facebook/" in command:
        pytest.skip("needs the model hub")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("VIDEO", str(BIG_BUCK_BUNNY)))[1:]
    result = CliRunner().invoke(app, [*words, "--max-frames", "12"])
    assert result.exit_code == 0, (result.output, result.exception)


def test_the_guide_to_generating_works_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/generate.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])  # type: ignore[index]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "train":  # shorter, and otherwise as it stands
            words += ["training.steps=2", "data.frames_per_batch=32", "training.sample_every=0"]
        else:
            words += ["--steps", "2"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    exec(compile(re.findall(r"```python\n(.*?)```", guide, re.S)[0], "generate.md", "exec"), {})
    assert {"line.mp4", "line.png", "slow.mp4", "ramp.mp4", "uneven.mp4"} <= {path.name for path in tmp_path.iterdir()}


def test_the_guide_to_streaming_works_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/stream.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driven.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])  # type: ignore[index]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "train":  # shorter, and otherwise as it stands
            words += ["training.steps=1", "model.depth=1", "data.frames_per_batch=48", "training.sample_every=0"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    exec(compile(re.findall(r"```python\n(.*?)```", guide, re.S)[0], "stream.md", "exec"), {})
    made = {path.name for path in tmp_path.iterdir()}
    assert {"live.mp4", "driven.mp4", "first.mp4", "second.mp4", "first.state"} <= made
