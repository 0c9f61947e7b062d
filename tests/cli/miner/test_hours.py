"""The hours of a miner, and whether its machine is idle."""

import os
import time
from datetime import datetime
from typing import Any

import pytest

from aitbc_cli.miner.hours import Hours, Idleness


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-28T{text}")


@pytest.mark.parametrize(
    ("schedule", "time", "left"),
    [
        (None, "12:00:00", None),
        ("00:00-24:00", "12:00:00", None),
        ("22:00-07:00", "21:59:59", 0.0),
        ("22:00-07:00", "22:00:00", 9 * 3600.0),
        ("22:00-07:00", "06:59:30", 30.0),
        ("22:00-07:00", "07:00:00", 0.0),
        ("12:00-13:00, 22:00-24:00", "12:30:00", 1800.0),
        ("12:00-13:00,13:00-14:00", "12:30:00", 5400.0),
        ("22:00-24:00,0:00-1:00", "23:00:00", 7200.0),
    ],
)
def test_a_window_lasts_as_long_as_its_hours_go_on(schedule: str | None, time: str, left: float | None) -> None:
    assert Hours(schedule).seconds_left(at(time)) == left


@pytest.mark.parametrize("wrong", ["", "22-7", "22:00", "25:00-01:00", "24:30-01:00", "22:00-22:00", "00:00-24:00,x"])
def test_what_is_no_time_of_day_is_refused(wrong: str) -> None:
    if not wrong:
        assert Hours(wrong).seconds_left() is None
        return
    with pytest.raises(ValueError, match="is no time of day"):
        Hours(wrong)


def test_outside_its_hours_a_miner_says_so_and_within_them_takes_what_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Hours("22:00-07:00")
    for left, pause, longest in ((0.0, True, 1), (59.0, True, 29), (3600.0, False, 3570), (None, False, None)):
        monkeypatch.setattr(Hours, "seconds_left", lambda _, left=left: left)
        assert (made.pause == "outside its hours, 22:00-07:00", made.run_seconds_max) == (pause, longest)


def gpu(load: float | None) -> dict[str, Any]:
    return {"type": "cuda", "uuid": "GPU-1", "index": 0, "utilization": load}


def test_a_machine_that_others_use_takes_no_work_until_it_was_idle_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    moment, load = 1000.0, 3.9
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    made = Idleness()
    made.note([gpu(5.0)], slots_busy=2, working_on=[])  # its own work is nobody else's
    idle = made.pause
    assert idle is None
    load = 4.5
    made.note([], slots_busy=2, working_on=[])
    busy = made.pause
    assert busy == "somebody else uses this machine: a load of 2.5"
    load, moment = 0.0, moment + 61
    made.note([gpu(90.0)], slots_busy=0, working_on=["GPU-1"])
    made.note([gpu(None)], slots_busy=0, working_on=[])
    assert made.pause is None
    made.note([gpu(90.0)], slots_busy=0, working_on=[])
    assert made.pause == "somebody else uses this machine: GPU 0 at 90 %"
