"""What the package says of itself: its licence, and that it is typed."""

import importlib.metadata

from tests.architecture.source import ROOT


def test_the_package_states_its_licence_and_may_be_published() -> None:
    told = importlib.metadata.metadata("aitbc")
    assert told["License-Expression"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    assert not [line for line in told.get_all("Classifier") or [] if line.startswith("Private")]


def test_both_packages_say_that_they_are_typed() -> None:
    assert (ROOT / "src/aitbc/py.typed").is_file()
    assert (ROOT / "cli/aitbc_cli/py.typed").is_file()


def test_the_newest_changes_stand_first_in_the_changelog() -> None:
    titles = [
        line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")
    ]
    assert titles[0] == "## Unreleased"
    assert f"## {importlib.metadata.version('aitbc')}" in titles


def test_weaknesses_have_an_address_and_versions_a_policy() -> None:
    assert "/.well-known/security.txt" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    policy = (ROOT / "docs/versioning.md").read_text(encoding="utf-8")
    assert "`Deprecation: " in policy
    assert "`Sunset: " in policy
