"""Frames to a pipe, uncompressed: Y4M, which players and FFmpeg read as it is, or bare RGB."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from io import RawIOBase

from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from legato.errors import BadArgument, VideoError
from legato.video.frames import Frame
from legato.video.write import chroma

__all__ = ["PIPE_FORMATS", "write_pipe"]

PIPE_FORMATS = ("y4m", "rgb24")


def write_pipe(frames: Iterable[Frame], sink: RawIOBase, *, rate: Fraction, form: str = "y4m") -> bool:
    """Write frames one by one; a slow reader is waited for, so nothing piles up.

    Args:
        frames: of one size; each is taken when the one before is written.
        sink: an unbuffered binary file, such as `open(1, "wb", buffering=0, closefd=False)`.
        rate: frames per second, which a Y4M header says; times themselves do not fit in a pipe.
        form: `y4m` (4:4:4, limited range, BT.601, which readers take it for as it cannot say) or `rgb24` (height x
            width x 3 bytes a frame, nothing else).

    Returns:
        Whether the reader took all frames; False if it closed the pipe.

    Raises:
        BadArgument: another form, or sizes that change.
        VideoError: it takes no more, as on a full disk.
    """
    if form not in PIPE_FORMATS:
        raise BadArgument(f"the form of a pipe is '{form}'; expected {' or '.join(PIPE_FORMATS)}")
    planes: Callable[[VideoFrame], VideoFrame] = chroma("yuv444p", Colorspace.ITU601)
    size = None
    try:
        for frame in frames:
            if size is None and form == "y4m":
                head = f"YUV4MPEG2 W{frame.width} H{frame.height} F{rate.numerator}:{rate.denominator} Ip A1:1 C444"
                _write(sink, f"{head} XCOLORRANGE=LIMITED\n".encode())
            size = size or (frame.height, frame.width)
            if (frame.height, frame.width) != size:
                raise BadArgument(f"{frame} follows frames of {size[1]}x{size[0]}; all frames of a pipe have one size")
            pixels = frame.pixels.permute(1, 2, 0).contiguous().cpu().numpy()
            if form == "rgb24":
                _write(sink, pixels.tobytes())
            else:
                yuv = planes(VideoFrame.from_numpy_buffer(pixels, "rgb24")).to_ndarray()
                _write(sink, b"FRAME\n" + yuv.tobytes())
    except BrokenPipeError:
        return False
    except OSError as error:
        raise VideoError(f"the pipe takes no more: {error.strerror}; frames before this are written") from error
    return True


def _write(sink: RawIOBase, given: bytes) -> None:
    """All of it: a pipe may take a part at a time."""
    left = memoryview(given)
    while left:
        left = left[sink.write(left) or 0 :]
