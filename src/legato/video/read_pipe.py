"""Frames from a pipe, one by one as they come: Y4M, or bare RGB whose size and rate are told."""

from collections.abc import Iterator
from fractions import Fraction
from io import RawIOBase

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from legato.errors import BadArgument, CorruptVideo
from legato.video.frames import Frame
from legato.video.picture import Darkroom

__all__ = ["PipeReader"]

LONGEST_LINE = 4096
CHROMA = {"420": "yuv420p", "422": "yuv422p", "444": "yuv444p", "mono": "gray"}
BT601 = 6  # FFmpeg's number for it; Y4M cannot say its matrix, and this is what readers take


class PipeReader:
    """Reads no byte more than the frame that is asked for needs, so what comes live is seen at once.

    Args:
        source: an unbuffered binary file, such as `open(0, "rb", buffering=0, closefd=False)`.
        form: `y4m`, which says its size and rate, or `rgb24` (height x width x 3 bytes a frame).
        size_px: height and width that frames are scaled to; for `rgb24` those they have.
        rate: frames per second; for `y4m` the pipe's own by default.

    Raises:
        BadArgument: the form is another, or `rgb24` without size and rate.
        CorruptVideo: what comes is no Y4M, or of a kind that is not read.
    """

    def __init__(
        self,
        source: RawIOBase,
        *,
        form: str = "y4m",
        size_px: tuple[int, int] | None = None,
        rate: Fraction | None = None,
    ) -> None:
        self._source, self.form = source, form
        if form == "rgb24":
            if size_px is None or rate is None:
                raise BadArgument("bare rgb24 says neither its size nor its rate; tell both, or send y4m")
            self.height, self.width = size_px
            self.rate, self._pixel_format, self._range = rate, "rgb24", ColorRange.JPEG
        elif form == "y4m":
            own = self._header()
            self.rate = rate or own
        else:
            raise BadArgument(f"the form of a pipe is '{form}'; expected y4m or rgb24")
        self._darkroom = Darkroom(size_px)

    def __iter__(self) -> Iterator[Frame]:
        """Frames from number 0 on, as they come.

        Raises:
            CorruptVideo: the pipe breaks off inside a frame, or what comes is no frame.
        """
        count, number = self._bytes(), 0
        while True:
            if self.form == "y4m":
                line = self._line()
                if line is None:
                    return
                if line.split(b" ")[0] != b"FRAME":
                    raise CorruptVideo(f"frame {number} of the pipe begins with {line[:20]!r}; expected FRAME")
            stored = self._exactly(count)
            if not stored and self.form == "rgb24":
                return
            if len(stored) < count:
                raise CorruptVideo(f"the pipe breaks off in frame {number}: {len(stored)} of {count} bytes came")
            yield Frame(self._pixels(stored), number * self.rate.denominator, Fraction(1, self.rate.numerator))
            number += 1

    # --- parts

    def _header(self) -> Fraction:
        """Take the header in; the rate that it says."""
        line = self._line() or b""
        words = line.decode("ascii", "replace").split(" ")
        if words[0] != "YUV4MPEG2":
            raise CorruptVideo(
                f"the pipe begins with {line[:20]!r}; expected Y4M, such as `ffmpeg -i IN -f yuv4mpegpipe -` makes"
            )
        told = {word[0]: word[1:] for word in words[1:] if word and word[0] in "WHFC"}
        try:
            self.width, self.height = int(told["W"]), int(told["H"])
            above, below = told["F"].split(":")
            rate = Fraction(int(above), int(below))
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise CorruptVideo(
                f"the pipe's header is '{' '.join(words)}'; expected a size and a rate, as W64 H64 F30:1"
            ) from error
        if not (0 < self.width <= 16384 and 0 < self.height <= 16384 and rate > 0):
            raise CorruptVideo(f"the pipe's header says {self.width}x{self.height} at {rate} frames a second")
        colour = told.get("C", "420jpeg")
        depth = next((CHROMA[name] for name in CHROMA if colour.startswith(name)), None)
        if depth is None or "p1" in colour or colour.endswith(("alpha", "mono16")):
            raise CorruptVideo(f"the pipe's pixels are {colour}; expected 8 bits in {', '.join(CHROMA)}")
        self._pixel_format = depth
        full = "XCOLORRANGE=FULL" in words
        self._range = ColorRange.JPEG if full else ColorRange.MPEG
        return rate

    def _bytes(self) -> int:
        """Of a frame; sides of chroma are rounded up."""
        rows, columns = -(-self.height // 2), -(-self.width // 2)
        chroma = {"yuv420p": rows * columns, "yuv422p": self.height * columns, "gray": 0}
        return self.height * self.width + 2 * chroma.get(self._pixel_format, self.height * self.width)

    def _pixels(self, stored: bytes) -> torch.Tensor:
        """RGB at the size asked for, one contiguous (3, height, width)."""
        if self.form == "rgb24":
            rows = np.frombuffer(stored, np.uint8).reshape(self.height, self.width, 3)
        else:
            picture = VideoFrame(self.width, self.height, self._pixel_format)
            begin = 0
            for plane in picture.planes:
                part = np.frombuffer(stored, np.uint8, plane.height * plane.width, begin)
                lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                lines[:, : plane.width] = part.reshape(plane.height, plane.width)
                begin += part.size
            picture.colorspace, picture.color_range = BT601, self._range
            rows = self._darkroom.develop(picture)
        return torch.from_numpy(np.ascontiguousarray(rows.transpose(2, 0, 1)))

    def _line(self) -> bytes | None:
        """Up to the next line's end, without it; None at the end of the pipe."""
        line = bytearray()
        while len(line) < LONGEST_LINE:
            one = self._source.read(1)
            if not one:
                return bytes(line) if line else None
            if one == b"\n":
                return bytes(line)
            line += one
        raise CorruptVideo(f"the pipe begins with {bytes(line[:20])!r} and no line ends; expected Y4M")

    def _exactly(self, count: int) -> bytes:
        """So many bytes, or what was left of them."""
        parts, left = [], count
        while left and (part := self._source.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
