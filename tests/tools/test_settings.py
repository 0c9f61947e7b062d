"""The settings' document says of every setting what it is for."""

from aitbc.app import MODULES
from tools.settings import written


def test_every_setting_has_a_meaning() -> None:
    rows = [line for line in written(MODULES).splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert [row for row in rows if row.rstrip().endswith("|  |")] == []
