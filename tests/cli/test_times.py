"""Lengths and points of time as people write them and read them."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from aitbc_cli.exits import Stop
from aitbc_cli.times import length, seconds_of, shown, since

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("150ms", 0.15),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        (" 5M ", 300),
        ("0", 0),
        ("5m5", 305),
    ],
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 m", "5x", "1h-3m", "inf", "nan", "1e9", "99999w", "٣s", "²"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(Stop) as refused:
        seconds_of(text)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850 ms"),
        (4.2, "4.2 s"),
        (185, "3 m 5 s"),
        (7800, "2 h 10 m"),
        (273_600, "3 d 4 h"),
        (59.99, "1 m 0 s"),
        (119.7, "2 m 0 s"),
    ],
)
def test_a_length_of_time_is_told(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_a_point_in_time_is_shown_local_or_in_utc() -> None:
    assert shown("2026-05-01T12:00:00.123456Z", utc=True) == "2026-05-01 12:00:00Z"
    assert shown("2026-05-01T14:00:00+02:00", utc=True) == "2026-05-01 12:00:00Z"
    assert shown("2026-05-01T12:00:00Z", utc=False) == NOW.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    assert shown("soon", utc=True) == "soon"


def test_since_is_a_point_or_a_length_before_now() -> None:
    with time_machine.travel(NOW, tick=False):
        assert since("24h") == (NOW - timedelta(hours=24)).isoformat().replace("+00:00", "Z")
        assert since("2026-04-30T12:00:00+02:00") == "2026-04-30T10:00:00Z"
    with pytest.raises(Stop):
        since("yesterday")
