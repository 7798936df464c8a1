"""`legato retime`, as a user types it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.errors import BadArgument, LegatoError, NoVideoStream, UnsupportedOutput
from legato.video import open_video, write_video
from tests import faults

register()


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["retime", *(str(a) for a in arguments), "--quiet"], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_there_and_back_again_through_files(tmp_path: Path) -> None:
    frames = faults.moving_scene(rate=15, seconds=0.6, height=60, width=80)
    first, doubled, back = (tmp_path / name for name in ("a.mp4", "b.mkv", "new/c.mov"))
    write_video(frames, first, lossless=True, last_seconds=Fraction(1, 15))
    call(first, "--fps", 30, "--out", doubled, "--lossless")
    told = call(doubled, "--fps", 15, "--out", back, "--lossless", "--json", "-")
    with open_video(back) as video:
        found = list(video)
        assert video.info.duration_seconds == pytest.approx(0.6, abs=1e-9)
    assert [frame.time for frame in found] == [frame.time for frame in frames]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(found, frames, strict=True))
    assert json.loads(told)["origins"] == {"source": 9, "interpolated": 0, "held": 0}


@pytest.mark.parametrize("rate", ["24", "30", "60", "24000/1001"])
def test_nothing_changes_at_the_same_speed_through_milliseconds(
    make_clip: Callable[..., Path], tmp_path: Path, rate: str
) -> None:
    exact = Fraction(rate)
    wrong = 1 / round(1 / exact, 3)  # what a writer makes of the first interval in milliseconds: 23.81, 58.82
    times = [Fraction(round(n / exact, 3)) for n in range(120)]
    source, out = make_clip("a.mkv", times, rate=wrong, size_px=(16, 16), bf="0"), tmp_path / "b.mkv"
    with open_video(source) as video:
        assert video.info.declared_rate == wrong
    told = json.loads(call(source, "--speed", "0:1", "--out", out, "--json", "-"))
    assert told["origins"] == {"source": 120, "interpolated": 0, "held": 0}
    assert told["fps"] == float(exact)
    with open_video(out) as video:
        assert [round(frame.time, 3) for frame in video] == times
        assert video.info.declared_rate == exact


def test_a_video_of_variable_rate_keeps_its_duration(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    times = [Fraction(n, 100) for n in (0, 5, 20, 24, 48, 60)]
    source, out = make_clip(times=times, bf="0"), tmp_path / "even.mp4"
    facts = json.loads(call(source, "--fps", "30000/1001", "--out", out, "--json", "-", "--no-cuts"))
    with open_video(source) as video:
        length = video.info.duration_seconds
    with open_video(out) as video:
        found = [frame.time for frame in video]
    assert found == [Fraction(1001 * n, 30000) for n in range(len(found))]
    assert length is not None
    assert 0 <= facts["duration_seconds"] - length < 1001 / 30000
    assert facts["source_frames"] == 6


def test_slow_motion_shows_the_source_at_the_integral_of_the_speed(tmp_path: Path) -> None:
    ramp = [np.full((32, 32, 3), 4 * n, np.uint8) for n in range(51)]
    frames = [faults.with_pixels(f, p) for f, p in zip(faults.moving_scene(rate=25, seconds=2.2), ramp, strict=False)]
    source, out = tmp_path / "a.mp4", tmp_path / "slow.mp4"
    write_video(frames, source, lossless=True)
    call(source, "--speed", "0:1,1:0.25", "--fps", 10, "--out", out, "--lossless", "--interpolator", "linear")
    with open_video(out) as video:
        found = list(video)
    seconds = [Fraction(n, 10) for n in range(len(found))]
    assert [frame.time for frame in found] == seconds
    for frame in found:
        at = frame.seconds
        world = at - 0.375 * at * at if at <= 1 else 0.625 + 0.25 * (at - 1)
        assert int(frame.pixels[0, 0, 0]) == pytest.approx(min(100 * world, 200), abs=0.51)
    # 0.625 s go by in the first second, and the rest of 2.04 s at a quarter of the speed
    assert len(found) == pytest.approx(10 * (1 + (2.04 - 0.625) * 4), abs=1)


def test_the_first_speed_holds_before_its_point(tmp_path: Path) -> None:
    source, out = tmp_path / "a.mp4", tmp_path / "late.mp4"
    frames = faults.moving_scene(rate=20, seconds=1, height=48, width=64)
    write_video(frames, source, lossless=True)
    call(source, "--speed", "0.5:0.5,0.6:2", "--fps", 10, "--out", out, "--lossless")
    with open_video(out) as video:
        found = list(video)
    for number in range(6):  # 0.05 s of the source go by in 0.1 s, up to half a second
        assert torch.equal(found[number].pixels, frames[number].pixels)
    assert len(found) == 10  # 0.375 s go by in the first 0.6 s, and the rest of 1 s twice as fast


def test_frames_at_times_of_their_own(tmp_path: Path) -> None:
    frames = faults.moving_scene(rate=10, seconds=1, height=48, width=64)
    source, out = tmp_path / "a.mp4", tmp_path / "some.mp4"
    write_video(frames, source, lossless=True)
    told = json.loads(call(source, "--times", "0.1,1/3, 0.5,0.93", "--out", out, "--lossless", "--json", "-"))
    with open_video(out) as video:
        found = list(video)
        assert video.info.duration_seconds == pytest.approx(0.93 - 0.1 + 0.43, abs=1e-6)
    assert [frame.time for frame in found] == [Fraction(1, 10), Fraction(1, 3), Fraction(1, 2), Fraction(93, 100)]
    assert torch.equal(found[0].pixels, frames[1].pixels)
    assert torch.equal(found[2].pixels, frames[5].pixels)
    assert told["origins"] == {"source": 2, "interpolated": 1, "held": 1}
    assert told["duration_seconds"] == pytest.approx(1.26)
    assert told["fps"] is None
    with pytest.raises(BadArgument, match=r"1\.5 s, and the video ends before"):
        call(source, "--times", "0.1,1.5", "--out", tmp_path / "late.mp4")
    assert not (tmp_path / "late.mp4").exists()


def test_damage_is_told(make_holes: Callable[..., Path], make_clip: Callable[..., Path], tmp_path: Path) -> None:
    options = ("--fps", 25, "--interpolator", "linear", "--out", tmp_path / "out.mp4")
    scratched, lost = make_holes("scratched.mkv", (14, 24), 0.5), make_holes("lost.mp4", (14,), 1.0)
    told = call(scratched, *options)
    assert "! The file is damaged: 0 frames could not be decoded, " in told
    assert "are partly made up. Copy or record it again." in told
    told = call(lost, *options, "--json", tmp_path / "lost.json")
    facts = json.loads((tmp_path / "lost.json").read_text())
    assert (facts["frames_lost"], facts["frames_concealed"]) == (1, 0)
    assert [f"! {line}" for line in facts["warnings"]] == told.splitlines()[1:]
    whole = make_clip("whole.mp4", 100, bf="0", g="5", container_options={"movflags": "faststart"})
    assert "!" not in call(whole, *options)
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "! The file declares 4.000 s, but its last frame is at " in call(tmp_path / "cut.mp4", *options)
    assert "declares" not in call(tmp_path / "cut.mp4", "--times", "0,0.2", *options[2:])


def test_sound_is_copied_or_dropped_and_it_is_said_which(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source = make_clip(times=10, sound_seconds=0.4)
    for name, options, words in (
        ("a.mp4", ("--fps", 50), "sound: copied"),
        ("b.mp4", ("--fps", 50, "--no-sound"), "dropped, as asked"),
        ("c.mp4", ("--speed", "0:0.5"), "dropped, since the pictures no longer keep its time"),
        ("d.gif", ("--fps", 20), "dropped, since a GIF holds none"),
    ):
        assert words in call(source, *options, "--out", tmp_path / name)
        with open_video(tmp_path / name) as video:
            assert video.info.has_audio == (name == "a.mp4")


def test_sound_that_is_longer_does_not_lengthen_the_pictures(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source = make_clip("a.mkv", 10, sound_seconds=1.2)
    with open_video(source) as video:
        assert video.info.duration_seconds == pytest.approx(0.4, abs=0.001)
    told = call(source, "--fps", 50, "--out", tmp_path / "b.mkv")
    assert "20 frames" in told
    assert "!" not in told


def test_sound_that_a_format_turns_out_not_to_hold_is_told(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source = make_clip("a.mkv", 10, sound_seconds=0.4, sound_codec="libopus")
    with pytest.raises(UnsupportedOutput, match=r"\.mov files hold no opus sound.*leave the sound out"):
        call(source, "--fps", 50, "--out", tmp_path / "b.mov")
    call(source, "--fps", 50, "--no-sound", "--out", tmp_path / "b.mov")


def test_a_last_frame_that_stands_for_long_is_told(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_clip("whole.mkv", 50, bf="0", g="5")
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.7)])
    told = call(tmp_path / "cut.mkv", "--fps", 50, "--out", tmp_path / "b.mkv")
    assert "! The last frame, at 1." in told
    assert "is held up to 2.000 s" in told
    assert "!" not in call(whole, "--fps", 50, "--out", tmp_path / "c.mkv")


def test_rates_that_a_format_cannot_hold_are_told_before_work(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    for name, rate in (("b.mkv", 2000), ("b.gif", 120)):
        with pytest.raises(BadArgument, match="are too close for"):
            call(make_clip(), "--fps", rate, "--out", tmp_path / name)


def test_times_may_have_nothing_in_common(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    told = call(make_clip(), "--times", "1/999983,20000/999979,300000/999961", "--out", tmp_path / "a.mp4")
    assert "3 frames" in told


@pytest.mark.parametrize("scheme", ["file://", "file:", "file:/"])
def test_a_video_named_by_url_is_not_written_over(make_clip: Callable[..., Path], scheme: str) -> None:
    source = make_clip()
    before = source.read_bytes()
    with pytest.raises(BadArgument, match="the video itself"):
        call(f"{scheme}{source}", "--fps", 50, "--out", source)
    assert source.read_bytes() == before


def test_pixels_come_out_square(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source = make_clip(codec_attributes={"sample_aspect_ratio": Fraction(3, 2)})
    call(source, "--fps", 50, "--out", tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4") as video:
        assert (video.info.width, video.info.height) == (96, 48)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (("--fps", 0), BadArgument, "--fps is 0"),
        (("--fps", -3), BadArgument, "--fps is -3"),
        (("--fps", "1/0"), BadArgument, "--fps is 1/0"),
        (("--fps", "nan"), BadArgument, "--fps is nan"),
        (("--fps", "1e-9"), BadArgument, "--fps is 1e-9"),
        (("--fps", "1e999999999"), BadArgument, "--fps is 1e999999999"),
        (("--fps", "1e9"), BadArgument, "to 1000000 frames per second"),
        (("--speed", "0:1,0.1:1e-9"), BadArgument, "and this speed are over 10000000 frames"),
        (("--times", "1e400"), BadArgument, "--times is '1e400'"),
        ((), BadArgument, "give --fps"),
        (("--speed", "fast"), BadArgument, "--speed is 'fast'"),
        (("--speed", "0:1,1:0"), BadArgument, "speeds over 0"),
        (("--speed", "0:1,0:2"), BadArgument, "the seconds of its points have to rise"),
        (("--speed", "0:inf"), BadArgument, "--speed is '0:inf'"),
        (("--speed", "-1:1,1:2"), BadArgument, "begin at 0 or later"),
        (("--fps", 5, "--interpolator", "magic"), BadArgument, "no interpolator 'magic'"),
        (("--fps", 5, "--threads", -1), BadArgument, "--threads is -1"),
        (("--fps", 5, "--times", "0,1"), BadArgument, "use one of them"),
        (("--times", "0,soon"), BadArgument, "--times is '0,soon'"),
        (("--times", "0.1,0.1"), BadArgument, "rising times"),
        (("--times=-1,2",), BadArgument, "0 or later"),
        (("--fps", 5, "--out", "x.txt"), UnsupportedOutput, "ends in '.txt'"),
        (("--fps", 5, "--out", "x.webm", "--lossless"), UnsupportedOutput, "never lossless"),
        (("--fps", 5, "--out", "clip.mp4"), BadArgument, "the video itself"),
        (("--fps", 5, "--out", "link.mp4"), BadArgument, "the video itself"),
        (("--fps", 5, "--json", "clip.mp4"), BadArgument, "--json is clip.mp4, a file that is read here"),
        (("--fps", 5, "--json", "link.mp4"), BadArgument, "--json is link.mp4, a file that is read here"),
        (("--fps", 5, "--out", "clip.mp4/a.mp4"), LegatoError, "--out leads through .*clip.mp4, which is no folder"),
    ],
)
def test_wrong_arguments_are_told(
    make_clip: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple,
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip("clip.mp4")
    Path("link.mp4").symlink_to("clip.mp4")
    before = Path("clip.mp4").read_bytes()
    out = () if "--out" in options else ("--out", "a.mp4")
    with pytest.raises(error, match=words):
        call("clip.mp4", *out, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "link.mp4"]
    assert Path("clip.mp4").read_bytes() == before


def test_nothing_half_written_stays_after_a_termination(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source, out = make_clip(times=50, size_px=(96, 96)), tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "legato.cli.app", "retime", source, "--fps", "5000", "--out", out / "a.mp4"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        until = time.monotonic() + 60
        while not list(out.glob(".*.part")) and time.monotonic() < until:
            time.sleep(0.05)
        running.terminate()
        said = running.communicate(timeout=60)
    assert running.returncode == 143, said
    assert said == (b"", b"")
    assert not list(out.iterdir())


def test_sound_alone_and_nothing_at_all_are_told(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with pytest.raises(NoVideoStream):
        call(tmp_path / "a.wav", "--fps", 5, "--out", tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError):
        call(tmp_path / "none.mp4", "--fps", 5, "--out", tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
