"""Watching a stream: the account adds up, fidelity is measured honestly, features land in the file."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from legato.data.scenes import Disc, Film, Linear, Scene, Texture
from legato.errors import BadArgument
from legato.reuse import MaxAge, ReuseEncoder, Threshold
from legato.reuse.fidelity import CosineTally, token_cosines
from legato.understand.features import FeatureWriter
from legato.understand.watch import Account, watch
from legato.video import Frame, Frames, Timeline
from tests.reuse.models import make_model


def scene(seed: int = 0, speed: float = 0.2) -> Scene:
    disc = Disc(Linear(start=(0.2, 0.5), velocity=(speed, 0.0)), radius=0.15, texture=Texture(seed=seed + 10))
    return Scene(things=(disc,), background=Texture(seed=seed))


def street(seconds: float = 1.0, rate: int = 20) -> Frames:
    return scene().frames(Timeline.constant(seconds=seconds, rate=rate), 64, 64)


@pytest.fixture(scope="module")
def encoder() -> ReuseEncoder:
    return ReuseEncoder(make_model("dinov2"), size_px=(64, 64), policy=MaxAge(Threshold(0.2), seconds=4.0), cuts=None)


def test_the_account_adds_up(encoder: ReuseEncoder) -> None:
    account = Account(encoder.token_count)
    outs = [out for _, out in watch(street(), encoder, account=account)]
    numbers = account.summary()
    assert numbers["frames"] == 20 == sum(numbers["modes"].values())
    assert numbers["modes"]["full"] == 1
    assert numbers["duration_seconds"] == pytest.approx(1.0)
    assert numbers["tokens_recomputed"] == sum(len(out.plan.tokens) for out in outs)
    assert 0 < numbers["recomputed_share"] < 0.5
    assert [r["seconds"] for r in numbers["per_frame"]] == pytest.approx([i / 20 for i in range(20)])
    assert numbers["latency_ms"]["p95"] >= numbers["latency_ms"]["p50"] > 0
    assert numbers["latency_ms"]["frame_interval"] == pytest.approx(50)


def test_looking_ahead_changes_speed_not_features(encoder: ReuseEncoder) -> None:
    single = [out.tokens for _, out in watch(street(), encoder, lookahead=1)]
    ahead = [out.tokens for _, out in watch(street(), encoder, lookahead=7)]
    for one, other in zip(single, ahead, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_compare_reports_what_an_independent_comparison_finds(encoder: ReuseEncoder) -> None:
    account = Account(encoder.token_count)
    frames = street()
    cosines = []
    for frame, out in watch(frames, encoder, compare=True, account=account):
        cosines.append(token_cosines(out.tokens, encoder.dense(frame)[encoder.parts.prefix :]))
    numbers = account.summary()
    every = torch.cat(cosines)
    assert numbers["token_cosine_mean"] == pytest.approx(float(every.mean()), abs=1e-5)
    assert numbers["token_cosine_p01"] == pytest.approx(float(every.quantile(0.01)), abs=2e-2)
    assert numbers["token_cosine_mean"] < 1
    assert numbers["ceiling"] > 1
    assert numbers["speedup"] == pytest.approx(numbers["dense_wall_seconds"] / numbers["wall_seconds"])


def test_a_promise_of_higher_fidelity_is_kept_closer(encoder: ReuseEncoder) -> None:
    def run(fidelity: float) -> dict[str, object]:
        account = Account(encoder.token_count)
        for _ in watch(street(3.0), encoder, fidelity=fidelity, compare=True, account=account):
            pass
        assert account.calibration is not None
        return account.summary()

    loose, tight = run(0.8), run(0.99)
    assert loose["calibration"]["threshold"] > tight["calibration"]["threshold"]
    assert loose["recomputed_share"] < tight["recomputed_share"]
    assert tight["token_cosine_mean"] >= 0.985


def test_a_cut_is_listed_at_its_first_frame_and_recomputed_in_full() -> None:
    from legato.motion.cuts import AdaptiveCuts

    cutting = ReuseEncoder(make_model("vit"), size_px=(64, 64), cuts=AdaptiveCuts())
    film = Film((scene(0), scene(50)), (0.5,))
    account = Account(cutting.token_count)
    outs = [
        out for _, out in watch(film.frames(Timeline.constant(seconds=1, rate=20), 64, 64), cutting, account=account)
    ]
    assert [(cut.frame, cut.seconds) for cut in account.cuts] == [(10, 0.5)]
    assert (outs[10].plan.mode, outs[10].plan.reason) == ("full", "cut")


def test_the_same_content_at_other_rates_is_treated_alike(encoder: ReuseEncoder) -> None:
    """Tokens recomputed per second follow the content, not the frame rate."""
    per_second = []
    for rate in (15, 30, 60):
        account = Account(encoder.token_count)
        for _ in watch(street(2.0, rate), encoder, account=account):
            pass
        per_second.append((account.tokens_recomputed - encoder.token_count) / 2)
    assert max(per_second) <= 1.6 * min(per_second)


def test_features_land_in_a_file_that_safetensors_reads(encoder: ReuseEncoder, tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    outs = []
    with FeatureWriter(path, {"model": "random"}) as writer:
        for _, out in watch(street(), encoder):
            writer.add(out)
            outs.append(out)
        assert not path.exists()
    loaded = load_file(path)
    assert torch.equal(loaded["tokens"], torch.stack([o.tokens for o in outs]).half())
    assert torch.equal(loaded["cls"], torch.stack([o.cls for o in outs]).half())
    assert torch.equal(loaded["seconds"], torch.tensor([o.seconds for o in outs], dtype=torch.float64))
    assert torch.equal(loaded["age_seconds"], torch.stack([o.age_seconds for o in outs]).float())
    assert loaded["mode"].tolist() == [FeatureWriter.MODES.index(o.plan.mode) for o in outs]
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"model": "random"}
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_no_file(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "none.safetensors"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_tally_agrees_with_all_values_at_once() -> None:
    torch.manual_seed(0)
    values = [torch.rand(500) * 2 - 1 for _ in range(5)]
    tally = CosineTally()
    for part in values:
        tally.add(part)
    every = torch.cat(values)
    assert tally.mean == pytest.approx(float(every.mean()), abs=1e-6)
    for share in (0.01, 0.5, 0.9):
        assert tally.quantile(share) == pytest.approx(float(every.quantile(share)), abs=5e-3)


def test_lookahead_of_nothing_is_refused(encoder: ReuseEncoder) -> None:
    frame = Frame(torch.zeros(64, 64, 3, dtype=torch.uint8).permute(2, 0, 1), 0, Fraction(1, 20))
    with pytest.raises(BadArgument, match="lookahead"):
        list(watch([frame], encoder, lookahead=0))
    with pytest.raises(BadArgument, match="fidelity"):
        list(watch(street(3.0), encoder, fidelity=1.5))
