"""Guidance in one call of the model: what several calls would say, with texts that are read once."""

import itertools
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from legato.errors import BadArgument
from legato.generate import Ask, FlowMatching, VideoDiT, VideoGenerator, VideoUNet3D
from legato.generate.driving import Drive
from legato.generate.latents import Pixels
from legato.generate.objectives import Equilibrium
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import noise_at
from legato.generate.stream import VideoStream
from legato.generate.stream_state import StreamAsk

NUMBERS = torch.Generator().manual_seed(0)
SECONDS = torch.tensor([[0.0, 0.1, 0.3], [0.0, 0.05, 0.1]], dtype=torch.float64)
X, LEVELS = torch.randn(2, 3, 3, 8, 8, generator=NUMBERS), torch.rand(2, 3, generator=NUMBERS)
DRIVE = torch.randn(2, 3, 3, 8, 8, generator=NUMBERS)
DRIVEN = torch.tensor([[True, True, False], [False, True, True]])
LABELS, WORDS = torch.tensor([1, -1]), ("up", "down")
KNOWN = torch.tensor([[True, False, False], [False, False, False]])


def generator(**options: Any) -> VideoGenerator:
    torch.manual_seed(0)
    model = VideoDiT(width=32, depth=1, heads=2, text_bytes=8, text_depth=1, drive_channels=3, classes=2, **options)
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.1)
    return VideoGenerator(model.eval(), FlowMatching(), 8, 8, classes=("a", "b"))


GENERATOR = generator()


@pytest.mark.parametrize(
    ("told", "guidance", "drive_guidance"),
    [
        ({"text": WORDS}, 3.0, 1.0),
        ({"labels": LABELS}, 0.5, 1.0),
        ({"text": WORDS, "drive": DRIVE}, 2.0, 4.0),
        ({"text": WORDS, "labels": LABELS, "drive": DRIVE, "drive_known": DRIVEN}, 2.0, 1.5),
        ({"drive": DRIVE, "drive_known": DRIVEN}, 3.0, 2.0),
        ({"text": WORDS, "drive": DRIVE}, 1.0, 1.0),
        ({"text": ("", "")}, 3.0, 3.0),
    ],
)
@torch.inference_mode()
def test_one_call_says_what_several_would(told: dict[str, Any], guidance: float, drive_guidance: float) -> None:
    ask = Ask(SECONDS, [0, 1], given=X, known=KNOWN, guidance=guidance, drive_guidance=drive_guidance, **told)
    model, calls = GENERATOR.model, []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    guided = GENERATOR.denoiser(ask)(X, LEVELS)
    hook.remove()
    assert len(calls) == 1

    def said(**conditions: Any) -> Tensor:
        out: Tensor = model(X, seconds=SECONDS, noise=LEVELS, known=KNOWN, **conditions)
        return out

    words = {k: v for k, v in told.items() if k in ("text", "labels")}
    drive = {k: v for k, v in told.items() if k not in words}
    full = said(**told)
    led = (drive_guidance - 1) * LEVELS[..., None, None, None]  # the drive counts as far as frames are not clear
    expected = full + (guidance - 1) * (full - said(**drive)) + led * (full - said(**words))
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_given_frames_count_more_than_where_they_are_seen_as_noise() -> None:
    ask = Ask(SECONDS, [0, 1], given=X, known=KNOWN, labels=LABELS, given_guidance=3.0)
    levels = torch.where(KNOWN, 0.0, 0.8)
    unit = noise_at(SECONDS, (3, 8, 8), [0, 1])
    hidden = X.clone()
    hidden[0, 0] = 0.2 * X[0, 0] + 0.8 * unit[0, 0]
    full = GENERATOR.model(X, seconds=SECONDS, noise=levels, known=KNOWN, labels=LABELS)
    bare = GENERATOR.model(
        hidden, seconds=SECONDS, noise=torch.full((2, 3), 0.8), known=torch.zeros_like(KNOWN), labels=LABELS
    )
    torch.testing.assert_close(GENERATOR.denoiser(ask)(X, levels), full + 2 * (full - bare), atol=1e-5, rtol=1e-5)
    unmoved = replace(ask, given_guidance=1.0)
    torch.testing.assert_close(GENERATOR.denoiser(unmoved)(X, levels), full, atol=1e-5, rtol=1e-5)


def test_given_frames_cannot_be_guided_by_where_no_level_is_told() -> None:
    made = replace(GENERATOR, model=VideoDiT(width=32, depth=1, heads=2, noise="hidden"), objective=Equilibrium())
    with pytest.raises(BadArgument, match="given_guidance"):
        made.sample(Ask(SECONDS, [0, 1], given=X, known=KNOWN, given_guidance=2.0))


@torch.inference_mode()
def test_seconds_count_more_than_frames_at_an_unknown_rate() -> None:
    ask = Ask(SECONDS, [0, 1], labels=LABELS, guidance=2.0, seconds_guidance=1.5)
    model, unknown = GENERATOR.model, torch.zeros(2, dtype=torch.bool)
    counted = torch.tensor([[0.0, 1 / 30, 2 / 30]] * 2, dtype=torch.float64)
    full = model(X, seconds=SECONDS, noise=LEVELS, labels=LABELS)
    unlabelled = model(X, seconds=SECONDS, noise=LEVELS)
    timeless = model(X, seconds=counted, noise=LEVELS, labels=LABELS, rate_known=unknown)
    assert not torch.allclose(full, timeless)
    expected = full + (full - unlabelled) + 0.5 * (full - timeless)
    torch.testing.assert_close(GENERATOR.denoiser(ask)(X, LEVELS), expected, atol=1e-5, rtol=1e-5)
    hidden = replace(ask, rate_known=unknown)
    bare = GENERATOR.denoiser(replace(hidden, seconds_guidance=1.0))(X, LEVELS)
    torch.testing.assert_close(GENERATOR.denoiser(hidden)(X, LEVELS), bare)


@torch.inference_mode()
def test_a_clip_of_unknown_rate_is_not_guided_by_seconds_whoever_is_beside_it() -> None:
    both, alone = torch.tensor([True, False]), torch.tensor([False, False])
    told = [Ask(SECONDS, [0, 1], labels=LABELS, seconds_guidance=3.0, rate_known=known) for known in (both, alone)]
    beside, bare = (GENERATOR.denoiser(ask)(X, LEVELS) for ask in told)
    torch.testing.assert_close(beside[1], bare[1])
    assert not torch.allclose(beside[0], bare[0])


@torch.inference_mode()
def test_latent_frames_at_an_unknown_rate_are_counted_by_their_pictures() -> None:
    class Strided(Pixels):
        stride_frames = 4

    seen: list[Tensor] = []
    model = GENERATOR.model
    hook = model.register_forward_pre_hook(lambda _, __, told: seen.append(told["seconds"]), with_kwargs=True)
    replace(GENERATOR, latents=Strided()).denoiser(Ask(SECONDS, [0, 1], seconds_guidance=2.0))(X, LEVELS)
    hook.remove()
    counted = torch.tensor([0.0, 2.5, 6.5], dtype=torch.float64) / 30  # means of frames 0, 1 to 4, and 5 to 8
    torch.testing.assert_close(seen[0], torch.cat([SECONDS, counted.expand(2, -1)]))


@torch.inference_mode()
def test_seconds_are_guided_as_the_objective_says_where_an_ask_does_not() -> None:
    ask = Ask(SECONDS, [0, 1], labels=LABELS)
    usual = replace(GENERATOR, objective=FlowMatching(seconds_guidance=1.5)).denoiser(ask)(X, LEVELS)
    torch.testing.assert_close(usual, GENERATOR.denoiser(replace(ask, seconds_guidance=1.5))(X, LEVELS))
    told = replace(GENERATOR, objective=FlowMatching(seconds_guidance=1.5)).denoiser(replace(ask, seconds_guidance=1.0))
    torch.testing.assert_close(told(X, LEVELS), GENERATOR.denoiser(ask)(X, LEVELS))
    timeless = replace(generator(rate=False), objective=FlowMatching(seconds_guidance=1.5))
    assert timeless.sample(ask).isfinite().all()  # that does not know of unknown rates, and is not guided


def test_seconds_cannot_be_guided_by_where_a_model_knows_no_unknown_rate() -> None:
    made = generator(rate=False)
    with pytest.raises(BadArgument, match="seconds_guidance"):
        made.sample(Ask(SECONDS, [0, 1], seconds_guidance=2.0))


@torch.inference_mode()
def test_guidance_that_is_no_number_is_refused() -> None:
    for name in ("guidance", "drive_guidance", "given_guidance", "seconds_guidance"):
        with pytest.raises(BadArgument, match=f"^{name} is nan; expected a finite number"):
            Ask(SECONDS, [0, 1], **{name: float("nan")})
    for name in ("guidance", "drive_guidance"):
        with pytest.raises(BadArgument, match=f"^{name} is inf; expected a finite number"):
            StreamAsk(**{name: float("inf")})


def test_other_networks_are_guided_by_text_too() -> None:
    torch.manual_seed(0)
    model = VideoUNet3D(3, (16, 16)).eval()
    ask = Ask(SECONDS, [0, 1], text=WORDS, guidance=2.0)
    guided = VideoGenerator(model, FlowMatching(), 8, 8).denoiser(ask)(X, LEVELS.amax(1, keepdim=True).expand(2, 3))
    full, none = (model(X, seconds=SECONDS, noise=LEVELS.amax(1), text=text) for text in (WORDS, None))
    torch.testing.assert_close(guided, 2 * full - none, atol=1e-5, rtol=1e-5)


def test_a_stream_reads_its_text_once_and_calls_the_model_once_a_tick() -> None:
    calls: dict[str, int] = {"text": 0, "model": 0}

    def count(name: str) -> Any:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    hooks = [
        GENERATOR.model.register_forward_pre_hook(count("model")),
        GENERATOR.model.text.register_forward_pre_hook(count("text")),  # type: ignore[union-attr]
    ]
    ask = StreamAsk(Fraction(24), text="up", guidance=2.0, drive_guidance=3.0)
    drive = Drive((n / 24, torch.full((3, 8, 8), n / 50)) for n in itertools.count())
    running = VideoStream(GENERATOR, ask, RollingWindow(2, 2), drive)
    state = running.begin()
    for _ in range(5):
        state = running.step(state)
    for hook in hooks:
        hook.remove()
    assert calls == {"text": 1, "model": 5}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"text": ("up",)}, "1 text for 2 clips"),
        ({"text": ("up", "down", "up")}, "3 text for 2 clips"),
        ({"labels": torch.tensor([1])}, "1 labels for 2 clips"),
        ({"seeds": [0]}, "1 seeds for 2 clips"),
        ({"seconds": SECONDS * torch.nan}, "is no number"),
        ({"seconds": SECONDS.flip(1)}, "times have to rise"),
    ],
)
def test_parts_of_an_ask_that_do_not_belong_together_are_told(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        Ask(**{"seconds": SECONDS, "seeds": [0, 1], **parts})


def test_tensors_of_other_clips_or_frames_are_told_where_types_are_not_checked() -> None:
    script = """
import torch
from legato.errors import BadArgument
from legato.generate import Ask
seconds, video, known = torch.arange(6.0).double().view(2, 3), torch.zeros(2, 3, 3, 8, 8), torch.zeros(2, 3).bool()
for parts in (
    {"drive": video[:, :2]}, {"drive": video, "drive_known": known[:1]}, {"given": video[:, :2], "known": known},
    {"given": video, "known": known[:, :2]}, {"rate_known": known[0]},
):
    try:
        Ask(seconds, [0, 1], **parts)
    except BadArgument as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [
        "drive is (2, 2, 3, 8, 8); expected it for 2 clips of 3 frames",
        "drive_known is (1, 3); expected it for 2 clips of 3 frames",
        "given is (2, 2, 3, 8, 8); expected it for 2 clips of 3 frames",
        "known is (2, 2); expected it for 2 clips of 3 frames",
        "3 rate_known for 2 clips; expected one for each",
    ]
