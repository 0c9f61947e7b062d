"""Patterns that callers' texts are held to: `$` would let a line feed at the end pass."""

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "aitbc"
THEIR_OWN = "settings.py"
"""What the operator writes is no caller's text."""
LOOSE = re.compile(r"""\(\s*pattern=r?f?(["']).*?\$\1|,\s*pattern=r?f?(["']).*?\$\2""")


@pytest.mark.parametrize(
    "path", [path for path in sorted(SOURCES.rglob("*.py")) if path.name != THEIR_OWN and "Meta(" in path.read_text()]
)
def test_no_pattern_ends_before_a_line_feed(path: Path) -> None:
    loose = [line for line in path.read_text().splitlines() if LOOSE.search(line)]
    assert not loose, f"end them with \\Z: {loose}"
