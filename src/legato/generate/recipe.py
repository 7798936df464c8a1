"""Recipes: what to train on what and how, as YAML whose every wrong key is named.

model: {kind: VideoDiT, width: 192, classes: 4}
objective: {kind: flow, prediction: clean}
data: {kind: physics, side_px: 32}
training: {steps: 3000, levels: {equal: 0.5, independent: 0.2, staircase: 0.3}}
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import torch

from legato.data.bank import Bank
from legato.data.batch import Source
from legato.data.clips import FolderClips
from legato.data.synthetic import Physics, Puppets
from legato.errors import BadArgument
from legato.generate.equilibrium import EquilibriumMatching
from legato.generate.generator import MODELS, OBJECTIVES, VideoGenerator
from legato.generate.latents import Latents, load_latents
from legato.generate.objectives import NoiseLevels, Objective
from legato.generate.refine import Refinement
from legato.generate.training import Training
from legato.yaml_file import read_yaml

__all__ = ["SOURCES", "Recipe", "read_recipe"]

SOURCES: dict[str, type[Source]] = {"physics": Physics, "puppets": Puppets, "folder": FolderClips, "bank": Bank}
NESTED: dict[str, Callable[..., Any]] = {"training.levels": NoiseLevels, "objective.matching": EquilibriumMatching}
LATENTS: dict[str, tuple[str, ...]] = {"pixels": (), "tiny": ("folder",), "diffusers": ("name",)}  # keys of each kind
PLAIN = (int, float, str, bool, type(None))
SECTIONS = ("model", "objective", "data", "latents", "training")


@dataclass(frozen=True)
class Recipe:
    """All that a training run needs.

    Attributes:
        generator: with untrained weights.
        source: of batches.
        settings: how.
    """

    generator: VideoGenerator
    source: Source
    settings: Training


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: YAML.
        overrides: such as `training.steps=200`; values are YAML.

    Raises:
        BadArgument: the file or a key in it is wrong; the key is named.
    """
    import yaml

    written = read_yaml(path, "recipe")
    if not isinstance(written, dict):
        raise BadArgument(f"the recipe {path} is not a mapping; expected the sections {', '.join(SECTIONS)}")
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise BadArgument(f"'{override}' is no override; write it as training.steps=200")
        place = written
        *above, last = key.split(".")
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise BadArgument(f"{key}: {part} holds a value, not a section")
        try:
            place[last] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # a date out of the calendar is a ValueError
            raise BadArgument(f"the value of '{override}' is not YAML: {' '.join(str(error).split())}") from error
    unknown = [key for key in written if key not in SECTIONS]
    if unknown:
        raise BadArgument(_unknown("", unknown[0], SECTIONS))
    sections = {name: _mapping(name, written.get(name)) for name in SECTIONS}
    settings = _made("training", Training, sections["training"])
    torch.manual_seed(settings.seed % 2**64)  # torch takes no more
    data = dict(sections["data"])
    source: Source = _made("data", _kind("data", data, SOURCES), data)
    model = dict(sections["model"])
    made = _made("model", _kind("model", model, MODELS), model)
    objective = dict(sections["objective"])
    objective_made = _made("objective", _kind("objective", objective, OBJECTIVES), objective)
    if objective_made.hidden != (getattr(made, "noise", "frame") == "hidden"):
        wanted = "hidden" if objective_made.hidden else "frame or sample"
        raise BadArgument(f"model.noise is {getattr(made, 'noise', 'frame')}; this objective needs it {wanted}")
    said = getattr(objective_made, "prediction", None)
    if getattr(made, "keep", None) is not None and said != "clean":
        instead = "set objective.prediction=clean, or " if said else ""
        raise BadArgument(
            f"model.keep mixes given frames into what the model says, a {said or 'field'} by this objective; {instead}"
            "leave model.keep out"
        )
    _check_refiner(made, objective_made, settings)
    mixed = settings.levels.independent or settings.levels.staircase or settings.known
    if getattr(made, "noise", "frame") == "sample" and mixed:
        raise BadArgument("model.noise is sample; training.levels must then be equal and training.known 0")
    latents = _latents(sections["latents"], path.parent)
    if latents.channels != made.channels:
        raise BadArgument(f"model.channels is {made.channels}; these latents have {latents.channels}")
    classes = source.classes
    if 0 < (wanted_classes := sections["model"].get("classes") or 0) < len(classes):
        raise BadArgument(f"model.classes is {wanted_classes}; the data has {len(classes)}: {', '.join(classes)}")
    generator = VideoGenerator(
        made,
        objective_made,
        source.side_px,
        source.side_px,
        classes=classes if wanted_classes else (),
        words=source.words if sections["model"].get("text_bytes") else (),
        latents=latents,
        trained={"recipe": path.name},
    )
    return Recipe(generator, source, settings)


def _check_refiner(model: Any, objective: Objective, settings: Training) -> None:
    """Raise `BadArgument` where a refiner would learn nothing, or a teacher would not be asked."""
    distilled = isinstance(objective, Refinement) and objective.distilled
    if settings.teacher and not distilled:
        raise BadArgument(
            f"training.teacher is {settings.teacher}, and this objective asks none: set objective.kind=refine and "
            "objective.distilled=true, or leave the teacher out"
        )
    if not isinstance(objective, Refinement):
        return
    if getattr(model, "noise", "frame") != "frame":
        raise BadArgument(
            f"model.noise is {model.noise}; a refiner is told of each frame how far it is filled in: use VideoDiT with "
            "model.noise=frame"
        )
    if getattr(model, "drive_channels", 0) != 2 * model.channels:
        raise BadArgument(
            f"model.drive_channels is {getattr(model, 'drive_channels', 0)}; a refiner is driven by the keyframes "
            f"before and after a frame, {2 * model.channels} channels"
        )
    if distilled and not settings.teacher:
        raise BadArgument(
            "objective.distilled is true without a training.teacher, so that the model would learn from itself; name "
            "the generator to learn from, as training.teacher=build/teacher/final"
        )


def _latents(values: Mapping[str, Any], folder: Path) -> Latents:
    """The latents of a recipe that lies in a folder."""
    settings = {"kind": "pixels", **values}
    keys = _kind("latents", dict(settings), LATENTS)
    for key, value in values.items():
        if key not in ("kind", *keys):
            raise BadArgument(f"latents.kind is {settings['kind']}: {_unknown('latents.', key, ('kind', *keys))}")
        if not isinstance(value, str):
            raise BadArgument(f"latents.{key} is {value!r}; expected str")
    if "name" in keys and not settings.get("name"):
        raise BadArgument(f"latents.kind is {settings['kind']}, and latents.name is missing: the VAE's folder or name")
    return load_latents(settings, folder)


def _kind(section: str, values: dict[str, Any], kinds: Mapping[str, Any]) -> Any:
    """Take the kind out of a section."""
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise BadArgument(f"{section}.kind is {kind!r}; expected one of {', '.join(kinds)}")
    return kinds[kind]


def _made(section: str, factory: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call something with a section's values; wrong names and types are told by their key."""
    known = {n: p for n, p in inspect.signature(factory).parameters.items() if n not in ("args", "kwargs")}
    given = {}
    for key, value in values.items():
        name = f"{section}.{key}"
        if key not in known:
            raise BadArgument(_unknown(f"{section}.", key, tuple(known)))
        if name in NESTED:
            value = _made(name, NESTED[name], _mapping(name, value))
        elif isinstance(value, list):
            value = tuple(value)
        _check_type(name, value, known[key])
        wanted = known[key].annotation
        if wanted is float:
            value = float(value)
        elif isinstance(value, tuple) and float in get_args(wanted):
            value = tuple(map(float, value))
        given[key] = value
    try:
        return factory(**given)
    except BadArgument as error:
        raise BadArgument(f"{section}: {error}") from error
    except TypeError as error:
        raise BadArgument(f"{section}: {error}") from error


def _check_type(name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raise `BadArgument` where a number, text, switch or list is of another kind; the rest is for who takes it."""
    wanted = parameter.annotation
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    if any(kind not in PLAIN and not _is_list(kind) for kind in options):
        return
    if any(_fits(value, kind) for kind in options):
        return
    names = " or ".join(map(_kind_name, options))
    hint = f": write [{value}]" if isinstance(value, (str, int, float)) and any(map(_is_list, options)) else ""
    raise BadArgument(f"{name} is {list(value) if isinstance(value, tuple) else value!r}; expected {names}{hint}")


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, Sequence)


def _fits(value: Any, kind: Any) -> bool:
    if _is_list(kind):
        parts = get_args(kind)
        if not isinstance(value, tuple):  # a text is no list of its letters
            return False
        if len(parts) > 1 and parts[-1] is not Ellipsis:
            return len(value) == len(parts) and all(map(_fits, value, parts))
        return all(_fits(one, parts[0]) for one in value)
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def _kind_name(kind: Any) -> str:
    if _is_list(kind):
        parts = get_args(kind)
        count = f"{len(parts)} " if len(parts) > 1 and parts[-1] is not Ellipsis else ""
        return f"a list of {count}{parts[0].__name__}"
    return "nothing" if kind is type(None) else str(kind.__name__)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadArgument(f"{name} is {value!r}; expected a mapping of keys to values")
    return value


def _unknown(section: str, key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; did you mean {section}{near[0]}?" if near else f"; known are {', '.join(known)}"
    return f"the recipe's key {section}{key} is unknown{hint}"
