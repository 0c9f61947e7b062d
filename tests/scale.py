"""How much the large tests prove: `make test` their small form, in minutes; `make test-all` all of it.

The small form still touches every operation, every kind of place and every point of a crash. Only tests read this: what is
tested does not know of it.
"""

import os
from typing import TypeVar

import pytest

T = TypeVar("T")
FULL = os.environ.get("TEST_ALL") == "1"
"""Whether everything is to be proven."""


LEFT = "left to make test-all"
only_in_full = pytest.mark.skipif(not FULL, reason=LEFT)
"""What takes long and proves by a slow program what others prove in `make test` without it."""


def scaled(small: T, full: T) -> T:
    """The number, or the choice, for this run."""
    return full if FULL else small
