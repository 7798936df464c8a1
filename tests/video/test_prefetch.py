"""Items made ahead in a thread: the same ones, not too many, and no thread left over."""

import threading
import time

import pytest

from legato import open_video
from legato.errors import BadArgument
from legato.video.prefetch import mapped, prefetched


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 2
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_the_same_items_in_the_same_order(depth):
    assert list(prefetched(range(50), depth)) == list(range(50))
    assert list(prefetched([], depth)) == []
    assert list(prefetched([None, False, None], depth)) == [None, False, None]


def test_frames_of_a_video(make_clip):
    with open_video(make_clip(times=30)) as video:
        assert [frame.pts for frame in prefetched(video)] == [frame.pts for frame in video]


@pytest.mark.parametrize("depth", [1, 3])
def test_never_more_than_depth_items_are_ahead(depth):
    made = 0

    def items():
        nonlocal made
        for i in range(20):
            made += 1
            yield i

    for used, _ in enumerate(prefetched(items(), depth), start=1):
        time.sleep(0.005)
        assert made <= used + depth
    assert made == 20


def test_work_on_both_sides_overlaps():
    begun = [threading.Event() for _ in range(10)]

    def items():
        for i, event in enumerate(begun):
            event.set()
            yield i

    for i in prefetched(items()):
        assert all(event.wait(10) for event in begun[: i + 2])  # the next one is made while this one is used


def test_an_exception_comes_in_its_place():
    def items():
        yield 1
        yield 2
        raise ValueError("the third is broken")

    got = []
    with pytest.raises(ValueError, match="third is broken"):
        got.extend(prefetched(items()))
    loop = prefetched(items())
    assert [next(loop), next(loop)] == [1, 2]
    with pytest.raises(ValueError, match="third is broken"):
        next(loop)
    with pytest.raises(StopIteration):
        next(loop)


def test_leaving_early_ends_the_thread_and_closes_the_source(make_clip):
    closed = threading.Event()

    class Endless:
        def __iter__(self):
            try:
                while True:
                    yield 0
            finally:
                closed.set()

    for i, _ in enumerate(prefetched(Endless())):
        if i == 5:
            break
    assert closed.wait(1)
    loop = prefetched(Endless())
    next(loop)
    loop.close()
    with open_video(make_clip(times=30)) as video:
        for _ in prefetched(video):
            break


def test_leaving_does_not_wait_for_a_source_that_blocks():
    release = threading.Event()

    def items():
        yield 0
        release.wait(20)
        yield 1

    loop = prefetched(items())
    next(loop)
    start = time.monotonic()
    loop.close()
    assert time.monotonic() - start < 3
    release.set()


def test_nothing_runs_before_the_first_item_is_asked_for():
    started = False

    def items():
        nonlocal started
        started = True
        yield 0

    loop = prefetched(items())
    time.sleep(0.02)
    assert not started
    assert list(loop) == [0]


def test_a_depth_under_one_is_refused():
    with pytest.raises(BadArgument, match="depth is 0"):
        prefetched([1], 0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_mapped_keeps_order_and_does_not_run_ahead(threads):
    taken = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    def slow(number):
        time.sleep(0.002 * (number % 3))
        return -number

    for place, result in enumerate(mapped(slow, items(), threads)):
        assert result == -place
        assert len(taken) <= place + threads + 1
    assert len(taken) == 30


@pytest.mark.parametrize("threads", [1, 3])
def test_mapped_raises_in_place(threads):
    def items():
        yield from range(4)
        raise ValueError("no more")

    found = []
    with pytest.raises(ValueError, match="no more"):
        found.extend(mapped(abs, items(), threads))
    assert found == [0, 1, 2, 3]
    with pytest.raises(TypeError):
        list(mapped(abs, [1, "two"], threads))
