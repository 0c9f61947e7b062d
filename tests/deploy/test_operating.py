"""What the documents say of deploy/ is so: every file named is there, and every file there is named."""

import re

from tests.deploy.programs import DEPLOY

ROOT = DEPLOY.parent
SECTION = (ROOT / "docs/operate.md").read_text().split("\n## Running it as a service\n")[1].split("\n## ")[0]
MEANT_FOR_ANOTHER = {"alerts.yml", "alerts_test.yml", "prometheus.yml", "Containerfile", "Containerfile.dockerignore"}
"""Files that another one of their folder names."""


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"deploy/[\w/.@-]*\w", SECTION)
    assert len(named) >= 5
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_file_that_is_there_is_named() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert not [path.name for path in files if path.name not in SECTION and path.name not in MEANT_FOR_ANOTHER]
    for path in files:
        assert path.name in SECTION or path.parent.name in SECTION, path


def test_the_places_named_are_those_of_the_units() -> None:
    unit = (DEPLOY / "systemd/aitbc.service").read_text()
    assert "AITBC_STATE_DIR=%S/aitbc" in unit and "AITBC_STATE_DIR=/var/lib/aitbc" in SECTION
    for place in ("/etc/aitbc/environment", "/opt/aitbc/.venv/bin/aitbc"):
        assert place in unit and place in SECTION
    for credential in re.findall(r"LoadCredential=[\w.]+:(\S+)", unit):
        assert f"/etc/credstore/{credential}" in SECTION
    assert re.search(r"WatchdogSec=(\d+)s", unit)[1] == re.search(r"still for (\d+) seconds", SECTION)[1]  # type: ignore[index]
