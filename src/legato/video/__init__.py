"""Reading and writing video with exact times."""

from legato.video.frames import Frame, Frames
from legato.video.read import Video, VideoInfo, open_reduced, open_video
from legato.video.timeline import Timeline
from legato.video.write import write_video

__all__ = ["Frame", "Frames", "Timeline", "Video", "VideoInfo", "open_reduced", "open_video", "write_video"]
