"""Write the features of a stream to a safetensors file while they come, in constant memory."""

import json
import os
import struct
from pathlib import Path
from types import TracebackType

import numpy as np
import torch

from legato.errors import FileNotWritten
from legato.files import hidden_beside
from legato.reuse.encoder import Encoded

__all__ = ["FeatureWriter"]

HEADER_BYTES = 4096


class FeatureWriter:
    """A safetensors file of features, appended frame by frame and complete once closed.

    Tensors: `tokens` float16 `(frames, tokens, channels)`, `cls` float16 `(frames, channels)` where the
    model has one, `seconds` float64 `(frames,)`, `age_seconds` float32 `(frames, tokens)`, `mode` uint8
    `(frames,)`: 0 full, 1 partial, 2 hold. The file's metadata names the model and the grid.

    The tokens go to disk at once; the header, whose room is kept free, is written last, under a temporary
    name that is then changed to the final one. Closing after an interrupt keeps the frames so far.

    Args:
        path: where the file goes.
        metadata: strings to keep beside the tensors.

    Raises:
        FileNotWritten: no file can be made there, or it is a pipe or a device.
    """

    MODES = ("full", "partial", "hold")

    def __init__(self, path: str | Path, metadata: dict[str, str] | None = None):
        self.path = Path(path)
        self.metadata = metadata or {}
        if self.path.exists() and not self.path.is_file():
            raise FileNotWritten(f"{path} is no file; features begin with what is written last, so name a file")
        self._place = Path(os.path.realpath(path))
        self._part = hidden_beside(self._place)
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
        except OSError as error:
            raise FileNotWritten(f"{path} cannot be written: {error.strerror}; check the folder") from error
        self._file.write(b" " * HEADER_BYTES)
        self._token_shape: tuple[int, int] | None = None
        self._small: dict[str, list[np.ndarray]] = {"cls": [], "seconds": [], "age_seconds": [], "mode": []}

    def add(self, encoded: Encoded) -> None:
        """Append one frame's features."""
        tokens = encoded.tokens.to("cpu", torch.float16).contiguous().numpy()
        self._token_shape = tokens.shape
        self._file.write(tokens.tobytes())
        if encoded.cls is not None:
            self._small["cls"].append(encoded.cls.to("cpu", torch.float16).numpy())
        self._small["seconds"].append(np.array(encoded.seconds, np.float64))
        self._small["age_seconds"].append(encoded.age_seconds.numpy().astype(np.float32))
        self._small["mode"].append(np.array(self.MODES.index(encoded.plan.mode), np.uint8))

    def close(self) -> None:
        """Finish the file; without a frame none is left."""
        frames = len(self._small["seconds"])
        if not frames or self._token_shape is None:
            self.discard()
            return
        names = {
            np.dtype(np.float16): "F16",
            np.dtype(np.float32): "F32",
            np.dtype(np.float64): "F64",
            np.dtype(np.uint8): "U8",
        }
        end = self._file.tell() - HEADER_BYTES
        header: dict[str, object] = {
            "__metadata__": self.metadata,
            "tokens": {"dtype": "F16", "shape": [frames, *self._token_shape], "data_offsets": [0, end]},
        }
        for name, parts in self._small.items():
            if parts:
                array = np.stack(parts)
                self._file.write(array.tobytes())
                header[name] = {
                    "dtype": names[array.dtype],
                    "shape": list(array.shape),
                    "data_offsets": [end, end + array.nbytes],
                }
                end += array.nbytes
        text = json.dumps(header).encode()
        room = HEADER_BYTES - 8
        self._file.seek(0)
        self._file.write(struct.pack("<Q", room) + text.ljust(room))
        self._file.close()
        self._part.replace(self._place)

    def discard(self) -> None:
        """Leave no file behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
