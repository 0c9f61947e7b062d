"""What the tests of the command line share: a user with an empty home, and an installation with a server, an admin and Alice."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.installation import CliInstallation, served
from tests.cli.program import is_setting


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, where this process now stands; no setting of this machine holds."""
    for name in list(os.environ):
        if is_setting(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AITBC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """A served installation for each file, with an admin, and Alice, who has 10 AITBC.

    To start one takes a second of work; one that stood idle from the first file to the last took minutes.
    """
    with served(tmp_path_factory.mktemp("installation")) as made:
        made.settle()
        yield made
