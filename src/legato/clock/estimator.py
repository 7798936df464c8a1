"""The rate of a clip whose file is silent: a small network that has seen how fast things fall and swing."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from legato.errors import BadArgument, ModelNotFound
from legato.nn import Block, grid_embedding, load_folder, patched, sinusoids

__all__ = ["RateEstimate", "RateEstimator", "load_rate_estimator"]

BUNDLED = Path(__file__).parents[1] / "checkpoints" / "rate-estimator"
MEAN_LOG_INTERVAL = math.log(1 / 30)


class RateEstimate:
    """What is thought of clips' frame intervals.

    Attributes:
        log_interval: mean of the logarithm of the seconds between frames, `(batch,)`.
        spread: its standard deviation, as a share of the interval: 0.1 is 10 %.
    """

    def __init__(self, log_interval: Float[Tensor, " batch"], log_spread: Float[Tensor, " batch"]):
        self.log_interval, self.spread = log_interval, log_spread.exp()

    @property
    def interval_seconds(self) -> Float[Tensor, " batch"]:
        """Seconds between frames."""
        return self.log_interval.exp()

    @property
    def fps(self) -> Float[Tensor, " batch"]:
        """Frames per second."""
        return (-self.log_interval).exp()


class RateEstimator(nn.Module, PyTorchModelHubMixin, library_name="legato", license="apache-2.0"):
    """Infers the even frame interval of clips from how things move in them.

    Frames and the differences to the frames before go patch by patch through a transformer. What it says means
    something for what it was trained on: nothing in a picture of a disc says how fast it was meant to fly.

    Args:
        side_px: clips are shrunk to it.
        patch_px: side of a patch.
        width: channels of a token, a multiple of 4.
        depth: blocks.
        heads: of attention.
        frames: that it looks at, no more.
    """

    def __init__(
        self, side_px: int = 32, patch_px: int = 8, width: int = 128, depth: int = 4, heads: int = 4, frames: int = 16
    ):
        super().__init__()
        self.side_px, self.patch_px, self.frames, self.width = side_px, patch_px, frames, width
        self.embed = nn.Linear(6 * patch_px**2, width)
        self.summary = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, frames: Float32[Tensor, "batch time 3 height width"]) -> RateEstimate:
        """Estimate.

        Args:
            frames: -1 to 1, evenly timed, of the estimator's size; two or more, the first `self.frames` count.

        Raises:
            BadArgument: fewer than two frames, or another size.
        """
        x = frames[:, : self.frames]
        b, t, _, height, width = x.shape
        if t < 2 or (height, width) != (self.side_px, self.side_px):
            raise BadArgument(
                f"clips are of {t} frames, {width}x{height}; expected two or more of {self.side_px}x{self.side_px}"
            )
        steps = torch.cat([torch.zeros_like(x[:, :1]), x.diff(dim=1)], 1)
        tokens = self.embed(patched(torch.cat([x, 4 * steps], 2), self.patch_px))  # (b, t, patches, width)
        side = self.side_px // self.patch_px
        tokens = tokens + grid_embedding(side, side, self.width).to(x.device)
        tokens = tokens + sinusoids(torch.arange(t, device=x.device).float(), self.width, slowest=100.0)[:, None]
        sequence = torch.cat([self.summary.expand(b, 1, -1), tokens.flatten(1, 2)], 1)
        for block in self.blocks:
            sequence = block(sequence)
        mean, log_spread = self.head(self.norm(sequence[:, 0])).unbind(-1)
        return RateEstimate(MEAN_LOG_INTERVAL + mean, log_spread.clamp(-4, 2))

    @torch.inference_mode()
    def estimate(self, pixels: UInt8[Tensor, "time 3 height width"]) -> RateEstimate:
        """Estimate the rate of a clip of any size: the middle `self.frames` frames, cropped square and shrunk.

        Raises:
            BadArgument: fewer than two frames.
        """
        begin = max(0, (len(pixels) - self.frames) // 2)
        some = pixels[begin : begin + self.frames].float() / 127.5 - 1
        side = min(some.shape[-2:])
        top, left = (some.shape[-2] - side) // 2, (some.shape[-1] - side) // 2
        square = some[..., top : top + side, left : left + side]
        shrunk = F.interpolate(square, size=(self.side_px, self.side_px), mode="area")
        answer: RateEstimate = self(shrunk[None])
        return answer


def load_rate_estimator(name_or_path: str | Path | None = None) -> RateEstimator:
    """The bundled estimator, or one from a folder or the hub.

    Raises:
        ModelNotFound: there is none.
    """
    place = Path(name_or_path) if name_or_path else BUNDLED
    if place == BUNDLED and not place.is_dir():
        raise ModelNotFound("this legato has no bundled rate estimator; pass a folder that holds one")
    try:
        if not place.is_dir():
            from huggingface_hub import snapshot_download

            place = Path(snapshot_download(str(place)))
        return load_folder(RateEstimator, place)
    except Exception as error:
        raise ModelNotFound(f"no rate estimator at '{name_or_path}': {error}") from error


def estimate_loss(estimate: RateEstimate, log_interval: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Negative log likelihood of the true intervals under a Laplace distribution, whose error is robust."""
    return ((estimate.log_interval - log_interval).abs() / estimate.spread + estimate.spread.log()).mean()
