"""Looking ahead: the next items of an iterable are made in a thread while the last one is in use."""

from collections.abc import Generator, Iterable, Iterator
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar, cast

from legato.errors import BadArgument

__all__ = ["prefetched"]

T = TypeVar("T")

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
