"""`legato inbetween`, as a user types it: keys stay bit for bit at their times."""

import json
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import pytest
import torch
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.data.puppets import random_puppet
from legato.errors import BadArgument, FileNotWritten, UnsupportedOutput, VideoError
from legato.generate import VideoDiT, VideoGenerator
from legato.generate.between_keys import between_keys, refined_between_keys, refined_clips
from legato.generate.latents import TinyAutoencoder
from legato.generate.refine import Refinement
from legato.generate.storyboard import Key, Storyboard, read_storyboard
from legato.generate.work import counted
from legato.motion.interpolate import LinearInterpolator, Neighbour
from legato.video import Timeline, open_video
from legato.video.still import read_picture

register()
PICTURES = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["inbetween", *(str(a) for a in arguments)], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def drawings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for path, picture in zip(paths, PICTURES, strict=True):
        cv2.imwrite(str(path), picture.permute(1, 2, 0).flip(-1).contiguous().numpy())
    return paths


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = VideoDiT(4, 4, width=32, depth=1, heads=2, drive_channels=8, text_bytes=16)
    torch.nn.init.normal_(model.project.weight)
    made = VideoGenerator(model, Refinement(count=3), 16, 16, latents=TinyAutoencoder(4, (8, 16), 2))
    made.save_pretrained(folder := tmp_path_factory.mktemp("refiner") / "it")
    return folder


@pytest.mark.parametrize("way", [("--interpolator", "flow"), ("--interpolator", "linear"), ("refined",)], ids=str)
def test_keys_are_in_the_numbered_pictures_bit_for_bit(
    drawings: list[Path], refiner: Path, tmp_path: Path, way: tuple[str, ...]
) -> None:
    options = ("--checkpoint", refiner, "--text", "hello") if way == ("refined",) else way
    a, b, c, _ = drawings
    pattern = tmp_path / "out" / "%04d.png"
    told = call("--key", f"0={a}", "--key", f"0.5={b}", "--key", f"2={c}", "--fps", 8, "--out", pattern, *options,
                "--json", "-", "--quiet")  # fmt: skip
    assert json.loads(told)["frames"] == 17  # the last key is part of it
    assert len(list(pattern.parent.iterdir())) == 17
    for number, picture in ((0, 0), (4, 1), (16, 2)):
        assert torch.equal(read_picture(tmp_path / "out" / f"{number:04d}.png"), PICTURES[picture])
    assert not torch.equal(read_picture(tmp_path / "out" / "0002.png"), PICTURES[0])


def test_smoothing_changes_what_was_made_and_no_key(drawings: list[Path], refiner: Path, tmp_path: Path) -> None:
    made = []
    for name, options in (("rough", ()), ("smooth", ("--smooth", 0.1))):
        call("--key", f"0={drawings[0]}", "--proposal", f"0.5={drawings[1]}:0.5", "--key", f"1={drawings[2]}", "--fps",
             8, "--checkpoint", refiner, "--out", tmp_path / name / "%d.png", "--quiet", *options)  # fmt: skip
        made.append([read_picture(tmp_path / name / f"{n}.png") for n in range(9)])
    rough, smooth = made
    assert [torch.equal(a, b) for a, b in zip(rough, smooth, strict=True)] == [True, *[False] * 7, True]
    with pytest.raises(BadArgument, match=r"up to 0\.5"):
        call("--key", f"0={drawings[0]}", "--key", f"1={drawings[2]}", "--smooth", 2, "--out", tmp_path / "v.mp4")


def test_a_lossless_video_holds_the_keys_bit_for_bit(drawings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "v.mp4"
    call("--key", f"0={drawings[0]}", "--key", f"0.5={drawings[1]}", "--fps", 8, "--out", out, "--lossless")
    with open_video(out) as video:
        pixels = video.read().pixels
    assert torch.equal(pixels[0], PICTURES[0])
    assert torch.equal(pixels[-1], PICTURES[1])


def test_a_key_off_the_grid_adds_a_frame_at_its_time(drawings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "v.mkv"
    call("--key", f"0={drawings[0]}", "--key", f"0.55={drawings[1]}", "--key", f"1={drawings[2]}", "--fps", 4,
         "--out", out, "--sheet", tmp_path / "s.png")  # fmt: skip
    with open_video(out) as video:
        times = [frame.time for frame in video]
    assert times == pytest.approx([0, 0.25, 0.5, 0.55, 0.75, 1])
    assert (tmp_path / "s.png").exists()
    with pytest.raises(BadArgument, match=r"at 0\.55 s is not an even step at 4 fps.*move it to 1/2 s"):
        call("--key", f"0={drawings[0]}", "--key", f"0.55={drawings[1]}", "--key", f"1={drawings[2]}", "--fps", 4,
             "--out", tmp_path / "%03d.png")  # fmt: skip
    with pytest.raises(BadArgument, match=r"at 0\.1 s is not an even step at 4 fps.*move it to 1/4 s"):
        call("--key", f"0={drawings[0]}", "--key", f"0.1={drawings[1]}", "--fps", 4, "--out", tmp_path / "%03d.png")
    assert not list(tmp_path.glob("0*.png"))


def test_numbered_pictures_take_no_place_of_a_given_one(drawings: list[Path], tmp_path: Path) -> None:
    drawings[0].rename(tmp_path / "0.png")
    drawings[1].rename(tmp_path / "77.png")  # no number that would be written: it would stay behind
    (tmp_path / "board.yaml").write_text("- {time: 0, image: 0.png}\n- {time: 1, image: c.png}\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for given in (("--key", f"0={drawings[2]}", "--key", f"1={tmp_path / '77.png'}"), (tmp_path / "board.yaml",)):
        with pytest.raises(BadArgument, match="one of the pictures given; write to another folder"):
            call(*given, "--fps", 4, "--out", tmp_path / "%d.png")
        with pytest.raises(BadArgument, match="one of the pictures given"):
            call(*given, "--fps", 4, "--out", f"{tmp_path}/../{tmp_path.name}/%d.png")
        with pytest.raises(BadArgument, match=r"--sheet is .*, a file that is read here"):
            call(*given, "--out", tmp_path / "v.mp4", "--sheet", drawings[2])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_numbered_pictures_leave_no_older_ones_behind(drawings: list[Path], tmp_path: Path) -> None:
    keys = ("--key", f"0={drawings[0]}", "--key", f"1={drawings[1]}", "--interpolator", "linear")
    out = tmp_path / "o" / "%03d.png"
    call(*keys, "--fps", 8, "--out", out)
    call(*keys, "--fps", 8, "--out", out)  # the same numbers are written anew
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    with pytest.raises(BadArgument, match=r"up to 008\.png.*delete those from 005\.png on"):
        call(*keys, "--fps", 4, "--out", out)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before
    call(*keys, "--fps", 4, "--out", tmp_path / "o" / "%d.png")  # 3.png is no 003.png
    assert len(list(out.parent.iterdir())) == 14


def test_it_is_said_what_a_given_picture_loses(drawings: list[Path], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "clear.png"), torch.zeros(16, 16, 4, dtype=torch.uint8).numpy())
    cv2.imwrite(str(tmp_path / "fine.png"), torch.zeros(16, 16, 3).numpy().astype("uint16"))
    options = ("--interpolator", "linear", "--fps", 4, "--out", tmp_path / "v.mp4")
    told = call("--key", f"0={tmp_path / 'clear.png'}", "--key", f"1={drawings[0]}", *options)
    assert told.count("note: ") == 1
    assert "clear.png has transparency; a picture comes back as RGB of 8 bits" in told
    told = call("--key", f"0={tmp_path / 'fine.png'}", "--key", f"1={tmp_path / 'clear.png'}", *options)
    assert "fine.png has 16 bits a colour (one of 2 such pictures); a picture" in told
    assert "note" not in call("--key", f"0={drawings[1]}", "--key", f"1={drawings[0]}", *options)


def test_rates_are_exact_and_may_be_slow(drawings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "v.mp4"
    keys = ("--key", f"0={drawings[0]}", "--interpolator", "linear", "--out", out)
    call(*keys, "--key", f"1001/7500={drawings[1]}", "--fps", "30000/1001")
    with open_video(out) as video:
        assert [frame.time for frame in video] == [Fraction(1001 * n, 30000) for n in range(5)]
    call(*keys, "--key", f"20000={drawings[1]}", "--fps", "0.0001")
    with open_video(out) as video:
        assert [frame.time for frame in video] == [0, 10000, 20000]
    board = Storyboard((Key(Fraction(0), PICTURES[0]), Key(Fraction(20000), PICTURES[1])))
    assert board.timeline(0.0001) == board.timeline(Fraction(1, 10000))
    assert len(board.timeline(1e-300)) == 2
    with pytest.raises(BadArgument, match="more than 0"):
        board.timeline(float("nan"))


def test_a_seed_may_be_any_number(drawings: list[Path], refiner: Path, tmp_path: Path) -> None:
    call("--key", f"0={drawings[0]}", "--key", f"0.2={drawings[1]}", "--checkpoint", refiner, "--out",
         tmp_path / "v.mp4", "--seed", 99999999999999999999)  # fmt: skip


def test_a_storyboard_file_says_the_same(drawings: list[Path], refiner: Path, tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(
        "- {time: 0, image: a.png, text: again}\n"
        "- {time: 0.25, image: d.png, confidence: 0.5}\n"
        "- {time: 1, image: b.png, text: book}\n"
    )
    board = read_storyboard(tmp_path / "board.yaml")
    assert board.text == "again book"
    assert [key.given for key in board.keys] == [True, False, True]
    call(tmp_path / "board.yaml", "--checkpoint", refiner, "--fps", 8, "--out", tmp_path / "b" / "%02d.png", "--quiet")
    assert torch.equal(read_picture(tmp_path / "b" / "00.png"), PICTURES[0])
    assert torch.equal(read_picture(tmp_path / "b" / "08.png"), PICTURES[1])
    (tmp_path / "board.yaml").write_text("- {time: 1, image: b.png}\n- {time: 0, image: a.png}\n")
    with pytest.raises(BadArgument, match=r"at 0 s comes after one at 1 s \(.*a.png and .*b.png\); times have to rise"):
        read_storyboard(tmp_path / "board.yaml")


def test_between_equal_pictures_nothing_moves_unless_something_is_said(refiner: Path) -> None:
    generator = VideoGenerator.from_pretrained(refiner)
    given = [Key(Fraction(n, 2), PICTURES[at]) for n, at in enumerate((0, 0, 1))]
    board = Storyboard(tuple(given))
    frames = [frame.pixels for frame in refined_between_keys(board, board.timeline(8), generator)]
    assert all(torch.equal(frame, PICTURES[0]) for frame in frames[:5])
    assert not torch.equal(frames[5], PICTURES[0])
    proposed = Storyboard((given[0], Key(Fraction(1, 4), PICTURES[3], 0.5), *given[1:]))
    for moving, text in ((board, "hello"), (proposed, "")):
        frames = [frame.pixels for frame in refined_between_keys(moving, moving.timeline(8), generator, text=text)]
        assert not torch.equal(frames[1], PICTURES[0])


def test_a_proposal_is_refined_the_less_the_surer_it_is(refiner: Path) -> None:
    generator = VideoGenerator.from_pretrained(refiner)
    apart = []
    for confidence in (0.0, 0.9, 0.97, 0.99, 0.999):  # the refiner's own corrections are large: it is not trained
        keys = (
            Key(Fraction(0), PICTURES[0]),
            Key(Fraction(1, 2), PICTURES[3], confidence),
            Key(Fraction(1), PICTURES[1]),
        )
        board = Storyboard(keys)
        frames = list(refined_between_keys(board, board.timeline(8), generator))
        assert torch.equal(frames[8].pixels, PICTURES[1])
        ask = generator.latents
        with torch.no_grad():
            shown, made = (ask.encode(v[None, None].float() / 127.5 - 1) for v in (PICTURES[3], frames[4].pixels))
        apart.append(float((shown - made).square().mean()))
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-3 * apart[0]


def test_a_wrong_proposal_that_nobody_is_sure_of_does_no_harm_and_a_sure_one_stays() -> None:
    generator = VideoGenerator.from_pretrained("puppet-inbetween")
    puppet = random_puppet(torch.Generator().manual_seed(5), text="hello")
    times = torch.linspace(0, puppet.seconds, 9, dtype=torch.float64)
    true = puppet.render(times, 64, 64)
    noisy = (true[4] + 25 * torch.randn(true[4].shape, generator=torch.Generator().manual_seed(6))).clamp(0, 255).byte()

    def made(*proposals: Key) -> torch.Tensor:
        keys = (Key(Fraction(0), true[0]), *proposals, Key(Fraction(1), true[8]))
        board = Storyboard(keys)
        return torch.stack(
            [frame.pixels for frame in refined_between_keys(board, board.timeline(8), generator, text="hello")]
        ).float()

    card = torch.full_like(true[0], 128)
    assert float((made(Key(Fraction(1, 2), card, 0.0)) - made()).abs().max()) <= 1  # rounding
    moved = [float((made(Key(Fraction(1, 2), noisy, c))[4] - noisy).abs().mean()) for c in (0.0, 0.5, 0.9, 0.99)]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.25 * moved[0]


def test_long_storyboards_are_refined_in_windows_that_meet_at_keys(refiner: Path) -> None:
    generator = VideoGenerator.from_pretrained(refiner)
    keys = tuple(Key(Fraction(3 * n), PICTURES[n]) for n in range(4))
    board = Storyboard(keys)
    with counted(generator.model) as work:
        coming = refined_between_keys(board, board.timeline(10), generator)
        first = next(coming)
        assert work.calls == 2  # one window's levels: the others wait until they are asked for
        frames = [first, *coming]
    assert work.calls == 6
    assert [frame.time for frame in frames] == [Fraction(n, 10) for n in range(91)]
    for n in range(4):
        assert torch.equal(frames[30 * n].pixels, PICTURES[n])


def test_clips_that_are_filled_in_together_are_as_each_alone(refiner: Path) -> None:
    generator = VideoGenerator.from_pretrained(refiner)
    boards = [
        Storyboard(tuple(Key(Fraction(3 * n), picture) for n, picture in enumerate(pictures)))
        for pictures in (PICTURES[:3], PICTURES[1:4])
    ]
    timeline = boards[0].timeline(10)
    given = {30 * n: torch.stack([board.keys[n].picture for board in boards]) for n in range(3)}
    with counted(generator.model) as work:
        together = torch.stack(list(refined_clips(timeline, given, generator)), 1).float()
    assert work.calls == 4
    for board, made in zip(boards, together, strict=True):
        alone = torch.stack([frame.pixels for frame in refined_between_keys(board, timeline, generator)]).float()
        assert float((made - alone).abs().max()) <= 1  # rounding
    assert float((together[0] - together[1]).abs().mean()) > 1


@pytest.mark.parametrize(("longest", "fps"), [(48, 50), (6, 20), (3, 10)])
def test_no_call_sees_more_than_a_window_however_long_a_gap(
    refiner: Path, monkeypatch: pytest.MonkeyPatch, longest: int, fps: int
) -> None:
    monkeypatch.setattr("legato.generate.between_keys.LONGEST_WINDOW", longest)
    generator = VideoGenerator.from_pretrained(refiner)
    seen: list[int] = []
    generator.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    board = Storyboard(
        (
            Key(Fraction(0), PICTURES[0]),
            Key(Fraction(6, 5), PICTURES[3], 0.5),
            Key(Fraction(2), PICTURES[1]),
            Key(Fraction(5, 2), PICTURES[2]),
        )
    )
    timeline = board.timeline(fps)
    frames = list(refined_between_keys(board, timeline, generator))
    assert max(seen) <= longest
    assert [frame.time for frame in frames] == [Fraction(n, fps) for n in range(5 * fps // 2 + 1)]
    for place, picture in ((0, 0), (2 * fps, 1), (-1, 2)):
        assert torch.equal(frames[place].pixels, PICTURES[picture])
    again = list(refined_between_keys(board, timeline, generator))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_frames_are_made_as_they_are_asked_for(threads: int) -> None:
    asked: list[int] = []
    told: list[tuple[float, ...]] = []

    class Counting:
        def __call__(
            self, first: torch.Tensor, second: torch.Tensor, shares: Sequence[float], around: Sequence[Neighbour] = ()
        ) -> torch.Tensor:
            asked.append(len(shares))
            told.append(tuple(one.share for one in around))
            return LinearInterpolator()(first, second, shares)

    board = Storyboard(tuple(Key(Fraction(n), PICTURES[n]) for n in range(4)))
    coming = between_keys(board, board.timeline(20), Counting(), threads=threads)
    assert asked == []
    first = next(coming)
    assert sum(asked) <= 8 * (threads + 1)
    frames = [first, *coming]
    assert [frame.time for frame in frames] == [Fraction(n, 20) for n in range(61)]
    assert sorted(told) == [(-1.0,)] * 3 + [(-1.0, 2.0)] * 3 + [(2.0,)] * 3  # the keys around, where there are any
    assert all(torch.equal(frames[20 * n].pixels, PICTURES[n]) for n in range(4))
    with pytest.raises(BadArgument, match="a frame at 4 s lies outside the storyboard, which goes from 0 to 3 s"):
        between_keys(board, Timeline.from_seconds([0, 4]), Counting())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there are no pictures"),
        (("--key", "0={a}"), "there is 1 picture; it takes two or more"),
        (("--key", "0={a}", "--key", "0={b}"), "two pictures are at 0 s"),
        (("--key", "0={a}", "--key", "1e-9={b}"), r"0 s \(.*a.png and .*b.png\); times have to differ by a microsec"),
        (("--key", "0={a}", "--key", "1="), "--key is '1='; expected seconds and a picture"),
        (("--key", "0={a}", "--proposal", "1=:0.5", "--key", "2={b}"), "--proposal is '1=:0.5'; expected seconds and"),
        (("--key", "0={a}", "--key", "1={b}", "--interpolator", "flow", "--checkpoint", "{refiner}"), "leave one of"),
        (("--key", "-1={a}", "--key", "0={b}"), "0 or later"),
        (("--key", "1={a}", "--key", "0={b}"), "--key has a picture at 0 s after one at 1 s; name them in the order"),
        (("--key", "{a}", "--key", "1={b}"), "seconds and a picture"),
        (("--key", "x={a}", "--key", "1={b}"), "seconds and a picture"),
        (("--key", "0={a}", "--proposal", "1={b}:0.5"), "have to be given"),
        (("--key", "0={a}", "--proposal", "1={b}", "--key", "2={b}"), "0.8=picture.png:0.5"),
        (("--key", "0={a}", "--proposal", "1={b}:3", "--key", "2={b}"), "expected 0 to 1"),
        (("--key", "0={a}", "--key", "1={b}", "--fps", 0), "--fps is 0; expected a number over 0"),
        (("--key", "0={a}", "--key", "1={b}", "--fps", "inf"), "--fps is inf; expected a number over 0"),
        (("--key", "0={a}", "--key", "1={b}", "--fps", "1e-9"), "--fps is 1e-9; expected a number over 0"),
        (("--key", "0={a}", "--key", "1e400={b}"), "--key is '1e400=.*seconds"),
        (("--key", "0={a}", "--key", "1e999999999={b}"), "--key is '1e999999999=.*seconds"),
        (("--key", "0={a}", "--key", "1={b}", "--fps", 1e9), "to 1000000 frames per second"),
        (("--key", "0={a}", "--key", "1={b}", "--interpolator", "magic"), "flow, linear"),
        (("--key", "0={a}", "--key", "1={big}"), "at 1 s is 30x20 and the first one 16x16"),
        (("--key", "0={big}", "--key", "1={big}", "--checkpoint", "{refiner}"), "refines 16x16"),
        (("--key", "0={a}", "--key", "1={b}", "--checkpoint", "puppet-flow"), "does not refine"),
        (("--key", "0={a}", "--key", "1={b}", "--text", "hello"), "for what --checkpoint names"),
        (("--key", "0={a}", "--key", "1={b}", "--dtype", "bfloat16"), "for what --checkpoint names"),
        (("--key", "0={a}", "--key", "1={b}", "--out", "frames/%d.jpg"), "numbered pictures are PNG files"),
        (("--key", "0={a}", "--key", "1={b}", "--out", "frames/0.png"), "numbered pictures are PNG files, as frames/%"),
        (("board.yaml", "--key", "0={a}"), "use one of them"),
        (("none.yaml",), "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    drawings: list[Path], refiner: Path, tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    big = tmp_path / "big.png"
    cv2.imwrite(str(big), torch.zeros(20, 30, 3, dtype=torch.uint8).numpy())
    named = {"a": drawings[0], "b": drawings[1], "big": big, "refiner": refiner}
    with pytest.raises(BadArgument, match=words):
        call("--out", tmp_path / "v.mp4", *(str(a).format(**named) for a in arguments))
    assert not (tmp_path / "v.mp4").exists()


def test_a_file_that_is_no_picture_is_named(drawings: list[Path], tmp_path: Path) -> None:
    (tmp_path / "e.png").write_bytes(b"no picture")
    png = bytearray(drawings[0].read_bytes())
    png[16:24] = struct.pack(">II", 60000, 60000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "huge.png").write_bytes(png)
    with pytest.raises(VideoError, match=r"huge\.png is a picture that is cut short or damaged"):
        call("--key", f"0={tmp_path / 'huge.png'}")
    (tmp_path / "board.yaml").write_text("- {time: 0, image: e.png}\n- {time: 1, image: a.png}\n")
    for arguments in (("--key", f"0={tmp_path / 'e.png'}"), ("--key", f"0={tmp_path / 'nowhere.png'}"),
                      (tmp_path / "board.yaml",)):  # fmt: skip
        with pytest.raises(VideoError, match=r"e\.png|nowhere\.png"):
            call(*arguments)
    for wrong in (
        "a: b",
        "- {time: 0}",
        "- {time: soon, image: a.png}",
        "- {time: 0, image: a.png, size: 3}",
        "- [",
        "",
    ):
        (tmp_path / "board.yaml").write_text(wrong)
        with pytest.raises(BadArgument, match="storyboard"):
            call(tmp_path / "board.yaml")


def test_an_ending_that_is_no_video_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOutput, match="expected one of"):
        call("--key", "0=nowhere.png", "--key", "1=nowhere.png", "--out", tmp_path / "v.txt")


def test_seconds_count_to_a_microsecond(drawings: list[Path], tmp_path: Path) -> None:
    a, b, c, _ = drawings
    out = tmp_path / "v.mp4"
    call("--key", f"0={a}", "--key", f"0.333333={b}", "--key", f"1={c}", "--fps", 24, "--out", out, "--lossless")
    with open_video(out) as video:
        frames = list(video)
    assert [frame.time for frame in frames] == [Fraction(n, 24) for n in range(25)]
    assert torch.equal(frames[8].pixels, PICTURES[1])
    call("--key", f"0={a}", "--key", f"0.333333={b}", "--key", f"1={c}", "--fps", 24, "--out", tmp_path / "p/%d.png")
    assert torch.equal(read_picture(tmp_path / "p" / "8.png"), PICTURES[1])


def test_the_last_picture_is_shown_for_an_interval_wherever_it_lies(drawings: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "v.mp4"
    call("--key", f"0={drawings[0]}", "--key", f"0.2501={drawings[1]}", "--fps", 20, "--out", out)
    with open_video(out) as video:
        assert video.info.duration_seconds == pytest.approx(0.2501 + 0.05, abs=1e-6)


def test_times_too_close_for_a_format_are_told_before_work(drawings: list[Path], tmp_path: Path) -> None:
    a, b, c, _ = drawings
    keys = ("--key", f"0={a}", "--key", f"0.1004={b}", "--key", f"1={c}")
    with pytest.raises(BadArgument, match=r"frames at 0.1 s and 0.1004 s are too close for \.mkv files"):
        call(*keys, "--fps", 20, "--out", tmp_path / "v.mkv")


def test_proposals_that_nothing_refines_are_not_smoothed(drawings: list[Path], tmp_path: Path) -> None:
    a, b, c, _ = drawings
    pictures = ("--key", f"0={a}", "--proposal", f"0.2={b}:0.3", "--key", f"0.4={c}")
    call(*pictures, "--fps", 10, "--smooth", 0.1, "--out", tmp_path / "%d.png")
    assert torch.equal(read_picture(tmp_path / "2.png"), PICTURES[1])


def test_pictures_too_small_for_flow_are_not_smoothed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), PICTURES[0, :, :8, :8].permute(1, 2, 0).contiguous().numpy())
    keys = ("--key", f"0={tmp_path / 'a.png'}", "--key", f"0.2={tmp_path / 'b.png'}")
    with pytest.raises(BadArgument, match="8x8 show no motion to smooth along; expected 12 pixels"):
        call(*keys, "--smooth", 0.1, "--out", tmp_path / "v.mp4")
    assert not (tmp_path / "v.mp4").exists()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{time: 0, time: 1, image: a.png}", "'time' is said twice"),
        ("{time: 0, image: a.png, confidence: true}", "at 0 s, has confidence True; expected a number from 0 to 1"),
        (
            "{time: 0, image: a.png, confidence: 2}",
            "picture 0 of the storyboard .*board.yaml, at 0 s, has confidence 2",
        ),
        ("{time: 0, image: }", "has image None; expected the name of a picture"),
        ("{time: 0, image: a.png, text: [a, b]}", r"has text \['a', 'b'\]; expected words"),
        ("{time: 0, image: a.png, text: hello}", "board.yaml has a text, which refiners read"),
    ],
)
def test_mistakes_of_a_storyboard_are_told(drawings: list[Path], tmp_path: Path, entry: str, words: str) -> None:
    board = drawings[0].parent / "board.yaml"
    board.write_text(f"- {entry}\n- {{time: 1, image: b.png}}\n")
    with pytest.raises(BadArgument, match=words):
        call(board, "--out", tmp_path / "v.mp4")


@pytest.mark.parametrize("content", [b"RIFF\0\0\0\0AVI LIST", b"BMW is a car", b"a text"])
def test_what_is_no_picture_is_not_called_a_damaged_one(drawings: list[Path], content: bytes) -> None:
    other = drawings[0].parent / "other"
    other.write_bytes(content)
    with pytest.raises(VideoError, match="is not a picture that can be read"):
        call("--key", f"0={drawings[0]}", "--key", f"1={other}")


def test_a_picture_in_the_place_of_a_storyboard_is_told_how_it_is_given(drawings: list[Path]) -> None:
    with pytest.raises(BadArgument, match=r"a.png is a picture; give each with its time, as --key 0="):
        call(drawings[0])


def test_a_sheet_does_not_take_the_name_of_a_numbered_picture(drawings: list[Path], tmp_path: Path) -> None:
    keys = ("--key", f"0={drawings[0]}", "--key", f"0.1={drawings[1]}", "--fps", 10, "--out", tmp_path / "p/%05d.png")
    for option in ("--sheet", "--json"):
        with pytest.raises(BadArgument, match=f"{option} is .*00000.png, one of the pictures of --out"):
            call(*keys, option, tmp_path / "p" / "00000.png")
    call(*keys, "--sheet", tmp_path / "p" / "sheet.png")


def test_a_disk_that_is_full_is_told(drawings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileNotWritten, match="cannot be written: No space left on device"):
        call("--key", f"0={drawings[0]}", "--key", f"1={drawings[1]}", "--out", tmp_path / "p" / "%d.png")
    assert not list((tmp_path / "p").iterdir())
