"""What the repository keeps: no host of a package registry, no path of one machine, no secret; tests that mirror the source."""

import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, tracked_files

HOSTS = (
    "pypi" + r"\.org",
    "python" + "hosted",
    r"registry\." + "npmjs",
    r"deb\." + "debian",
    r"archive\." + "ubuntu",
    "crates" + r"\.io",
)
OPTIONS = ("(?<!no-emit-)index" + "-url", "find" + r"-links[ =]", "trusted" + "-host")
REGISTRY = re.compile("|".join((*HOSTS, *OPTIONS)), re.IGNORECASE)
PLACE = re.compile(r"(?:^|[^A-Za-z0-9_/.$}-])/(?:" + "work|farm|root|Users|home/[a-z]+" + r")/[A-Za-z.]")
SECRET = re.compile("-----BEGIN [A-Z ]*" + "PRIVATE KEY-----")
OF_THEIR_OWN = {"architecture", "bench", "chaos", "docs", "journeys", "legacy", "performance", "poison"}
"""Folders of tests that stand for no folder of the source."""


def _texts() -> list[tuple[str, str]]:
    texts = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts.append((str(path.relative_to(ROOT)), content.decode("utf-8")))
    return texts


@pytest.mark.parametrize(
    ("what", "pattern"), [("a registry", REGISTRY), ("one machine's place", PLACE), ("a key", SECRET)]
)
def test_no_tracked_file_names(what: str, pattern: re.Pattern[str]) -> None:
    found = []
    for name, text in _texts():
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name}:{number} names {what}: {line.strip()[:100]}")
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "https://" + "pypi" + ".org/simple/x",
        "-i --index" + "-url=x",
        "--extra-index" + "-url x",
        'at "/' + 'work/main"',
    ],
)
def test_the_patterns_find_what_they_are_for(line: str) -> None:
    assert REGISTRY.search(line) or PLACE.search(line)


def test_every_pinned_requirement_has_its_hashes() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        pins = re.split(r"\n(?=[a-zA-Z0-9])", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
        assert pins
        for pin in pins:
            assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^ ]+ ", pin), f"{path.name}: {pin[:60]} is not pinned"
            assert "--hash=sha256:" in pin, f"{path.name}: {pin[:60]} has no hash"


def test_what_is_made_here_is_ignored_and_removed() -> None:
    """Whatever git ignores as made here goes with `make clean`; the state of a server and its logs stay."""
    made = (ROOT / ".gitignore").read_text().partition("\n\n")[0].splitlines()[1:]
    clean = (ROOT / "Makefile").read_text().rpartition("clean: ##")[2].split()
    kept = {"/logs/", "*.pyc"}
    assert [name for name in made if name not in kept and name.strip("/") not in clean] == []


def test_every_folder_of_tests_mirrors_a_folder_of_the_source() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in tracked_files() if path.match("tests/**/test_*.py")}
    strangers = [str(folder) for folder in folders if folder.parts and not _source_of(folder).is_dir()]
    assert not strangers


def _source_of(folder: Path) -> Path:
    if folder.parts[0] in OF_THEIR_OWN:
        return ROOT
    if folder.parts[0] == "cli":
        return ROOT / "cli/aitbc_cli" / Path(*folder.parts[1:])
    if folder.parts[0] in ("deploy", "tools"):
        return ROOT / folder
    return ROOT / "src/aitbc" / folder
