"""The name is not one that is taken for another's."""

from collections.abc import Iterator

from aitbc.kernel.hooks.manifest import Manifest
from aitbc.kernel.hooks.rules.package import Package, RuleFinding, doubtful, rejected

RULE = "similar_name"
SHORT = 5
"""Of shorter names one letter makes another word."""
LONG = 10
"""Of longer ones two letters are easily overlooked."""
_LOOKS = str.maketrans({"0": "o", "1": "l", "5": "s", "i": "l", "-": "", "_": ""})


def check(package: Package) -> Iterator[RuleFinding]:
    """The names of others that it could be taken for."""
    manifest = package.manifest
    if not isinstance(manifest, Manifest):
        return
    namespace, _, name = manifest.name.partition(".")
    for other in sorted(package.known.names):
        theirs, _, their_name = other.partition(".")
        if other == manifest.name or theirs == namespace:
            continue
        near = distance(name, their_name)
        if looks(name) == looks(their_name) or (near == 1 and min(len(name), len(their_name)) >= SHORT):
            yield rejected(RULE, f"The name {manifest.name} is too close to {other}.")
        elif near == 2 and min(len(name), len(their_name)) >= LONG:
            yield doubtful(RULE, f"The name {manifest.name} is close to {other}.")


def looks(name: str) -> str:
    """A name without what the eye passes over: hyphens, and digits that look like letters."""
    return name.translate(_LOOKS).replace("rn", "m").replace("vv", "w")


def distance(one: str, other: str) -> int:
    """How many letters must be put in, left out, changed or swapped with their neighbours; at most 3."""
    if abs(len(one) - len(other)) > 2:
        return 3
    earlier: list[int] = []
    above = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        row = [at]
        for there, theirs in enumerate(other, 1):
            best = min(above[there] + 1, row[there - 1] + 1, above[there - 1] + (letter != theirs))
            if earlier and there > 1 and letter == other[there - 2] and one[at - 2] == theirs:
                best = min(best, earlier[there - 2] + 1)
            row.append(best)
        earlier, above = above, row
    return min(above[-1], 3)
