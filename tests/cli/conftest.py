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


@pytest.fixture(scope="session")
def served_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """A served installation with an admin."""
    with served(tmp_path_factory.mktemp("installation")) as installation:
        yield installation


@pytest.fixture(scope="module")
def installation(served_installation: CliInstallation) -> CliInstallation:
    """The same for each file, with an Alice of its own, who has 10 AITBC."""
    served_installation.settle()
    return served_installation
