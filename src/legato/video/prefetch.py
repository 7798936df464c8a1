"""Looking ahead: the next items of an iterable are made in threads while the last one is in use."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar, cast

from legato.errors import BadArgument

__all__ = ["mapped", "prefetched"]

T = TypeVar("T")
S = TypeVar("S")

_JOIN_SECONDS = 1.0


def prefetched(iterable: Iterable[T], depth: int = 3) -> Iterator[T]:
    """The items of `iterable`, made ahead in a background thread.

    Worth it where making an item leaves Python's lock alone, as decoding does. The thread starts with the
    first item that is asked for, and ends when the items do or when the result is closed, which leaving a
    `for` loop early also does. An exception from `iterable` is raised in its place among the items.

    Args:
        iterable: iterated over in the other thread only; a generator made from it is closed there too.
        depth: how many items at most are ready or in the making at a time, besides the one in use.

    Raises:
        BadArgument: `depth` is under 1.
    """
    if depth < 1:
        raise BadArgument(f"depth is {depth}; expected 1 or more items")
    return _items(iterable, depth)


def _items(iterable: Iterable[T], depth: int) -> Iterator[T]:
    ready: SimpleQueue[tuple[bool, T | BaseException | None]] = SimpleQueue()
    room = Semaphore(depth)
    wanted = True

    def work() -> None:
        items: Iterator[T] | None = None
        try:
            items = iter(iterable)
            while room.acquire() and wanted:
                ready.put((True, next(items)))
        except StopIteration:
            ready.put((False, None))
        except BaseException as error:
            ready.put((False, error))
        finally:
            if items is not iterable and isinstance(items, Generator):
                items.close()

    thread = Thread(target=work, name="legato-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if not more:
                if item is not None:
                    raise cast(BaseException, item)
                return
            room.release()
            yield cast(T, item)
            item = None
    finally:
        wanted = False
        room.release()
        # The thread is a daemon: one that waits for a camera is not waited for in turn.
        thread.join(_JOIN_SECONDS)


def mapped(function: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """What a function makes of each item, in order; several at a time, at most one more than there are threads.

    Worth it where the function leaves Python's lock alone, as OpenCV and torch do. Leaving a `for` loop early waits for
    what has begun. An exception from `items` or from the function is raised in its place among the results.

    Args:
        function: called in threads, or here if there is one thread.
        items: iterated over here, no further ahead than that.
        threads: that work at a time.

    Raises:
        BadArgument: `threads` is under 1.
    """
    if threads < 1:
        raise BadArgument(f"threads is {threads}; expected 1 or more")
    return map(function, items) if threads == 1 else _mapped(function, items, threads)


def _mapped(function: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    waiting: deque[Future[T]] = deque()
    failure: Exception | None = None
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="legato-mapped") as pool:
        try:
            while True:
                try:
                    waiting.append(pool.submit(function, next(source)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()
    if failure is not None:
        raise failure
