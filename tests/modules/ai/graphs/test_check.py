"""Graphs that cannot be run are refused with the node and the field that are wrong, and leave nothing behind."""

from typing import Any

import msgspec
import pytest

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import InvalidAmount
from aitbc.modules.ai.models.graphs.check import GraphBudgetTooSmall, GraphInvalid, GraphTooLarge, check, rules_of
from aitbc.modules.ai.models.graphs.places import Made, PlaceUnknown, Values
from aitbc.modules.ai.models.graphs.shapes import RunGraph
from tests.modules.ai.graphs.make import a_graph, node


@pytest.mark.parametrize(
    ("nodes", "pointer", "words"),
    [
        ([node("a", after=["b"]), node("b", "{{c.text}}"), node("c", after=["a"])], "/nodes/0", "wait for each other"),
        ([node("a", "{{a.text}}")], "/nodes/0", "a → a"),
        ([node("a", after=["b"])], "/nodes/0/after", "no such node"),
        ([node("a"), node("b", "{{gone.text}}")], "/nodes/1/input", "names gone"),
        ([node("a"), node("a")], "/nodes/1/name", "Another node"),
        ([node("item")], "/nodes/0/name", "stands for something else"),
        ([node("a", kind="paint")], "/nodes/0/kind", "no kind"),
        ([node("a", "{{item}}")], "/nodes/0/input", "no for_each"),
        ([node("a", "{{inputs.nothing}}")], "/nodes/0/input", "no input of the graph"),
        ([node("a"), node("b", "{{a.result}}")], "/nodes/1/input", "output, text, digest"),
        ([node("a"), node("b", "{{a.text.more}}")], "/nodes/1/input", "a path after output alone"),
        ([node("a"), node("b", "{{a..text}}")], "/nodes/1/input", "is no place"),
        ([node("a", for_each="{{inputs.x}} and more")], "/nodes/0/for_each", "is a list, or a text"),
        ([node("a", for_each=7)], "/nodes/0/for_each", "is a list, or a text"),
        ([node("a", for_each=[0] * 1001)], "/nodes/0/for_each", "1000 items"),
        ([node("a", for_each=[0] * 600), node("b", for_each=[0] * 600)], "/nodes", "1200"),
        ([node("a", join="any")], "/nodes/0/join", "no parents"),
        (
            [node("a", clocks={"retention_seconds": 0}), node("b", after=["a"])],
            "/nodes/0/clocks/retention_seconds",
            "3600",
        ),
        ([node("a", when={"value": "{{b.text}}"})], "/nodes/0/when", "no such node"),
        ([node("a", input={"texts": ["\x00"]})], "/nodes/0", "null character"),
        ([node("a", input={"texts": [[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]})], "/nodes/0", "nested"),
    ],
)
def test_what_cannot_be_run_is_refused_by_node_and_field(nodes: list[dict[str, Any]], pointer: str, words: str) -> None:
    with pytest.raises(GraphInvalid) as refused:
        check(a_graph(*nodes, inputs={"x": []}))
    (field,) = refused.value.fields
    assert field.pointer == pointer
    assert words in field.message


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"budget": "0.04"}, GraphBudgetTooSmall),
        ({"budget": "much"}, InvalidAmount),
        ({"budget": "0"}, InvalidAmount),
        ({"inputs": {"x": "a" * 300_000}}, GraphTooLarge),
    ],
)
def test_money_and_size_are_checked(fields: dict[str, Any], error: type[AppError]) -> None:
    with pytest.raises(error):
        check(a_graph(node("a"), **fields))


@pytest.mark.parametrize(
    "graph",
    [
        {"nodes": [], "budget": "1"},
        {"nodes": [node(f"n{number}") for number in range(201)], "budget": "1"},
        {"nodes": [node("a", retries=11)], "budget": "1"},
        {"nodes": [node("Large Letters")], "budget": "1"},
        {"nodes": [node("a", nothing=1)], "budget": "1"},
        {"nodes": [node("a")], "budget": "1", "parallel": 0},
    ],
)
def test_the_shape_is_bounded(graph: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(graph, RunGraph)


def test_parents_are_those_that_are_named_anywhere() -> None:
    graph = a_graph(
        node("a"),
        node("b"),
        node("c"),
        node("d", "{{a.text}}{{a.output.x}}", when={"value": 1, "equals": "{{b.state}}"}, for_each="{{c.output}}"),
        inputs={},
    )
    check(graph)
    assert set(rules_of(graph)["d"].parents) == {"a", "b", "c"}


def test_what_is_put_in_is_data_and_never_a_place() -> None:
    values = Values({"x": "{{y}}"}, {"a": Made({"text": "{{inputs.x}}", "n": [1, {"k": None}]}, "d", "j", "succeeded")})
    assert values.fill("{{a.text}}") == "{{inputs.x}}"
    assert values.fill({"k": ["<{{a.output.n}}>", "{{a.output.n.1.k}}", "{{ a.digest }}"]}) == {
        "k": ['<[1,{"k":null}]>', None, "d"]
    }
    for place in ("a.output.n.2", "a.output.n.-1", "a.output.text.0", "inputs.y", "b.text"):
        with pytest.raises(PlaceUnknown):
            values.at(place)
