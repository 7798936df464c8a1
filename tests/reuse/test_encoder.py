"""The reuse encoder against the stock model: exact where it must be, independent between streams."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from legato.errors import BadArgument, ModelNotFound, StateMismatch, UnsupportedModel
from legato.reuse import MaxAge, Policy, ReuseEncoder, StreamState, Threshold
from legato.reuse import track as track_module
from legato.reuse.plan import Look
from legato.video import Frame
from tests.reuse.models import MAKERS, SIDE_PX, make_model

FAMILIES = sorted(MAKERS)


class Everything(Policy):
    def select(self, look: Look) -> Tensor:
        return torch.ones_like(look.change, dtype=torch.bool)


def noise_frame(seed: int, index: int, side_px: int = SIDE_PX) -> Frame:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (side_px, side_px, 3), generator=generator, dtype=torch.uint8)
    return Frame(pixels.permute(2, 0, 1), index, Fraction(1, 30))


def with_change(frame: Frame, index: int, width_px: int = 16, seed: int = 99) -> Frame:
    """The frame with its upper left corner drawn anew, at another time."""
    pixels = frame.pixels.permute(1, 2, 0).clone()
    generator = torch.Generator().manual_seed(seed)
    pixels[:16, :width_px] = torch.randint(0, 256, (16, width_px, 3), generator=generator, dtype=torch.uint8)
    return Frame(pixels.permute(2, 0, 1), index, frame.time_base)


def normalised(frame: Frame, encoder: ReuseEncoder) -> Tensor:
    mean, std = encoder.parts.normalisation
    x = frame.pixels[None].float() / 255
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def stock_output(model: nn.Module, pixels: Tensor) -> object:
    with torch.inference_mode():
        return model(pixels, output_hidden_states=True)


def reuse(family: str, policy: Policy | None = None, layer: int | None = None) -> ReuseEncoder:
    return ReuseEncoder(make_model(family), layer=layer, policy=policy or Threshold(0.02), cuts=None)


@pytest.mark.parametrize("layer", [None, 0, 2, -2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_frame_is_the_stock_model_bit_for_bit(family: str, layer: int | None) -> None:
    encoder, frame = reuse(family, layer=layer), noise_frame(0, 0)
    out = encoder(frame)
    stock = stock_output(make_model(family), normalised(frame, encoder))
    expected = stock.last_hidden_state[0] if layer is None else stock.hidden_states[layer][0]
    prefix = encoder.parts.prefix
    assert torch.equal(out.tokens, expected[prefix:])
    assert out.cls is None or torch.equal(out.cls, expected[0])
    assert (out.cls is None) == (family == "siglip")
    if layer is None:
        assert torch.equal(out.pooled, stock.pooler_output[0])
    else:
        assert out.pooled is None


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tokens_through_the_gathered_path_agree_within_rounding(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gathered path embeds patches by a matrix product where the stock model convolves: 1e-5, not bit for bit."""
    monkeypatch.setattr(track_module, "FULL_ABOVE", 2.0)
    encoder = reuse(family, Everything())
    first, second = noise_frame(0, 0), noise_frame(1, 1)
    out = encoder(second, encoder(first).state)
    assert out.plan.mode == "partial"
    assert len(out.plan.tokens) == encoder.token_count
    torch.testing.assert_close(out.state.tokens, encoder.dense(second), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unchanged_frame_returns_the_cache_exactly_and_runs_nothing(family: str) -> None:
    encoder, frame = reuse(family), noise_frame(0, 0)
    first = encoder(frame)

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder ran on an unchanged frame")

    handle = encoder.parts.layers[0].register_forward_pre_hook(refuse)
    second = encoder(Frame(frame.pixels, 5, frame.time_base), first.state)
    handle.remove()
    assert second.plan.mode == "hold"
    assert torch.equal(second.tokens, first.tokens)
    assert float(second.age_seconds.max()) == pytest.approx(5 / 30)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_corner_recomputes_that_corner_and_comes_closer_to_dense(family: str) -> None:
    encoder = reuse(family)
    first = encoder(noise_frame(0, 0))
    changed = with_change(noise_frame(0, 0), 1)
    out = encoder(changed, first.state)
    assert out.plan.mode == "partial"
    rows, columns = encoder.grid
    assert {0, 1, columns, columns + 1} <= set(out.plan.tokens.tolist())
    assert len(out.plan.tokens) < rows * columns / 2
    dense = encoder.dense(changed)[encoder.parts.prefix :]
    assert (out.tokens - dense).norm() < 0.5 * (first.tokens - dense).norm()
    untouched = torch.ones(encoder.token_count, dtype=torch.bool)
    untouched[out.plan.tokens] = False
    assert torch.equal(out.tokens[untouched], first.tokens[untouched])


def test_change_is_measured_against_the_last_recomputation_so_slow_drift_shows() -> None:
    encoder = reuse("vit", Threshold(0.2))
    grey = torch.full((SIDE_PX, SIDE_PX, 3), 100, dtype=torch.uint8)
    state, recomputed = None, 0
    for index in range(30):
        frame = Frame((grey + index).permute(2, 0, 1), index, Fraction(1, 30))
        out = encoder(frame, state)
        state, recomputed = out.state, recomputed + (index > 0 and out.plan.mode != "hold")
    assert recomputed >= 2
    assert float((out.state.track.previous.float() - out.state.track.reference.float()).abs().max()) < 20


def test_partial_frames_count_as_turnover_and_full_ones_do_not() -> None:
    encoder = reuse("dinov2")
    first = encoder(noise_frame(0, 0))
    moved = encoder(with_change(noise_frame(0, 0), 1, seed=1), first.state)
    assert moved.plan.mode == "partial"
    assert first.state.track.turnover == 0
    assert moved.state.track.turnover == pytest.approx(len(moved.plan.tokens) / encoder.token_count)
    assert float(moved.state.track.turnover_at.max()) == 0
    again = encoder(with_change(noise_frame(0, 0), 2, seed=2), moved.state)
    assert again.state.track.turnover_at[again.plan.tokens].unique().tolist() == [moved.state.track.turnover]
    refreshed = encoder(with_change(noise_frame(0, 0), 3, seed=3), again.state, refresh=True)
    assert refreshed.state.track.turnover == again.state.track.turnover
    assert refreshed.state.track.turnover_at.unique().tolist() == [again.state.track.turnover]


def test_a_cut_is_a_cold_start() -> None:
    from legato.motion.cuts import AdaptiveCuts

    encoder = ReuseEncoder(make_model("dinov2"), policy=Threshold(0.02), cuts=AdaptiveCuts())
    state = None
    for index in range(5):
        state = encoder(with_change(noise_frame(0, 0), index, seed=index), state).state
    out = encoder(noise_frame(7, 5), state)
    cold = encoder(noise_frame(7, 5))
    assert (out.plan.mode, out.plan.reason) == ("full", "cut")
    assert torch.equal(out.tokens, cold.tokens)
    assert float(out.age_seconds.max()) == 0


def test_going_back_in_time_and_a_new_resolution_start_over() -> None:
    encoder = reuse("vit")
    state = encoder(noise_frame(0, 10)).state
    assert encoder(noise_frame(0, 3), state).plan.reason == "seek"
    assert encoder(noise_frame(0, 11, side_px=64), state).plan.reason == "resolution change"


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_in_one_batch_do_not_touch_each_other(family: str) -> None:
    encoder = reuse(family)
    starts = [noise_frame(seed, 0) for seed in range(3)]
    nexts = [
        with_change(starts[0], 1),
        with_change(starts[1], 1, width_px=40),
        Frame(starts[2].pixels, 1, Fraction(1, 30)),
    ]
    alone = [encoder(n, encoder(s).state) for s, n in zip(starts, nexts, strict=True)]
    states = [o.state for o in encoder.batch(starts, [None] * 3)]
    together = encoder.batch(nexts, states)
    assert [o.plan.mode for o in together] == ["partial", "partial", "hold"]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.tokens, other.tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_frames_in_one_pass_are_what_one_after_the_other_gives(family: str) -> None:
    from legato.motion.cuts import AdaptiveCuts

    encoder = ReuseEncoder(make_model(family), policy=MaxAge(Threshold(0.02), 0.5, turnover=3.0), cuts=AdaptiveCuts())
    frames = [with_change(noise_frame(0, 0), i, width_px=16 + 8 * (i % 3), seed=i // 2) for i in range(6)]
    frames += [with_change(noise_frame(5, 0), i, seed=i) for i in range(6, 12)]
    state, single = None, []
    for frame in frames:
        single.append(encoder(frame, state))
        state = single[-1].state
    together = []
    for part in (frames[:1], frames[1:4], frames[4:]):
        together += encoder.run(part, together[-1].state if together else None)
    assert {o.plan.mode for o in together} >= {"full", "partial"}
    assert [o.plan.reason for o in together].count("cut") == 1
    for one, other in zip(single, together, strict=True):
        assert torch.equal(one.plan.tokens, other.plan.tokens)
        torch.testing.assert_close(one.tokens, other.tokens, atol=2e-5, rtol=2e-5)
    following = with_change(noise_frame(5, 0), 12, seed=50)
    a, b = encoder(following, state), encoder(following, together[-1].state)
    torch.testing.assert_close(a.tokens, b.tokens, atol=2e-5, rtol=2e-5)


def test_a_state_is_a_value_an_older_one_still_works() -> None:
    encoder = reuse("dinov2-registers")
    old = encoder(noise_frame(0, 0)).state
    branch_a = encoder(with_change(noise_frame(0, 0), 1, seed=1), old)
    kept = branch_a.tokens.clone()
    for index in range(2, 5):
        encoder(with_change(noise_frame(0, 0), index, seed=index), branch_a.state)
    again = encoder(with_change(noise_frame(0, 0), 1, seed=1), old)
    assert torch.equal(again.tokens, kept)
    assert torch.equal(branch_a.tokens, kept)


def test_writing_into_the_output_does_not_reach_the_stream() -> None:
    encoder, frame = reuse("vit"), noise_frame(0, 0)
    out = encoder(frame)
    expected = out.tokens.clone()
    out.tokens.zero_()
    assert torch.equal(encoder(Frame(frame.pixels, 1, frame.time_base), out.state).tokens, expected)


def test_a_saved_state_resumes_exactly(tmp_path: object) -> None:
    from legato.motion.cuts import AdaptiveCuts

    encoder = ReuseEncoder(make_model("clip"), policy=MaxAge(Threshold(0.02), 0.2, turnover=3.0), cuts=AdaptiveCuts())
    state = None
    for index in range(4):
        state = encoder(with_change(noise_frame(0, 0), index, seed=index), state).state
    path = tmp_path / "stream.state"
    state.save(path)
    loaded = StreamState.load(path)
    following = with_change(noise_frame(0, 0), 4, seed=4)
    one, other = encoder(following, state), encoder(following, loaded)
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.plan.tokens, other.plan.tokens)
    assert torch.equal(one.age_seconds, other.age_seconds)
    path.write_bytes(b"not a state")
    with pytest.raises(BadArgument, match="not a saved stream state"):
        StreamState.load(path)


def test_a_state_of_another_encoder_is_refused() -> None:
    state = reuse("vit")(noise_frame(0, 0)).state
    with pytest.raises(StateMismatch, match="layer=2"):
        reuse("vit", layer=2)(noise_frame(0, 1), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_to_float32(dtype: torch.dtype) -> None:
    exact = reuse("dinov2")
    half = ReuseEncoder(make_model("dinov2").to(dtype), policy=Threshold(0.02), cuts=None)
    frames = [noise_frame(0, 0), with_change(noise_frame(0, 0), 1)]
    a = exact(frames[1], exact(frames[0]).state)
    b = half(frames[1], half(frames[0]).state)
    assert b.tokens.dtype == dtype
    assert float(nn.functional.cosine_similarity(a.tokens, b.tokens.float(), dim=-1).min()) > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_stream_can_move_to_cuda() -> None:
    frames = [noise_frame(0, 0), with_change(noise_frame(0, 0), 1)]
    cpu = reuse("dinov2")
    gpu = ReuseEncoder(make_model("dinov2").cuda(), policy=Threshold(0.02), cuts=None)
    state = cpu(frames[0]).state
    torch.testing.assert_close(
        gpu(frames[1], state.to("cuda")).tokens.cpu(), cpu(frames[1], state).tokens, atol=1e-3, rtol=1e-3
    )


def test_other_sizes_than_the_models_own_work_where_positions_can_be_resized() -> None:
    encoder = ReuseEncoder(make_model("dinov2"), size_px=(64, 80), policy=Threshold(0.02), cuts=None)
    frame = noise_frame(0, 0, side_px=96)
    out = encoder(frame)
    assert out.tokens.shape == (8 * 10, 32)
    with pytest.raises(BadArgument, match="48x48"):
        ReuseEncoder(make_model("beit"), size_px=(64, 64))
    with pytest.raises(BadArgument, match="patches of 8 px"):
        ReuseEncoder(make_model("vit"), size_px=(50, 50))
    with pytest.raises(BadArgument, match="hidden states 0"):
        ReuseEncoder(make_model("vit"), layer=9)


def test_what_cannot_be_reused_is_named_with_a_reason(tmp_path: object) -> None:
    import transformers as hf

    with pytest.raises(UnsupportedModel, match="shifted windows"):
        ReuseEncoder(hf.SwinModel(hf.SwinConfig(embed_dim=8, depths=[1], num_heads=[1], image_size=32)))
    with pytest.raises(UnsupportedModel, match="not a transformers model"):
        ReuseEncoder(nn.Linear(1, 1))
    with pytest.raises(ModelNotFound, match="no-such-folder"):
        ReuseEncoder.from_pretrained(str(tmp_path / "no-such-folder"))


@pytest.mark.parametrize("family", ["dinov2", "clip", "siglip", "dinov3"])
def test_a_saved_folder_loads_by_path(family: str, tmp_path: object) -> None:
    model = make_model(family)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]}')
    encoder = ReuseEncoder.from_pretrained(tmp_path, policy=Threshold(0.02), cuts=None)
    frame = noise_frame(0, 0)
    x = frame.pixels[None].float() / 255
    x = (x - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.9, 0.8, 0.7]).view(1, 3, 1, 1)
    assert torch.equal(encoder(frame).pooled, stock_output(make_model(family), x).pooler_output[0])


def test_where_everything_changes_nothing_is_kept_until_reuse_pays_again() -> None:
    encoder = reuse("dinov2", layer=2)
    frames = [noise_frame(seed, seed) for seed in range(6)]
    state = None
    for frame in frames:
        out = encoder(frame, state)
        state = out.state
        assert torch.equal(out.tokens, encoder.dense(frame)[encoder.parts.prefix :])
    assert state is not None
    assert not state.memory.tensors
    still = Frame(frames[-1].pixels, 6, frames[-1].time_base)
    held = encoder(still, state)
    assert held.plan.mode == "hold"
    assert torch.equal(held.tokens, out.tokens)
    first = encoder(with_change(still, 7), held.state)
    assert (first.plan.mode, first.plan.reason) == ("full", "reuse pays again")
    second = encoder(with_change(still, 8, seed=100), first.state)
    assert second.plan.mode == "partial"
    fresh = encoder(with_change(still, 8, seed=100), encoder(with_change(still, 7)).state)
    torch.testing.assert_close(second.tokens, fresh.tokens)


def test_passing_through_is_the_same_for_frames_together_and_one_by_one(tmp_path: Path) -> None:
    encoder = reuse("dinov2", layer=2)
    frames = [noise_frame(seed, seed) for seed in range(6)]
    frames += [with_change(frames[-1], 6), with_change(frames[-1], 7, seed=5), with_change(frames[-1], 8, seed=6)]
    together = encoder.run(frames)
    state, one_by_one = None, []
    for frame in frames:
        one_by_one.append(encoder(frame, state))
        state = one_by_one[-1].state
        state.save(tmp_path / "s.pt")
        state = StreamState.load(tmp_path / "s.pt")
    assert [out.plan.mode for out in together] == ["full"] * 7 + ["partial"] * 2
    for a, b in zip(together, one_by_one, strict=True):
        assert a.plan.reason == b.plan.reason
        torch.testing.assert_close(a.tokens, b.tokens)


def test_asking_for_a_refresh_keeps_what_is_needed_to_go_on() -> None:
    encoder, state = reuse("dinov2", layer=2), None
    for index in range(6):
        state = encoder(noise_frame(0, index), state, refresh=True).state
    assert encoder(with_change(noise_frame(0, 6), 6), state).plan.mode == "partial"
