"""Random access that gives just the pictures that decoding from the start gives."""

import contextlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from av.video.frame import VideoFrame

from legato.errors import VideoError
from legato.video.decode import Decoding, Source

__all__ = ["Locate", "PictureTable", "Seeker"]

Locate = Callable[[Sequence[int]], int | None]
"""Picks a place in the rising presentation times of all pictures; None where there is nothing to pick."""


@dataclass(frozen=True)
class PictureTable:
    """Presentation times of all pictures, rising.

    Attributes:
        pts: the times.
        keys: those that decoding can start from; None if seeking has proved unsafe.
        decoded: whether decoding has shown these pictures; if not, packets only promise them.
    """

    pts: Sequence[int]
    keys: Sequence[int] | None
    decoded: bool

    def key_before(self, pts: int) -> int | None:
        """Where decoding has to start to reach the picture at `pts`; None for the beginning of the file."""
        at = 0 if self.keys is None else bisect_right(self.keys, pts)
        return self.keys[at - 1] if self.keys is not None and at else None


class Seeker:
    """Finds pictures of a source by their place among all presentation times.

    The times come from a complete pass if there has been one, else from the packets, without decoding, if
    these look sound. A picture is reached by seeking to the key frame before it. What turns out not to be as
    expected on the way there lowers the trust by a step: from packets to a pass of decoding for the times
    alone, from seeking to decoding from the start.

    Args:
        source: what to read.
        table: the times as they were found before, to save reading through the packets again.
    """

    def __init__(self, source: Source, table: PictureTable | None = None) -> None:
        self._source = source
        self._table = table
        self._trusts_packets = True
        self._decoding: Decoding | None = None
        self._lock = Lock()

    def watch(self, decoding: Decoding, *, remember: bool = True) -> Iterator[tuple[VideoFrame, int]]:
        """The pictures of a pass from the start; learns from them, and all their times unless told not to."""
        pts, keys = array("q"), array("q")
        try:
            for picture, at in decoding:
                if remember:
                    pts.append(at)
                    if picture.key_frame:
                        keys.append(at)
                yield picture, at
            if remember:
                self._table = PictureTable(pts, None if decoding.damaged else keys, decoded=True)
        finally:
            if decoding.damaged:
                self._doubt_packets()

    def picture(self, locate: Locate) -> tuple[VideoFrame, int]:
        """The picture that `locate` picks, and its pts; `locate` raises where there is none."""
        with self._lock:
            decoding, self._decoding = self._decoding or Decoding(self._source), None
            self._decoding = self._reach(locate, decoding)
            assert self._decoding is not None
            return next(self._decoding)

    def pictures(self, locate: Locate) -> Iterator[tuple[VideoFrame, int]]:
        """The picture that `locate` picks and those after it, with their pts."""
        last: int | None = None

        def locate_next(times: Sequence[int]) -> int | None:
            at = locate(times) if last is None else bisect_right(times, last)
            return at if at is not None and at < len(times) else None

        decoding: Decoding | None = Decoding(self._source)
        try:
            while decoding is not None:
                with self._lock:
                    decoding = self._reach(locate_next, decoding)
                if decoding is not None:
                    picture, last = next(decoding)
                    yield picture, last
        finally:
            if decoding is not None:
                decoding.close()

    def sound_table(self) -> PictureTable | None:
        """All presentation times, if they are known or the packets look sound; None where it takes decoding."""
        with self._lock:
            if self._table is None and self._trusts_packets:
                self._table = self._promised_table()
            return self._table

    def close(self) -> None:
        """Frees the file."""
        with self._lock:
            if self._decoding is not None:
                self._decoding.close()
            self._decoding = None

    def _reach(self, locate: Locate, decoding: Decoding) -> Decoding | None:
        """Sends `decoding` to the picture that `locate` picks, or closes it and returns a pass that is there."""
        try:
            while True:
                table = self._table = self._table or self._make_table()
                place = locate(table.pts)
                if place is None:
                    decoding.close()
                    return None
                pts = table.pts[place]
                key, here = table.key_before(pts), decoding.position
                next_one = here is not None and place > 0 and table.pts[place - 1] == here
                if key is None:
                    if not decoding.from_start or (here is not None and here >= pts):
                        decoding.close()
                        decoding = Decoding(self._source)
                elif not next_one and not (here is not None and key <= here < pts):
                    decoding.jump(key)
                if decoding.skip_to(pts) and not (key is not None and decoding.damaged):
                    return decoding
                self._lower_trust(table)
                decoding.close()
                decoding = Decoding(self._source)
        except BaseException:
            decoding.close()
            raise

    def _lower_trust(self, table: PictureTable) -> None:
        if not table.decoded:
            self._doubt_packets()
        elif table.keys is not None:
            self._table = replace(table, keys=None)
        else:
            raise VideoError(f"{self._source.place} does not decode to the same frames twice; read it in order")

    def _doubt_packets(self) -> None:
        self._trusts_packets = False
        if self._table is not None and not self._table.decoded:
            self._table = None

    def _make_table(self) -> PictureTable:
        if self._trusts_packets and (promised := self._promised_table()) is not None:
            return promised
        with contextlib.closing(Decoding(self._source)) as decoding:
            for _ in self.watch(decoding):
                pass
        assert self._table is not None
        return self._table

    def _promised_table(self) -> PictureTable | None:
        with contextlib.closing(Decoding(self._source)) as decoding:
            return _table_of_packets(decoding)


def _table_of_packets(decoding: Decoding) -> PictureTable | None:
    """What the packets promise; None where they contradict themselves."""
    pts, keys = array("q"), array("q")
    latest = None
    for packet in decoding.packets():
        if packet.pts is None or packet.corrupt:
            return None
        if packet.key:
            if latest is not None and packet.pts <= latest:
                return None
            keys.append(packet.pts)
        if not packet.hidden:
            pts.append(packet.pts)
        latest = packet.pts if latest is None else max(latest, packet.pts)
    if decoding.damaged or not keys or len(set(pts)) < len(pts):
        return None
    return PictureTable(array("q", sorted(pts)), keys, decoded=False)
