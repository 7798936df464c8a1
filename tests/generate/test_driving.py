"""Driving pictures: the right one for each time, and none taken before it is needed."""

from collections.abc import Iterator
from threading import Event
from time import monotonic

import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument, StateMismatch
from legato.generate.calibration import Calibration
from legato.generate.driving import Drive, DriveState, _Stalled


def picture(value: float) -> Tensor:
    return torch.full((3, 2, 2), float(value))


class Driver:
    """Pictures whose value is their time, and a count of how many were taken."""

    def __init__(self, seconds: list[float]):
        self.seconds, self.taken = seconds, 0

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        for at in self.seconds:
            self.taken += 1
            yield at, picture(at)


def asked(drive: Drive, *times: float) -> list[float]:
    return drive.at(torch.tensor(times, dtype=torch.float64))[0][:, 0, 0, 0].tolist()


def test_nearest_and_linear_at_any_rate() -> None:
    seconds = [0.0, 0.25, 0.5, 1.0]
    times = (0.0, 0.1, 0.125, 0.2, 0.5, 0.7, 0.8, 1.0)
    assert asked(Drive(Driver(seconds)), *times) == [0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 1.0, 1.0]
    linear = asked(Drive(Driver(seconds), between="linear"), *times)
    assert linear == pytest.approx(times, abs=1e-6)
    skipped = asked(Drive(Driver([0.0, 0.1, 0.2, 0.3, 0.4])), 0.0, 0.31)
    assert skipped == pytest.approx([0.0, 0.3])


def test_the_first_picture_holds_before_it_and_the_last_after_it() -> None:
    drive = Drive(Driver([1.0, 2.0]))
    pictures, state = drive.at(torch.tensor([0.0, 0.9, 1.9, 2.0], dtype=torch.float64))
    assert pictures[:, 0, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert state.end_seconds is None
    pictures, state = drive.at(torch.tensor([5.0], dtype=torch.float64), state)
    assert pictures[:, 0, 0, 0].tolist() == [2.0]
    assert state.end_seconds == 2.0


def test_no_picture_is_taken_before_it_is_needed_and_two_at_most_are_kept() -> None:
    driver = Driver([i / 10 for i in range(1000)])
    drive, state = Drive(driver), None
    for first in range(0, 60, 4):
        times = torch.arange(first, first + 4, dtype=torch.float64) / 20
        _, state = drive.at(times, state)
        assert driver.taken == -(-(first + 3) // 2) + 1
        assert len(state.pictures) <= 2


def test_a_driver_that_begins_anew_goes_on_where_the_state_stood() -> None:
    seconds = [i / 7 for i in range(40)]
    times = torch.arange(40, dtype=torch.float64) / 11
    whole, _ = Drive(Driver(seconds), between="linear").at(times)
    _, state = Drive(Driver(seconds), between="linear").at(times[:13])
    rest, _ = Drive(Driver(seconds), between="linear").at(times[13:], state)
    assert torch.equal(rest, whole[13:])
    live, _ = Drive(Driver([t for t in seconds if t > float(state.seconds[-1])]), between="linear").at(
        times[13:], state
    )
    assert torch.equal(live, whole[13:])


def test_a_driver_that_has_gone_on_beyond_a_state_is_refused() -> None:
    drive = Drive((n / 10, picture(n / 10)) for n in range(9))
    _, early = drive.at(torch.tensor([0.1], dtype=torch.float64))
    _, late = drive.at(torch.tensor([0.5], dtype=torch.float64), early)
    for state in (early, None):
        with pytest.raises(StateMismatch, match=r"has gone on to 0.5 s.*a new drive"):
            drive.at(torch.tensor([0.2], dtype=torch.float64), state)
    assert drive.at(torch.tensor([0.6], dtype=torch.float64), late)[1].seconds[-1] == 0.6


def test_what_no_driver_may_do_is_told() -> None:
    with pytest.raises(BadArgument, match="no picture"):
        asked(Drive([]), 0.0)
    with pytest.raises(BadArgument, match="at nan s; expected floating-point tensors"):
        asked(Drive([(float("nan"), picture(0))]), 0.0)
    with pytest.raises(BadArgument, match=r"0\.1 s follows one at 0\.2 s"):
        asked(Drive([(0.0, picture(0)), (0.2, picture(1)), (0.1, picture(2))]), 0.5)
    with pytest.raises(BadArgument, match=r"at 0\.1 s is \(3, 4, 4\)"):
        asked(Drive(iter([(0.0, picture(0)), (0.1, torch.zeros(3, 4, 4))])), 0.5)
    with pytest.raises(BadArgument, match="between is 'cubic'"):
        Drive([], between="cubic")
    with pytest.raises(BadArgument, match="at_end is 'loop'"):
        Drive([], at_end="loop")


def test_a_driver_that_stalls_is_waited_for_as_long_as_there_is_patience_and_then_held() -> None:
    go_on, end = Event(), Event()

    def live() -> Iterator[tuple[float, Tensor]]:
        yield 0.0, picture(0)
        yield 1.0, picture(1)
        go_on.wait(30)
        for at in (2.0, 3.0, 4.0):
            yield at, picture(at)
        end.wait(30)

    drive, times = Drive(live(), patience_seconds=0.2), torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    shown, state = drive.at(times)
    assert shown[:, 0, 0, 0].tolist() == [0, 1, 1, 1]
    assert not state.ended
    go_on.set()
    shown, state = drive.at(torch.tensor([4.0, 5.0], dtype=torch.float64), state)  # 2 and 3 came late and are skipped
    assert shown[:, 0, 0, 0].tolist() == [4, 4]
    end.set()
    shown, state = drive.at(torch.tensor([6.0], dtype=torch.float64), state)
    assert (shown[0, 0, 0, 0].item(), state.end_seconds) == (4, 4.0)
    with pytest.raises(ZeroDivisionError):
        asked(Drive(((n / 0, picture(n)) for n in range(3)), patience_seconds=1.0), 0.0)
    with pytest.raises(BadArgument, match="patience_seconds is -1"):
        Drive([], patience_seconds=-1.0)


def test_patience_is_lost_once_and_not_with_every_window() -> None:
    end = Event()

    def live() -> Iterator[tuple[float, Tensor]]:
        yield 0.0, picture(0)
        end.wait(30)

    drive, state = Drive(live(), patience_seconds=0.4), None
    begun = monotonic()
    for at in range(10):
        shown, state = drive.at(torch.tensor([at / 50], dtype=torch.float64), state)
        assert shown[0, 0, 0, 0] == 0
    end.set()
    assert 0.4 <= monotonic() - begun < 2.0


def test_after_a_pause_a_live_drive_is_followed_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("legato.generate.driving.monotonic", lambda: clock[0])

    class Camera:
        """24 pictures a second that come as they are taken, but for a pause."""

        number = 0

        def take(self, until: float | None) -> tuple[float, Tensor]:
            at = self.number / 24
            comes = at if at < 2 else at + 1.5
            if until is not None and comes > until:
                clock[0] = max(clock[0], until)
                raise _Stalled
            clock[0] = max(clock[0], comes)
            self.number += 1
            return at, picture(at)

    drive, state, late = Drive([], patience_seconds=1.0), None, []
    drive._coming = Camera()  # type: ignore[assignment]
    for window in range(30):
        wanted = torch.arange(8 * window, 8 * window + 8, dtype=torch.float64) / 24
        shown, state = drive.at(wanted, state)
        clock[0] += 0.05  # of work
        late.append(float((wanted - shown[:, 0, 0, 0]).max()) > 0.1)
    assert not any(late[:6])
    assert any(late)
    assert sum(late) <= 6  # the pause is four and a half windows long


def test_without_its_driver_a_stream_goes_on_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("legato.generate.driving.monotonic", lambda: clock[0])

    class Dead:
        left = 1

        def take(self, until: float | None) -> tuple[float, Tensor]:
            if self.left:
                self.left = 0
                return 0.0, picture(0)
            assert until is not None
            clock[0] = max(clock[0], until)
            raise _Stalled

    drive, state = Drive([], patience_seconds=0.5), None
    drive._coming = Dead()  # type: ignore[assignment]
    for window in range(12):
        _, state = drive.at(torch.arange(8 * window, 8 * window + 8, dtype=torch.float64) / 24, state)
        clock[0] += 0.25  # of work
    assert 3.6 <= clock[0] <= 4.5  # four seconds of video, of which the last window is not shown yet


def test_whether_a_picture_was_used_is_told() -> None:
    first = Drive((float(n), picture(n)) for n in range(3))
    assert not first.used
    _, state = first.at(torch.tensor([1.0], dtype=torch.float64))
    assert first.used
    again = Drive((n / 10, picture(n)) for n in range(3))  # all before where the state stood
    again.at(torch.tensor([5.0], dtype=torch.float64), state)
    assert not again.used


def figure(x: int, y: int, side: int) -> Tensor:
    """A square on an even ground."""
    made = torch.full((3, 32, 32), -1.0)
    made[:, y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = 0.5
    return made


def test_the_first_picture_is_brought_to_the_references_place_and_size_and_the_rest_with_it() -> None:
    first, later = figure(10, 12, 4), figure(14, 10, 4)
    drive = Drive([(0.0, first), (1.0, later)], fit_to=figure(16, 16, 8))
    shown, state = drive.at(torch.tensor([0.0], dtype=torch.float64))
    assert float((shown[0] - figure(16, 16, 8)).abs().mean()) < 0.03
    assert state.calibration is not None
    assert state.calibration[0] == pytest.approx(2, rel=0.05)
    resumed = Drive([(0.0, first), (1.0, later)])  # what is kept in the state counts
    rest, after = resumed.at(torch.tensor([1.0], dtype=torch.float64), DriveState.from_values(dict(vars(state))))
    assert float((rest[0] - figure(24, 12, 8)).abs().mean()) < 0.03
    assert after.calibration == state.calibration
    assert torch.equal(Calibration()(later), later)
    with pytest.raises(BadArgument, match="first picture shows nothing"):
        Drive([(0.0, torch.ones(3, 32, 32))], fit_to=first).at(torch.zeros(1, dtype=torch.float64))
    with pytest.raises(BadArgument, match=r"reference's driving picture is \(3, 2, 2\)"):
        Drive([(0.0, first)], fit_to=picture(1)).at(torch.zeros(1, dtype=torch.float64))


def test_a_bridge_fades_from_the_reference_to_the_first_picture() -> None:
    reference = torch.zeros(1, 4, 4)
    reference[:, 1:3, 1:3] = 1.0
    first = 0.5 * reference
    drive = Drive(((n / 10, first + n * reference) for n in range(9)), fit_to=reference, bridge_seconds=0.4)
    times = torch.tensor([-0.5, -0.4, -0.3, -0.1, 0.0, 0.1], dtype=torch.float64)
    pictures, state = drive.at(times[:3])
    later, state = drive.at(times[3:], state)
    strengths = torch.cat([pictures, later])[:, 0, 1, 1].tolist()
    assert strengths == pytest.approx([1.0, 1.0, 0.875, 0.625, 0.5, 1.5])
    assert state.calibration == pytest.approx((1.0, 0.0, 0.0))
    with pytest.raises(BadArgument, match="fit_to"):
        Drive(Driver([0.0]), bridge_seconds=0.5)
    with pytest.raises(BadArgument, match="expected 0 or more"):
        Drive(Driver([0.0]), fit_to=picture(1), bridge_seconds=-0.5)
