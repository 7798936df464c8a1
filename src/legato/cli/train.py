"""`legato train`: train a generator by a recipe, or go on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from legato.errors import check_at_least

if TYPE_CHECKING:
    from legato.data.batch import ClipBatch, Source
    from legato.generate import Ask, VideoGenerator

__all__ = ["train"]

SHEET_BATCH = 2**31  # no run comes so far


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML: model, objective, data, training.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to it, as training.steps=200.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; build/RECIPE by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a generator; the same command goes on where a run was stopped."""
    import time
    from functools import partial

    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from legato.data.clips import FolderClips
    from legato.files import check_folder
    from legato.generate.checkpoints import last_checkpoint
    from legato.generate.recipe import read_recipe
    from legato.generate.training import Progress
    from legato.generate.training import train as run

    if threads is not None:
        check_at_least(1, **{"--threads": threads})
        torch.set_num_threads(threads)
    folder = out or Path("build") / recipe.stem
    check_folder(folder, "--out")
    made = read_recipe(recipe, overrides or ())
    found = last_checkpoint(folder)
    console = Console(stderr=True)
    if found:
        console.print(f"going on from {found}", highlight=False)
    count = sum(p.numel() for p in made.generator.model.parameters())
    console.print(
        f"{type(made.generator.model).__name__}, {told_count(count)} parameters, into {folder}", highlight=False
    )
    if isinstance(made.source, FolderClips) and (made.source.index.skipped or made.source.clips.too_short):
        console.print(made.source.index.summary(), highlight=False, markup=False)
        for short in made.source.clips.too_short:
            console.print(f"left out: {short.path} {short.reason}", highlight=False, markup=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    smooth: list[float] = []
    unreadable: set[Path] = set()
    begun = time.monotonic()
    done_before = int(found.name.removeprefix("step-")) if found else 0
    with Bar(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("training", total=made.settings.steps, completed=done_before, told="")

        def told(now: Progress) -> None:
            if now.missing:
                names = ", ".join(now.missing)
                console.print(f"not in {made.settings.init_from}, so as new: {names}", highlight=False, markup=False)
            smooth.append(now.loss)
            del smooth[:-50]
            for failure in now.unreadable:
                if failure.path not in unreadable:
                    unreadable.add(failure.path)
                    console.print(f"left out: {failure}", highlight=False, markup=False)
            mean = sum(smooth) / len(smooth)
            bar.update(task, completed=now.step, told=f"loss {mean:.4f}")
            if not console.is_terminal and not quiet and now.step % 50 == 0:
                each = (time.monotonic() - begun) / (now.step - done_before)
                left = each * (made.settings.steps - now.step) / 60
                print(f"step {now.step} loss {mean:.4f} {each:.2f} s/step, {left:.0f} min left", flush=True)

        sheet = partial(sample_sheet, source=made.source)
        run(made.generator, made.source, made.settings, folder, told=told, sheet=sheet)
    rest = f", {len(unreadable)} unreadable videos left out" if unreadable else ""
    typer.echo(f"{folder / 'final'}: trained for {made.settings.steps} steps{rest}")


def told_count(count: int) -> str:
    """A number in millions, thousands below one, or as it is."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} thousand" if count >= 1000 else str(count)


def sample_sheet(generator: "VideoGenerator", path: Path, source: "Source") -> None:
    """Four clips of two seconds at 8 frames a second, of the first classes or words that the generator knows.

    Of a refiner it is one clip of the data that no run comes to: the frames that are given, what is made of them, and
    the clip itself.
    """
    import torch

    from legato.data.batch import signal_to_pixels
    from legato.generate import Ask
    from legato.generate.objectives import framewise
    from legato.generate.refine import Refinement
    from legato.generate.samplers import default_sampler
    from legato.report.sheets import contact_sheet

    sampler = default_sampler(generator.objective, 20)
    if isinstance(generator.objective, Refinement):
        ask = given_ask(generator, source(SHEET_BATCH))
        assert ask.given is not None
        assert ask.known is not None
        shown = torch.where(framewise(ask.known), ask.given, 0.0)
        rows = torch.cat([shown, generator.sample(ask, sampler), ask.given])
        contact_sheet(path, signal_to_pixels(rows), ask.seconds[0])
        return
    frames = generator.latents.whole_frames(17)
    seconds = torch.arange(frames, dtype=torch.float64) / 8
    known, words = len(generator.classes), generator.words
    ask = Ask(
        seconds.repeat(4, 1),
        range(4),
        text=[words[n % len(words)] for n in range(4)] if words else None,
        labels=torch.arange(4) % known if known else None,
    )
    contact_sheet(path, signal_to_pixels(generator.sample(ask, sampler)), seconds)


def given_ask(generator: "VideoGenerator", batch: "ClipBatch") -> "Ask":
    """The first clip of a batch, to be refined from its ends and frames evenly between."""
    import torch

    from legato.generate import Ask
    from legato.generate.refine import Refinement

    assert isinstance(generator.objective, Refinement)
    latents, device = generator.latents, generator.device
    clip = batch.frames[:1].to(device)
    with torch.no_grad():
        clip = latents.decode(clip) if batch.encoded else clip
    whole = latents.latent_frames(clip.shape[1])  # a latent is given where all of its frames are
    known = torch.zeros(clip.shape[:2], dtype=torch.bool, device=device)
    for at in torch.linspace(0, whole - 1, max(3, generator.objective.fewest)).round().long().tolist():
        known[:, list(latents.frames_of(at))] = True
    reads = getattr(generator.model, "text", None) is not None
    return Ask(
        batch.seconds[:1],
        [0],
        text=batch.text[:1] if reads else None,
        labels=batch.labels[:1] if generator.classes else None,
        given=clip,
        known=known,
        rate_known=batch.rate_known[:1],
    )
