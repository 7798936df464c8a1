"""All that takes a device has its tensors there: on one that is not there it gives what the processor gives."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from legato.generate import Ask, VideoGenerator
from legato.generate.appearance import Appearance
from legato.generate.driving import Drive
from legato.generate.fusion import FusedWindows
from legato.generate.rolling import RollingWindow
from legato.generate.samplers import Euler, Heun, Sampler, default_sampler
from legato.generate.strategies import AllAtOnce, LongAsk, OverlappingBatches, SlidingWindow, Strategy
from legato.generate.stream import VideoStream, drive_side_px
from legato.generate.stream_state import StreamAsk
from legato.reuse import ReuseEncoder, Threshold
from tests.generate import test_diffusers_models, test_piecewise
from tests.other_device import other_device
from tests.reuse.models import MAKERS, make_model
from tests.reuse.test_encoder import noise_frame, with_change

TIME = 9
WINDOW = RollingWindow(2, 4, context_frames=2, appearance=Appearance(1))


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("legato.generate.generator._free_bytes", lambda device: 1 << 40)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device=None: None)


def check(made: Callable[[str], list[Tensor]]) -> None:
    """That it is the same on the device; sums in another order may round another way, pixels included."""
    here = made("cpu")
    with other_device() as device:
        there = [one.cpu() for one in made(device)]
    assert here
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a.float(), b.float(), atol=1 if a.dtype == torch.uint8 else 1e-4, rtol=1e-4)


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_tensor_on_the_device_refuses_to_meet_one_on_the_processor() -> None:
    with other_device() as device:
        there = torch.ones(3, device=device)
        layer = torch.nn.Linear(3, 2).to(device)
        assert (str(there.device), str(layer(there).device), str(there.cpu().device)) == ("cuda:127", "cuda:127", "cpu")
        assert (there + there).tolist() == [2, 2, 2]
        assert there[torch.tensor([0, 2])].tolist() == [1, 1]
        for mixed in (
            lambda: there + torch.ones(3),
            lambda: layer(torch.ones(3)),
            lambda: torch.cat([there, torch.ones(3)]),
            lambda: torch.arange(3)[there > 0],
            lambda: there.__setitem__(there > 0, torch.ones(3)),
        ):
            with pytest.raises(RuntimeError, match="on the processor"):
                mixed()
        with pytest.raises(TypeError, match="NumPy"):
            there.numpy()


def asked(generator: VideoGenerator, **conditions: Any) -> Ask:
    if getattr(generator.model, "text", None) is not None:
        conditions["text"] = tuple(generator.words[:2])
    elif generator.classes:
        conditions["labels"] = torch.tensor([0, 1])
    return Ask(torch.linspace(0, 0.8, TIME, dtype=torch.float64).repeat(2, 1), [1, 2], **conditions)


@pytest.mark.parametrize(
    ("name", "sampler", "conditions"),
    [
        ("puppet-flow", Euler(2, fresh_above=0.2), {"drive_guidance": 2.0}),
        ("puppet-flow", Heun(2), {"known": [0, 4], "guidance": 2.0, "given_guidance": 1.5, "seconds_guidance": 1.2}),
        ("physics-flow", None, {"known": [0, 1]}),
        ("puppet-eqm", None, {}),
        ("puppet-unet3d", None, {}),
        ("puppet-inbetween", None, {"known": [0, 4, 8], "proposed": 2}),
    ],
)
def test_clips(name: str, sampler: Sampler | None, conditions: dict[str, Any]) -> None:
    def made(device: str) -> list[Tensor]:
        generator, told = VideoGenerator.from_pretrained(name, device=device), dict(conditions)
        if "known" in told:
            told["given"] = drawn(2, TIME, 3, generator.height, generator.width)
            told["known"] = torch.zeros(2, TIME, dtype=torch.bool).index_fill(1, torch.tensor(told["known"]), True)
        if "proposed" in told:
            told["proposed"] = torch.full((2, TIME), torch.nan).index_fill(1, torch.tensor(told["proposed"]), 0.5)
        if "drive_guidance" in told:
            told["drive"] = drawn(2, TIME, 3, *drive_side_px(generator))
        chosen = sampler or default_sampler(generator.objective, 2)
        return [generator.sample(asked(generator, **told), chosen)]

    check(made)


def driven(generator: VideoGenerator) -> Drive:
    pictures = drawn(9, 3, *drive_side_px(generator)).unbind()
    return Drive(((n / 10, pictures[n % 9]) for n in itertools.count()), between="linear")


@pytest.mark.parametrize("window", [WINDOW, RollingWindow(2, 4, 2, appearance=Appearance(1, 2, 0.01), fresh_above=0.3)])
def test_streams_go_on_there_from_a_state_of_the_processor(window: RollingWindow) -> None:
    def made(device: str) -> list[Tensor]:
        running = [
            VideoStream(one, StreamAsk(Fraction(24), 4, "hello", drive_guidance=2.0), window, driven(one))
            for one in (VideoGenerator.from_pretrained("puppet-flow", device=place) for place in ("cpu", device))
        ]
        picture = torch.full((3, 64, 64), 90, dtype=torch.uint8)
        first = list(running[0].frames(running[0].begin(running[0].reference(picture)), 5))
        return [made.frame.pixels for made in running[1].frames(first[-1].state, 10)]

    check(made)


@pytest.mark.parametrize(
    "strategy",
    [
        AllAtOnce(2),
        OverlappingBatches(8, 2, True, 2),
        SlidingWindow(WINDOW),
        SlidingWindow(WINDOW, offload=True),
        FusedWindows(8, 4, "pyramid", 2),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_other_ways_of_making_long_videos(strategy: Strategy) -> None:
    def made(device: str) -> list[Tensor]:
        generator = VideoGenerator.from_pretrained("puppet-flow", device=device)
        ask = LongAsk(StreamAsk(Fraction(24), 4, "hello"), 20, driven(generator))
        return list(strategy.pieces(generator, ask))

    check(made)


@pytest.mark.parametrize("make", test_diffusers_models.KINDS, ids=lambda make: make.__name__)
def test_networks_of_diffusers(make: Callable[[], torch.nn.Module]) -> None:
    def made(device: str) -> list[Tensor]:
        network = test_diffusers_models.stirred(make).to(device)
        denoiser = test_diffusers_models.DiffusersDenoiser(network, rate=24.0)
        seconds, level = test_diffusers_models.SECONDS.to(device), test_diffusers_models.LEVEL.to(device)
        return [denoiser(test_diffusers_models.X.to(device), seconds=seconds, noise=level)]

    check(made)


@pytest.mark.parametrize("make", [*test_piecewise.VAES, test_piecewise.ltx_vae], ids=lambda make: make.__name__)
def test_latents_of_video(make: Callable[[], torch.nn.Module]) -> None:
    side_px = 64 if make is test_piecewise.ltx_vae else 16

    def made(device: str) -> list[Tensor]:
        generator = test_piecewise.generator(make, side_px)
        generator.model.to(device)
        generator.latents.to(device)
        running = VideoStream(generator, test_piecewise.ASK, test_piecewise.WINDOW)
        begun = running.begin(test_piecewise.moving(5, side_px))
        return [made.frame.pixels for made in running.frames(begun, 12)]

    check(made)


@pytest.mark.parametrize("family", sorted(MAKERS))
def test_encoders_that_reuse(family: str) -> None:
    first = noise_frame(0, 0)

    def made(device: str) -> list[Tensor]:
        encoder, state, tokens = (
            ReuseEncoder(make_model(family).to(device), policy=Threshold(0.02), cuts=None),
            None,
            [],
        )
        for frame in (first, with_change(first, 1), with_change(first, 2, 8), noise_frame(3, 3)):
            out = encoder(frame, state)
            state = out.state
            tokens.append(out.tokens)
        return tokens

    check(made)
