"""Ways to make a long video: exact counts, one model and one noise, and what each one's borders are."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from legato.data.batch import signal_to_pixels
from legato.errors import BadArgument
from legato.generate import Ask
from legato.generate.driving import Drive
from legato.generate.fusion import FusedWindows
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import Euler
from legato.generate.shelf import Shelf
from legato.generate.strategies import (
    AllAtOnce,
    IndependentBatches,
    LongAsk,
    OverlappingBatches,
    SlidingWindow,
    Strategy,
    Streaming,
)
from legato.generate.stream_state import StreamAsk
from tests.generate.test_stream import GENERATOR, pictures

ASK = StreamAsk(Fraction(24), seed=3, text="up down")
WINDOW = RollingWindow(3, 4, context_frames=2)
EVERY = [
    AllAtOnce(3), IndependentBatches(8, 3), OverlappingBatches(8, 3, True, 3), OverlappingBatches(8, 4, False, 3),
    SlidingWindow(WINDOW), SlidingWindow(WINDOW, offload=True), Streaming(WINDOW),
]  # fmt: skip


PICTURE = torch.arange(3 * 16 * 16).view(3, 16, 16).remainder(251).to(torch.uint8)


def made(strategy: Strategy, count: int, **options: object) -> Tensor:
    return torch.cat(list(strategy.pieces(GENERATOR, LongAsk(ASK, count, **options))))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", EVERY, ids=str)
def test_exactly_as_many_frames_as_asked_for_driven_or_not(strategy: Strategy) -> None:
    for count in (1, 8, 13, 29):
        frames = made(strategy, count)
        assert frames.shape == (count, 3, 16, 16)
        assert all(0 < at < count for at in strategy.boundaries(count))
    driven = made(strategy, 13, drive=Drive(pictures()))
    assert not torch.equal(driven, made(strategy, 13))


@pytest.mark.parametrize("strategy", EVERY, ids=str)
def test_a_reference_counts_and_is_not_shown(strategy: Strategy) -> None:
    picture = torch.full((3, 16, 16), 200, dtype=torch.uint8)
    picture[:, 4:] = 30
    for drive in (False, True):
        without, given = (
            made(strategy, 13, drive=Drive(pictures()) if drive else None, reference=reference)
            for reference in (None, picture)
        )
        assert given.shape == (13, 3, 16, 16)
        assert not torch.equal(given, without)


def test_all_at_once_is_the_generators_own_sample() -> None:
    seconds = torch.arange(9, dtype=torch.float64)[None] / 24
    alone = signal_to_pixels(GENERATOR.sample(Ask(seconds, [3], text=("up down",)), Euler(3))[0])
    assert torch.equal(made(AllAtOnce(3), 9), alone)


def test_precomputed_is_the_stream() -> None:
    for drive in (False, True):
        options: list[dict[str, object]] = [
            {"drive": Drive(pictures(), between="linear")} if drive else {"reference": PICTURE} for _ in range(3)
        ]
        a, b = made(SlidingWindow(WINDOW), 22, **options[0]), made(Streaming(WINDOW), 22, **options[1])
        assert int((a.int() - b.int()).abs().max()) <= 1
        assert torch.equal(made(SlidingWindow(WINDOW, offload=True), 22, **options[2]), b)


def test_what_is_put_aside_comes_back() -> None:
    with Shelf() as shelf:
        frames = torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        shelf.add(frames[:3])
        assert torch.equal(shelf.part(1, 9), frames[1:3])
        shelf.add(frames[3:])
        assert torch.equal(shelf.part(2, 4), frames[2:6])
        with pytest.raises(BadArgument, match="do not go with"):
            shelf.add(frames[:, :2])
        with pytest.raises(BadArgument, match="frame 7 of 7"):
            shelf.part(7, 1)


def test_overlaps_discard_or_fade_between_batches_of_the_same_noise() -> None:
    batches = [made(IndependentBatches(8, 3), 8)]
    ask = Ask(torch.arange(5, 13, dtype=torch.float64)[None] / 24, [3], text=("up down",))
    batches.append(signal_to_pixels(GENERATOR.sample(ask, Euler(3))[0]))
    discard, blend = made(OverlappingBatches(8, 3, False, 3), 13), made(OverlappingBatches(8, 3, True, 3), 13)
    assert torch.equal(discard, torch.cat([batches[0], batches[1][3:]]))
    assert torch.equal(blend[:5], batches[0][:5])
    assert torch.equal(blend[8:], batches[1][3:])
    middle = (batches[0][6].float() + batches[1][1].float()) / 2
    assert float((blend[6].float() - middle).abs().max()) <= 0.5
    assert OverlappingBatches(8, 3, False).boundaries(13) == [8]
    assert OverlappingBatches(8, 3, True).boundaries(13) == [5, 8]


def test_only_the_stream_takes_its_drive_just_in_time() -> None:
    def counted(taken: list[float]) -> Iterator[tuple[float, Tensor]]:
        for one in pictures(24.0):
            taken.append(one[0])
            yield one

    ahead = {}
    for strategy in (AllAtOnce(1), IndependentBatches(8, 1), SlidingWindow(WINDOW), Streaming(WINDOW)):
        taken: list[float] = []
        next(iter(strategy.pieces(GENERATOR, LongAsk(ASK, 40, Drive(counted(taken))))))
        ahead[type(strategy).__name__] = len(taken)
    assert ahead == {"AllAtOnce": 40, "IndependentBatches": 8, "SlidingWindow": 48, "Streaming": 12}


def test_whoever_takes_the_pieces_may_train_between_them() -> None:
    for strategy in (*EVERY, FusedWindows(8, 4, calls=2)):
        for _ in strategy.pieces(GENERATOR, LongAsk(ASK, 20)):
            assert not torch.is_inference_mode_enabled()


def test_wrong_batches_are_refused() -> None:
    for frames, overlap in ((1, 0), (8, 5), (8, -1)):
        with pytest.raises(BadArgument, match="expected 2 or more, and up to half shared"):
            OverlappingBatches(frames, overlap)
    with pytest.raises(BadArgument, match="batches of 1"):
        IndependentBatches(1)


def test_the_same_seed_gives_the_same_video() -> None:
    for strategy in EVERY:
        again = [torch.cat(list(strategy.pieces(GENERATOR, LongAsk(replace(ASK, seed=s), 9)))) for s in (3, 3, 4)]
        assert torch.equal(again[0], again[1])
        assert not torch.equal(again[0], again[2])
    assert all(not torch.equal(made(a, 20), made(b, 20)) for a, b in itertools.combinations(EVERY[:4], 2))
