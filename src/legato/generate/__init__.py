"""Video models that know when each frame is."""

from legato.generate.ask import Ask
from legato.generate.dit import VideoDiT
from legato.generate.generator import VideoGenerator, bundled_generators
from legato.generate.objectives import Diffusion, Equilibrium, FlowMatching, NoiseLevels
from legato.generate.recipe import Recipe, read_recipe
from legato.generate.training import Training, train
from legato.generate.unet3d import VideoUNet3D

__all__ = [
    "Ask",
    "Diffusion",
    "Equilibrium",
    "FlowMatching",
    "NoiseLevels",
    "Recipe",
    "Training",
    "VideoDiT",
    "VideoGenerator",
    "VideoUNet3D",
    "bundled_generators",
    "read_recipe",
    "train",
]
