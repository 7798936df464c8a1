"""`legato train`: its sample sheets."""

from pathlib import Path

import cv2
import pytest
import torch
from typer.testing import CliRunner

from legato.cli.app import app, register
from legato.cli.train import given_ask, sample_sheet
from legato.data.bank import write_bank
from legato.data.synthetic import Physics, Puppets
from legato.generate import VideoDiT, VideoGenerator
from legato.generate.latents import TinyAutoencoder
from legato.generate.objectives import FlowMatching
from legato.generate.refine import Refinement

register()
REFINER = """
model: {kind: VideoDiT, width: 32, depth: 1, heads: 2, patch_px: 8, drive_channels: 6, classes: 4, text_bytes: 16}
objective: {kind: refine, count: 3}
data: {kind: physics, side_px: 16, frames_per_batch: 16, lengths: [8]}
training: {steps: 2, checkpoint_every: 2, sample_every: 1}
"""


def test_a_refiner_is_shown_with_what_it_was_given_and_the_truth(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(REFINER)
    arguments = ["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out"), "--quiet"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    sheet = cv2.imread(str(tmp_path / "out" / "samples-000002.png"))
    assert sheet is not None
    rows, columns = sheet[14:].reshape(3, 100, 8, 100, 3).transpose(0, 2, 1, 3, 4)[:, :, :96, :96], range(8)
    given = [not (rows[0, at] == rows[0, at, 0, 0]).all() for at in columns]  # the others are plain grey
    assert given == [at in (0, 4, 7) for at in columns]
    for at in (0, 4, 7):
        assert (rows[0, at] == rows[1, at]).all()
        assert (rows[0, at] == rows[2, at]).all()
    assert not (rows[1, 2] == rows[2, 2]).all()


def test_clips_of_a_bank_are_shown_in_pixels(tmp_path: Path) -> None:
    latents = TinyAutoencoder(channels=4, widths=(8,), patch_px=4)
    write_bank(Puppets(16, 16, (8,)), latents.encode, tmp_path / "bank", 1)
    from legato.data.bank import Bank

    model = VideoDiT(4, 2, width=32, depth=1, heads=2, drive_channels=8, text_bytes=32)
    bank = Bank(str(tmp_path / "bank"), 16, (8,), strides=(1,))
    generator = VideoGenerator(model, Refinement(fewest=2), 16, 16, words=bank.words, latents=latents)
    ask = given_ask(generator, bank(3))
    assert ask.given is not None
    assert ask.given.shape == (1, 8, 3, 16, 16)
    assert ask.known is not None
    assert ask.known[0].nonzero().flatten().tolist() == [0, 4, 7]
    sample_sheet(generator, tmp_path / "s.png", bank)
    assert (tmp_path / "s.png").stat().st_size > 500


@pytest.mark.parametrize("words", [("hello",), ("hello", "yes", "no"), ()])
def test_few_words_are_said_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = VideoDiT(width=32, depth=1, heads=2, text_bytes=16)
    sample_sheet(VideoGenerator(model, FlowMatching(), 16, 16, words=words), tmp_path / "s.png", Physics(16))
    assert (tmp_path / "s.png").stat().st_size > 500
