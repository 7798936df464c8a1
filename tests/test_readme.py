"""What README.md shows works: its Python runs, its commands run on the bundled clip."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.samples import BIG_BUCK_BUNNY
from legato.video import open_video, write_video

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
    video_path = BIG_BUCK_BUNNY
    if " retime " in command:  # it has no --max-frames: the same clip, shorter and smaller
        video_path = tmp_path / "short.mp4"
        with open_video(BIG_BUCK_BUNNY, size_px=(90, 160)) as video:
            write_video(itertools.islice(video, 12), video_path)
    words = shlex.split(command.replace("VIDEO", str(video_path)))[1:]
    shorter = ["--max-frames", "12"] if words[0] in ("watch", "inspect", "measure") else []
    result = CliRunner().invoke(app, [*words, *shorter])
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


def test_the_guide_to_inbetweening_works_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/inbetween.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(compile(re.findall(r"```python\n(.*?)```", guide, re.S)[0], "inbetween.md", "exec"), {})
    (tmp_path / "board.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])  # type: ignore[index]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"flow.mp4", "refined.mkv", "refined.png", "frames", "board.mkv", "two-stages.mp4"} <= made
    assert (tmp_path / "frames" / "0000.png").read_bytes() == (tmp_path / "keys" / "0.png").read_bytes()


def test_the_guide_to_retiming_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/retime.md").read_text()
    monkeypatch.chdir(tmp_path)
    with open_video(BIG_BUCK_BUNNY, size_px=(48, 64)) as video:  # the same, shorter
        write_video(itertools.islice(video, 12), "short.mp4")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command.replace("VIDEO", "short.mp4"))[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    made = {"smooth.mp4", "film.mkv", "ramp.mp4", "some.mp4", "refined.mp4", "exact.mov", "exact.json"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    code = re.findall(r"```python\n(.*?)```", guide, re.S)[0]
    exec(compile(code.replace("count())", "range(3))"), "retime.md", "exec"), {})


def test_the_guide_to_streaming_works_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs/guide/stream.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driven.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])  # type: ignore[index]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.S) for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "train":  # shorter, and otherwise as it stands
            words += ["training.steps=1", "model.depth=1", "data.frames_per_batch=48", "training.sample_every=0"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    exec(compile(re.findall(r"```python\n(.*?)```", guide, re.S)[0], "stream.md", "exec"), {})
    made = {path.name for path in tmp_path.iterdir()}
    assert {"live.mp4", "driven.mp4", "first.mp4", "second.mp4", "first.state", "bench.json"} <= made


def test_links_lead_somewhere() -> None:
    root = Path(__file__).parents[1]
    pages = [root / "README.md", root / "CONTRIBUTING.md", *root.glob("docs/**/*.md"), *root.glob("src/**/README.md")]
    lost = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            place, _, anchor = link.partition("#")
            target = page.parent / place if place else page
            if "://" in link or (target.exists() and (not anchor or anchor in _anchors(target))):
                continue
            lost.append(f"{page.relative_to(root)}: {link}")
    assert len(pages) > 30
    assert not lost


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as hosts of repositories name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
