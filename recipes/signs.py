"""Text to sign on real footage: 20 words, one clip each, 64 px. What it takes, and how far it gets.

    python recipes/signs.py prepare --videos DIR
    legato train recipes/signs.yaml
    python recipes/signs.py test --videos DIR

`prepare` reads the clips (WORD.mkv and the like), trains an autoencoder on their frames (build/signs64-latents) and
writes a bank of stretches of them (build/signs64-bank). `test` asks the model for every word and tells which of the
real clips its answer is nearest to, frame by frame in time. With one clip a word this is recall, not generalisation.
"""

import argparse
import json
from pathlib import Path

import torch
from loop import fit

from legato.data.bank import write_bank
from legato.data.batch import NO_LABEL, ClipBatch, Source, pixels_to_signal, signal_to_pixels
from legato.generate import Ask, VideoGenerator
from legato.generate.latents import TinyAutoencoder, load_latents
from legato.report.sheets import contact_sheet
from legato.video import open_video

SIDE_PX, FRAMES = 64, 24
LATENTS, BANK = Path("build/signs64-latents"), Path("build/signs64-bank")


def footage(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Square pixels and seconds of every clip by its word."""
    clips = {}
    for path in sorted(folder.iterdir()):
        with open_video(path) as video:
            height, width = video.size_px
        small = (SIDE_PX, round(SIDE_PX * width / height))
        with open_video(path, size_px=small) as video:
            frames = list(video)
        left = (small[1] - SIDE_PX) // 2
        pixels = torch.stack([frame.pixels[:, :, left : left + SIDE_PX] for frame in frames])
        seconds = torch.tensor([frame.seconds for frame in frames], dtype=torch.float64)
        clips[path.stem] = (pixels, seconds - seconds[0])
    return clips


class Stretches(Source):
    """Nearly whole clips: the beginning is cut by up to a tenth, and frames are 24 evenly chosen ones."""

    side_px = SIDE_PX

    def __init__(self, clips: dict[str, tuple[torch.Tensor, torch.Tensor]]):
        self._clips = clips

    def __call__(self, number: int) -> ClipBatch:
        """See `Source`."""
        numbers = torch.Generator().manual_seed(number)
        frames, seconds = [], []
        for pixels, times in self._clips.values():
            cut = torch.rand(2, generator=numbers) * 0.1 * (len(pixels) - 1)
            at = torch.linspace(float(cut[0]), len(pixels) - 1 - float(cut[1]), FRAMES).round().long()
            frames.append(pixels_to_signal(pixels[at]))
            seconds.append(times[at] - times[at[0]])
        count = len(frames)
        none = torch.full((count,), NO_LABEL)
        known = torch.ones(count, dtype=torch.bool)
        return ClipBatch(torch.stack(frames), torch.stack(seconds), known, tuple(self._clips), none)


def prepare(folder: Path, steps: int, batches: int) -> None:
    clips = footage(folder)
    pool = torch.cat([pixels for pixels, _ in clips.values()])
    torch.manual_seed(0)
    model = TinyAutoencoder(16, (96, 128), 8)

    def step(number: int) -> tuple[torch.Tensor, float]:
        numbers = torch.Generator().manual_seed(number)
        x = pixels_to_signal(pool[torch.randint(len(pool), (16,), generator=numbers)])[None]
        latents = model.encode(x)
        error = model.decode(latents + 0.1 * torch.randn_like(latents)) - x
        square = error.square().mean()
        return square + 0.2 * error.abs().mean(), float(10 * torch.log10(4 / square.detach()))

    fit(model, LATENTS, steps, step, name="PSNR", rate=2e-3, decay_share=0.4)
    with torch.no_grad():
        spread = model.encode(pixels_to_signal(pool[::3])[None]).std((0, 1, 3, 4))
        model.scale.mul_(spread)
    model.half().save_pretrained(LATENTS / "final")
    latents = load_latents({"kind": "tiny", "folder": str(LATENTS / "final")}, Path())
    write_bank(Stretches(clips), latents.encode, BANK, batches)


def test(folder: Path, checkpoint: str, sheet: Path | None) -> None:
    real = Stretches(footage(folder))(0)
    generator = VideoGenerator.from_pretrained(checkpoint)
    with torch.no_grad():
        held = generator.latents.decode(generator.latents.encode(real.frames))
    made = generator.sample(Ask(real.seconds, range(len(real)), text=real.text))
    apart = (made[:, None] - real.frames[None]).square().mean((2, 3, 4, 5))
    right = float((apart.argmin(1) == torch.arange(len(real))).float().mean())
    psnr = [float(10 * torch.log10(4 / (v - real.frames).square().mean((1, 2, 3, 4)).mean())) for v in (made, held)]
    print(json.dumps({"nearest_is_the_word": right, "psnr_db": psnr[0], "autoencoder_psnr_db": psnr[1]}, indent=1))
    if sheet:
        contact_sheet(sheet, signal_to_pixels(made[:6]), real.seconds[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "test"])
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--checkpoint", default="build/signs/final")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "prepare":
        prepare(args.videos, args.steps, args.batches)
    else:
        test(args.videos, args.checkpoint, args.sheet)


if __name__ == "__main__":
    main()
