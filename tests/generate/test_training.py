"""Training: learns, goes on bit for bit, says what is wrong with a recipe."""

import gc
import json
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel

from legato.data.batch import ClipBatch, Source, signal_to_pixels
from legato.data.clip_files import SkippedVideo
from legato.data.puppets import hand_positions
from legato.data.synthetic import Physics, Puppets, random_timeline
from legato.data.vocabulary import AGAIN
from legato.errors import BadArgument, TrainingFailed
from legato.generate import Ask, VideoGenerator, VideoUNet3D, read_recipe
from legato.generate.checkpoints import STATE_NAME, last_checkpoint, save_checkpoint, start_from
from legato.generate.latents import Pixels
from legato.generate.loss import MOTIONS, dispersive_loss, frame_errors, frame_jitter, motion_weights
from legato.generate.objectives import Diffusion, random_known
from legato.generate.training import Progress, Training, train

RECIPE = """
model: {kind: VideoDiT, width: 32, depth: 2, heads: 2, patch_px: 8, classes: 4}
objective: {kind: flow, prediction: clean}
data: {kind: physics, side_px: 16, frames_per_batch: 16, lengths: [4, 8]}
training: {steps: 6, learning_rate: 2.0e-3, warmup_steps: 2, known: 0.5, checkpoint_every: 3, seed: 4,
           levels: {equal: 0.5, independent: 0.5}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def run(recipe: Path, out: Path, *overrides: str, stop_at: int | None = None) -> list[Progress]:
    """Train; `stop_at` interrupts after so many steps, as a kill would."""
    made = read_recipe(recipe, overrides)
    told: list[Progress] = []

    def hear(now: Progress) -> None:
        told.append(now)
        if now.step == stop_at:
            raise KeyboardInterrupt

    try:
        train(made.generator, made.source, made.settings, out, told=hear, log=False)
    except KeyboardInterrupt:
        assert stop_at is not None
    return told


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "step-000006" / "training.pt", weights_only=True)["model"]


def test_a_killed_run_goes_on_bit_for_bit(recipe: Path, tmp_path: Path) -> None:
    straight = run(recipe, tmp_path / "a")
    run(recipe, tmp_path / "b", stop_at=5)  # after the checkpoint of step 3
    again = run(recipe, tmp_path / "b")
    assert [p.step for p in again] == [4, 5, 6]
    assert [p.loss for p in again] == [p.loss for p in straight[3:]]
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)
    final_a, final_b = (VideoGenerator.from_pretrained(tmp_path / n / "final").model.state_dict() for n in "ab")
    assert all(torch.equal(final_a[name], final_b[name]) for name in final_a)


def test_it_learns(recipe: Path, tmp_path: Path) -> None:
    told = run(recipe, tmp_path / "a", "training.steps=60", "training.checkpoint_every=60")
    losses = [p.loss for p in told]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_checkpoints_are_kept_by_count_and_nothing_is_half_written(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path, "training.checkpoint_every=1", "training.keep=2")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["final", "step-000005", "step-000006"]
    assert last_checkpoint(tmp_path) == tmp_path / "step-000006"
    (tmp_path / "step-000009").mkdir()  # a folder without a state is none
    assert last_checkpoint(tmp_path) == tmp_path / "step-000006"


def test_what_was_trained_is_found_and_samples(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path)
    generator = VideoGenerator.from_pretrained(tmp_path / "final")
    assert generator.classes == ("line", "bounce", "swing", "turn")
    ask = Ask(torch.tensor([[0.0, 0.1, 0.3]], dtype=torch.float64), [3], labels=torch.tensor([1]), guidance=2.0)
    made = generator.sample(ask)
    assert made.shape == (1, 3, 3, 16, 16)
    assert torch.equal(made, generator.sample(ask))
    assert not torch.equal(made, generator.sample(replace(ask, seeds=[4])))


def test_only_what_is_asked_for_is_trained_from_older_weights(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "old", "model.clock=none")
    old = VideoGenerator.from_pretrained(tmp_path / "old" / "final")
    made = read_recipe(
        recipe,
        ["model.clock=learned", "model.zero_positions=true", f"training.init_from={tmp_path / 'old' / 'final'}",
         "training.train_only=[frame_positions]"],
    )  # fmt: skip
    told: list[Progress] = []
    train(made.generator, made.source, made.settings, tmp_path / "new", told=told.append, log=False)
    assert [now.missing for now in told] == [("frame_positions.table",)] + [()] * (len(told) - 1)
    new = made.generator.model.state_dict()
    before = old.model.state_dict()
    assert set(new) - set(before) == {"frame_positions.table"}
    assert all(torch.allclose(new[name], before[name], atol=2e-3) for name in before)
    assert float(new["frame_positions.table"].abs().max()) > 0
    with pytest.raises(BadArgument, match="no parameter's name"):
        run(recipe, tmp_path / "x", "training.train_only=[nothing]")


def test_parts_of_older_weights_can_be_left_behind(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "old")
    folder = tmp_path / "old" / "final"
    old = VideoGenerator.from_pretrained(folder).model.state_dict()
    model = read_recipe(recipe, []).generator.model
    left = start_from(model, folder, without=("project",))
    assert left == ["project.bias", "project.weight"]
    assert float(model.state_dict()["project.weight"].abs().max()) == 0  # as it was before training
    assert torch.equal(model.state_dict()["embed.weight"], old["embed.weight"])


def test_a_loss_that_is_no_number_is_left_out_and_ten_stop_the_run(recipe: Path, tmp_path: Path) -> None:
    made = read_recipe(recipe, ["training.steps=30"])

    class Poisoned(Source):
        def __call__(self, number: int) -> ClipBatch:
            batch = made.source(number)
            bad = number == 2 or number >= 8
            return replace(batch, frames=batch.frames * float("nan")) if bad else batch

    told: list[Progress] = []

    def hear(now: Progress) -> None:
        told.append(now)

    with pytest.raises(TrainingFailed, match="ten steps in a row"):
        train(made.generator, Poisoned(), made.settings, tmp_path, told=hear, log=False)
    assert told[3].skipped == 1
    assert all(bool(p.isfinite().all()) for p in made.generator.model.parameters())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learing_rate=1", r"training\.learing_rate is unknown; did you mean training\.learning_rate\?"),
        ("trainig.steps=1", r"trainig is unknown; did you mean training\?"),
        ("model.kind=UNet", r"model\.kind is 'UNet'; expected one of VideoDiT"),
        ("model.width=wide", r"model\.width is 'wide'; expected int"),
        ("training.steps=-3", r"training\.steps is -3"),
        ("training.levels.equl=1", r"training\.levels\.equl is unknown"),
        ("training.levels.equal=2", r"training\.levels: .*sum to 1"),
        ("data.lengths=[1]", r"data: .*clips of 2 frames or more"),
        ("model.heads=5", r"model: .*heads"),
        ("objective={kind: equilibrium}", r"model\.noise is frame; this objective needs it hidden"),
        ("model.noise=sample", r"model\.noise is sample; training\.levels must"),
        ("training.steps", r"'training\.steps' is no override"),
        ("training.train_only=blocks", r"train_only is 'blocks'; expected a list of str: write \[blocks\]"),
        ("training.init_without=[1]", r"init_without is \[1\]; expected a list of str"),
        ("data.lengths=8", r"data\.lengths is 8; expected a list of int: write \[8\]"),
        ("training.levels={", r"'training\.levels=\{' is not YAML"),
        ("training.sample_every=-1", r"training\.sample_every is -1"),
        ("training.warmup_steps=-1", r"training\.warmup_steps is -1"),
        ("training.precision=float16", r"precision is 'float16'; expected float32 or bfloat16"),
        ("training.teacher=build/teacher", r"training\.teacher is build/teacher, and this objective asks none"),
        ("model.heads=0", r"model: heads is 0; expected 1 or more"),
        ("model.depth=-1", r"model: depth is -1; expected 1 or more"),
        ("model.classes=-1", r"model: classes is -1; expected 0 or more"),
        ("data.kind=[a]", r"data\.kind is \['a'\]; expected one of physics"),
        ("data.kinds=[lin]", r"data: kinds are \['lin'\]; expected one or more of line"),
        ("data.kinds=line", r"data\.kinds is 'line'; expected a list of str: write \[line\]"),
        ("data.unknown=2", r"data: unknown is 2; expected a number from 0 to 1"),
        ("data={kind: puppets, most_signs: 0}", r"data: most_signs is 0; expected 1 or more"),
        ("data={kind: puppets, spans: [1]}", r"data\.spans is \[1\]; expected a list of 2 float"),
        ("data={kind: puppets, spans: [2, 1]}", r"data: spans are \[2\.0, 1\.0\]; expected the shortest"),
        ("latents.foldr=x", r"latents\.kind is pixels: the recipe's key latents\.foldr is unknown"),
        ("latents={kind: tiny, foldr: x}", r"latents\.foldr is unknown; did you mean latents\.folder\?"),
        ("latents={kind: tiny, folder: 3}", r"latents\.folder is 3; expected str"),
        ("latents.kind=diffusers", r"latents\.kind is diffusers, and latents\.name is missing"),
        ("latents.kind=tinny", r"latents\.kind is 'tinny'; expected one of pixels"),
    ],
)
def test_a_wrong_key_is_named(recipe: Path, override: str, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        read_recipe(recipe, [override])


def test_a_model_that_copies_has_to_say_the_clean_clip(recipe: Path) -> None:
    assert read_recipe(recipe, ["model.keep=true"]).generator.model.keep is not None
    with pytest.raises(BadArgument, match=r"a velocity by this objective; set objective\.prediction=clean"):
        read_recipe(recipe, ["model.keep=true", "objective.prediction=velocity"])


def test_a_file_that_is_no_recipe_is_told(tmp_path: Path) -> None:
    for text, words in (("a: [", "is not YAML"), ("- a", "is not a mapping")):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        with pytest.raises(BadArgument, match=words):
            read_recipe(path)
    with pytest.raises(BadArgument, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_a_folder_that_is_no_generator_is_told(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path)
    final = tmp_path / "final"
    config = json.loads((final / "config.json").read_text())
    (final / "config.json").write_text(json.dumps({**config, "width": 64}))
    with pytest.raises(BadArgument, match="of another shape"):
        VideoGenerator.from_pretrained(final)
    (final / "config.json").write_text(json.dumps({**config, "depth": 3}))
    with pytest.raises(BadArgument, match=r"missing: blocks\.2"):
        VideoGenerator.from_pretrained(final)
    (final / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(BadArgument, match="cannot be read"):
        VideoGenerator.from_pretrained(final)
    with pytest.raises(BadArgument, match=r"generator\.json is missing"):
        VideoGenerator.from_pretrained(tmp_path)


def test_never_all_frames_are_given() -> None:
    known = random_known(500, 4, 1.0, torch.Generator().manual_seed(0))
    assert not bool(known.all(1).any())
    assert float(known.any(1).float().mean()) > 0.7
    assert not bool(random_known(50, 4, 0.0, torch.Generator().manual_seed(0)).any())


def test_sentences_said_over_and_over_begin_anywhere_and_say_so() -> None:
    once, again = Puppets(64, 96, (6,), seed=3), Puppets(64, 96, (6,), again=1.0, whole=True, seed=3)
    assert (*once.words, AGAIN) == again.words
    first, second = once(0), again(0)
    assert all(text.endswith(f" {AGAIN}") for text in second.text)
    assert not any(AGAIN in text for text in first.text)
    begun, anywhere = (hand_positions(signal_to_pixels(batch.frames[:, 0])) for batch in (first, second))
    level = [(hands[:, 0, 1] - hands[:, 1, 1]).abs().nan_to_num(64.0) for hands in (begun, anywhere)]
    assert float(level[0].max()) < 3  # both hands hang down
    assert float((level[1] > 6).float().mean()) > 0.3
    assert bool((second.seconds.diff(dim=1) > 0).all())


def test_a_stretch_goes_on_where_the_sentence_begins_anew() -> None:
    batch = Puppets(64, 96, (48,), spans=(9.0, 9.0), again=1.0, drive=1.0, most_signs=1, seed=4)(0)
    assert batch.drive is not None
    for poses in batch.drive:
        apart = (poses[:, None] - poses[None]).abs().mean((2, 3, 4)) + 9.0 * torch.eye(48)
        assert float(apart[:8, 24:].min()) < 0.5 * float(apart[:8, 9:].mean())  # what was shown comes again


@pytest.mark.parametrize("source", [Physics(side_px=16), Puppets(side_px=16, drive=1.0), Puppets(side_px=16)])
def test_batches_belong_to_their_number(source: Physics | Puppets) -> None:
    a, b, other = source(3), source(3), source(4)
    assert torch.equal(a.frames, b.frames)
    assert a.frames.shape != other.frames.shape or not torch.equal(a.frames, other.frames)
    assert bool((a.seconds.diff(dim=1) > 0).all())
    assert float(a.frames.abs().max()) <= 1


def test_timelines_are_even_at_the_rates_or_between_them() -> None:
    numbers = torch.Generator().manual_seed(0)
    for _ in range(50):
        steps = random_timeline(numbers, 9, rates=(15.0, 60.0), uneven=0.0).diff()
        assert min(abs(float(steps[0]) - 1 / 15), abs(float(steps[0]) - 1 / 60)) < 1e-9
        assert float(steps.max() - steps.min()) < 1e-9
        steps = random_timeline(numbers, 9, rates=(15.0, 60.0), uneven=1.0).diff()
        assert 1 / 60 - 1e-9 <= float(steps.min()) < float(steps.max()) <= 1 / 15 + 1e-9


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(BadArgument, match=r"training\.ema is 1\.0,"):
        Training(ema=1.0)


def test_trains_in_bfloat16_with_weights_of_float32(recipe: Path, tmp_path: Path) -> None:
    fine, coarse = (
        run(recipe, tmp_path / name, "training.steps=40", "training.warmup_steps=5", f"training.precision={name}")
        for name in ("float32", "bfloat16")
    )
    assert [now.loss for now in coarse] != [now.loss for now in fine]
    ends = [sum(now.loss for now in told[-10:]) for told in (fine, coarse)]
    assert ends[1] == pytest.approx(ends[0], rel=0.05)
    assert ends[1] < 0.9 * sum(now.loss for now in coarse[:10])
    found = last_checkpoint(tmp_path / "bfloat16")
    assert found is not None
    weights = torch.load(found / STATE_NAME, weights_only=True)["model"]
    assert {value.dtype for value in weights.values()} == {torch.float32}


@pytest.mark.parametrize("seed", [1_000_000, -3, 2**64 + 5])
def test_any_whole_number_is_a_seed(recipe: Path, tmp_path: Path, seed: int) -> None:
    told = run(recipe, tmp_path, f"training.seed={seed}", "training.steps=1")
    assert math.isfinite(told[0].loss)


def test_latents_go_where_batches_go(recipe: Path, tmp_path: Path) -> None:
    class Elsewhere(Pixels):
        there = False

        def to(self, device: torch.device | str) -> "Here":
            return Here()

    class Here(Elsewhere):
        there = True

    made = read_recipe(recipe)
    generator = replace(made.generator, latents=Elsewhere())
    places = []

    class Watched(Source):
        def __call__(self, number: int) -> ClipBatch:
            places.append(type(generator.latents))
            return made.source(number)

    train(generator, Watched(), made.settings, tmp_path, log=False)
    assert set(places) == {Here}


def test_a_run_does_not_go_back_to_fewer_steps(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path)
    final = (tmp_path / "final" / "model.safetensors").read_bytes()
    assert run(recipe, tmp_path) == []  # a finished run, asked for again
    with pytest.raises(BadArgument, match=r"training\.steps is 2, and .*step-000006 has 6 steps already"):
        run(recipe, tmp_path, "training.steps=2")
    assert (tmp_path / "final" / "model.safetensors").read_bytes() == final


@pytest.mark.parametrize(("first", "then"), [("blocks.0", "project"), ("blocks.0", "blocks.1"), ("blocks", "")])
def test_a_run_does_not_go_on_with_other_parameters(recipe: Path, tmp_path: Path, first: str, then: str) -> None:
    run(recipe, tmp_path, f"training.train_only=[{first}]", stop_at=4)
    with pytest.raises(BadArgument, match=r"leave training\.train_only as it was"):
        run(recipe, tmp_path, f"training.train_only=[{then}]")
    assert [p.step for p in run(recipe, tmp_path, f"training.train_only=[{first}]")] == [4, 5, 6]


def test_checkpoints_that_tell_no_names_go_on(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path, "training.train_only=[blocks]", stop_at=4)
    path = tmp_path / "step-000003" / "training.pt"
    state = torch.load(path, weights_only=True)
    del state["trained"]
    torch.save(state, path)
    with pytest.raises(BadArgument, match=r"leave training\.train_only as it was"):
        run(recipe, tmp_path)
    assert [p.step for p in run(recipe, tmp_path, "training.train_only=[blocks]")] == [4, 5, 6]


def test_a_run_that_goes_on_lets_go_of_the_checkpoint(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe, tmp_path, stop_at=4)
    kept: list[weakref.ref[torch.Tensor]] = []
    load = torch.load

    def watched(*args: Any, **options: Any) -> Any:
        state = load(*args, **options)
        kept.extend(weakref.ref(v) for v in (*state["model"].values(), *state["ema"]["shadow_params"]))
        return state

    monkeypatch.setattr(torch, "load", watched)
    made = read_recipe(recipe)
    held: list[int] = []

    def hear(now: Progress) -> None:
        gc.collect()
        held.append(sum(v() is not None for v in kept))

    train(made.generator, made.source, made.settings, tmp_path, told=hear, log=False)
    assert kept
    assert held == [0, 0, 0]


def test_checkpoints_are_in_the_order_of_their_steps(recipe: Path, tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        (tmp_path / f"step-{step:06d}").mkdir()
        (tmp_path / f"step-{step:06d}" / "training.pt").touch()
    (tmp_path / "step-by-step").mkdir()  # of someone else
    assert last_checkpoint(tmp_path) == tmp_path / "step-1000000"
    generator = read_recipe(recipe).generator
    ema = EMAModel(generator.model.parameters())
    optimizer = torch.optim.AdamW(generator.model.parameters())
    save_checkpoint(generator, optimizer, ema, 1_000_001, tmp_path, keep=2, writes=True)
    left = sorted(p.name for p in tmp_path.glob("step-*"))
    assert left == ["step-1000000", "step-1000001", "step-by-step"]


def test_the_dispersive_loss_keeps_nothing_from_step_to_step(recipe: Path, tmp_path: Path) -> None:
    made = read_recipe(
        recipe,
        ["model.drive_channels=6", "objective={kind: refine, self_fed: 1, count: 3}", "training.dispersive=0.5",
         "training.known=0", "training.sample_every=1", "data.lengths=[8]"],
    )  # fmt: skip
    model: Any = made.generator.model
    said: list[weakref.ref[torch.Tensor]] = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: said.append(weakref.ref(output)))
    held: list[int] = []

    def hear(now: Progress) -> None:
        gc.collect()
        held.append(sum(v() is not None for v in said))

    def sheet(generator: VideoGenerator, path: Path) -> None:
        batch = made.source(0)
        known = torch.ones(batch.seconds.shape, dtype=torch.bool)
        known[:, 3] = False
        generator.sample(Ask(batch.seconds, range(len(batch)), given=batch.frames, known=known))

    train(made.generator, made.source, made.settings, tmp_path, told=hear, sheet=sheet, log=False)
    assert len(said) > 2 * made.settings.steps
    assert held == [held[0]] * made.settings.steps
    assert len(model.blocks[0]._forward_hooks) == 1  # mine


def test_the_dispersive_loss_needs_blocks(tmp_path: Path) -> None:
    model = VideoUNet3D(widths=(16, 16), text_width=32, frames=4)
    generator = VideoGenerator(model, Diffusion(), 16, 16)
    with pytest.raises(BadArgument, match=r"training\.dispersive .* VideoUNet3D has none"):
        train(generator, Physics(side_px=16), Training(steps=1, dispersive=1.0), tmp_path, log=False)


def test_a_folder_of_real_files_is_learned_from(tmp_path: Path, recipe: Path) -> None:
    from legato.data.puppets import random_puppet
    from legato.video import Timeline, write_video

    for number, word in enumerate(("hello", "yes", "no")):
        (tmp_path / "signs" / word).mkdir(parents=True)
        puppet = random_puppet(torch.Generator().manual_seed(number), text=word)
        clip = puppet.frames(Timeline.constant(seconds=1, rate=12 + 6 * number), 24, 32)
        write_video(clip, tmp_path / "signs" / word / "a.mp4")
    (tmp_path / "signs" / "no" / "broken.mp4").write_bytes(b"broken")
    data = f"data={{kind: folder, folder: {tmp_path / 'signs'}, side_px: 16, frames: 6, clips_per_batch: 3}}"
    made = read_recipe(recipe, [data, "model.text_bytes=16"])
    batch = made.source(0)
    assert sorted(batch.text) == ["hello", "no", "yes"]
    rates = {
        text: round(1 / float(steps[0])) for text, steps in zip(batch.text, batch.seconds.diff(dim=1), strict=True)
    }
    assert rates == {"hello": 12, "yes": 18, "no": 24}
    out = train(made.generator, made.source, made.settings, tmp_path / "out", log=False)
    assert out.classes == ("hello", "no", "yes")
    with pytest.raises(BadArgument, match=r"model\.classes is 2; the data has 3"):
        read_recipe(recipe, [data, "model.classes=2"])


def test_the_dispersive_loss_is_lower_for_features_that_are_farther_apart(recipe: Path, tmp_path: Path) -> None:
    near, far = torch.full((4, 3), 0.1) * torch.eye(4, 3), 5 * torch.eye(4, 3)
    assert float(dispersive_loss(far)) < float(dispersive_loss(near)) <= 0
    pair = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    expected = math.log((2 * 1 + 2 * math.exp(-1 / 0.5)) / 4)
    assert float(dispersive_loss(pair)) == pytest.approx(expected, rel=1e-5)
    plain, dispersed = run(recipe, tmp_path / "a"), run(recipe, tmp_path / "b", "training.dispersive=0.5")
    assert dispersed[0].loss < plain[0].loss
    assert dispersed[-1].loss != plain[-1].loss


def test_a_percent_of_the_speed_weighs_the_same_at_any_frame_rate(recipe: Path, tmp_path: Path) -> None:
    seconds = torch.arange(8.0, dtype=torch.float64)[None] / torch.tensor([[15.0], [60.0]]).repeat_interleave(4, 0)
    speeds = torch.tensor([0.5, 1.0, 1.5, 1.0]).repeat(2)[:, None]
    clips = (seconds.float() * speeds)[:, :, None, None, None].expand(8, 8, 3, 2, 2)
    weights = motion_weights(clips, seconds)
    one_percent = weights[:, 0] * (0.01 * clips).var(1, correction=0).mean((1, 2, 3))
    assert float(one_percent[1] / one_percent[5]) == pytest.approx(1.0, rel=0.05)  # 16 times without weights
    faster = clips.clone()
    faster[0] *= 3
    assert (
        float(motion_weights(faster, seconds)[0, 0] / weights[0, 0]) > 1
    )  # its own change does not make it count less
    assert bool(torch.isfinite(motion_weights(0 * clips, seconds)).all())
    assert bool(torch.isfinite(motion_weights(clips[:1], seconds[:1])).all())
    plain, relative = run(recipe, tmp_path / "a"), run(recipe, tmp_path / "b", "training.motion_weight=4")
    assert relative[0].loss != plain[0].loss


def test_motion_counts_by_what_a_sampler_makes_of_its_error() -> None:
    seconds = torch.arange(16, dtype=torch.float64).expand(2, 16) / 30
    numbers = torch.Generator().manual_seed(3)
    way = (seconds - seconds.mean(1, keepdim=True)).float()[:, :, None, None, None]
    line = torch.randn(1, 1, 8, 4, 4, generator=numbers) * way
    spread = float(line.var(1, correction=0).mean()) * line[0].numel() / MOTIONS  # motion is a normal direction of it

    def sampled(slowed_at: float) -> float:
        """A sampler's result on that direction from noise of 1, a hundredth too slow at one level."""
        steps, x = 4000, torch.ones((), dtype=torch.float64)
        for step in range(steps):
            level, after = 1 - step / steps, 1 - (step + 1) / steps
            clean = (1 - level) * spread / ((1 - level) ** 2 * spread + level**2) * x
            error = 0.01 if step == round((1 - slowed_at) * steps) else 0.0
            x = x + (x - (clean - error)) / level * (after - level)
        return float(x)

    levels, straight = (0.9, 0.5), sampled(2.0)
    lost = [level * (straight - sampled(level)) for level in levels]  # of errors of one size in what is said clean
    weights = [float(motion_weights(line, seconds, torch.full((2,), level))[0, 0]) for level in levels]
    assert weights[0] / weights[1] == pytest.approx((lost[0] / lost[1]) ** 2, rel=0.02)


def test_motion_that_is_too_slow_counts_as_often_as_asked_and_all_else_once() -> None:
    seconds = torch.tensor([[0.0, 0.1, 0.15, 0.4, 0.5, 0.6, 0.7]], dtype=torch.float64)
    counts = torch.tensor([[True] * 6 + [False]])
    lever = seconds - float(seconds[counts].mean())
    slow = torch.stack([0.3 * lever, lever**2, lever**3]).float()  # speeds, accelerations, and how they change
    slow = slow - slow[:, :, counts[0]].mean(-1, keepdim=True)
    slow[:, :, 6] = 50.0  # whatever is said of it
    basis = torch.stack([torch.ones(6), *(lever[0, :6] ** n for n in (1, 2, 3))]).double()
    rest = torch.full((1, 7), 50.0)
    rest[0, :6] = torch.linalg.svd(basis).Vh[-1].float()  # at right angles to them all
    rest[0, :6] += 1.0  # and a constant

    def errors(error: torch.Tensor, motion: float | None) -> torch.Tensor:
        weights = None if motion is None else torch.full((1, 3), motion)
        return frame_errors(error[:, :, None, None, None], seconds, counts, weights)[counts]

    for part in slow:
        torch.testing.assert_close(errors(part, 7.0), 7 * errors(part, None), rtol=1e-4, atol=1e-6)
        both = errors(part, 7.0) + errors(rest, None)
        torch.testing.assert_close(errors(part + rest, 7.0).mean(), both.mean(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(errors(part + rest, 1.0).mean(), errors(part + rest, None).mean())
    torch.testing.assert_close(errors(rest, 7.0), errors(rest, None), rtol=1e-4, atol=1e-6)


def test_what_flickers_counts_by_its_steps_and_what_stays_not_at_all() -> None:
    counts = torch.tensor([[False, True, True, True, True]])
    error = torch.tensor([[9.0, 3.0, 3.0, -1.0, -1.0]])[:, :, None, None, None].expand(1, 5, 2, 1, 1)
    found = frame_jitter(error, counts)[counts]
    # a step of 3 from a frame that is given, none, a step of 4, none
    torch.testing.assert_close(found, torch.tensor([4.5, 8.0, 8.0, 0.0]))
    torch.testing.assert_close(frame_jitter(error + 5, counts.logical_not())[0, 1:], torch.tensor([98.0, 0, 0, 0]))


def test_a_slope_a_bend_and_a_turn_count_each_by_its_own_weight() -> None:
    seconds = torch.tensor([[0.0, 0.1, 0.15, 0.4, 0.5, 0.6]], dtype=torch.float64)
    counts = torch.ones(1, 6, dtype=torch.bool)
    fitted = np.linalg.qr(np.vander(seconds[0].numpy(), 4, increasing=True))[0]  # at right angles, degree by degree
    weights = torch.tensor([[2.0, 3.0, 5.0]])
    for degree in (1, 2, 3):
        error = torch.from_numpy(fitted[:, degree]).float()[None, :, None, None, None]
        once, counted = (frame_errors(error, seconds, counts, w) for w in (None, weights))
        torch.testing.assert_close(counted, weights[0, degree - 1] * once, rtol=1e-4, atol=1e-6)


def test_a_bend_weighs_the_same_at_any_frame_rate_too() -> None:
    seconds = torch.arange(8.0, dtype=torch.float64)[None] / torch.tensor([[15.0], [24.0]]).repeat_interleave(4, 0)
    bends = torch.tensor([2.0, 2.5, 3.0, 2.5]).repeat(2)[:, None]
    clips = (0.5 * seconds.float().square() * bends)[:, :, None, None, None].expand(8, 8, 3, 2, 2)
    line, bend, _ = motion_weights(clips, seconds).unbind(1)
    at_rest = (clips - clips.mean(1, keepdim=True)).flatten(2)[:, :, 0].double().numpy()
    bent = [np.square(at_rest[n] - np.polyval(np.polyfit(seconds[n], at_rest[n], 1), seconds[n])) for n in (1, 5)]
    slow, fast = float(bend[1] * bent[0].mean()), float(bend[5] * bent[1].mean())
    assert slow == pytest.approx(fast, rel=0.1)  # 6.6 times without weights
    assert float(bend[1] / line[1]) > 10  # a fall is a line most of all


def test_times_may_vary_from_step_to_step(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path, "training.steps=40")
    generator = VideoGenerator.from_pretrained(tmp_path / "final")
    seconds = torch.tensor([[0.0, 0.1, 0.3]], dtype=torch.float64)
    ask, asked = Ask(seconds, [3]), []

    def at(level: float) -> torch.Tensor:
        asked.append(level)
        return seconds * (1 + level)

    varying = generator.sample(replace(ask, seconds_at=at))
    assert asked == sorted(asked, reverse=True)
    assert asked[0] == 1
    assert not torch.equal(varying, generator.sample(ask))
    same = generator.sample(replace(ask, seconds_at=lambda level: seconds))
    assert torch.equal(same, generator.sample(ask))


def test_videos_that_break_while_training_are_told(recipe: Path, tmp_path: Path) -> None:
    made = read_recipe(recipe)
    broken = SkippedVideo(Path("clip.mp4"), "BrokenVideo", "it ends early")

    class Breaking(Source):
        def __call__(self, number: int) -> ClipBatch:
            return replace(made.source(number), failures=(broken,) if number == 2 else ())

    told: list[Progress] = []
    train(made.generator, Breaking(), made.settings, tmp_path / "a", told=told.append, log=False)
    assert [now.unreadable for now in told] == [(), (), (broken,), (), (), ()]
