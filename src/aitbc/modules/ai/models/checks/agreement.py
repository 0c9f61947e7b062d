"""When two answers to one job agree: exactly, or within what honest machines were measured to differ by."""

import math
from collections import Counter
from collections.abc import Sequence

COSINE_MIN = 0.999
"""The least cosine of two vectors for one text; docs/verification.md has the measurement."""
LINES_SHARED_MIN = 0.9
"""The least share of equal lines in two readings of one picture; docs/verification.md has the measurement."""


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of one length; of two zero vectors 1, of one 0."""
    lengths = math.sqrt(math.fsum(x * x for x in one)) * math.sqrt(math.fsum(y * y for y in other))
    if lengths == 0.0:
        return 1.0 if not any(one) and not any(other) else 0.0
    return math.fsum(x * y for x, y in zip(one, other, strict=True)) / lengths


def shared_lines(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of lines that two readings have in common, 0 to 1, whatever their order and blanks; 1 where both read
    nothing.
    """
    left, right = (Counter("".join(line.split()) for line in lines if line.strip()) for lines in (one, other))
    most = max(left.total(), right.total())
    return (left & right).total() / most if most else 1.0
