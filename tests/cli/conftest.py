"""What the tests of the command line share: a user with an empty home, and an installation with a server, an admin and Alice."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.installation import CliInstallation
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
    """A served installation of this file's own, with an admin, and with Alice, who has 10 AITBC."""
    installation = CliInstallation(tmp_path_factory.mktemp("installation"))
    installation.server.start()
    try:
        installation.settle()
        yield installation
    finally:
        installation.server.stop()
