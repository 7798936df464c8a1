"""A trained generator: a denoiser with its objective and all that sampling has to know, as one folder.

`config.json` and `model.safetensors` are the denoiser's (huggingface_hub's mixin), `generator.json` says the rest.
Bundled generators are found by name without a network.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from legato.clock import RateEmbedding
from legato.data.batch import nominal_seconds
from legato.errors import BadArgument, ModelNotFound
from legato.generate.ask import Ask
from legato.generate.dit import VideoDiT
from legato.generate.equilibrium import EquilibriumMatching
from legato.generate.guidance import guided, left_out, texts_of, told_rows, told_texts
from legato.generate.latents import Latents, Pixels, load_latents, save_latents
from legato.generate.objectives import (
    Diffusion,
    Equilibrium,
    FlowMatching,
    NoiseObjective,
    Objective,
    framewise,
)
from legato.generate.refine import Refinement, keyframe_content, with_detail
from legato.generate.samplers import Sampler, Start, default_sampler, noise_at
from legato.generate.text import TextEncoder, TextTokens
from legato.generate.unet3d import VideoUNet3D
from legato.motion.between_features import filled_linearly

__all__ = ["MODELS", "OBJECTIVES", "VideoGenerator", "bundled_generators"]

Video = Float[Tensor, "batch time channels height width"]
Seconds = Float64[Tensor, "batch time"]

MODELS: dict[str, type[nn.Module]] = {"VideoDiT": VideoDiT, "VideoUNet3D": VideoUNet3D}
OBJECTIVES: dict[str, type[Objective]] = {
    "flow": FlowMatching,
    "diffusion": Diffusion,
    "equilibrium": Equilibrium,
    "refine": Refinement,
}
BUNDLED = Path(__file__).parents[1] / "checkpoints"
SETTINGS_NAME = "generator.json"


@dataclass
class VideoGenerator:
    """A denoiser, its objective, and what it was made for.

    Attributes:
        model: the denoiser.
        objective: what its output means.
        height: of a frame in pixels.
        width: of the same.
        classes: names of its classes.
        words: the words that its texts are made of, or empty where any are.
        latents: the space it works in.
        trained: what is worth knowing of its training: steps, data, recipe.
    """

    model: nn.Module
    objective: Objective
    height: int
    width: int
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    latents: Latents = field(default_factory=Pixels)
    trained: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "VideoGenerator":
        """Load a bundled generator by name, one from a folder, or one from the hub.

        Args:
            name_or_path: which.
            device: where it runs.
            dtype: of its weights and of what goes through them; frames, noise and steps are float32 whatever it is.

        Raises:
            ModelNotFound: there is none.
            BadArgument: the folder holds something else, or weights that do not fit.
        """
        folder = _found(str(name_or_path))
        settings_path = folder / SETTINGS_NAME
        if not settings_path.exists():
            raise BadArgument(f"{folder} holds no generator: {SETTINGS_NAME} is missing")
        try:
            settings = json.loads(settings_path.read_text())
            model_class = MODELS[settings.pop("model")]
            objective = _objective(settings.pop("objective"))
            model = model_class(**json.loads((folder / "config.json").read_text()))
            latents = load_latents(settings.pop("latents", {"kind": "pixels"}), folder)
            own = {f.name for f in fields(cls)}
            rest: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in settings.items() if key in own
            }
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BadArgument(f"{folder} is not a generator that this legato can read: {error}") from error
        load_weights(model, folder / "model.safetensors")
        return cls(model.to(device, dtype).eval(), objective, latents=latents.to(device, dtype), **rest)

    def save_pretrained(self, folder: Path, *, half: bool = True, weights: dict[str, Tensor] | None = None) -> None:
        """Write the generator to a folder, complete or not at all.

        Args:
            folder: is replaced.
            half: weights in half precision.
            weights: to write instead of the model's own.
        """
        from safetensors.torch import save_file

        from legato.files import replacing_folder

        state = {name: v.detach().cpu().contiguous() for name, v in (weights or self.model.state_dict()).items()}
        if half:
            state = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
        with replacing_folder(folder) as part:
            save_file(state, part / "model.safetensors", metadata={"format": "pt"})
            config = self.model._hub_mixin_config
            (part / "config.json").write_text(json.dumps(config, indent=1) + "\n")
            settings = {
                "model": type(self.model).__name__,
                "objective": {"kind": _name_of(self.objective), **asdict(self.objective)},  # type: ignore[call-overload]
                "latents": save_latents(self.latents, part),
                **{name: getattr(self, name) for name in ("height", "width", "classes", "words", "trained")},
            }
            (part / SETTINGS_NAME).write_text(json.dumps(settings, indent=1) + "\n")

    @torch.inference_mode()
    def sample(self, ask: Ask, sampler: Sampler | None = None, told: Any = None) -> Video:
        """Generate clips.

        Args:
            ask: what.
            sampler: how; the objective's usual one by default.
            told: called after each step with its number.

        Returns:
            RGB from -1 to 1, about. Given frames are bit for bit as they were.

        Raises:
            BadArgument: the model cannot do what is asked.
        """
        self.check(ask)
        exact = {name: rows.float() for name in ("given", "drive") if (rows := getattr(ask, name)) is not None}
        ask, device = replace(ask, **exact), self.device
        pixels, ask = ask, self.within_latents(ask)
        rows, columns = self.height // self.latents.stride_px, self.width // self.latents.stride_px
        start_noise = noise_at(ask.seconds, (self.latents.channels, rows, columns), ask.seeds).to(device)
        known = torch.zeros(ask.seconds.shape, dtype=torch.bool) if ask.known is None else ask.known
        given = torch.zeros_like(start_noise) if ask.given is None else ask.given.to(device)
        proposed = None if ask.proposed is None else ask.proposed.to(device)
        start = Start(start_noise, given, known.to(device), ask.seconds.to(device), ask.seeds, proposed)
        sampler = sampler or default_sampler(self.objective)
        clips = start_noise
        for number, now in enumerate(sampler.steps(self.denoiser(ask), self.objective, start), start=1):
            clips = now
            if told:
                told(number)
        if pixels.known is None or pixels.given is None:
            return self.latents.decode(clips)
        kept, shown = pixels.known.to(device), pixels.given.to(device)
        made = self.latents.decode_where(clips, ~kept)
        if isinstance(self.objective, Refinement) and not isinstance(self.latents, Pixels):
            sure = kept.to(shown) if pixels.proposed is None else pixels.proposed.to(shown).where(~kept, 1.0)
            evidence, seconds = ~sure.isnan() & (kept | (sure > 0)), pixels.seconds.to(device)
            pictures, encoded = shown, ask.given
            if self.latents.stride_frames > 1:  # latents of single frames are there already
                pictures = filled_linearly(shown, seconds, evidence)
                encoded = self.latents.encode(pictures)
            assert encoded is not None
            again = self.latents.decode_where(encoded, evidence)
            counts = None if pixels.proposed is None else sure  # detail of proposals, as far as they count
            made = with_detail(made, pictures, again, seconds, evidence, ~kept, counts)
        made[kept] = shown[kept]
        return made

    def within_latents(self, ask: Ask) -> Ask:
        """The ask with latent frames, their times, and given frames encoded.

        A latent is known if all of it is, and is driven by the picture of its middle frame.
        """
        if isinstance(self.latents, Pixels):
            return ask
        seconds = self.latents.seconds(ask.seconds)
        groups = [self.latents.frames_of(n) for n in range(seconds.shape[1])]
        middles = [group[(len(group) - 1) // 2] for group in groups]
        led = {name: rows[:, middles] for name in ("drive", "drive_known") if (rows := getattr(ask, name)) is not None}
        if ask.given is None or ask.known is None:
            return replace(ask, seconds=seconds, **led)
        device, given = self.device, ask.known.cpu()
        none = torch.full(given.shape, torch.nan)
        sure = torch.where(given, 1.0, none if ask.proposed is None else ask.proposed.cpu())
        least = torch.full(seconds.shape, torch.inf)
        for frame in range(ask.seconds.shape[1]):
            group = self.latents.latent_of(frame)
            least[:, group] = torch.minimum(least[:, group], sure[:, frame])  # NaN where a frame is missing
        known = least == 1
        proposed = None if ask.proposed is None else torch.where(known, torch.nan, least)
        there, shown = (~sure.isnan()).to(device), ask.given.to(device)
        if self.latents.stride_frames > 1 or not bool(there.any()):  # what is not there is encoded too
            shown = torch.where(framewise(there), shown, 0.0)
        encoded = self.latents.encode_where(shown, there)
        return replace(ask, seconds=seconds, given=encoded, known=known.to(device), proposed=proposed, **led)

    def read(self, ask: Ask) -> TextTokens | None:
        """The texts of an ask, to be read once for many calls of `denoiser`; None where the model reads none."""
        reader = getattr(self.model, "text", None)
        with torch.inference_mode():
            return reader(texts_of(ask)) if isinstance(reader, TextEncoder) else None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._weights.device

    @property
    def _weights(self) -> Tensor:
        """The model's first, which tell its device and precision; its own are found sooner than those of its parts."""
        own = next(iter(self.model._parameters.values()), None)
        return next(self.model.parameters()) if own is None else own

    def denoiser(self, ask: Ask, read: TextTokens | None = None) -> Any:
        """The model with all conditions of an ask filled in, guidance included: of noisy frames and levels alone.

        Args:
            ask: what.
            read: its texts, as `read` gave them; they are read here by default.
        """
        weights = self._weights
        device, dtype = weights.device, weights.dtype
        by_sample = getattr(self.model, "noise", "frame") == "sample"  # all frames but given ones have one level
        by = self._left_out(ask)
        conditions: dict[str, Any] = {name: rows.to(device) for name, rows in told_rows(ask, by).items()}
        if isinstance(self.objective, Refinement) and ask.given is not None and ask.known is not None:
            conditions["drive"] = _times(keyframe_content(ask.given, ask.known).to(device), 1 + len(by))
        if "drive" in conditions:
            conditions["drive"] = conditions["drive"].to(dtype)
        read = self.read(ask) if read is None else read
        if read is not None:
            conditions["text"] = read.at(told_texts(ask, by))
        elif ask.text is not None and any(ask.text):
            conditions["text"] = tuple(texts_of(ask)[at] for at in told_texts(ask, by))

        unit = None
        if "given" in by and ask.given is not None:
            channels, rows, columns = ask.given.shape[2:]
            unit = noise_at(ask.seconds, (channels, rows, columns), ask.seeds)

        def denoise(x: Tensor, levels: Tensor) -> Tensor:
            seconds = ask.seconds if ask.seconds_at is None else ask.seconds_at(float(levels.max()))
            noisy = {"given": self._ungiven(ask, x, levels, unit)} if unit is not None else {}
            seen = [(x, levels), *(noisy.get(name, (x, levels)) for name in by)]
            times = [seconds, *(self._counted(ask, seconds) if name == "seconds" else seconds for name in by)]
            told = {"seconds": torch.cat(times).to(device)}
            if not self.objective.hidden:
                noise = torch.cat([levels for _, levels in seen])
                told["noise"] = noise.amax(1) if by_sample else noise
            said = self.model(torch.cat([x for x, _ in seen]).to(dtype), **told, **conditions)
            return guided(said.to(x.dtype), by, levels)

        return denoise

    def _ungiven(self, ask: Ask, x: Tensor, levels: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy frames and levels in which the given frames are as noisy as the others."""
        assert isinstance(self.objective, NoiseObjective)
        assert ask.known is not None
        known = ask.known.to(x.device)
        level = levels.amax(1, keepdim=True).expand_as(levels)
        noisy = torch.where(framewise(known), self.objective.noised(x, unit.to(x), level), x)
        return noisy, torch.where(known, level, levels)

    def _left_out(self, ask: Ask) -> dict[str, float]:
        """See `left_out`."""
        return left_out(ask, self.seconds_guidance(ask))

    def seconds_guidance(self, ask: Ask) -> float:
        """By how much seconds are guided: what the ask says, or the objective where the model can be."""
        if ask.seconds_guidance is not None:
            return ask.seconds_guidance
        usual = getattr(self.objective, "seconds_guidance", 1.0)
        return usual if usual != 1 and self._knows_unknown_rates else 1.0

    @property
    def _knows_unknown_rates(self) -> bool:
        return isinstance(getattr(self.model, "rate", None), RateEmbedding)

    def _counted(self, ask: Ask, seconds: Seconds) -> Seconds:
        """What the model is told of as many frames at an unknown rate; times that are not believed stay."""
        frames = self.latents.frames_of(seconds.shape[1] - 1)[-1] + 1
        counted = self.latents.seconds(nominal_seconds(frames)[None]).to(seconds).expand_as(seconds)
        return (
            counted
            if ask.rate_known is None
            else torch.where(ask.rate_known.to(seconds.device)[:, None], counted, seconds)
        )

    def check(self, ask: Ask) -> None:
        """Raise `BadArgument` where the model cannot do what is asked, before any work."""
        unknown = sorted({w for text in ask.text or () for w in text.split() if self.words and w not in self.words})
        if unknown:
            raise BadArgument(f"this checkpoint does not know '{' '.join(unknown)}'; it knows: {', '.join(self.words)}")
        if ask.text is not None and any(ask.text) and getattr(self.model, "text", None) is None:
            raise BadArgument(
                "this checkpoint reads no text" + (f"; classes: {', '.join(self.classes)}" * bool(self.classes))
            )
        if ask.labels is not None and int(ask.labels.max()) >= len(self.classes):
            names = ", ".join(f"{n} {name}" for n, name in enumerate(self.classes)) or "none"
            raise BadArgument(f"class {int(ask.labels.max())} is unknown to this checkpoint; it has: {names}")
        if isinstance(self.objective, Refinement) and (
            ask.known is None or not bool((ask.known[:, 0] & ask.known[:, -1]).all())
        ):
            raise BadArgument("this checkpoint refines between keyframes; give the first and the last frame at least")
        if ask.given_guidance != 1 and (not isinstance(self.objective, NoiseObjective) or self.objective.hidden):
            raise BadArgument("given_guidance needs a model that is told how noisy frames are; leave it at 1")
        if ask.seconds_guidance not in (None, 1) and not self._knows_unknown_rates:
            raise BadArgument(
                "seconds_guidance needs a model that knows unknown rates, as VideoDiT(rate=True); leave it at 1"
            )
        need, free = self.memory_bytes(ask), _free_bytes(self.device)
        if need > free:
            batch, time = ask.seconds.shape
            raise BadArgument(
                f"{batch} clips of {time} frames need about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
                "free; ask for fewer clips or frames at once"
            )

    def memory_bytes(self, ask: Ask) -> int:
        """About how much sampling needs beside the weights: a block's activations and the clip."""
        batch, time = ask.seconds.shape
        batch *= 1 + len(self._left_out(ask))
        patch, width = getattr(self.model, "patch_px", 4), getattr(self.model, "width", 256)
        widths = 10 + getattr(self.model, "mlp_ratio", 4.0)  # of a token: beside the hidden layer queries, keys, sums
        patch *= self.latents.stride_px
        tokens = batch * time * max(1, self.height // patch) * max(1, self.width // patch)
        values_bytes = self._weights.element_size() * widths * tokens * width
        return int(values_bytes + 4 * 6 * batch * time * 3 * self.height * self.width)


def _times(rows: Tensor, count: int) -> Tensor:
    """The samples of a batch, so many times over."""
    return rows if count == 1 else torch.cat([rows] * count)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights of any precision into a model.

    Raises:
        BadArgument: they are missing, broken, or of another model; what is missing is named.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from legato.clock import load_older

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadArgument(f"the weights {path} cannot be read: {error}") from error
    load_older(model, state, may_lack=())


def bundled_generators() -> dict[str, Path]:
    """Generators inside the package by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob(f"*/{SETTINGS_NAME}"))}


def _found(name: str) -> Path:
    """The folder of a generator."""
    bundled = bundled_generators()
    if name in bundled:
        return bundled[name]
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") == 1 and not Path(name).exists():
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
        except Exception as error:
            raise ModelNotFound(f"'{name}' is neither a folder nor reachable on the hub: {error}") from error
    if (BUNDLED / name).is_dir():
        raise ModelNotFound(f"'{name}' is no generator; footage-inbetween is an --interpolator, legato-tiny an encoder")
    raise ModelNotFound(f"there is no generator '{name}'; bundled are {', '.join(bundled) or 'none'}, or pass a folder")


def _objective(settings: dict[str, Any]) -> Objective:
    kind = OBJECTIVES[settings.pop("kind")]
    if kind is Equilibrium:
        return Equilibrium(EquilibriumMatching(**settings["matching"]))
    return kind(**settings)


def _name_of(objective: Objective) -> str:
    return next(name for name, kind in OBJECTIVES.items() if isinstance(objective, kind))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
