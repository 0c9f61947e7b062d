"""How the tests themselves are run: a property that many must have names each that lacks it, and what is skipped is said."""

import os
from pathlib import Path

import pytest

from aitbc.server.postgres.paths import ORIGIN
from aitbc_cli.settings import state_folder
from tests.for_each import for_each
from tests.homes import NOWHERE
from tests.leftovers import remove_data_below
from tests.scale import LEFT
from tests.skipped import said


def test_a_property_is_looked_for_in_all_and_each_that_lacks_it_is_named() -> None:
    @for_each([1, 2, 3, 4])
    def is_even(number: int) -> None:
        assert number % 2 == 0, "odd"

    with pytest.raises(AssertionError) as told:
        is_even()
    assert [line.partition(":")[0] for line in str(told.value).splitlines() if ": AssertionError" in line] == ["1", "3"]


async def test_the_same_with_a_check_that_awaits() -> None:
    @for_each("ab", lambda letter: f"the letter {letter}")
    async def is_a(letter: str) -> None:
        assert letter == "a"

    with pytest.raises(AssertionError, match="the letter b: AssertionError"):
        await is_a()


def test_what_is_skipped_is_counted_by_the_package_that_is_wanted() -> None:
    nats = "nats-server is not installed (Debian: apt-get install nats-server)"
    assert said([nats, nats, "needs root"]) == "tests skipped: for want of nats-server 2, for other reasons 1"
    assert said([nats, LEFT, LEFT]) == f"tests skipped: for want of nats-server 1, {LEFT} 2"
    assert said([]) == ""


def test_what_no_test_gave_a_folder_would_be_seen() -> None:
    assert (
        state_folder({name: value for name, value in os.environ.items() if name != "AITBC_STATE_DIR"})
        == NOWHERE / "aitbc"
    )
    assert not (NOWHERE / "aitbc").exists()


def test_data_of_tests_that_are_over_goes_and_that_of_others_stays(tmp_path: Path) -> None:
    system, ours, alive = tmp_path / "system", tmp_path / "ours", tmp_path / "alive"
    alive.mkdir()
    origins = {
        "ours": ours / "state",
        "a dead test's": Path("/tmp/pytest-of-nobody/pytest-0/state"),
        "a living test's": alive,
        "somebody's": Path("/srv/pytest-offering/state"),
    }
    for name, origin in origins.items():
        (system / name).mkdir(parents=True)
        (system / name / ORIGIN).write_text(f"{origin}\n")
    assert remove_data_below(ours, system) == 2
    assert {home.name for home in system.iterdir()} == {"a living test's", "somebody's"}
