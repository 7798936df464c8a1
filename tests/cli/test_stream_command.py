"""`legato stream`, as a user types it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.stream_session import Session
from legato.errors import BadArgument, CorruptVideo, FileNotWritten, UnsupportedOutput
from legato.generate import VideoGenerator
from legato.generate.latents import DiffusersLatents, TinyAutoencoder
from legato.generate.stream import UNDRIVEN, VideoStream
from legato.generate.stream_state import StreamAsk, VideoStreamState
from legato.video import Frame, open_video
from legato.video.write import _Output
from tests.generate.test_latents import wan_vae
from tests.generate.test_piecewise import generator as strided_generator
from tests.generate.test_stream import generator

register()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "final"
    made = generator()
    made.model._hub_mixin_config = {  # type: ignore[assignment]
        "channels": 4, "width": 32, "depth": 1, "heads": 2, "patch_px": 2, "text_bytes": 8, "text_depth": 1,
        "drive_channels": 3, "drive_stride": 2,
    }  # fmt: skip
    assert isinstance(made.latents, TinyAutoencoder)
    made.save_pretrained(folder, half=False)
    return folder


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["stream", *[str(a) for a in arguments], "--quiet"], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def started(*arguments: object, **options: object) -> subprocess.Popen:
    words = [sys.executable, "-m", "legato.cli.app", "stream", *[str(a) for a in arguments]]
    return subprocess.Popen(words, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def pictures(path: Path) -> list[np.ndarray]:
    with open_video(path) as video:
        return [frame.pixels.numpy().copy() for frame in video]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two pictures."""
    return float(np.abs(a.astype(int) - b).mean())


def times(path: Path) -> list[Fraction]:
    with open_video(path) as video:
        return [frame.time for frame in video]


def test_the_file_has_exactly_the_frames_asked_for_at_their_times(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "live.mp4"
    told = json.loads(
        call("--checkpoint", checkpoint, "--text", "up", "--frames", 21, "--fps", 30, "--out", out, "--json", "-")
    )
    assert times(out) == [Fraction(i, 30) for i in range(21)]
    assert told["frames"] == 21
    assert told["complete"]
    assert told["peak_rss_bytes"] > 1e6
    assert told["rss_bytes_after_100_frames"] is None
    call("--checkpoint", checkpoint, "--frames", 3, "--fps", "30000/1001", "--out", out)
    assert times(out) == [Fraction(1001 * i, 30000) for i in range(3)]
    call("--checkpoint", checkpoint, "--seconds", 0.5, "--fps", 23.976, "--out", out)
    assert times(out) == [Fraction(125 * i, 2997) for i in range(12)]


def test_resumed_is_the_rest_of_the_uninterrupted_stream(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.pt"
    common = (
        "--checkpoint",
        checkpoint,
        "--text",
        "up down",
        "--steps",
        1,
        "--frames-per-window",
        4,
        "--fresh-above",
        1,
    )
    common += ("--windows", 3, "--seed", 4, "--context", 1, "--keyframes", 2, "--novelty", 0.1, "--slope", 0.5)
    call(*common, "--frames", 30, "--out", tmp_path / "whole.mkv")
    call(*common, "--frames", 13, "--out", tmp_path / "a.mkv", "--state", state)
    call("--checkpoint", checkpoint, "--frames", 17, "--out", tmp_path / "b.mkv", "--resume", state)
    assert times(tmp_path / "a.mkv") + times(tmp_path / "b.mkv") == times(tmp_path / "whole.mkv")
    whole, rest = pictures(tmp_path / "whole.mkv"), pictures(tmp_path / "b.mkv")
    errors = [sum(apart(a, b) for a, b in zip(whole[13 - late :], rest, strict=False)) for late in (0, 1)]
    assert errors[0] < 0.8 * errors[1], errors  # what is left is the codec's
    with pytest.raises(BadArgument, match="--sink is 2 and the saved stream's is 1"):
        call("--checkpoint", checkpoint, "--frames", 1, "--resume", state, "--sink", 2, "--out", tmp_path / "c.mp4")
    with pytest.raises(BadArgument, match="--seed is 5 and the saved stream's is 4"):
        call("--checkpoint", checkpoint, "--frames", 1, "--resume", state, "--seed", 5, "--out", tmp_path / "c.mp4")
    with pytest.raises(BadArgument, match="leave --reference out"):
        call("--checkpoint", checkpoint, "--frames", 1, "--resume", state, "--reference", tmp_path / "whole.mkv")


def test_latents_of_four_frames_stream_and_resume(tmp_path: Path) -> None:
    folder, vae, state = tmp_path / "made", tmp_path / "vae", tmp_path / "s.pt"
    latents = DiffusersLatents(wan_vae(), str(vae))
    latents.vae.save_pretrained(vae)
    replace(strided_generator(), latents=latents).save_pretrained(folder)
    queue = ("--checkpoint", folder, "--windows", 2, "--frames-per-window", 2)
    call(*queue, "--frames", 14, "--out", tmp_path / "whole.mkv")
    call(*queue, "--frames", 6, "--state", state, "--out", tmp_path / "a.mkv")
    call("--checkpoint", folder, "--frames", 8, "--resume", state, "--out", tmp_path / "b.mkv")
    whole = times(tmp_path / "whole.mkv")
    assert [round(at * 24) for at in whole] == list(range(14))
    assert times(tmp_path / "a.mkv") + times(tmp_path / "b.mkv") == whole
    assert torch.load(state, weights_only=True)["decoder"]["caches"] is not None


def test_a_drive_leads_and_its_end_may_end_the_stream(checkpoint: Path, tmp_path: Path, make_clip) -> None:
    poses = make_clip("poses.mp4", 10, (48, 48))
    out = tmp_path / "out.mp4"
    common, ends = ("--checkpoint", checkpoint, "--drive", poses, "--out", out), ("--drive-end", "end", "--forever")
    told = json.loads(call(*common, *ends, "--fps", 50, "--json", "-"))
    assert len(times(out)) == 19  # up to the last of ten pictures at 25 a second
    assert (told["windows"], told["frames_per_window"], told["steps"], told["context_frames"]) == (6, 8, 1, 2)
    call("--checkpoint", checkpoint, "--drive", poses, "--frames", 40, "--drive-between", "linear", "--out", out)
    assert len(times(out)) == 40
    image = np.full((8, 8, 3), 40, dtype=np.uint8)
    image[2:5, 3:6] = 220
    cv2.imwrite(str(tmp_path / "pose.png"), image)
    cv2.imwrite(str(tmp_path / "reference.png"), np.full((16, 16, 3), 200, dtype=np.uint8))
    fitted = ("--reference", tmp_path / "reference.png", "--reference-pose", tmp_path / "pose.png")
    made = {}
    for bridge in (0, 0.25):
        call("--checkpoint", checkpoint, "--drive", poses, *fitted, "--bridge", bridge, "--frames", 5, "--out", out)
        assert times(out) == [Fraction(n, 24) for n in range(5)]
        made[bridge] = pictures(out)[0].astype(int)
    assert np.abs(made[0] - made[0.25]).max() > 2
    with pytest.raises(BadArgument, match=r"are 64x48.*8x8: crop"):
        call("--checkpoint", checkpoint, "--drive", make_clip("wide.mp4", 3), "--frames", 2, "--out", out)


def test_a_resumed_stream_reads_its_drive_as_before(checkpoint: Path, tmp_path: Path, make_clip) -> None:
    poses, states = make_clip("poses.mp4", 12, (48, 48)), [tmp_path / f"{n}.state" for n in range(3)]
    out = [("--out", tmp_path / f"{n}.mkv") for n in range(3)]
    common = ("--checkpoint", checkpoint, "--drive", poses, "--windows", 2)
    asked = ("--drive-between", "linear", "--drive-fps", "10", "--drive-end", "end")
    call(*common, *asked, *out[0], "--forever", "--state", states[0])
    call(*common, *asked, *out[0], "--frames", 9, "--state", states[1])
    call(*common, *out[1], "--resume", states[1], "--forever", "--state", states[1])
    whole, resumed = (VideoStreamState.load(state) for state in states[:2])
    assert whole.shown == resumed.shown == 27  # up to 1.1 s
    torch.testing.assert_close(resumed.rolling.latents, whole.rolling.latents, rtol=0, atol=0)
    call(*common, *out[2], "--resume", states[1], "--drive-end", "hold", "--frames", 3, "--state", states[2])
    assert VideoStreamState.load(states[2]).shown == 30


def test_a_drive_that_has_grown_is_followed_on_and_one_that_is_over_is_told(
    checkpoint: Path, tmp_path: Path, make_clip
) -> None:
    rows = [np.full((48, 48, 3), 5 * n, dtype=np.uint8) for n in range(48)]
    short, grown = (make_clip(f"{n}.mp4", n, (48, 48), pictures=rows[:n]) for n in (12, 48))
    common = ("--checkpoint", checkpoint, "--windows", 2)
    first, held, followed = (tmp_path / f"{name}.state" for name in "ahf")
    call(*common, "--drive", short, "--frames", 30, "--state", first, "--out", tmp_path / "a.mkv")
    for drive, state in ((short, held), (grown, followed)):
        on = ("--resume", first, "--state", state, "--out", state.with_suffix(".mkv"))
        told = call(*common, "--drive", drive, *on, "--frames", 20)
        assert "has no picture after" not in told
    kept = [VideoStreamState.load(state).drive for state in (held, followed)]
    assert kept[0] is not None
    assert kept[1] is not None
    assert float(kept[1].seconds[-1]) > float(kept[0].seconds[-1]) == pytest.approx(11 / 25)
    end = ("--drive-end", "end", "--forever")
    call(*common, "--drive", short, *end, "--state", first, "--out", tmp_path / "a.mkv")
    with pytest.raises(BadArgument, match="the drive is over where the saved stream was"):
        call(*common, "--drive", short, "--resume", first, "--forever", "--out", tmp_path / "b.mkv")


def test_a_second_interrupt_saves_no_state_ahead_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class State:
        def __init__(self, shown: int):
            self.shown = shown

        def save(self, path: Path) -> None:
            path.write_text(str(self.shown))

    def coming() -> Iterator[SimpleNamespace]:
        for n in itertools.count():
            frame = Frame(torch.full((3, 16, 16), 5 * n % 255, dtype=torch.uint8), n, Fraction(1, 24))
            yield SimpleNamespace(frame=frame, state=State(n + 1))

    put, count = _Output.put, itertools.count(1)

    def interrupted(self: _Output, shown: Any) -> None:
        if next(count) == 60:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        put(self, shown)

    monkeypatch.setattr(_Output, "put", interrupted)
    session = Session(tmp_path / "state", True, None, Fraction(24))
    with pytest.raises(KeyboardInterrupt):
        session.run(coming(), tmp_path / "a.mp4", "y4m")  # type: ignore[arg-type]
    assert 20 < int((tmp_path / "state").read_text()) <= len(times(tmp_path / "a.mp4")) < 61


def test_a_damaged_drive_is_told_and_a_driven_stream_is_gone_on_with_driven(
    checkpoint: Path, tmp_path: Path, make_clip
) -> None:
    poses, state, json_path = make_clip("poses.mp4", 40, (48, 48)), tmp_path / "s.state", tmp_path / "a.json"
    data = bytearray(poses.read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 300] = bytes(range(100)) * 3
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    common = ("--checkpoint", checkpoint, "--fps", 25, "--out", tmp_path / "out.mp4")
    call(*common, "--drive", damaged, "--drive-end", "end", "--forever", "--state", state, "--json", json_path)
    (warning,) = json.loads(json_path.read_text())["warnings"]
    assert "damaged.mp4 is damaged" in warning
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(BadArgument, match="is driven; give --drive too"):
        call(*common, "--resume", state, "--frames", 2)


def test_what_goes_on_takes_no_films_place_and_a_new_film_has_no_other_films_state(
    checkpoint: Path, tmp_path: Path
) -> None:
    out, state, linked = tmp_path / "a.mp4", tmp_path / "a.mp4.state", tmp_path / "link"
    common = ("--checkpoint", checkpoint, "--frames", 3)
    call(*common, "--out", out, "--state", state)
    film, saved = out.read_bytes(), state.read_bytes()
    with pytest.raises(BadArgument, match=r"a.mp4 is there, and what goes on would take its place"):
        call(*common, "--resume", state, "--out", out)
    assert (out.read_bytes(), state.read_bytes()) == (film, saved)
    linked.symlink_to(tmp_path)
    out.unlink()
    call(*common, "--resume", linked / "a.mp4.state", "--out", out)  # whose own state it is, by another name
    assert VideoStreamState.load(state).shown == 6
    with pytest.raises(BadArgument, match="--windows is 0"):
        call(*common, "--out", out, "--windows", 0)
    assert state.exists()  # nothing was begun
    call(*common, "--out", out)
    assert not state.exists()


def test_a_state_of_another_checkpoint_or_of_none_is_told(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.state"
    call("--checkpoint", checkpoint, "--frames", 2, "--out", tmp_path / "a.mp4", "--state", state)
    with pytest.raises(BadArgument, match="of another checkpoint"):
        call("--checkpoint", "puppet-flow", "--frames", 2, "--out", tmp_path / "b.mp4", "--resume", state)
    for wrong in (state.read_bytes()[:200], b"", (tmp_path / "a.mp4").read_bytes()):
        (tmp_path / "wrong.state").write_bytes(wrong)
        with pytest.raises(BadArgument, match=r"wrong.state is not a saved state, or was cut short$"):
            call("--checkpoint", checkpoint, "--frames", 2, "--out", tmp_path / "b.mp4", "--resume",
                 tmp_path / "wrong.state")  # fmt: skip
    with pytest.raises(BadArgument, match="use `legato inbetween`"):
        call("--checkpoint", "puppet-inbetween", "--frames", 2, "--out", tmp_path / "b.mp4")


def test_where_writing_fails_no_state_runs_ahead_of_the_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(frames: Iterator, *_: object, **__: object) -> None:
        for number, _frame in enumerate(frames):
            if number == 3:
                raise UnsupportedOutput("no space left")

    monkeypatch.setattr("legato.video.write_video", full)
    with pytest.raises(UnsupportedOutput, match="no space"):
        call("--checkpoint", checkpoint, "--forever", "--out", tmp_path / "a.mp4", "--state", tmp_path / "s.state")
    assert not (tmp_path / "s.state").exists()
    full_disk = Path("/dev/full")
    if full_disk.exists():
        with full_disk.open("wb") as there:
            running = started("--checkpoint", checkpoint, "--frames", 2, "--out", "-", stdout=there)
        _, errors = running.communicate(timeout=100)
        assert running.returncode == 2
        assert b"the pipe takes no more: No space left on device" in errors
        assert b"Traceback" not in errors


@contextmanager
def standard_input(told: bytes, ends: bool = True) -> Iterator[None]:
    """A pipe in the place of standard input, with something in it; its writer may stay."""
    read, write = os.pipe()
    before = os.dup(0)
    os.dup2(read, 0)
    os.write(write, told)
    if ends:
        os.close(write)
    try:
        yield
    finally:
        os.dup2(before, 0)
        for thread in threading.enumerate():  # a live drive reads one ahead, and would take that from the next pipe
            if thread.name == "legato-drive":
                thread.join(0.2)
        for number in (before, read) if ends else (before, read, write):
            os.close(number)


def test_a_pipe_leads_at_its_rate_ends_the_stream_or_stalls(checkpoint: Path, tmp_path: Path) -> None:
    rows = [np.full((8, 8, 3), 25 * n, dtype=np.uint8).tobytes() for n in range(10)]
    common = ("--checkpoint", checkpoint, "--frames", 9, "--windows", 2, "--drive", "-", "--drive-pipe", "rgb24")
    made = {}
    for name, count, more in (("a", 10, ()), ("fast", 10, ("--drive-fps", 240)), ("end", 3, ("--drive-end", "end"))):
        with standard_input(b"".join(rows[:count])):
            call(*common, *more, "--out", tmp_path / f"{name}.mkv")
        made[name] = pictures(tmp_path / f"{name}.mkv")
    assert [len(made[name]) for name in ("a", "fast", "end")] == [9, 9, 3]
    assert apart(made["a"][8], made["fast"][8]) > 1
    with standard_input(b"".join(rows[:2]), ends=False):  # and nothing more comes
        call(*common, "--drive-patience", 0.1, "--out", tmp_path / "live.mkv")
    assert len(times(tmp_path / "live.mkv")) == 9
    with standard_input(b"".join(rows[:3]) + rows[3][:50]):  # it breaks off inside a picture
        told = call(*common, "--drive-end", "end", "--out", tmp_path / "cut.mkv", "--json", tmp_path / "cut.json")
    assert "over after 3 pictures: the pipe breaks off in frame 3" in told
    numbers = json.loads((tmp_path / "cut.json").read_text())
    assert numbers["frames"] == 3
    assert not numbers["complete"]
    assert len(numbers["warnings"]) == 1
    with standard_input(b"no video\n"), pytest.raises(CorruptVideo, match="expected Y4M"):
        call(*common, "--drive-pipe", "y4m", "--out", tmp_path / "x.mkv")


def test_a_picture_or_a_video_is_gone_on_from(checkpoint: Path, tmp_path: Path, make_clip) -> None:
    picture = tmp_path / "r.png"
    cv2.imwrite(str(picture), np.full((16, 16, 3), 200, dtype=np.uint8))
    common = ("--checkpoint", checkpoint, "--frames", 4, "--windows", 2)
    call(*common, "--out", tmp_path / "a.mp4")
    call(*common, "--out", tmp_path / "b.mp4", "--reference", picture)
    assert times(tmp_path / "b.mp4")[0] == 0
    assert np.abs(pictures(tmp_path / "a.mp4")[0].astype(int) - pictures(tmp_path / "b.mp4")[0]).max() > 5
    clip = make_clip("c.mp4", 5, (16, 16))
    call(*common, "--out", tmp_path / "d.mp4", "--reference", clip, "--fps", 25)
    assert times(tmp_path / "d.mp4") == [Fraction(5 + i, 25) for i in range(4)]
    cv2.imwrite(str(picture), np.zeros((20, 16, 3), dtype=np.uint8))
    with pytest.raises(BadArgument, match="are 16x20; this checkpoint makes 16x16"):
        call(*common, "--out", tmp_path / "b.mp4", "--reference", picture)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "one of --seconds, --frames and --forever"),
        (("--frames", 3, "--forever"), "one of --seconds, --frames and --forever"),
        (("--frames", 0), "--frames is 0"),
        (("--seconds", -2), "--seconds is -2"),
        (("--frames", 3, "--fps", 0), "--fps is 0"),
        (("--frames", 3, "--fps", "inf"), "--fps is inf"),
        (("--frames", 3, "--guidance", "nan"), "--guidance is nan"),
        (("--frames", 3, "--slope", 1.5), "--slope is 1.5"),
        (("--frames", 3, "--drive-guidance", "-inf"), "--drive-guidance is -inf"),
        (("--frames", 3, "--windows", 0), "--windows is 0; expected 1 or more"),
        (("--frames", 3, "--frames-per-window", 0), "--frames-per-window is 0"),
        (("--frames", 3, "--steps", 0), "--steps is 0"),
        (("--frames", 3, "--sink", -1), "--sink is -1; expected 0 or more"),
        (("--frames", 3, "--context", -1), "--context is -1"),
        (("--frames", 3, "--keyframes", -1), "--keyframes is -1"),
        (("--frames", 3, "--novelty", 0), "--novelty is 0; expected more than 0 and at most 2"),
        (("--frames", 3, "--novelty", "nan"), "--novelty is nan"),
        (("--frames", 3, "--drive", "-", "--drive-end", "never"), "--drive-end is 'never'; expected hold or end"),
        (("--frames", 3, "--drive", "-", "--drive-between", "cubic"), "--drive-between is 'cubic'; expected nearest"),
        (("--frames", 3, "--text", "left"), "does not know 'left'"),
        (("--frames", 3, "--class", "jump"), "class 'jump' is unknown to this checkpoint; it has: none"),
        (("--frames", 3, "--pipe", "avi"), "--pipe is 'avi'"),
        (("--frames", 3, "--drive", "-", "--drive-pipe", "avi"), "--drive-pipe is 'avi'"),
        (("--frames", 3, "--drive", "-", "--drive-fps", 0), "--drive-fps is 0"),
        (("--frames", 3, "--drive", "-", "--drive-fps", "1/0"), "--drive-fps is 1/0"),
        (("--frames", 3, "--drive", "-", "--drive-patience", -1), "--drive-patience is -1"),
        (("--frames", 3, "--reference-pose", "p.png"), r"--reference-pose fits a drive.*give --drive too"),
        (("--frames", 3, "--bridge", 0.5), r"--bridge fits a drive.*give --drive too"),
        (("--frames", 3, "--bridge", 0.5, "--drive", "-"), r"--bridge leads.*give --reference-pose too"),
        (("--frames", 3, "--bridge", -1, "--drive", "-"), "--bridge is -1"),
        (("--frames", 3, "--resume", "none.pt"), "there is no saved state none.pt"),
        (("--frames", 3, "--out", "-", "--json", "-"), "cannot both go to standard output"),
    ],
)
def test_wrong_arguments_are_told(checkpoint: Path, tmp_path: Path, options: tuple, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        call("--checkpoint", checkpoint, "--out", tmp_path / "a.mp4", *options)
    assert not list(tmp_path.iterdir())


def test_standard_output_is_a_y4m_that_players_read_and_a_closed_pipe_ends_quietly(
    checkpoint: Path, tmp_path: Path
) -> None:
    running = started("--checkpoint", checkpoint, "--frames", 9, "--out", "-", stdout=subprocess.PIPE)
    told, errors = running.communicate(timeout=100)
    assert running.returncode == 0, errors
    (tmp_path / "a.y4m").write_bytes(told)
    with av.open(str(tmp_path / "a.y4m")) as container:
        assert container.streams.video[0].average_rate == 24
        piped = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(piped) == 9
    assert b"9 frames" in errors
    stream = VideoStream(VideoGenerator.from_pretrained(checkpoint), StreamAsk(), UNDRIVEN)
    made = [one.frame.pixels.numpy() for one in stream.frames(stream.begin(), 9)]
    assert max(apart(a.transpose(2, 0, 1), b) for a, b in zip(piped, made, strict=True)) < 2
    running = started("--checkpoint", checkpoint, "--forever", "--pipe", "rgb24", "--out", "-", "--state",
                      tmp_path / "s.pt", stdout=subprocess.PIPE)  # fmt: skip
    assert running.stdout is not None
    assert len(running.stdout.read(16 * 16 * 3)) == 16 * 16 * 3
    running.stdout.close()
    assert running.wait(timeout=100) == 0
    assert running.stderr is not None
    assert b"Error" not in running.stderr.read()
    assert torch.load(tmp_path / "s.pt", weights_only=True)["shown"] >= 1


@pytest.mark.parametrize(
    ("kind", "name"), [(signal.SIGINT, "live.mp4.state"), (signal.SIGINT, "s.pt"), (signal.SIGTERM, "s.pt")]
)
def test_ctrl_c_leaves_a_file_that_plays_and_a_state_that_goes_on_from_it(
    checkpoint: Path, tmp_path: Path, kind: signal.Signals, name: str
) -> None:
    out, state = tmp_path / "live.mp4", tmp_path / name
    asked = ("--state", state) if name == "s.pt" else ()  # by default it lies beside the file
    running = started("--checkpoint", checkpoint, "--forever", "--out", out, *asked, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while not (out.exists() and out.stat().st_size > 5000) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(running.pid, kind)
    assert running.wait(timeout=60) == 0
    made = times(out)
    assert made == [Fraction(i, 24) for i in range(len(made))]
    assert running.stdout is not None
    assert f"ended early; go on with --resume {state} and another --out" in running.stdout.read().decode()
    assert torch.load(state, weights_only=True)["shown"] == len(made) > 0
    call("--checkpoint", checkpoint, "--frames", 2, "--resume", state, "--out", tmp_path / "next.mp4")
    assert times(tmp_path / "next.mp4")[0] == Fraction(len(made), 24)
    assert not (tmp_path / "next.mp4.state").exists()  # that file is whole
    assert state.exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_drive_that_stalls_is_not_waited_for_after_ctrl_c(
    checkpoint: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    out, state = tmp_path / "live.mp4", tmp_path / "s.pt"
    running = started("--checkpoint", checkpoint, "--forever", "--drive", "-", "--drive-pipe", "rgb24", "--windows", 2,
                      "--out", out, "--state", state, stdin=subprocess.PIPE)  # fmt: skip
    running.stdin.write(bytes(8 * 8 * 3) * 40)
    running.stdin.flush()
    deadline = time.monotonic() + 100
    while not (out.exists() and out.stat().st_size > 2000) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)  # by now it waits for more
    os.kill(running.pid, kind)
    assert running.wait(timeout=20) == 0
    running.stdin.close()
    assert len(times(out)) == torch.load(state, weights_only=True)["shown"] > 0


def test_states_lie_about_a_second_of_work_and_one_of_video_behind(checkpoint: Path, tmp_path: Path) -> None:
    out, state = tmp_path / "live.mp4", tmp_path / "s.pt"
    running = started("--checkpoint", checkpoint, "--forever", "--out", out, "--state", state)
    deadline = time.monotonic() + 100
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    first = torch.load(state, weights_only=True)["shown"]
    written = state.stat().st_mtime_ns
    while state.stat().st_mtime_ns == written and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.wait()
    later = torch.load(state, weights_only=True)["shown"]
    assert 0 < first < later <= len(times(out))  # what plays of a file that is killed lacks about a second, too


def test_a_last_state_that_cannot_be_saved_leaves_the_rest_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FileNotWritten("s.pt cannot be written: No space left on device")

    monkeypatch.setattr("legato.generate.stream_state.save_values", full)
    out, told = tmp_path / "live.mp4", tmp_path / "told.json"
    with pytest.raises(FileNotWritten, match="No space left"):
        call("--checkpoint", checkpoint, "--frames", 9, "--out", out, "--state", tmp_path / "s.pt", "--json", told)
    assert len(times(out)) == json.loads(told.read_text())["frames"] == 9


def test_what_is_no_state_or_is_damaged_is_told(checkpoint: Path, tmp_path: Path) -> None:
    state = tmp_path / "s.pt"
    call("--checkpoint", checkpoint, "--frames", 3, "--out", tmp_path / "a.mp4", "--state", state)
    whole = bytearray(state.read_bytes())
    parts = zipfile.ZipFile(state).infolist()
    at = max(parts, key=lambda part: part.file_size).header_offset + 600
    whole[at] ^= 0xFF
    (tmp_path / "flip.pt").write_bytes(whole)
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "script.pt").write_text("#!/bin/sh\nexit 0\n")
    values = torch.load(state, weights_only=True)
    torch.save(values | {"ask": {}}, tmp_path / "odd.pt")
    for name, words in (("flip", "is damaged"), ("text", "not a saved state"), ("script", "not a saved state"),
                        ("odd", "is not the state of a stream")):  # fmt: skip
        with pytest.raises(BadArgument, match=words):
            call(
                "--checkpoint",
                checkpoint,
                "--frames",
                3,
                "--resume",
                tmp_path / f"{name}.pt",
                "--out",
                tmp_path / "b.mp4",
            )


def test_what_a_live_drive_gives_after_the_end_of_another_follows(checkpoint: Path, tmp_path: Path, make_clip) -> None:
    state = tmp_path / "s.pt"
    common = ("--checkpoint", checkpoint, "--windows", 2)
    drives = [make_clip(f"{n}.mp4", 8, (8, 8), pictures=[np.full((8, 8, 3), 30 * n, np.uint8)] * 8) for n in range(3)]
    call(*common, "--drive", drives[0], "--frames", 40, "--out", tmp_path / "a.mkv", "--state", state)
    made = []
    for number in (1, 2):
        again = ("--resume", state, "--drive", drives[number], "--frames", 24, "--out", tmp_path / f"{number}.mkv")
        call("--checkpoint", checkpoint, *again, "--drive-patience", 1)
        made.append(np.stack(pictures(tmp_path / f"{number}.mkv")))
    assert not np.array_equal(*made)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--drive-end", "end"), "--drive-end is end, and there is no drive"),
        (("--state", "-"), "--state is -; a state goes to a file"),
        (("--drive-patience", 1), "--drive-patience is 1.0, and there is no drive"),
        (("--drive", "nowhere.mp4", "--drive-patience", "inf"), "--drive-patience is inf; expected 0 to 86400"),
        (("--out", "a.gif"), "a GIF cannot be played while it grows"),
    ],
)
def test_what_does_not_go_together_is_told(checkpoint: Path, tmp_path: Path, options: tuple, words: str) -> None:
    with pytest.raises((BadArgument, UnsupportedOutput), match=words):
        call("--checkpoint", checkpoint, "--frames", 3, "--out", tmp_path / "a.mp4", *options)
