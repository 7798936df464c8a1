"""Banks give what their source gave, in stretches whose seconds are right."""

from pathlib import Path

import pytest
import torch

from legato.data.bank import Bank, write_bank
from legato.data.synthetic import Physics, Puppets
from legato.errors import BadArgument
from legato.generate.latents import Pixels

PHYSICS = Physics(16, 96, (12,), (15.0, 60.0), uneven=0.5, unknown=0.0, seed=3)


@pytest.fixture(scope="module")
def physics(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("banks") / "physics"
    write_bank(PHYSICS, Pixels().encode, folder, 3)
    return str(folder)


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("banks") / "puppets"
    write_bank(Puppets(16, 48, (12,), drive=1.0, drive_px=8, anywhere=0.0), Pixels().encode, folder, 2)
    return str(folder)


def test_every_frame_drawn_is_one_of_the_source_at_its_time(physics: str) -> None:
    bank = Bank(physics, 40, (4, 8))
    stored = [PHYSICS(number) for number in range(3)]
    frames, seconds = torch.cat([b.frames for b in stored]), torch.cat([b.seconds for b in stored])
    lengths = set()
    for number in range(6):
        batch = bank(number)
        assert batch.encoded
        lengths.add(batch.frames.shape[1])
        for clip, told in zip(batch.frames, batch.seconds, strict=True):
            apart = (frames[:, :, None] - clip).abs().amax((3, 4, 5))  # (clips, stored frames, drawn frames)
            fits = (apart < 1e-3).any(1).all(1).nonzero().flatten()
            assert any(
                torch.allclose(told, at - at[0], atol=1e-9)
                for row in fits
                for at in _stretches(seconds[row], len(told))
            )
    assert lengths == {4, 8}


def _stretches(seconds: torch.Tensor, length: int) -> list[torch.Tensor]:
    count = len(seconds)
    return [
        seconds[start : start + stride * length : stride][:length]
        for stride in range(1, count // (length - 1) + 1)
        for start in range(count - stride * (length - 1))
    ]


def test_the_same_number_gives_the_same_batch(physics: str) -> None:
    a, b, other = (Bank(physics, 40, (4, 8))(number) for number in (5, 5, 6))
    assert torch.equal(a.frames, b.frames)
    assert torch.equal(a.seconds, b.seconds)
    assert a.frames.shape != other.frames.shape or not torch.equal(a.frames, other.frames)


def test_whole_clips_go_from_the_first_frame_to_as_near_the_last_as_strides_allow(puppets: str) -> None:
    stored = torch.cat([Puppets(16, 48, (12,), drive=1.0, drive_px=8, anywhere=0.0)(n).seconds for n in range(2)])
    for number in range(3):
        batch = Bank(puppets, 24, (4,), whole=True)(number)  # 4 of 12: frames 0, 3, 6 and 9
        ends = (batch.seconds[:, -1:] - stored[None, :, 9]).abs().amin(1)
        assert float(ends.max()) < 1e-9
    driven = torch.cat([Bank(puppets, 24, (4,), whole=True, drive=1.0)(n).seconds[:, -1] for n in range(6)])
    assert float((driven[:, None] - stored[None, :, 9]).abs().amin(1).max()) > 1e-3  # those may be any stretch


def test_only_the_strides_asked_for_are_taken(physics: str) -> None:
    for number in range(4):
        a, b = Bank(physics, 40, (4,), strides=(1,))(number), Bank(physics, 40, (4,), strides=(1, 3))(number)
        assert float(a.seconds[:, -1].max()) < 3 / 15 + 1e-9
        assert a.frames.shape == b.frames.shape


def test_unknown_rates_count_frames(physics: str) -> None:
    batch = Bank(physics, 40, (8,), unknown=1.0)(0)
    assert not batch.rate_known.any()
    torch.testing.assert_close(batch.seconds, (torch.arange(8, dtype=torch.float64) / 30).expand_as(batch.seconds))


def test_scrambled_times_are_those_of_others(physics: str) -> None:
    straight, scrambled = Bank(physics, 80, (8,))(0), Bank(physics, 80, (8,), scrambled=True)(0)
    torch.testing.assert_close(scrambled.frames, straight.frames)
    torch.testing.assert_close(scrambled.seconds, straight.seconds.roll(1, 0))


def test_clips_with_text_begin_where_the_sentence_begins(puppets: str) -> None:
    told, driven = Bank(puppets, 60, (4,))(1), Bank(puppets, 60, (4,), drive=1.0)(1)
    assert told.drive is None
    assert driven.drive is not None
    assert driven.drive.shape == (15, 4, 3, 8, 8)
    stored = torch.cat([Puppets(16, 48, (12,), drive=1.0, drive_px=8, anywhere=0.0)(n).frames for n in range(2)])
    firsts = stored[:, 0]
    gap = (told.frames[:, 0, None] - firsts).abs().amax((2, 3, 4)).amin(1)
    assert gap.max() < 1e-3
    assert Bank(puppets, 60, (4,)).words == Puppets().words


def test_clips_with_peers_are_told_the_same_and_so_are_those(physics: str) -> None:
    bank = Bank(physics, 40, (4, 8), (1, 2), alike=0.7, peers=50)
    stored = torch.cat([PHYSICS(number).frames for number in range(3)])
    labels = torch.cat([PHYSICS(number).labels for number in range(3)])
    alone = 0
    for number in range(12):
        batch = bank(number)
        if batch.peers is None:
            alone += 1
            continue
        assert bool((batch.labels == batch.labels[0]).all())
        torch.testing.assert_close(batch.seconds, batch.seconds[:1].expand_as(batch.seconds))
        intervals = batch.seconds[0].diff()
        torch.testing.assert_close(intervals, intervals[:1].expand_as(intervals))
        assert batch.peers.shape == (50, *batch.frames.shape[1:])
        for peer in batch.peers[:10]:  # each is a stretch of a clip of the same class
            apart = (stored[:, :, None] - peer).abs().amax((3, 4, 5))
            assert bool((labels[(apart < 1e-3).any(1).all(1)] == batch.labels[0]).any())
    assert 0 < alone < 12
    torch.testing.assert_close(bank(3).frames, bank(3).frames)


def test_wrong_banks_are_refused(physics: str, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="there is no bank"):
        Bank(str(tmp_path))
    with pytest.raises(BadArgument, match="have 12 frames"):
        Bank(physics, lengths=(13,))
    with pytest.raises(BadArgument, match="1 among them"):
        Bank(physics, lengths=(8,), strides=(2,))
    with pytest.raises(BadArgument, match="no drive"):
        Bank(physics, lengths=(8,), drive=0.5)
    with pytest.raises(BadArgument, match=r"alike is 1\.5; expected a number from 0 to 1"):
        Bank(physics, lengths=(8,), alike=1.5)
    write_bank(Physics(16, 24, (12,), uneven=1.0, unknown=0.0), Pixels().encode, tmp_path / "apart", 2)
    with pytest.raises(BadArgument, match="no two clips"):
        Bank(str(tmp_path / "apart"), lengths=(8,), alike=0.5)
    with pytest.raises(BadArgument, match="exists"):
        write_bank(PHYSICS, Pixels().encode, Path(physics), 1)
    with pytest.raises(BadArgument, match="hides the rate"):
        write_bank(Physics(16, 32, (8,), unknown=1.0), Pixels().encode, tmp_path / "hidden", 1)
    with pytest.raises(BadArgument, match="differ in shape"):
        write_bank(Physics(16, 32, (8, 16), unknown=0.0), Pixels().encode, tmp_path / "uneven", 8)
    assert [path.parent.name for path in tmp_path.glob("*/bank.json")] == ["apart"]


def test_a_bank_leaves_what_lies_beside_it_alone(tmp_path: Path) -> None:
    mine = tmp_path / "bank.part"
    mine.mkdir()
    (mine / "a").write_text("mine")
    told: list[int] = []
    write_bank(PHYSICS, Pixels().encode, tmp_path / "bank", 2, told=told.append)
    assert told == [1, 2]
    with pytest.raises(BadArgument, match="hides the rate"):
        write_bank(Physics(16, 32, (8,), unknown=1.0), Pixels().encode, tmp_path / "hidden", 1)
    assert (mine / "a").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "bank.part"]


def test_a_bank_takes_no_place_of_one_that_was_made_in_the_meantime(tmp_path: Path) -> None:
    def slow(clip: torch.Tensor) -> torch.Tensor:
        (tmp_path / "bank").mkdir(exist_ok=True)
        (tmp_path / "bank" / "a").write_text("another's")
        return clip

    with pytest.raises(BadArgument, match="exists"):
        write_bank(PHYSICS, slow, tmp_path / "bank", 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["bank", "a"]
