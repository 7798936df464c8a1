"""Clips from folders of videos: the right files, the right frames, and their true times."""

import csv
import json
import pickle
import re
import wave
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from legato.clock.rate import RateEmbedding, frame_intervals
from legato.data.clip_frames import evenly_spaced
from legato.data.clip_index import ClipIndex, index_folder
from legato.data.clips import Clip, EndlessShuffle, VideoClips, collate_clips
from legato.errors import BadArgument, CorruptVideo, VideoError, VideoNotFound
from legato.video import Timeline

EVEN = [Fraction(i, 25) for i in range(80)]
# 50 per second, then 12.5, a hole of two seconds, and 30 with jitter; does not start at 0
VARIABLE = [Fraction(7, 2) + Fraction(i, 50) for i in range(40)]
VARIABLE += [VARIABLE[-1] + Fraction(8 * i, 100) for i in range(1, 21)]
VARIABLE += [VARIABLE[-1] + 2 + Fraction(1000 * i + 7 * (i % 3), 30000) for i in range(40)]


def numbered(number: int) -> np.ndarray:
    """A picture that shows `number` as seven black or white stripes."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    return np.repeat(np.repeat(np.array(bits, np.uint8) * 255, 8)[None, :, None], 48, axis=0).repeat(3, axis=2)


def number_on(picture: torch.Tensor) -> int:
    """What `numbered` drew, read off a picture scaled by any factor."""
    stripes = picture.mean(dim=(0, 1)).unflatten(0, (8, -1)).mean(dim=1)
    return sum(1 << bit for bit, bright in enumerate((stripes > 0).tolist()) if bright)


@pytest.fixture
def make_video(make_clip, tmp_path) -> Callable[..., Path]:
    """Writes a video of numbered pictures at a path within the folder of the test."""

    def make(name: str, times: list[Fraction] = EVEN, **more: object) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        return make_clip(name, times, pictures=[numbered(i) for i in range(len(times))], g="12", **more)

    return make


@pytest.fixture
def mixed(make_video, tmp_path) -> ClipIndex:
    """Constant and variable rates, several containers, none of them starting at the same time."""
    make_video("films/even/25.mp4")
    make_video("films/even/30.mkv", [Fraction(i + 1, 30) for i in range(70)], rate=30)
    make_video("films/uneven/b.mp4", VARIABLE, bf="2")
    make_video("films/uneven/late.ts", [time + 5 for time in VARIABLE])
    return index_folder(tmp_path / "films")


# --- what is found


def test_one_class_per_folder_in_alphabetical_order(make_video, tmp_path):
    for name in ("walk/b.mp4", "walk/a.mkv", "jump/deep/1.mp4", "jump/.trash/2.mp4"):
        make_video(f"signs/{name}", EVEN[:5])
    (tmp_path / "signs/walk/notes.txt").write_text("by whom")
    (tmp_path / "signs/.cache").mkdir()
    (tmp_path / "signs/empty").mkdir()
    loose = make_video("signs/loose.mp4", EVEN[:5])
    calls = []
    index = index_folder(tmp_path / "signs", progress=lambda done, of: calls.append((done, of)))
    assert index.classes == ("jump", "walk")
    found = [(str(one.path.relative_to(tmp_path / "signs")), one.text, one.label) for one in index.footage]
    assert found == [("jump/deep/1.mp4", "jump", 0), ("walk/a.mkv", "walk", 1), ("walk/b.mp4", "walk", 1)]
    assert [one.path for one in index.skipped] == [loose]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert index == index_folder(tmp_path / "signs", threads=1)


def test_a_folder_without_classes_or_captions(make_video, tmp_path):
    path = make_video("films/a.mp4", VARIABLE)
    index = index_folder(tmp_path / "films")
    (one,) = index.footage
    assert (one.path, one.text, one.label, len(one), index.classes) == (path, "", None, len(VARIABLE), ())
    assert (one.first_seconds, one.last_seconds) == (3.5, float(VARIABLE[-1]))
    assert one.seconds[0] == 0
    assert one.seconds[-1] == pytest.approx(float(VARIABLE[-1] - VARIABLE[0]), abs=1e-12)


@pytest.mark.parametrize("name", ["captions.csv", "metadata.jsonl", "elsewhere.jsonl"])
def test_captions_name_files_and_spans(make_video, tmp_path, name):
    make_video("films/a.mp4", [time + 9 for time in EVEN])
    make_video("films/b/c.mp4", EVEN[:10])
    rows = [
        {"file": "a.mp4", "text": 'a "walk", then\na jump', "start_seconds": 1, "end_seconds": 2},
        {"file": "a.mp4", "text": "the end", "start_seconds": 3},
        {"file": "gone.mp4", "text": "nobody"},
        {"file": "b/c.mp4", "text": "", "end_seconds": 0.2},
        {"file": "a.mp4", "text": "when?", "start_seconds": "soon"},
        {"file": "a.mp4", "text": "backwards", "start_seconds": 2, "end_seconds": 1},
        {"file": "a.mp4", "text": "too late", "start_seconds": 20, "end_seconds": 30},
        {"text": "what?"},
    ]
    table = (tmp_path if name.startswith("elsewhere") else tmp_path / "films") / name
    if name.endswith("csv"):
        with table.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["file", "text", "start_seconds", "end_seconds"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row).replace('"file"', '"file_name"') for row in rows]
        table.write_text("\n".join([*lines, '{"file": ']))
    index = index_folder(tmp_path / "films", captions=table if name.startswith("elsewhere") else None)
    found = [(one.text, one.first_seconds, one.last_seconds, one.label) for one in index.footage]
    assert found == [
        ('a "walk", then\na jump', 10.0, 10.96, None),
        ("the end", 12.0, 12.16, None),
        ("", 0.0, 0.16, None),
    ]
    kinds = {(one.path.name, one.kind) for one in index.skipped}
    assert kinds == {("gone.mp4", "VideoNotFound"), ("a.mp4", "BadArgument"), (name, "BadArgument")}
    assert len(index.skipped) == (5 if name.endswith("csv") else 6)
    told = "\n".join(str(one) for one in index.skipped)
    for part in ("line 3 of" if name.endswith("jsonl") else "line 5 of", "'soon'", "2 to 1 s", "20 to 30 s"):
        assert part in told
    clips = VideoClips(index, frames=5, height=12, width=16)
    for epoch in range(10):
        clip = clips[3 * epoch]
        assert 25 <= number_on(clip.frames[0]) <= 45
        assert clip.start_seconds >= 10


def test_caption_files_that_do_not_do(make_video, tmp_path):
    make_video("films/a.mp4", EVEN[:5])
    (tmp_path / "films/captions.csv").write_text("path,caption\na.mp4,hello\n")
    with pytest.raises(BadArgument, match=r"columns caption, path; expected file and text"):
        index_folder(tmp_path / "films")
    (tmp_path / "films/metadata.csv").write_text("file,text\na.mp4,hello\n")
    with pytest.raises(BadArgument, match=r"both captions\.csv and metadata\.csv; say which"):
        index_folder(tmp_path / "films")
    assert index_folder(tmp_path / "films", captions=tmp_path / "films/metadata.csv").footage[0].text == "hello"
    with pytest.raises(VideoNotFound, match="no caption file"):
        index_folder(tmp_path / "films", captions=tmp_path / "nowhere.csv")


def spoil(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    (folder / "empty.mkv").write_bytes(b"")
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))


def test_bad_files_are_skipped_counted_and_listed(make_video, tmp_path):
    spoil(tmp_path / "films/bad")
    make_video("films/good/a.mp4", EVEN[:5])
    index = index_folder(tmp_path / "films")
    assert [one.path.name for one in index.footage] == ["a.mp4"]
    kinds = {one.path.name: one.kind for one in index.skipped}
    assert kinds == {"cut.mp4": "NotAVideo", "empty.mkv": "NotAVideo", "sound.wav": "NoVideoStream"}
    assert index.footage[0].label == 1  # the class of bad files keeps its number
    assert "1 videos in 2 classes" in index.summary()
    assert re.search(r"classes, \d+\.\d seconds$", index.summary().splitlines()[0])
    one = index.footage[0]
    for seconds, words in ((300, "5.0 minutes"), (5400, "1.50 hours")):
        slower = Fraction(seconds) / Fraction(one.last_seconds - one.first_seconds).limit_denominator(1000)
        long = replace(one, time_base=one.time_base * slower)
        assert replace(index, footage=(long,)).summary().splitlines()[0].endswith(words)
    assert "3 skipped:" in index.summary()
    assert "only audio" in index.summary()
    assert "and 2 more" in index.summary(lines=1)
    assert [str(one).count(str(one.path)) for one in index.skipped] == [1, 1, 1]


def test_folders_without_a_usable_video(tmp_path):
    with pytest.raises(VideoNotFound, match="is not a folder"):
        index_folder(tmp_path / "nowhere")
    (tmp_path / "films").mkdir()
    (tmp_path / "films/readme.txt").write_text("none yet")
    with pytest.raises(VideoNotFound, match=r"holds no videos; expected a folder per class .*captions\.csv"):
        index_folder(tmp_path / "films")
    spoil(tmp_path / "films")
    with pytest.raises(VideoError, match=r"none of the 3 files(.|\n)*NotAVideo: .*cut\.mp4"):
        index_folder(tmp_path / "films")


# --- what is believed


def test_rates_that_nothing_speaks_against_are_believed(mixed, make_video, make_clip, tmp_path):
    assert [one.rate_doubt for one in mixed.footage] == [None] * 4
    make_video("more/frames.avi", EVEN[:12], codec="mpeg4", bf="2", time_base=Fraction(1, 25))
    make_video("more/clip.webm", EVEN[:12], codec="libvpx-vp9", time_base=Fraction(1, 1000))
    make_video("more/delays.gif", EVEN[:12], codec="gif", pixel_format="rgb8", time_base=Fraction(1, 100))
    make_clip("more/each picture twice.mp4", EVEN[:12], pictures=[numbered(i // 2) for i in range(12)])
    assert [one.rate_doubt for one in index_folder(tmp_path / "more").footage] == [None] * 4


def test_rates_that_the_file_gives_reason_to_doubt(make_video, tmp_path):
    make_video("films/bare.h264", EVEN[:12], container="h264")
    make_video("films/bare.m4v", EVEN[:12], codec="mpeg4", container="m4v", time_base=Fraction(1, 25))
    parts = [make_video(f"{rate}.ts", [Fraction(i, rate) for i in range(12)], bf="0") for rate in (25, 10)]
    (tmp_path / "films/joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    make_video("films/counts.mp4", [Fraction(i, 1000) for i in range(12)])
    make_video("films/one.mp4", EVEN[:1])
    make_video("films/says 25.mkv", [Fraction(i, 30) for i in range(30)], time_base=Fraction(1, 1000))
    gif = make_video("d.gif", EVEN[:12], codec="gif", pixel_format="rgb8", time_base=Fraction(1, 100)).read_bytes()
    (tmp_path / "films/hasty.gif").write_bytes(gif.replace(b"\x21\xf9\x04\x05\x04\0", b"\x21\xf9\x04\x05\0\0"))
    footage = {one.path.name: one for one in index_folder(tmp_path / "films").footage}
    reasons = {name: one.rate_doubt for name, one in footage.items()}
    expected = {
        "bare.h264": "bare h264 stream",
        "bare.m4v": "bare mpeg4 stream",
        "counts.mp4": "1000 frames per second are counts",
        "hasty.gif": "leaves it to the viewer",
        "joined.ts": "12 of 24 frame times",
        "one.mp4": "single frame",
        "says 25.mkv": "declares 25 frames per second, but gives 29.99",
    }
    assert {name: part for name, part in expected.items() if part not in str(reasons[name])} == {}
    assert reasons.keys() == expected.keys()
    assert not any(one.rate_known for one in footage.values())
    assert "7 with a rate that is not to be believed" in index_folder(tmp_path / "films").summary()


def test_slow_motion_is_told_by_the_phone(make_video, tmp_path):
    for name, recorded in (("slow.mp4", b"240.0"), ("dim.mp4", b"030.0")):
        path = make_video(
            f"films/{name}",
            EVEN[:12],
            container_options={"movflags": "use_metadata_tags"},
            metadata={"com.android.capture.fps": recorded.decode()},
        )
        assert recorded in path.read_bytes()
    dim, slow = index_folder(tmp_path / "films").footage
    assert dim.rate_known
    assert slow.rate_doubt == "recorded at 240 frames per second, played at 25"


def test_a_model_is_told_that_a_rate_is_unknown(make_video, tmp_path):
    make_video("films/bare.h264", EVEN[:12], container="h264")
    make_video("films/true.mp4", EVEN[:12])
    batch = collate_clips(list(VideoClips(index_folder(tmp_path / "films"), frames=4, height=12, width=16)))
    assert batch.rate_known.tolist() == [False, True]
    embedding = RateEmbedding(6).eval()
    told = embedding(frame_intervals(batch.seconds), batch.rate_known)
    assert torch.equal(told[0], embedding.unknown.expand(4, 6))
    assert not torch.isclose(told[1], embedding.unknown).any()


# --- times


@pytest.mark.parametrize("interval_seconds", [None, 0.02, 0.05, 0.1, (0.02, 0.2)])
def test_seconds_are_those_of_the_frames_shown(mixed, interval_seconds):
    clips = VideoClips(mixed, frames=9, height=24, width=32, interval_seconds=interval_seconds)
    for number in range(10 * len(clips)):
        clip = clips[number]
        footage = clips.footage[number % len(clips)]
        shown = [number_on(picture) for picture in clip.frames]
        assert all(later > earlier for earlier, later in pairwise(shown))
        times = footage.seconds[shown] - footage.seconds[shown[0]]
        assert clip.seconds.dtype == torch.float64
        assert np.abs(clip.seconds.numpy() - times).max() < 1e-9
        assert clip.seconds[0] == 0
        assert clip.start_seconds == pytest.approx(footage.first_seconds + footage.seconds[shown[0]], abs=1e-9)
        assert clip.path == footage.path


def test_times_of_a_file_are_those_that_were_written(mixed):
    """The times that clips are compared with above, against those that the files were made from."""
    by_name = {one.path.name: one for one in mixed.footage}
    for name, times in (("25.mp4", EVEN), ("b.mp4", VARIABLE), ("late.ts", VARIABLE)):
        expected = [float(time - times[0]) for time in times]
        assert by_name[name].seconds == pytest.approx(expected, abs=1e-5 if name.endswith("mp4") else 1e-4)
    assert by_name["30.mkv"].first_seconds == 0.033


def test_a_clip_spans_one_interval_less_than_it_has_frames(make_video, tmp_path):
    make_video("films/a.mp4", VARIABLE)
    index = index_folder(tmp_path / "films")
    for count in range(1, 65):
        clip = VideoClips(index, frames=count, height=6, width=8, cache_bytes=0, random_start=False)[0]
        timeline = Timeline.from_seconds(clip.seconds)
        assert (len(clip.frames), len(timeline), len(timeline.intervals)) == (count, count, count - 1)
        assert timeline.span == sum(timeline.intervals)
        assert float(timeline.span) == pytest.approx(float(VARIABLE[count - 1] - VARIABLE[0]), abs=1e-4)


@pytest.mark.parametrize("count", range(2, 65))
def test_the_interval_of_a_clip_asked_for_again_gives_the_same_clip(count):
    for rate in (24, 25, Fraction(30000, 1001), 60):
        seconds = np.array([float(i / Fraction(rate)) for i in range(200)])
        for step in (1, 2, 3):
            places = 7 + step * np.arange(count)
            interval = (seconds[places[-1]] - seconds[7]) / (count - 1)
            assert evenly_spaced(seconds, 7, count, interval).tolist() == places.tolist()
            cut = seconds[: places[-1] + 1]
            assert evenly_spaced(cut, 7, count, interval)[-1] == len(cut) - 1
            assert evenly_spaced(cut, 8, count, interval) is None


@pytest.mark.parametrize("interval_seconds", [0.021, 0.04, 0.05, 0.0999, 0.3])
def test_frames_nearest_to_an_even_interval_are_taken(interval_seconds):
    seconds = np.arange(400) / 60
    seconds[1:-1] += np.random.default_rng(0).uniform(-0.004, 0.004, 398)
    for start in (0, 7, 100):
        places = evenly_spaced(seconds, start, 12, interval_seconds)
        wanted = seconds[start] + interval_seconds * np.arange(12)
        assert places.tolist() == [int(np.abs(seconds - at).argmin()) for at in wanted]


def test_a_slow_stretch_or_a_hole_is_not_caught_up_with():
    slow = np.cumsum([0] + [0.02] * 30 + [0.3] * 4 + [0.02] * 60)
    places = evenly_spaced(slow, 0, 24, 0.06)
    steps = np.diff(slow[places])
    assert (np.diff(places) > 0).all()
    assert sum(steps > 0.2) == 4
    assert steps[steps < 0.2] == pytest.approx(0.06, abs=0.0201)
    assert evenly_spaced(np.arange(10) / 10, 2, 8, 0.01).tolist() == list(range(2, 10))
    assert evenly_spaced(np.arange(10) / 10, 3, 8, 0.01) is None
    assert evenly_spaced(np.arange(10) / 10, 0, 5, 0.25) is None
    assert evenly_spaced(np.arange(10) / 10, 0, 4, 0.25).tolist() in ([0, 2, 5, 7], [0, 3, 5, 8])


def test_drawn_intervals_cover_their_range_and_fit_short_videos(make_video, tmp_path):
    make_video("films/long.mp4", [Fraction(i, 50) for i in range(120)])
    make_video("films/short.mp4", [Fraction(i, 50) for i in range(20)])
    clips = VideoClips(index_folder(tmp_path / "films"), frames=8, height=6, width=8, interval_seconds=(0.02, 0.2))
    spans = [[float(clips[2 * epoch + which].seconds[-1]) / 7 for epoch in range(80)] for which in (0, 1)]
    for drawn, longest in zip(spans, (0.2, 0.38 / 7), strict=True):
        assert min(drawn) >= 0.0199
        assert max(drawn) <= longest + 0.003
        middle = (0.02 * longest) ** 0.5
        assert 20 < sum(one < middle for one in drawn) < 60  # as many below the geometric mean as above it


def test_short_videos_are_left_out_and_listed(make_video, tmp_path):
    make_video("films/long.mp4")
    make_video("films/short.mp4", EVEN[:10])
    index = index_folder(tmp_path / "films")
    clips = VideoClips(index, frames=11, height=6, width=8)
    assert [one.path.name for one in clips.footage] == ["long.mp4"]
    assert [(one.path.name, one.reason) for one in clips.too_short] == [
        ("short.mp4", "has 10 frames, and a clip takes 11")
    ]
    clips = VideoClips(index, frames=5, height=6, width=8, interval_seconds=0.1)
    assert clips.too_short[0].reason == "spans 0.360 s, too few for 5 frames 0.1 s apart"
    assert VideoClips(index, frames=5, height=6, width=8, interval_seconds=(0.05, 1.0)).too_short == ()
    with pytest.raises(BadArgument, match=r"all 2 videos are too short, the first one: .*long\.mp4 has 80 frames"):
        VideoClips(index, frames=81, height=6, width=8)


# --- draws


def same(a: Clip, b: Clip) -> bool:
    return torch.equal(a.frames, b.frames) and torch.equal(a.seconds, b.seconds) and a.path == b.path


def test_a_clip_depends_on_the_seed_and_its_number_alone(mixed):
    settings = {"frames": 6, "height": 12, "width": 16, "interval_seconds": (0.02, 0.2)}
    clips = VideoClips(mixed, **settings, seed=3)
    drawn = [clips[number] for number in range(12)]
    again = VideoClips(mixed, **settings, seed=3)
    assert all(same(again[number], drawn[number]) for number in reversed(range(12)))
    assert all(same(one, other) for one, other in zip(clips, drawn[:4], strict=True))
    assert len({clip.start_seconds for clip in drawn[::4]}) == 3
    assert not all(same(VideoClips(mixed, **settings, seed=4)[number], drawn[number]) for number in range(4))
    still = VideoClips(mixed, **settings, random_start=False)
    assert {number_on(still[number].frames[0]) for number in range(12)} == {0}


def test_kept_frames_are_those_of_the_file(mixed):
    settings = {"frames": 6, "height": 12, "width": 16, "interval_seconds": (0.02, 0.2)}
    kept, sought = VideoClips(mixed, **settings), VideoClips(mixed, **settings, cache_bytes=0)
    assert all(same(kept[number], sought[number]) for number in range(20))
    sizes = [len(one) * 3 * 12 * 16 for one in mixed.footage]
    assert (kept.cached_bytes, sought.cached_bytes) == (sum(sizes), 0)
    some = VideoClips(mixed, **settings, cache_bytes=sizes[0] + sizes[1])
    assert all(same(some[number], sought[number]) for number in range(20))
    assert some.cached_bytes == sizes[0] + sizes[1]
    copy = pickle.loads(pickle.dumps(kept))
    assert copy.cached_bytes == 0
    assert same(copy[5], kept[5])


def test_workers_draw_the_same_clips(mixed):
    clips = VideoClips(mixed, frames=6, height=12, width=16, interval_seconds=(0.02, 0.2))
    order = list(islice(EndlessShuffle(len(clips), seed=1), 12))
    loader = DataLoader(
        clips,
        batch_size=3,
        sampler=EndlessShuffle(len(clips), seed=1),
        collate_fn=collate_clips,
        num_workers=2,
        persistent_workers=True,
    )
    batches = list(islice(iter(loader), 4))
    for batch, numbers in zip(batches, [order[i : i + 3] for i in range(0, 12, 3)], strict=True):
        expected = collate_clips([clips[number] for number in numbers])
        assert torch.equal(batch.frames, expected.frames)
        assert torch.equal(batch.seconds, expected.seconds)
        assert torch.equal(batch.labels, expected.labels)
        assert (batch.text, batch.paths) == (expected.text, expected.paths)


def test_an_endless_order_shows_each_video_once_an_epoch():
    numbers = list(islice(EndlessShuffle(7, seed=2), 21))
    epochs = [numbers[i : i + 7] for i in (0, 7, 14)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(i, i + 7)) for i in (0, 7, 14)]
    assert len({tuple(number % 7 for number in epoch) for epoch in epochs}) == 3
    assert list(islice(EndlessShuffle(7, seed=2, start=10), 11)) == numbers[10:]


# --- damage


@pytest.fixture
def half_broken(make_video, tmp_path) -> ClipIndex:
    """Two sound videos, and one of which the second half cannot be decoded."""
    make_video("films/a.mp4", EVEN[:40])
    make_video("films/c.mp4", EVEN[:40])
    broken = make_video("films/b.mkv", EVEN[:40], codec="mjpeg", pixel_format="yuvj420p", time_base=Fraction(1, 25))
    data = bytearray(broken.read_bytes())
    pictures = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    assert len(pictures) == 40
    for at in pictures[20:]:
        data[at : at + 600] = bytes(600)
    broken.write_bytes(data)
    return index_folder(tmp_path / "films")


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_a_video_broken_in_the_middle_has_others_drawn_in_its_place(half_broken, cache_bytes):
    clips = VideoClips(half_broken, frames=6, height=12, width=16, cache_bytes=cache_bytes)
    assert len(clips) == 3
    whole, replaced = 0, 0
    for epoch in range(12):
        clip = clips[3 * epoch + 1]
        if clip.failures:
            replaced += 1
            assert {one.path.name for one in clip.failures} == {"b.mkv"}
            assert {one.kind for one in clip.failures} == {"CorruptVideo"}
        else:
            whole += 1
            assert clip.path.name == "b.mkv"
            assert number_on(clip.frames[-1]) < 20
        assert same(VideoClips(half_broken, frames=6, height=12, width=16, cache_bytes=0)[3 * epoch + 1], clip)
    assert whole > 0
    assert replaced > 0
    batch = collate_clips([clips[number] for number in range(36)])
    assert len(batch.failures) >= replaced


def test_a_folder_that_goes_away_ends_in_an_error(half_broken):
    clips = VideoClips(half_broken, frames=6, height=12, width=16)
    clips.footage[0].path.unlink()
    assert clips[0].path != clips.footage[0].path
    assert clips[0].failures[0].kind == "VideoNotFound"
    for one in clips.footage[1:]:
        one.path.unlink()
    with pytest.raises(CorruptVideo, match=r"32 videos drawn .*there is no file .*index_folder"):
        VideoClips(half_broken, frames=6, height=12, width=16)[0]


# --- pixels


def test_frames_are_cropped_at_the_centre_with_square_pixels(make_clip, tmp_path):
    (tmp_path / "films").mkdir()
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, :32, 0] = wide[:, 32:64, 1] = wide[:, 64:, 2] = 255
    settings = {"times": 3, "pixel_format": "yuv444p"}
    make_clip("films/a.mp4", size_px=(48, 96), pictures=[wide] * 3, **settings)
    make_clip("films/b.mp4", size_px=(96, 48), pictures=[np.rot90(wide, -1)] * 3, rotation_degrees=90, **settings)
    stretched = {"sample_aspect_ratio": Fraction(2)}
    make_clip("films/c.mp4", size_px=(48, 48), pictures=[wide[:, ::2]] * 3, codec_attributes=stretched, **settings)
    index = index_folder(tmp_path / "films")
    assert [(one.height, one.width) for one in index.footage] == [(48, 96)] * 3
    for clip in VideoClips(index, frames=2, height=24, width=14):
        green = clip.frames[:, :, :, 1:-1]
        assert clip.frames.shape == (2, 3, 24, 14)
        assert clip.frames.min() >= -1
        assert clip.frames.max() <= 1
        assert green[:, 1].min() > 0.9
        assert green[:, ::2].max() < -0.9
    for clip in VideoClips(index, frames=2, height=24, width=48):
        assert clip.frames[0, 0, :, :14].min() > 0.9
        assert clip.frames[0, 2, :, 34:].min() > 0.9


def test_bad_arguments_are_told(mixed):
    with pytest.raises(BadArgument, match="frames, height and width are 0, 6 and 8"):
        VideoClips(mixed, frames=0, height=6, width=8)
    for interval in (0.0, -0.1, (0.2, 0.1), (0.1, float("inf"))):
        with pytest.raises(BadArgument, match="interval_seconds is"):
            VideoClips(mixed, frames=2, height=6, width=8, interval_seconds=interval)
    clips = VideoClips(mixed, frames=2, height=6, width=8)
    with pytest.raises(IndexError):
        clips[-1]
    with pytest.raises(BadArgument, match=r"shapes .*; expected one or more, all of one shape"):
        collate_clips([clips[0], VideoClips(mixed, frames=3, height=6, width=8)[0]])
    with pytest.raises(BadArgument, match="expected 1 or more"):
        EndlessShuffle(0)
    assert collate_clips([clips[0]]).to("cpu").frames.shape == (1, 2, 3, 6, 8)
