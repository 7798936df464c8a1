"""What drives a stream, from a file or a pipe: its times, its place, and how it goes on after a break."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from legato.cli.driver import Driver
from legato.errors import BadArgument
from legato.generate.driving import DriveState
from tests.cli.test_stream_command import standard_input
from tests.generate.test_stream import GENERATOR


def rows(*values: int) -> bytes:
    return b"".join(np.full((8, 8, 3), value, dtype=np.uint8).tobytes() for value in values)


def shown(driver: Driver, *seconds: float, before: DriveState | None = None) -> tuple[list[int], DriveState]:
    drive = driver.drive(GENERATOR, 10.0, before)
    pictures, state = drive.at(torch.tensor(seconds, dtype=torch.float64), before)
    return ((pictures[:, 0, 0, 0] + 1) * 127.5).round().int().tolist(), state


def test_a_file_is_skipped_up_to_where_it_stood_and_a_live_drive_goes_on() -> None:
    filed, live = Driver(Path("-"), "rgb24"), Driver(Path("-"), "rgb24", patience_seconds=5.0)
    with standard_input(rows(0, 10, 20)):
        values, state = shown(filed, 0.0, 0.1, 0.2)
    assert values == [0, 10, 20]
    with standard_input(rows(0, 10, 20, 30, 40)):
        assert shown(filed, 0.3, 0.4, before=state)[0] == [30, 40]
    with standard_input(rows(100, 110, 120)):
        assert shown(live, 0.3, 0.4, before=state)[0] == [100, 110]
    with standard_input(rows(0, 10, 20)):
        assert shown(Driver(Path("-"), "rgb24", fps=20.0), 0.0, 0.1)[0] == [0, 20]


def test_a_reference_pose_moves_the_drive(tmp_path: Path) -> None:
    pose = np.zeros((8, 8, 3), np.uint8)
    pose[4:8, 4:8] = 200
    cv2.imwrite(str(tmp_path / "pose.png"), pose)
    with standard_input(pose[::-1, ::-1].tobytes()):  # the same figure in the other corner
        drive = Driver(Path("-"), "rgb24", fit_to=tmp_path / "pose.png").drive(GENERATOR, 10.0)
        pictures, state = drive.at(torch.zeros(1, dtype=torch.float64))
    assert state.calibration == pytest.approx((1.0, 1.0, 1.0))
    expected = torch.from_numpy(pose).permute(2, 0, 1) / 127.5 - 1
    assert float((pictures[0] - expected).abs().max()) < 1e-3
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((8, 12, 3), np.uint8))
    with pytest.raises(BadArgument, match=r"wide.png are 12x8; .* shape of 8x8: crop"):
        Driver(Path("-"), "rgb24", fit_to=tmp_path / "wide.png").drive(GENERATOR, 10.0)
