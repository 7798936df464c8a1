"""The audit: tokens refreshed on age alone tell whether the held ones are still true."""

import pytest
import torch

from legato.errors import BadArgument
from legato.reuse import MaxAge, ReuseEncoder, Threshold
from legato.reuse.audit import Audit, Tally
from legato.reuse.plan import Plan
from tests.reuse.models import make_model
from tests.reuse.test_encoder import noise_frame, with_change

FRAMES = [with_change(noise_frame(0, 0), i, seed=i) for i in range(9)]


def audited(audit: Audit | None) -> ReuseEncoder:
    policy = MaxAge(Threshold(0.02), seconds=0.2)
    return ReuseEncoder(make_model("dinov2"), policy=policy, audit=audit, cuts=None)


def test_only_tokens_recomputed_without_having_changed_are_probes() -> None:
    change = torch.tensor([[0.9, 0.1, 0.0, 0.2]])
    plan = Plan("partial", torch.tensor([0, 2]), "change")
    held = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    fresh = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    tally = Audit(probes=1).of(plan, change, fresh, held, Tally())
    assert tally.probes == 1
    assert tally.mean == pytest.approx(0.5**0.5, abs=1e-6)


def test_probes_are_gathered_until_there_are_enough_and_then_start_over() -> None:
    audit = Audit(floor=0.9, probes=3)
    change = torch.tensor([[0.0, 0.5]])
    plan, held = Plan("partial", torch.tensor([0]), "change"), torch.tensor([[1.0, 0.0]])
    tally = Tally()
    for count in (1, 2, 3, 1):
        tally = audit.of(plan, change, torch.tensor([[0.0, 1.0]]), held, tally)
        assert tally.probes == count
        assert audit.failed(tally) == (count == 3)


def test_a_failed_audit_recomputes_that_very_frame_in_full() -> None:
    encoder = audited(Audit(floor=0.9999999, probes=8))
    state, plans = None, []
    for frame in FRAMES:
        out = encoder(frame, state)
        state = out.state
        plans.append(out.plan)
        if out.plan.mode == "full":
            assert torch.equal(out.tokens, encoder(frame).tokens)
            assert float(out.age_seconds.max()) == 0
    assert [p.reason for p in plans].count("drift") > 1
    assert any(p.mode == "partial" for p in plans)


def test_several_frames_in_one_pass_fail_where_one_after_the_other_does() -> None:
    encoder = audited(Audit(floor=0.9999999, probes=4))
    state, single = None, []
    for frame in FRAMES:
        single.append(encoder(frame, state))
        state = single[-1].state
    together = encoder.run(FRAMES)
    assert [o.plan.reason for o in together] == [o.plan.reason for o in single]
    assert "drift" in [o.plan.reason for o in single]
    for one, other in zip(single, together, strict=True):
        torch.testing.assert_close(one.tokens, other.tokens, atol=2e-5, rtol=2e-5)
    assert together[0].state is together[-1].state
    following = with_change(noise_frame(0, 0), len(FRAMES), seed=77)
    a, b = encoder(following, state), encoder(following, together[0].state)
    torch.testing.assert_close(a.tokens, b.tokens, atol=2e-5, rtol=2e-5)


def test_one_streams_failure_leaves_the_others_alone() -> None:
    encoder = audited(Audit(floor=0.9999999, probes=4))
    quiet = [with_change(noise_frame(3, 0), i, seed=7) for i in range(len(FRAMES))]
    alone, state = [], None
    for frame in quiet:
        alone.append(encoder(frame, state))
        state = alone[-1].state
    states, reasons = [None, None], []
    for moving, still, expected in zip(FRAMES, quiet, alone, strict=True):
        both = encoder.batch([moving, still], states)
        states = [out.state for out in both]
        reasons.append((both[0].plan.reason, both[1].plan.reason))
        assert both[1].plan.reason == expected.plan.reason
        torch.testing.assert_close(both[1].tokens, expected.tokens, atol=1e-5, rtol=1e-5)
    assert any(a == "drift" != b for a, b in reasons)


def test_without_an_audit_the_policy_is_trusted() -> None:
    out = audited(None).run(FRAMES)
    assert {o.plan.reason for o in out} == {"cold start", "change"}


def test_what_is_held_is_estimated_by_what_is_refreshed() -> None:
    out = audited(Audit(floor=-1.0)).run(FRAMES)
    assert all(o.held_cosine == 1 for o in out[:1])
    assert any(0 < o.held_cosine < 1 for o in out[1:])


@pytest.mark.parametrize("settings", [{"floor": 1.0}, {"floor": 1.5}, {"probes": 0}])
def test_impossible_audits_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadArgument, match="audit floor"):
        Audit(**settings)


def test_the_command_lines_floor_is_the_audits() -> None:
    from legato.cli.parse import AUDIT_FLOOR, parsed_audit

    assert Audit().floor == AUDIT_FLOOR
    assert parsed_audit(AUDIT_FLOOR) == Audit()
    assert parsed_audit(0.0) is None


def test_a_promise_sets_the_floor_at_twice_the_deviation() -> None:
    assert Audit.promising(0.98).floor == pytest.approx(0.96)
    assert Audit.promising(0.99).floor == pytest.approx(0.98)


def test_an_encoder_under_another_audit_shares_the_model_and_takes_the_state() -> None:
    strict = audited(Audit(floor=0.9999999, probes=1))
    trusting = strict.with_audit(None)
    state = strict(FRAMES[0]).state
    assert trusting.parts is strict.parts
    assert trusting(FRAMES[3], state).plan.reason == "change"
    assert strict(FRAMES[3], state).plan.reason == "drift"
