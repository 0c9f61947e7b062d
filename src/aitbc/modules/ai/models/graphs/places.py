"""Places in the inputs of nodes: `{{split.output.texts}}`, and what is put there."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.templates import fill, places_in, text_of_output
from aitbc.modules.ai.models.graphs.shapes import GraphCondition, GraphNode

_WELL_FORMED = re.compile(r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")
ITEM, INDEX, INPUTS = "item", "index", "inputs"
RESERVED = frozenset({ITEM, INDEX, INPUTS})
OF_A_NODE = ("output", "text", "digest", "job", "state")
"""What of a node a place may name; a path may follow `output` alone."""


class PlaceUnknown(Exception):
    """There is nothing at a place; the text names it."""


class Made(Struct, frozen=True):
    """What a node, or an item of one, has made."""

    output: Any
    digest: str | None
    job: str | None
    state: str


def is_well_formed(place: str) -> bool:
    """Whether a place is a name with a path."""
    return _WELL_FORMED.match(place) is not None


def places_of(node: GraphNode) -> dict[str, list[str]]:
    """The places of a node by the field in which they stand. Raises `TooDeep`."""
    condition = [] if node.when is None else _condition_texts(node.when)
    return {"input": places_in(node.input), "for_each": places_in(node.for_each), "when": places_in(condition)}


def _condition_texts(condition: GraphCondition) -> list[Any]:
    return [condition.value, condition.equals, condition.differs, list(condition.any_of)]


def names_item(node: GraphNode) -> bool:
    """Whether the condition of a node looks at an item, and so is asked for each of them."""
    places = [] if node.when is None else places_in(_condition_texts(node.when))
    return any(place.partition(".")[0] in (ITEM, INDEX) for place in places)


def parents_of(node: GraphNode) -> tuple[str, ...]:
    """The nodes that must have ended before: named by `after`, or by a place."""
    found = dict.fromkeys(node.after)
    for places in places_of(node).values():
        found.update(dict.fromkeys(place.partition(".")[0] for place in places))
    return tuple(name for name in found if name not in RESERVED)


class Values:
    """What stands at places, for one job."""

    def __init__(
        self, inputs: Mapping[str, Any], made: Mapping[str, Made | Sequence[Made]], item: Any = None, index: int = -1
    ) -> None:
        self._inputs = inputs
        self._made = made
        self._item = item
        self._index = index

    def at(self, place: str) -> Any:
        """The value at a place. Raises `PlaceUnknown`."""
        name, _, path = place.partition(".")
        if name == ITEM:
            return walk(self._item, path, place)
        if name == INDEX:
            return self._index
        if name == INPUTS:
            return walk(dict(self._inputs), path, place)
        made = self._made.get(name)
        if made is None:
            raise PlaceUnknown(place)
        if isinstance(made, Made):
            return _of(made, path, place)
        return [_of(one, path, place) for one in made]

    def fill(self, template: Any) -> Any:
        """A template with its places filled in, once: what was put in is not looked at again.

        Raises `PlaceUnknown`, `FilledTooLarge`.
        """
        return fill(template, self.at)

    def holds(self, condition: GraphCondition) -> bool:
        """Whether a condition holds. Raises `PlaceUnknown`."""
        value = self.fill(condition.value)
        checks: list[Callable[[], bool]] = []
        if condition.equals is not None:
            checks.append(lambda: bool(value == self.fill(condition.equals)))
        if condition.differs is not None:
            checks.append(lambda: bool(value != self.fill(condition.differs)))
        if condition.any_of:
            checks.append(lambda: value in self.fill(condition.any_of))
        least, most = condition.at_least, condition.at_most
        if least is not None:
            checks.append(lambda: _is_number(value) and value >= least)
        if most is not None:
            checks.append(lambda: _is_number(value) and value <= most)
        if condition.contains is not None:
            checks.append(lambda: isinstance(value, str | list) and condition.contains in value)
        return all(check() for check in checks) if checks else bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def walk(value: Any, path: str, place: str) -> Any:
    """What lies at a path of keys and positions. Raises `PlaceUnknown`."""
    for step in path.split(".") if path else ():
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise PlaceUnknown(place)
    return value


def _of(made: Made, path: str, place: str) -> Any:
    what, _, rest = path.partition(".")
    if what in ("digest", "job", "state"):
        return getattr(made, what)
    if made.output is None:
        return None  # it did not succeed, and who asks takes any
    return text_of_output(made.output) if what == "text" else walk(made.output, rest, place)
