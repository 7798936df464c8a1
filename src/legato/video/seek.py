"""Random access that gives just the pictures that decoding from the start gives."""

import contextlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from av.video.frame import VideoFrame

from legato.errors import VideoError
from legato.video.decode import Decoding, Source

__all__ = ["Locate", "Seeker"]

Locate = Callable[[list[int]], int]
"""Picks a place in a list of all presentation times, rising."""


@dataclass(frozen=True)
class _Table:
    """Presentation times of all pictures, rising, and of those to start decoding from; None if no seek is safe."""

    pts: list[int]
    keys: list[int] | None


class Seeker:
    """Finds pictures of a source by their place among all presentation times.

    The times come from the packets alone while these are sound: each has a time of its own and none is
    damaged. Then a picture is reached by seeking to the key frame before it. As soon as decoding shows
    damage that the packets did not, everything is decoded once for its times, and pictures are reached by
    decoding from the start.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sound = True
        self._table: _Table | None = None
        self._decoding: Decoding | None = None
        self._lock = Lock()

    def picture(self, locate: Locate) -> tuple[VideoFrame, int]:
        """The picture that `locate` picks, and its pts."""
        with self._lock:
            decoding, self._decoding = self._decoding or Decoding(self._source), None
            self._decoding = self._reach(locate, decoding)
            return next(self._decoding)

    def pass_from(self, locate: Locate) -> Decoding:
        """A new pass whose next picture is the one that `locate` picks."""
        with self._lock:
            return self._reach(locate, Decoding(self._source))

    def note(self, decoding: Decoding) -> None:
        """Learns from a pass whether the packets' times can be trusted."""
        if decoding.damaged and self._sound:
            self._sound, self._table = False, None

    def close(self) -> None:
        """Frees the file."""
        with self._lock:
            if self._decoding is not None:
                self._decoding.close()
            self._decoding = None

    def _reach(self, locate: Locate, decoding: Decoding) -> Decoding:
        """Sends `decoding` to the picture that `locate` picks, or closes it and returns one that is there."""
        try:
            while True:
                table = self._table = self._table or self._make_table()
                pts = table.pts[locate(table.pts)]
                start = _start_of(table, pts)
                here = decoding.position
                if start is None and here is not None and here >= pts:
                    decoding.close()
                    decoding = Decoding(self._source)
                elif start is not None and (here is None or not start <= here < pts):
                    decoding.jump(start)
                arrived = decoding.skip_to(pts)
                self.note(decoding)
                if arrived and (start is None or self._sound):
                    return decoding
                if start is None:
                    raise VideoError(f"{self._source.place} does not decode to the same frames twice; copy it anew")
                self._sound, self._table = False, None
                decoding.close()
                decoding = Decoding(self._source)
        except BaseException:
            decoding.close()
            raise

    def _make_table(self) -> _Table:
        with contextlib.closing(Decoding(self._source)) as decoding:
            table = _table_of_packets(decoding) if self._sound else None
        if table is not None:
            return table
        self._sound = False
        with contextlib.closing(Decoding(self._source)) as decoding:
            return _Table([pts for _, pts in decoding], None)


def _table_of_packets(decoding: Decoding) -> _Table | None:
    """All times without decoding; None where the packets do not tell them for sure."""
    pts: list[int] = []
    keys: list[int] = []
    for packet in decoding.packets():
        if packet.pts is None or packet.corrupt:
            return None
        if packet.key:
            keys.append(packet.pts)
        if not packet.hidden:
            pts.append(packet.pts)
    if decoding.damaged or not keys or len(set(pts)) < len(pts):
        return None
    return _Table(sorted(pts), sorted(keys))


def _start_of(table: _Table, pts: int) -> int | None:
    """The key frame to decode from on the way to `pts`; None for the start of the file."""
    if table.keys is None:
        return None
    at = bisect_right(table.keys, pts) - 1
    return table.keys[at] if at >= 0 else None
