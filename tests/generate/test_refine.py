"""Refining between keyframes: given frames stay, the levels are gone through, and a model learns to undo filling in."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from legato.data.batch import ClipBatch, Source
from legato.errors import BadArgument
from legato.generate import Ask, Training, VideoDiT, VideoGenerator, read_recipe, train
from legato.generate.latents import DiffusersLatents, TinyAutoencoder
from legato.generate.objectives import NoiseLevels, framewise
from legato.generate.refine import Refinement, _sums_around, keyframe_content, random_keyframes, with_detail
from legato.generate.samplers import Euler, MultiLevel, Start
from legato.motion.between_features import filled_linearly

NUMBERS = torch.Generator().manual_seed(0)
CLIP = torch.randn(2, 9, 3, 8, 8, generator=NUMBERS)
SECONDS = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 5, 6, 7, 9, 10, 11]], dtype=torch.float64) / 10
GIVEN = torch.zeros(2, 9, dtype=torch.bool)
GIVEN[:, [0, 8]] = True
GIVEN[1, 3] = True
BATCH = ClipBatch(
    CLIP, SECONDS, torch.ones(len(CLIP), dtype=torch.bool), ("",) * len(CLIP), torch.zeros(len(CLIP), dtype=torch.long)
)


def start() -> Start:
    return Start(torch.zeros_like(CLIP), torch.where(framewise(GIVEN), CLIP, 9.0), GIVEN, SECONDS, [0, 1])


@pytest.mark.parametrize("mode", ["none", "distance", "gaussian"])
@pytest.mark.parametrize("order", ["bisection", "strides", "random"])
def test_given_frames_stay_bit_for_bit_whatever_the_model_says(mode: str, order: str) -> None:
    objective = Refinement(order=order, mode=mode)
    for count in (0, 1, 2, 9):
        for made in MultiLevel(count).steps(lambda x, noise: torch.full_like(x, 3.7), objective, start()):
            assert torch.equal(made[GIVEN], CLIP[GIVEN])
            assert not torch.equal(made[~GIVEN], CLIP[~GIVEN])


def test_a_model_that_says_nothing_leaves_the_linear_filling() -> None:
    made = MultiLevel()(lambda x, noise: torch.zeros_like(x), Refinement(count=2), start())
    assert torch.equal(made, filled_linearly(CLIP, SECONDS, GIVEN))


def test_levels_go_from_the_given_frames_to_nearly_all() -> None:
    told = []

    def said(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        told.append(noise)
        return torch.zeros_like(x)

    MultiLevel()(said, Refinement(count=4), start())
    assert len(told) == 3
    missing = [(noise > 0).sum(1) for noise in told]
    assert torch.equal(missing[0], (~GIVEN).sum(1))
    assert all(bool((b < a).all()) for a, b in itertools.pairwise(missing))
    assert [float(noise.max()) for noise in told] == pytest.approx([1, 2 / 3, 1 / 3])


def test_finer_levels_fill_in_from_what_was_made_before() -> None:
    seen = []

    def said(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.where(framewise(noise > 0), torch.full_like(x, 5.0) - x, 0.0)

    MultiLevel()(said, Refinement(count=4), start())
    assert not torch.equal(seen[0], seen[1])
    assert float(seen[1][0, 4].mean()) == pytest.approx(5.0)  # the middle frame is kept as it was made


def test_content_is_of_the_keyframes_around() -> None:
    content = keyframe_content(CLIP, GIVEN)
    assert torch.equal(content[0, 5], torch.cat([CLIP[0, 0], CLIP[0, 8]]))
    assert torch.equal(content[1, 2], torch.cat([CLIP[1, 0], CLIP[1, 3]]))
    assert torch.equal(content[1, 3], torch.cat([CLIP[1, 3], CLIP[1, 3]]))


def test_keyframes_in_training_have_their_ends_and_number() -> None:
    given = random_keyframes(300, 16, 3, 6, NUMBERS)
    assert bool((given[:, 0] & given[:, -1]).all())
    assert set(given.sum(1).tolist()) == {3, 4, 5, 6}
    assert bool(random_keyframes(9, 4, 3, 9, NUMBERS).sum(1).le(4).all())


def test_a_task_shows_the_truth_where_frames_are_given_and_counts_the_others() -> None:
    objective = Refinement(self_fed=1.0, count=3)
    asked = []

    def say(x: torch.Tensor, told: dict[str, torch.Tensor]) -> torch.Tensor:
        asked.append(told)
        return torch.ones_like(x)

    task = objective.task(BATCH, NoiseLevels(), 0.0, torch.Generator().manual_seed(1), say)
    given = task.told["known"]
    assert torch.equal(task.counts, ~given)
    assert torch.equal(task.x[given], CLIP[given])
    assert bool((asked[0]["noise"][~given] == 1).all())
    own = ~given & (task.told["noise"] == 0)
    assert not torch.equal(task.x[own], CLIP[own])  # proposals of its own
    assert float((task.target - (CLIP - task.x)).abs().max()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prediction": "noise"}, "clean or correction"),
        ({"order": "sorted"}, "bisection, strides or random"),
        ({"count": 1}, "two levels"),
        ({"fewest": 1}, "two keyframes"),
        ({"self_fed": 2.0}, "self_fed is"),
        ({"mode": "loud"}, "none, distance or gaussian"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        Refinement(**wrong)  # type: ignore[arg-type]


def test_samplers_and_objectives_have_to_fit() -> None:
    with pytest.raises(BadArgument, match="flow"):
        Euler()(lambda x, noise: x, Refinement(), start())


def generator(latents: TinyAutoencoder | None = None) -> VideoGenerator:
    torch.manual_seed(0)
    channels = latents.channels if latents else 3
    model = VideoDiT(channels, 4, width=32, depth=1, heads=2, drive_channels=2 * channels)
    more = {"latents": latents} if latents else {}
    return VideoGenerator(model, Refinement(), 16, 16, **more)  # type: ignore[arg-type]


def test_given_pictures_come_back_bit_for_bit_from_latents_too() -> None:
    made = generator(TinyAutoencoder(4, (8, 16), 2).requires_grad_(False))
    shown = torch.rand(2, 9, 3, 16, 16, generator=NUMBERS) * 2 - 1
    clips = made.sample(Ask(SECONDS, range(2), given=shown, known=GIVEN))
    assert torch.equal(clips[GIVEN], shown[GIVEN])


def test_the_ends_have_to_be_given() -> None:
    with pytest.raises(BadArgument, match="first and the last"):
        generator().sample(Ask(SECONDS, range(2)))


def test_detail_comes_from_the_keyframe_that_shows_the_same() -> None:
    seconds = torch.arange(4, dtype=torch.float64)[None]
    kept = torch.tensor([[True, False, False, True]])
    shown = torch.rand(1, 4, 3, 8, 8, generator=NUMBERS)
    again = torch.zeros_like(shown)
    again[:, 3] = 1.0  # decoded, the two keyframes differ
    made = torch.zeros_like(shown)
    made[:, 2] = 1.0  # looks like the second
    made[..., :4] -= 3.0  # and on the left like neither
    out = with_detail(made, shown, again, seconds, kept, ~kept)
    assert torch.equal(out[kept], made[kept])
    torch.testing.assert_close(out[:, 1, :, :, 5:], shown[:, 0, :, :, 5:])
    torch.testing.assert_close(out[:, 2, :, :, 5:], shown[:, 3, :, :, 5:])
    assert torch.equal(out[..., :3], made[..., :3])


def test_one_keyframe_gives_its_detail_too() -> None:
    seconds = torch.arange(2, dtype=torch.float64)[None]
    shown = torch.rand(1, 2, 3, 8, 8, generator=NUMBERS)
    made = torch.zeros_like(shown)
    kept = torch.tensor([[True, False]])
    out = with_detail(made, shown, torch.zeros_like(shown), seconds, kept, ~kept)
    torch.testing.assert_close(out[:, 1], shown[:, 0])
    none = torch.zeros_like(kept)
    assert torch.equal(with_detail(made, shown, torch.zeros_like(shown), seconds, none, ~none), made)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 9)])
def test_means_around_are_those_of_pooling(size: tuple[int, int]) -> None:
    planes = torch.rand(4, *size, generator=NUMBERS)
    means = _sums_around(planes) / _sums_around(torch.ones_like(planes))
    torch.testing.assert_close(means, F.avg_pool2d(planes, 3, 1, 1, count_include_pad=False))


RECIPE = """
model: {kind: VideoDiT, width: 48, depth: 2, heads: 2, patch_px: 8, drive_channels: 6}
objective: {kind: refine, count: 3, fewest: 3, most: 3, self_fed: 0.2}
data: {kind: physics, side_px: 16, frames_per_batch: 64, lengths: [8], rates: [5], uneven: 0, unknown: 0, kinds: [turn]}
training: {steps: 80, learning_rate: 8.0e-3, warmup_steps: 10, checkpoint_every: 250, ema: 0.9, seed: 4}
"""


def test_a_trained_refiner_is_nearer_to_the_truth_than_the_filling(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    recipe = read_recipe(path)
    trained = train(recipe.generator, recipe.source, recipe.settings, tmp_path / "out", log=False)
    loaded = VideoGenerator.from_pretrained(tmp_path / "out" / "final")
    assert loaded.objective == trained.objective
    batch = recipe.source(10_000)
    known = torch.zeros(batch.seconds.shape, dtype=torch.bool)
    known[:, [0, 4, 7]] = True
    made = loaded.sample(Ask(batch.seconds, range(len(batch)), given=batch.frames, known=known))
    filled = filled_linearly(batch.frames, batch.seconds, known)
    errors = [float((v - batch.frames)[~known].square().mean()) for v in (made, filled)]
    assert errors[0] < 0.9 * errors[1]


def test_a_student_is_set_what_its_teacher_makes() -> None:
    objective = Refinement(distilled=True, count=3)
    states = []

    def say(x: torch.Tensor, told: dict[str, torch.Tensor]) -> torch.Tensor:
        states.append(x)
        return torch.full_like(x, 7.0) - x

    tasks = [objective.task(BATCH, NoiseLevels(), 0.0, torch.Generator().manual_seed(n), say) for n in range(6)]
    for task in tasks:
        assert float((task.target - (7.0 - task.x))[task.counts].abs().max()) == pytest.approx(0, abs=1e-6)
        assert torch.equal(task.x[~task.counts], CLIP[~task.counts])
    on_the_way = {next(n for n, x in enumerate(states) if torch.equal(x, task.x)) % 2 for task in tasks}
    assert on_the_way == {0, 1}  # coarsest states and others


def test_a_recipe_without_room_for_the_keyframes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace("drive_channels: 6", "drive_channels: 3"))
    with pytest.raises(BadArgument, match="6 channels"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.noise=sample", r"model\.noise is sample; a refiner is told of each frame"),
        ("objective.distilled=true", r"distilled is true without a training\.teacher"),
        ("training.teacher=build/teacher", r"teacher is build/teacher, and this objective asks none"),
    ],
)
def test_a_refiner_that_would_learn_nothing_is_refused(tmp_path: Path, override: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    with pytest.raises(BadArgument, match=words):
        read_recipe(path, [override])
    read_recipe(path, ["objective.distilled=true", "training.teacher=build/teacher"])


class Maze(Source):
    """Ways through a maze of two walls with a gap each: features `(batch, time, 2)` as frames of one pixel."""

    side_px = 1

    def __call__(self, number: int) -> ClipBatch:
        numbers = torch.Generator().manual_seed(number)
        begin, end = torch.rand(2, 32, 1, generator=numbers) * 2 - 1
        gaps = torch.tensor([begin.new_tensor([0.7]), begin.new_tensor([-0.7])])  # where the walls at x = 1/3, 2/3 open
        corners = torch.cat([begin, gaps.expand(32, 2), end], 1)
        x = torch.linspace(0, 3, 16)
        left = x.long().clamp(max=2)
        y = torch.lerp(corners[:, left], corners[:, left + 1], x - left)
        ways = torch.stack([(x / 1.5 - 1).expand(32, 16), y], -1)[..., None, None]
        seconds = (torch.arange(16, dtype=torch.float64) / 10).expand(32, 16)
        return ClipBatch(ways, seconds, torch.ones(32, dtype=torch.bool), ("",) * 32, torch.full((32,), -1))


def test_any_sequence_can_be_refined_such_as_ways_through_a_maze(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VideoDiT(2, 1, width=32, depth=2, heads=2, drive_channels=4)
    made = VideoGenerator(model, Refinement(count=2, fewest=2, most=2), 1, 1)
    train(
        made,
        Maze(),
        Training(steps=90, learning_rate=1e-2, warmup_steps=10, ema=0.8, checkpoint_every=90),
        tmp_path,
        log=False,
    )
    batch = Maze()(10_000)
    known = torch.zeros(32, 16, dtype=torch.bool)
    known[:, [0, -1]] = True
    content = keyframe_content(batch.frames, known)

    def denoiser(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(x, seconds=batch.seconds, noise=noise, known=known, drive=content)

    begin = Start(torch.zeros_like(batch.frames), batch.frames, known, batch.seconds, [0] * len(known))
    ways = MultiLevel()(denoiser, made.objective, begin)[..., 0, 0]
    at_walls = ways[:, [5, 10], 1]
    straight = filled_linearly(batch.frames, batch.seconds, known)[:, [5, 10], 1, 0, 0]
    gaps = torch.tensor([0.7, -0.7])
    assert float((at_walls - gaps).abs().max()) < 0.25  # through the gaps
    assert float((straight - gaps).abs().mean()) > 0.5  # straight lines run into the walls
    assert torch.equal(ways[:, [0, -1]], batch.frames[:, [0, -1], :, 0, 0])


def test_keys_belong_to_their_latents_where_a_vae_has_strides_in_time() -> None:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        temperal_downsample=[False, True, True],
    )  # fmt: skip
    latents = DiffusersLatents(vae)
    made = VideoGenerator(VideoDiT(4, 2, width=32, depth=1, heads=2, drive_channels=8), Refinement(), 16, 16,
                          latents=latents)  # fmt: skip
    seconds = torch.arange(81, dtype=torch.float64)[None] / 20
    known = torch.zeros(1, 81, dtype=torch.bool)
    known[0, 0] = True
    known[0, 41:45] = True  # the frames of latent 11
    known[0, 60] = True  # a quarter of latent 15: it has to be made
    known[0, 77:] = True
    shown = torch.rand(1, 81, 3, 16, 16, generator=NUMBERS) * 2 - 1
    ask = made.within_latents(Ask(seconds, [0], given=shown, known=known))
    assert ask.seconds.shape == (1, 21)
    assert ask.known is not None
    assert ask.known[0].nonzero().flatten().tolist() == [0, 11, 20]
    assert float(ask.seconds[0, 11]) == pytest.approx(float(seconds[0, 41:45].mean()))
    clips = made.sample(Ask(seconds, [0], given=shown, known=known))
    assert torch.equal(clips[known], shown[known])
