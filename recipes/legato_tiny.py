"""Train `legato-tiny`: a 5 M parameter ViT distilled from a trained ViT-S/14.

    python recipes/teacher.py --out build/vit-s14
    python recipes/legato_tiny.py cache --videos DIR --teacher build/vit-s14
    python recipes/legato_tiny.py train --steps 4000
    python recipes/legato_tiny.py card --videos DIR --teacher build/vit-s14

`cache` cuts random crops from the training clips and stores the teacher's layer-9 tokens for them,
`train` fits the student to those under strong photometric augmentation (stop it at any time, the
same command goes on), `card` measures retrieval on clips that were not trained on.
"""

import argparse
import json
import math
import time
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from legato.files import replacing_file

SIDE_PX = 224
TEACHER_LAYER = 9
TOKENS = 1 + (SIDE_PX // 14) ** 2
TEACHER_WIDTH = 384
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

# Never trained on: every face clip (likeness rights), and for each other kind at least one whole clip.
HELD_OUT_FOLDERS = {"talking"}
HELD_OUT = {
    "again", "brother", "milk", "sister", "walk",
    "intel_bottle-detection", "mmtracking_demo", "tokenflow_woman-running",
    "carphone_pristine", "carphone_distorted", "bikes", "bigbuckbunny",
}  # fmt: skip


def clips(folders: list[Path], held_out: bool) -> list[Path]:
    found = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix in {".mp4", ".mkv", ".avi", ".webm"})
    return [p for p in found if (p.stem in HELD_OUT or p.parent.name in HELD_OUT_FOLDERS) == held_out]


def frames_of(path: Path, count: int, short_side_px: int = 320) -> list[np.ndarray]:
    """Decode a clip and keep `count` frames spread evenly over it, RGB, shrunk to a bounded size."""
    with av.open(str(path)) as container:
        images = []
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            scale = short_side_px / min(image.shape[:2])
            if scale < 1:
                image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            images.append(image)
    chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
    return [images[i] for i in chosen]


def random_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    area, ratio = rng.uniform(0.12, 1.0) * height * width, math.exp(rng.uniform(-0.4, 0.4))
    h = min(height, max(32, int(math.sqrt(area / ratio))))
    w = min(width, max(32, int(math.sqrt(area * ratio))))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    crop = cv2.resize(image[top : top + h, left : left + w], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return crop[:, ::-1].copy() if rng.random() < 0.5 else crop


def to_input(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (batch, height, width, 3) or float in 0..1 (batch, 3, height, width) -> normalised."""
    if pixels.dtype == torch.uint8:
        pixels = pixels.permute(0, 3, 1, 2).float() / 255
    return (pixels - MEAN) / STD


@torch.inference_mode()
def teacher_tokens(teacher: Dinov2Model, pixels: torch.Tensor) -> torch.Tensor:
    hidden = teacher.embeddings(to_input(pixels))
    for layer in teacher.encoder.layer[:TEACHER_LAYER]:
        hidden = layer(hidden)
    return hidden


def cache(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    teacher = Dinov2Model.from_pretrained(args.teacher).eval()
    sources = [image for path in clips(args.videos, held_out=False) for image in frames_of(path, args.frames_per_clip)]
    args.work.mkdir(parents=True, exist_ok=True)
    crops = np.lib.format.open_memmap(args.work / "crops.npy", "w+", np.uint8, (args.crops, SIDE_PX, SIDE_PX, 3))
    targets = np.lib.format.open_memmap(
        args.work / "targets.npy", "w+", np.float16, (args.crops, TOKENS, TEACHER_WIDTH)
    )
    for start in range(0, args.crops, 16):
        batch = [random_crop(sources[rng.integers(len(sources))], rng) for _ in range(min(16, args.crops - start))]
        stacked = np.stack(batch)
        crops[start : start + len(batch)] = stacked
        targets[start : start + len(batch)] = teacher_tokens(teacher, torch.from_numpy(stacked)).half().numpy()
        if start % 800 == 0:
            print(f"{start}/{args.crops} crops from {len(sources)} frames", flush=True)
    (args.work / "done").touch()


def student_config() -> Dinov2Config:
    return Dinov2Config(hidden_size=256, num_hidden_layers=6, num_attention_heads=4, image_size=SIDE_PX, patch_size=14)


def student_from(teacher: Dinov2Model) -> Dinov2Model:
    """Start from a slice of the teacher (Xu et al. 2023, "Initializing Models with Larger Ones").

    Every student channel copies one teacher channel, the same one in all layers, so that the residual
    stream keeps its meaning; heads and layers are picked evenly.
    """
    student = Dinov2Model(student_config())
    width, heads = 256, [0, 2, 3, 5]
    channels = torch.linspace(0, TEACHER_WIDTH - 1, width).round().long()
    head_rows = torch.cat([torch.arange(h * 64, h * 64 + 64) for h in heads])
    hidden_rows = torch.linspace(0, 4 * TEACHER_WIDTH - 1, 4 * width).round().long()
    source = teacher.state_dict()
    target = student.state_dict()
    for name, value in target.items():
        if name.startswith("encoder.layer."):
            _, _, index, rest = name.split(".", 3)
            layer = round(int(index) * (TEACHER_LAYER - 1) / 5)
            tensor = source[f"encoder.layer.{layer}.{rest}"]
            rows, columns = channels, channels
            if any(p in rest for p in ("q_proj", "k_proj", "v_proj")):
                rows = head_rows
            elif "o_proj" in rest:
                columns = head_rows
            elif "fc1" in rest:
                rows = hidden_rows
            elif "fc2" in rest:
                columns = hidden_rows
            value.copy_(tensor[rows][:, columns] if tensor.ndim == 2 else tensor[rows])
        elif name == "embeddings.position_embeddings":
            dummy = torch.empty(1, TOKENS, TEACHER_WIDTH)
            value.copy_(teacher.embeddings.interpolate_pos_encoding(dummy, SIDE_PX, SIDE_PX)[..., channels])
        elif "patch_embeddings" in name:
            value.copy_(source[name][channels])
        elif "token" in name or "layernorm" in name:
            value.copy_(source[name][..., channels])
    return student


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Light, colour, blur and noise, drawn per image; the teacher saw the clean crop."""
    n = len(pixels)

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high, generator=generator)

    x = pixels.permute(0, 3, 1, 2).float() / 255
    x = x.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.5))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draw(0.4, 1.4)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * draw(0.6, 1.4)
    x = x * draw(0.6, 1.3)
    small = F.interpolate(F.interpolate(x, scale_factor=0.5, mode="area"), scale_factor=2, mode="bilinear")
    x = torch.where(draw(0, 1) < 0.3, small, x)
    noise = torch.empty_like(x).normal_(generator=generator) * draw(0, 0.06).square() * 16
    return (x + noise * (draw(0, 1) < 0.5)).clamp(0, 1)


class Distiller(nn.Module):
    """The student with a linear head into the teacher's width; the head is thrown away."""

    def __init__(self, student: Dinov2Model):
        super().__init__()
        self.student = student
        self.head = nn.Linear(student.config.hidden_size, TEACHER_WIDTH)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.student(to_input(pixels)).last_hidden_state)


def loss_of(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Smooth L1 on whitened teacher tokens and cosine; the class token counts as much as all patches."""
    per_token = F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)
    per_token = per_token + 1 - F.cosine_similarity(predicted, target, dim=-1)
    return 0.5 * per_token[:, 0].mean() + per_token[:, 1:].mean()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    crops = np.load(args.work / "crops.npy", mmap_mode="r")
    targets = np.load(args.work / "targets.npy", mmap_mode="r")
    sample = torch.from_numpy(targets[:512].astype(np.float32))
    patch_mean, patch_std = sample[:, 1:].mean((0, 1)), sample[:, 1:].std((0, 1))
    cls_mean, cls_std = sample[:, 0].mean(0), sample[:, 0].std(0)

    teacher = Dinov2Model.from_pretrained(args.teacher).eval()
    model = Distiller(student_from(teacher))
    averaged = torch.optim.swa_utils.AveragedModel(
        model.student, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others}], weight_decay=0.0)
    generator = torch.Generator().manual_seed(args.seed)
    step, path = 0, args.work / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        step = saved["step"]

    def save() -> None:
        parts = {"model": model, "averaged": averaged, "optimizer": optimizer}
        state = {name: part.state_dict() for name, part in parts.items()}
        with replacing_file(path) as part:
            torch.save(state | {"generator": generator.get_state(), "step": step}, part)

    started, last_saved, running = time.monotonic(), time.monotonic(), []
    while step < args.steps:
        rate = args.rate * min(1, (step + 1) / 150) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(crops), (args.batch,), generator=generator).sort().values.unique().numpy()
        target = torch.from_numpy(targets[rows].astype(np.float32))
        target[:, 1:] = (target[:, 1:] - patch_mean) / patch_std
        target[:, 0] = (target[:, 0] - cls_mean) / cls_std
        loss = loss_of(model(augment(torch.from_numpy(crops[rows]), generator)), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(model.student)
        step += 1
        running.append(loss.item())
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(f"step {step} loss {np.mean(running[-50:]):.4f} {seconds:.0f} s", flush=True)
        if time.monotonic() - last_saved > 120:
            save()
            last_saved = time.monotonic()
    save()
    student = averaged.module.half()
    student.save_pretrained(args.out)
    print(f"wrote {args.out}")


@torch.inference_mode()
def retrieval(encode, firsts: list[np.ndarray], lasts: list[np.ndarray], queries: list[int]) -> float:
    """Share of held-out clips whose last frame's nearest first frame, among all clips, is its own."""
    first = F.normalize(encode(torch.from_numpy(np.stack(firsts))), dim=-1)
    last = F.normalize(encode(torch.from_numpy(np.stack(lasts))), dim=-1)
    nearest = (last @ first.T).argmax(1)
    return float(np.mean([int(nearest[q]) == q for q in queries]))


def disguised(image: np.ndarray) -> np.ndarray:
    """The middle 70 % of a picture, mirrored, without colour, darker: what colours alone cannot find again."""
    height, width = image.shape[:2]
    middle = image[height * 15 // 100 : height * 85 // 100, width * 15 // 100 : width * 85 // 100]
    grey = cv2.cvtColor(cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dark = (255 * (grey[:, ::-1] / 255.0) ** 1.6).astype(np.uint8)
    return cv2.resize(dark, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)


def card(args: argparse.Namespace) -> None:
    all_clips = clips(args.videos, held_out=False) + clips(args.videos, held_out=True)
    square = [
        [cv2.resize(i, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for i in frames_of(path, 2)]
        for path in all_clips
    ]
    firsts, lasts = [s[0] for s in square], [s[-1] for s in square]
    queries = [i for i, p in enumerate(all_clips) if p in set(clips(args.videos, held_out=True))]
    teacher = Dinov2Model.from_pretrained(args.teacher).eval()
    torch.manual_seed(0)
    tiny = Dinov2Model.from_pretrained(args.out).float().eval()
    untrained = Dinov2Model(student_config()).eval()
    encoders = {
        "teacher": lambda x: teacher_tokens(teacher, x),
        "legato-tiny": lambda x: tiny(to_input(x))[0],
        "random": lambda x: untrained(to_input(x))[0],
    }
    result = {"clips": len(all_clips), "queries": len(queries)}
    for name, encode in encoders.items():
        for pool, pick in {"cls": lambda t: t[:, 0], "mean": lambda t: t[:, 1:].mean(1)}.items():
            for kind, asked in {"plain": lasts, "disguised": [disguised(i) for i in lasts]}.items():
                share = retrieval(lambda x, e=encode, p=pick: p(e(x)), firsts, asked, queries)
                result[f"{kind}/{name}/{pool}"] = round(share, 3)
    print(json.dumps(result, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["cache", "train", "card"])
    parser.add_argument("--videos", type=Path, nargs="+", default=[])
    parser.add_argument("--teacher", type=Path, default=Path("build/vit-s14"))
    parser.add_argument("--work", type=Path, default=Path("build/legato-tiny"))
    parser.add_argument("--out", type=Path, default=Path("src/legato/checkpoints/legato-tiny"))
    parser.add_argument("--crops", type=int, default=6000)
    parser.add_argument("--frames-per-clip", type=int, default=60)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    {"cache": cache, "train": train, "card": card}[args.step](args)


if __name__ == "__main__":
    main()
