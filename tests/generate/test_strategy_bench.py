"""The bench's own eyes: a puppet's truth passes, faults are seen where they are, and what is told adds up."""

import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from legato.data.puppets import random_puppet
from legato.errors import BadArgument
from legato.generate.appearance import Appearance
from legato.generate.puppet_judge import PuppetJudge
from legato.generate.rolling import RollingWindow
from legato.generate.strategy_bench import PUPPET_SEED, SENTENCE, WAYS, BenchAsk, measured
from tests.cli.test_stream_command import checkpoint

__all__ = ["checkpoint"]

RATE, COUNT = Fraction(24), 72
PUPPET = random_puppet(torch.Generator().manual_seed(PUPPET_SEED), text=SENTENCE)
BORDERS = list(range(12, COUNT, 12))


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return PUPPET.render([(n / 24) % PUPPET.seconds for n in range(COUNT)], 64, 64)


def judged(frames: Tensor) -> dict:
    judge = PuppetJudge(PUPPET, 64, 64, RATE)
    for frame in frames:
        judge.add(frame)
    return judge.figures(BORDERS)


def test_the_puppet_itself_has_no_fault(truth: Tensor) -> None:
    told = judged(truth)
    assert told["hand_error"] < 0.01
    assert told["colour_drift"] < 0.002
    assert told["hands_seen"] > 0.9
    assert told["seam_hands"] == pytest.approx(told["seam_hands_truth"], rel=0.05)


def test_faults_are_seen(truth: Tensor) -> None:
    own = judged(truth)
    grey = torch.lerp(truth.float(), torch.full((3, 64, 64), 128.0), torch.linspace(0, 0.6, COUNT)[:, None, None, None])
    assert judged(grey.round().to(torch.uint8))["colour_drift"] > 0.03
    step = torch.arange(COUNT) // 12 % 2 * 6  # every other batch lies to the right
    jumps = torch.stack([frame.roll(int(by), -1) for frame, by in zip(truth, step, strict=True)])
    told = judged(jumps)
    assert told["seam"] > 1.5 * own["seam"]
    assert told["seam_hands"] > 1.5 * own["seam_hands"]
    assert 0.03 < told["hand_error"] < 0.07  # half of the frames are 6 of 64 pixels off


def test_speed_differs_from_sentence_to_sentence_only_where_it_does(truth: Tensor) -> None:
    sentence = round(PUPPET.seconds * 24)
    at = [n for start in range(0, 3 * sentence, sentence) for n in range(start, start + sentence)]
    even = PUPPET.render([(n / 24) % PUPPET.seconds for n in at], 64, 64)
    told = judged(even)
    assert told["speed_variation"] < 0.05
    assert told["hand_speed_last"] == pytest.approx(told["hand_speed_first"], rel=0.1)
    half = torch.cat([even[:sentence], even[:sentence].repeat_interleave(2, 0)])  # half the speed, twice as long
    slow = judged(half)
    assert slow["speed_variation"] > 0.2
    assert slow["hand_speed_last"] < 0.7 * slow["hand_speed_first"]


def test_text_alone_leads_where_no_drive_is_asked_for(checkpoint: Path) -> None:
    told = measured(BenchAsk(str(checkpoint), "streaming", 9, driven=False))
    assert told["latency_frames"] is None
    assert told["memory"]["conditioning"] == 0
    assert "hand_error" not in told


def test_a_way_is_measured_part_by_part(checkpoint: Path) -> None:
    stages: list[str] = []
    window = RollingWindow(3, 2, context_frames=2, appearance=Appearance(1))
    told = measured(BenchAsk(str(checkpoint), "streaming", 9, window), stages.append)
    assert stages[:2] == ["starting", "loading"]
    assert {"sampling", "decoding", "judging"} <= set(stages)
    assert told["memory"]["weights"] > 4 * 1000
    assert told["memory"]["queue"] == 4 * 4 * 4 * 4 * (1 + 2 + 6)  # floats of the sink, the context and the queue
    assert told["memory"]["conditioning"] == 4 * 3 * 8 * 8 * (1 + 2 + 6)
    assert told["peak_bytes"] >= told["added_bytes"]
    assert told["latency_frames"] == 3 * 2 - 1
    assert 0 < told["first_frame_seconds"] < 9 * told["seconds_per_frame"]
    assert told["model_seconds"] < 9 * told["seconds_per_frame"]


def test_every_way_but_fusion_takes_a_reference_and_it_counts(checkpoint: Path) -> None:
    window = RollingWindow(2, 4, context_frames=2, appearance=Appearance(1))
    for way in WAYS:
        alone = BenchAsk(str(checkpoint), way, 30, window)
        if way == "fused":
            with pytest.raises(BadArgument, match="no reference"):
                measured(replace(alone, reference=True))
            continue
        without, given = measured(alone), measured(replace(alone, reference=True))
        assert given["frames"] == 30
        assert given["colour_drift"] != without["colour_drift"]


def test_an_ask_survives_json() -> None:
    ask = BenchAsk("x", "streaming", 8, RollingWindow(2, 4, levels=(1.0, 0.75, 0.0)))
    assert BenchAsk.from_values(json.loads(json.dumps(asdict(ask)))) == ask


def test_wrong_asks_are_told() -> None:
    with pytest.raises(BadArgument, match=r"there is no way 'backwards'.*streaming"):
        BenchAsk("puppet-flow", "backwards", 8)
    with pytest.raises(BadArgument, match="3 frames; expected 4"):
        BenchAsk("puppet-flow", "streaming", 3)
