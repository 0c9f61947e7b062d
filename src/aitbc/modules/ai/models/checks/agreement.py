"""When two answers to one job agree: exactly, or within what honest machines were measured to differ by."""

import math
from collections import Counter
from collections.abc import Sequence

COSINE_MIN = 0.999
"""The least cosine of two vectors for one text; docs/verification.md has the measurement."""
TEXT_SHARED_MIN = 0.9
"""The least share of what two readings of one picture have in common; docs/verification.md has the measurement."""
GROUP = 3


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of one length; of two zero vectors 1, of one 0."""
    lengths = math.sqrt(math.fsum(x * x for x in one)) * math.sqrt(math.fsum(y * y for y in other))
    if lengths == 0.0:
        return 1.0 if not any(one) and not any(other) else 0.0
    return math.fsum(x * y for x, y in zip(one, other, strict=True)) / lengths


def shared_text(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of groups of three characters that two readings have in common, 0 to 1, without blanks and whatever the
    order of their lines; 1 where both read nothing.
    """
    left, right = _groups(one), _groups(other)
    most = max(left.total(), right.total())
    return (left & right).total() / most if most else 1.0


def _groups(lines: Sequence[str]) -> Counter[str]:
    text = "".join("".join(line.split()) for line in lines)
    return Counter(text[at : at + GROUP] for at in range(max(len(text) - GROUP + 1, min(len(text), 1))))
