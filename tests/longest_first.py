"""Hands the files of tests to the workers longest first, so that no worker still has a long one when the other is done.

How long each file takes is kept in durations.json. `make test RECORD=1` and `make test-all RECORD=1` measure anew; a file that
is not in it counts as a short one.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
SHORT_SECONDS = 1.0
"""What is not worth a line in the table."""
RECORD = "--record-durations"
_seconds: dict[str, float] = defaultdict(float)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record-durations`."""
    parser.addoption(RECORD, action="store_true", help=f"write what each file took into {DURATIONS.name}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By file, the longest first; within a file the order stays as it was chosen by chance."""
    known: dict[str, float] = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    places: dict[str, int] = {}
    for item in items:
        places.setdefault(_file(item.nodeid), len(places))
    items.sort(key=lambda item: (-known.get(_file(item.nodeid), 0.0), places[_file(item.nodeid)]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what setting up, calling and tearing down took."""
    _seconds[_file(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table: in the process that hears of all tests, not in a worker."""
    if session.config.getoption(RECORD) and not hasattr(session.config, "workerinput"):
        kept = {file: round(seconds, 1) for file, seconds in sorted(_seconds.items()) if seconds >= SHORT_SECONDS}
        DURATIONS.write_text(json.dumps(kept, indent=0) + "\n")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
