"""Whether a graph can be run as it is written: checked before anything is kept of it."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, TooLarge
from aitbc.kernel.primitives.templates import DEPTH_MAX, TooDeep, texts_in
from aitbc.modules.ai.models.graphs.life import Rules
from aitbc.modules.ai.models.graphs.places import (
    INDEX,
    INPUTS,
    ITEM,
    OF_A_NODE,
    RESERVED,
    is_well_formed,
    parents_of,
    places_of,
)
from aitbc.modules.ai.models.graphs.shapes import INSTANCES_MAX, SPEC_BYTES_MAX, GraphNode, RunGraph
from aitbc.modules.ai.models.kinds.registry import kind_of

KEPT_SECONDS_MIN = 3600
"""So long at least the output of a node is kept that another node uses."""


class GraphInvalid(Invalid):
    """This graph cannot be run as it is written; the fields say which node is wrong, and how."""

    code = "graph_invalid"


class GraphTooLarge(TooLarge):
    """A graph may be written with 256 KiB."""

    code = "graph_too_large"


class GraphBudgetTooSmall(Invalid):
    """The budget does not cover the most expensive node of this graph."""

    code = "graph_budget_too_small"


def check(graph: RunGraph) -> None:
    """Refuse what could not be run. Raises `GraphInvalid`, `GraphTooLarge`, `GraphBudgetTooSmall`."""
    if len(msgspec.json.encode(graph)) > SPEC_BYTES_MAX:
        raise GraphTooLarge
    names = _names(graph.nodes)
    for number, node in enumerate(graph.nodes):
        try:
            _check_node(graph, node, f"/nodes/{number}", names)
        except TooDeep:
            _refuse(f"/nodes/{number}", f"Node {node.name}: values are nested at most {DEPTH_MAX} deep.")
    _check_order(graph.nodes, names)
    _check_kept(graph.nodes, names)
    _check_size(graph.nodes)
    _check_budget(graph)


def rules_of(graph: RunGraph) -> dict[str, Rules]:
    """What the rules know of each node, in the order in which they were written."""
    return {
        node.name: Rules(parents_of(node), node.for_each is not None, node.join == "any", node.retries)
        for node in graph.nodes
    }


def _names(nodes: Sequence[GraphNode]) -> dict[str, int]:
    names: dict[str, int] = {}
    for number, node in enumerate(nodes):
        if node.name in RESERVED:
            _refuse(f"/nodes/{number}/name", f"No node may be called {node.name}: it stands for something else.")
        if node.name in names:
            _refuse(f"/nodes/{number}/name", f"Another node is called {node.name}.")
        names[node.name] = number
    return names


def _check_node(graph: RunGraph, node: GraphNode, where: str, names: Mapping[str, int]) -> None:
    try:
        kind_of(node.kind)
    except AppError as error:
        _refuse(f"{where}/kind", f"Node {node.name}: {error.message}")
    for parent in node.after:
        if parent not in names:
            _refuse(f"{where}/after", f"Node {node.name} comes after {parent}, and there is no such node.")
    for text in texts_in([node.input, node.for_each, None if node.when is None else node.when.value]):
        if "\x00" in text:
            _refuse(where, f"Node {node.name} has a null character in a text.")
    for field, places in places_of(node).items():
        for place in places:
            trouble = _trouble(graph, node, field, place, names)
            if trouble:
                _refuse(f"{where}/{field}", f"Node {node.name}: {{{{{place}}}}} {trouble}")
    _check_list(node, where)
    if node.join == "any" and not parents_of(node):
        _refuse(f"{where}/join", f"Node {node.name} has no parents of which any could succeed.")
    if node.requirements.booking is not None and node.max_price is not None:
        _refuse(f"{where}/max_price", f"Node {node.name} is for a booking, whose time is paid: leave max_price out.")


def _check_list(node: GraphNode, where: str) -> None:
    value = node.for_each
    if isinstance(value, list):
        if len(value) > INSTANCES_MAX:
            _refuse(f"{where}/for_each", f"Node {node.name}: a list may have {INSTANCES_MAX} items.")
        return
    places = places_of(node)["for_each"] if isinstance(value, str) else []
    if value is not None and (len(places) != 1 or not value.strip().startswith("{{") or not value.endswith("}}")):
        _refuse(f"{where}/for_each", f"Node {node.name}: for_each is a list, or a text that is one place.")


def _trouble(graph: RunGraph, node: GraphNode, field: str, place: str, names: Mapping[str, int]) -> str | None:
    """What is wrong with a place; none for one that may stand there."""
    name, _, path = place.partition(".")
    if not is_well_formed(place):
        return "is no place: it is a name, and a path after dots."
    if name in (ITEM, INDEX):
        return (
            "stands for an item, and the node has no for_each."
            if node.for_each is None or field == "for_each"
            else None
        )
    if name == INPUTS:
        return None if path.partition(".")[0] in graph.inputs else "names no input of the graph."
    if name not in names:
        return f"names {name}, and there is no such node."
    what, _, rest = path.partition(".")
    if what not in OF_A_NODE or (rest and what != "output"):
        return f"must name one of {', '.join(OF_A_NODE)} of the node, and a path after output alone."
    return None


def _check_order(nodes: Sequence[GraphNode], names: Mapping[str, int]) -> None:
    sorter: TopologicalSorter[str] = TopologicalSorter({node.name: parents_of(node) for node in nodes})
    try:
        sorter.prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        where = f"/nodes/{names[circle[0]]}"
        _refuse(where, f"These nodes wait for each other: {' → '.join(circle)}.")


def _check_kept(nodes: Sequence[GraphNode], names: Mapping[str, int]) -> None:
    used = {parent for node in nodes for parent in parents_of(node)}
    for name in used:
        node = nodes[names[name]]
        if node.clocks.retention_seconds < KEPT_SECONDS_MIN:
            pointer = f"/nodes/{names[name]}/clocks/retention_seconds"
            _refuse(pointer, f"Other nodes use what {name} makes: it is kept {KEPT_SECONDS_MIN} seconds at least.")


def _check_size(nodes: Sequence[GraphNode]) -> None:
    known = sum(len(node.for_each) if isinstance(node.for_each, list) else 1 for node in nodes)
    if known > INSTANCES_MAX:
        _refuse("/nodes", f"A graph comes to {INSTANCES_MAX} jobs at most, and this one to {known}.")


def _check_budget(graph: RunGraph) -> None:
    budget = _amount(graph.budget, "/budget")
    for number, node in enumerate(graph.nodes):
        if node.max_price is None:
            continue
        where = f"/nodes/{number}/max_price"
        if _amount(node.max_price, where) > budget:
            message = f"Node {node.name} may cost {node.max_price}, which is more than the budget of {graph.budget}."
            raise GraphBudgetTooSmall(message, fields=(FieldError("/budget", message),), node=node.name)


def _amount(text: str, where: str) -> int:
    try:
        return money.parse(text)
    except AppError as error:
        raise type(error)(error.message, fields=(FieldError(where, error.message),)) from None


def _refuse(pointer: str, message: str, **details: Any) -> None:
    raise GraphInvalid(message, fields=(FieldError(pointer, message),), **details)
