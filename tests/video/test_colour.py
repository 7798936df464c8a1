"""Colours come out as the tags of the file say, to within two levels of the exact formula."""

from fractions import Fraction

import av
import numpy as np
import pytest

from legato import open_video

# Luma weights of red and blue in each matrix, by FFmpeg's number for its tag.
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
UNTAGGED, LIMITED, FULL = 2, 1, 2


def exact_rgb(levels, matrix, limited, bits=8):
    """RGB in 0 to 255 of one YUV colour, from the definition of the matrix."""
    scale, top = 2 ** (bits - 8), 2**bits - 1
    y, cb, cr = (float(level) for level in levels)
    if limited:
        y, cb, cr = (
            (y - 16 * scale) / (219 * scale),
            (cb - 128 * scale) / (224 * scale),
            (cr - 128 * scale) / (224 * scale),
        )
    else:
        y, cb, cr = y / top, (cb - 128 * scale) / top, (cr - 128 * scale) / top
    kr, kb = WEIGHTS[matrix]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip([red, green, blue], 0, 1) * 255


def flat_clip(
    path, levels, pixel_format="yuv420p", matrix=UNTAGGED, full_or_limited=0, size_px=(48, 64), codec="libx264"
):
    """Two lossless frames of one colour, planes filled directly."""
    base = Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, time_base=base, options={"qp": "0"} if codec == "libx264" else {})
        stream.height, stream.width = size_px
        stream.pix_fmt = pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, full_or_limited
        for i in range(2):
            picture = av.VideoFrame(size_px[1], size_px[0], pixel_format)
            picture.colorspace, picture.color_range = matrix, full_or_limited
            picture.pts, picture.time_base = i, base
            for plane, level in zip(picture.planes, levels, strict=True):
                sample = np.uint16 if "10" in pixel_format else np.uint8
                plane.update(np.full(plane.buffer_size // sample().itemsize, level, sample).tobytes())
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return path


def colour_of(path, **options):
    with open_video(path, **options) as video:
        pixels = video.read().pixels.permute(0, 2, 3, 1).reshape(-1, 3)
        assert (pixels == pixels[0]).all()
        return pixels[0].numpy().astype(float)


@pytest.mark.parametrize("levels", [(120, 90, 160), (60, 140, 120), (235, 128, 128), (16, 128, 128)])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full_or_limited", [LIMITED, FULL])
def test_matrix_and_range_are_those_of_the_tags(tmp_path, levels, matrix, full_or_limited):
    path = flat_clip(tmp_path / "flat.mp4", levels, "yuv420p", matrix, full_or_limited)
    exact = exact_rgb(levels, matrix, full_or_limited == LIMITED)
    assert np.abs(colour_of(path) - exact).max() <= 2.1
    assert np.abs(colour_of(path, size_px=(30, 30)) - exact).max() <= 1.1


def test_untagged_is_601_when_small_and_709_when_large(tmp_path):
    levels = (120, 90, 160)
    for size_px, matrix, name in (((48, 64), 5, "bt601"), ((576, 720), 5, "bt601"), ((720, 1280), 1, "bt709")):
        path = flat_clip(tmp_path / "flat.mp4", levels, size_px=size_px)
        assert np.abs(colour_of(path) - exact_rgb(levels, matrix, True)).max() <= 2.1
        with open_video(path) as video:
            assert video.info.color_matrix == name


@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_ten_bits(tmp_path, matrix):
    levels = (480, 360, 640)
    path = flat_clip(tmp_path / "flat.mp4", levels, "yuv420p10le", matrix, LIMITED)
    assert np.abs(colour_of(path) - exact_rgb(levels, matrix, True, bits=10)).max() <= 1.1


def test_grey_is_full_range_unless_tagged_limited(tmp_path):
    assert (colour_of(flat_clip(tmp_path / "full.mkv", (100,), "gray", codec="ffv1")) == 100).all()
    limited = flat_clip(tmp_path / "limited.mp4", (100,), "gray", full_or_limited=LIMITED)
    assert np.abs(colour_of(limited) - (100 - 16) * 255 / 219).max() <= 1.1
    deep = colour_of(flat_clip(tmp_path / "deep.mkv", (400,), "gray10le", codec="ffv1"))
    assert np.abs(deep - 400 * 255 / 1023).max() <= 1


@pytest.mark.parametrize(("alpha", "shown"), [(255, 255), (128, 128), (0, 0)])
def test_transparent_pixels_lie_over_black(tmp_path, alpha, shown):
    path = flat_clip(tmp_path / "clear.mkv", (235, 128, 128, alpha), "yuva420p", codec="ffv1")
    assert np.abs(colour_of(path) - shown).max() <= 2


def test_rgb_codecs_come_out_bit_exact(make_clip):
    pictures = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(3)]
    for name, codec, pixel_format in (
        ("a.mov", "qtrle", "rgb24"),
        ("b.mkv", "ffv1", "bgr0"),
        ("c.mov", "png", "rgb24"),
    ):
        with open_video(make_clip(name, 3, codec=codec, pixel_format=pixel_format, pictures=pictures)) as video:
            read = video.read().pixels.permute(0, 2, 3, 1).numpy()
            assert (read == np.stack(pictures)).all(), name
