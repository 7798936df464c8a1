"""Shape and type checks on everything that legato makes public, and small real videos for all tests."""

from jaxtyping import install_import_hook

install_import_hook("legato", "beartype.beartype")

from collections.abc import Callable, Sequence  # noqa: E402
from fractions import Fraction  # noqa: E402
from pathlib import Path  # noqa: E402

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


def paint(index: int, size_px: tuple[int, int] = (48, 64)) -> np.ndarray:
    """RGB picture number `index`: a bright square that moves over a smooth ground."""
    height, width = size_px
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 120 // height + 40, columns * 120 // width + 40, np.full_like(rows, 90)], axis=-1)
    side = max(2, min(height, width) // 4)
    top, left = (5 * index) % (height - side + 1), (7 * index) % (width - side + 1)
    picture[top : top + side, left : left + side] = (230, 200, 20 + 9 * index % 200)
    return picture.astype(np.uint8)


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a clip with PyAV alone, not with legato, and returns its path.

    `times` are exact seconds, or a number of frames at 25 per second, which is also the `rate` that the encoder is
    told; `codec_attributes` are set on it; the rest goes to it as options. With `sound_seconds` the clip gets sound
    as well.
    """

    def make(
        name: str = "clip.mp4",
        times: int | Sequence[Fraction] = 10,
        size_px: tuple[int, int] = (48, 64),
        *,
        rate: int | Fraction = 25,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        time_base: Fraction = Fraction(1, 90000),
        container: str | None = None,
        pictures: Sequence[np.ndarray] | None = None,
        rotation_degrees: int = 0,
        mirrored: bool = False,
        sound_seconds: float = 0,
        sound_codec: str = "aac",
        container_options: dict[str, str] | None = None,
        codec_attributes: dict[str, object] | None = None,
        metadata: dict[str, str] | None = None,
        **options: str,
    ) -> Path:
        if isinstance(times, int):
            times = [Fraction(i, 25) for i in range(times)]
        path = tmp_path / name
        with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
            output.metadata.update(metadata or {})
            stream = output.add_stream(codec, rate=rate, options=options, time_base=time_base)
            stream.height, stream.width = size_px
            stream.pix_fmt = pixel_format
            stream.codec_context.time_base = time_base
            for attribute, value in (codec_attributes or {}).items():
                setattr(stream.codec_context, attribute, value)
            if rotation_degrees or mirrored:
                stream.set_display_rotation(rotation_degrees, hflip=mirrored)
            sound = output.add_stream(sound_codec, rate=16000, layout="mono") if sound_seconds else None
            for index, time in enumerate(times):
                rgb = paint(index, size_px) if pictures is None else pictures[index]
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                picture.pts, picture.time_base = round(time / time_base), time_base
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
            if sound:
                for start in range(0, int(sound_seconds * 16000), 1024):
                    wave = np.sin(np.arange(start, start + 1024) / 9)[None]
                    whole = sound.format.name.startswith("s16")
                    wave = (wave * 30000).astype(np.int16) if whole else wave.astype(np.float32)
                    block = av.AudioFrame.from_ndarray(wave, format=sound.format.name, layout="mono")
                    block.sample_rate, block.pts = 16000, start
                    output.mux(sound.encode(block))
                output.mux(sound.encode())
        return path

    return make


@pytest.fixture
def make_holes(make_clip: Callable[..., Path], tmp_path: Path) -> Callable[[str, Sequence[int], float], Path]:
    """A clip of 40 frames in which the given packets, all of frames that nothing else needs, are damaged."""

    def make(name: str, numbers: Sequence[int], share: float) -> Path:
        noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(40)]
        clip = make_clip(f"whole-{name}", 40, pictures=noise, bf="0", g="5")
        with av.open(str(clip)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        data = clip.read_bytes()
        for number in numbers:
            keep = round(len(packets[number]) * (1 - share))
            data = data.replace(packets[number], packets[number][:keep].ljust(len(packets[number]), b"\xff"))
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make
