"""Puppets: exact truth in continuous time."""

import time

import numpy as np
import pytest
import torch

from legato.data.puppets import LEFT_HAND_RGB, RIGHT_HAND_RGB, Puppet, hand_positions, random_puppet
from legato.data.vocabulary import VOCABULARY
from legato.errors import BadArgument
from legato.video import Timeline


def puppet(seed: int = 0, text: str | None = None) -> Puppet:
    return random_puppet(torch.Generator().manual_seed(seed), text=text)


def test_the_vocabulary_is_large_and_every_sign_is_its_own() -> None:
    assert len(VOCABULARY) >= 24
    paths = {word: Puppet((word,)) for word in VOCABULARY}
    tracks = {}
    for word, one in paths.items():
        gloss = one.glosses[0]
        times = np.linspace(gloss.begin_seconds, gloss.end_seconds, 12)
        tracks[word] = one.hands(times.tolist()).numpy()
    for word, track in tracks.items():
        others = [np.linalg.norm(track - other, axis=-1).max() for name, other in tracks.items() if name != word]
        assert min(others) > 0.04, word


@pytest.mark.parametrize("seed", range(4))
def test_hands_are_tracked_where_they_are(seed: int) -> None:
    one = puppet(seed)
    seconds = np.linspace(0, one.seconds, 40).tolist()
    pixels = one.render(seconds, 96, 96)
    tracked, truth = hand_positions(pixels) / 96, one.hands(seconds)
    apart = (truth[:, 0] - truth[:, 1]).norm(dim=-1) > 2.2 * one.figure.hand_radius * one.figure.scale
    inside = ((truth > 0.06) & (truth < 0.94)).all(-1).all(-1)
    clear = apart & inside
    assert int(clear.sum()) > 15
    assert float((tracked - truth)[clear].norm(dim=-1).max()) < 0.012


def test_the_same_content_at_any_rate_and_size() -> None:
    one = puppet(1)
    slow, fast = (one.render(Timeline.constant(seconds=1, rate=rate), 64, 64) for rate in (15, 60))
    assert torch.equal(slow, fast[::4])
    small = one.render([0.7], 32, 32).float()
    large = torch.nn.functional.avg_pool2d(one.render([0.7], 128, 128).float(), 4)
    assert float((small - large).abs().mean()) < 2.5


def test_nobody_jumps() -> None:
    for seed in range(6):
        one = puppet(seed)
        times = np.arange(0, one.seconds, 0.002)
        speed = one.hands(times.tolist()).diff(dim=0).norm(dim=-1) / 0.002
        assert float(speed.max()) < 6 * one.rate
        assert float(speed.diff(dim=0).abs().max()) < 0.5 * one.rate


def test_glosses_say_when_a_sign_is_shown_and_the_rate_scales_them() -> None:
    usual, fast = Puppet(("hello", "big")), Puppet(("hello", "big"), rate=2.0)
    assert [g.sign for g in usual.glosses] == ["hello", "big"]
    for a, b in zip(usual.glosses, fast.glosses, strict=True):
        assert (a.begin_seconds, a.end_seconds) == pytest.approx((2 * b.begin_seconds, 2 * b.end_seconds))
    assert usual.seconds == pytest.approx(2 * fast.seconds)
    at = usual.glosses[1].begin_seconds
    torch.testing.assert_close(usual.hands([at]), fast.hands([at / 2]))


def test_flow_follows_the_hands() -> None:
    one = puppet(2, "hello")
    start, end = one.glosses[0].begin_seconds + 0.2, one.glosses[0].begin_seconds + 0.25
    flow, moving = one.motion(start, end, 128, 128)
    before, after = one.hands([start, end])
    x, y = (before[1] * 128).long().tolist()
    assert bool(moving[y, x])
    torch.testing.assert_close(flow[:, y, x].double(), (after[1] - before[1]) * 128, atol=1e-3, rtol=1e-3)
    assert float(flow[:, 0, 0].abs().max()) == 0


def test_pose_maps_show_every_part_in_its_colour_whoever_it_is() -> None:
    for seed in (0, 5):
        pose = puppet(seed).poses([0.0], 96, 96)[0].permute(1, 2, 0).reshape(-1, 3).tolist()
        shown = {tuple(rgb) for rgb in pose}
        assert {LEFT_HAND_RGB, RIGHT_HAND_RGB, (90, 90, 90), (150, 150, 150), (0, 0, 0)} <= shown


def test_other_shapes_of_frames_keep_the_figure_whole() -> None:
    one = puppet(3)
    wide, square = (hand_positions(one.render([0.5], 96, width))[0] for width in (192, 96))
    moved = torch.tensor([96 * one.figure.neck[0], 0.0], dtype=torch.float64)
    torch.testing.assert_close(wide, square + moved, atol=0.15, rtol=0)


def test_puppets_are_fast() -> None:
    one = puppet(0)
    seconds = np.linspace(0, one.seconds, 100).tolist()
    one.render(seconds[:5], 64, 64)
    started = time.process_time()
    one.render(seconds, 64, 64)
    assert (time.process_time() - started) / 100 < 0.02, (
        "ten times the 2 ms that are asked for, as tests share machines"
    )


def test_unknown_signs_and_rates_are_refused() -> None:
    with pytest.raises(BadArgument, match="no sign for 'xyzzy'; the vocabulary has hello"):
        Puppet(("hello", "xyzzy"))
    with pytest.raises(BadArgument, match="no sign for 'nothing'"):
        Puppet(())
    with pytest.raises(BadArgument, match="signing rate"):
        Puppet(("hello",), rate=0.0)
