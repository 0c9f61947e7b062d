"""Reads of a PromQL expression what it needs: which metrics, with which labels, and which values of them."""

import re
from collections import defaultdict
from dataclasses import dataclass, field

OF_PROMETHEUS = frozenset({"instance", "job", "le"})
"""Labels that every series has from Prometheus itself, or every histogram."""
_TOKEN = re.compile(
    r"""\s+ | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*') | (?P<range>\[[^]]*\]) | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<number>\d[\w.]*) | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>@])""",
    re.VERBOSE,
)
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "offset", "bool"})


@dataclass
class Needs:
    """What an expression needs of the metrics."""

    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Those that are selected by, for each metric."""
    values: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """The values that metric and label must have had, where one is named literally."""
    grouped: set[str] = field(default_factory=set)
    """Labels that results are gathered or matched by."""


def needs(expression: str) -> Needs:
    """What it needs. Raises `ValueError` for what cannot be read."""
    tokens = _tokens(expression)
    found = Needs()
    metric, at = "", 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind == "word" and text in _GROUPING:
            if following == "(":
                end = tokens.index(("sign", ")"), at)
                found.grouped |= {word for which, word in tokens[at:end] if which == "word"}
                at = end + 1
        elif kind == "word" and text not in _OPERATORS and following != "(" and following not in _GROUPING:
            metric = text
            found.labels[metric] |= set()
        elif text == "{":
            end = tokens.index(("sign", "}"), at)
            _select(found, metric, tokens[at:end])
            at = end + 1
    return found


def _select(found: Needs, metric: str, matchers: list[tuple[str, str]]) -> None:
    for name, operator, value in zip(matchers, matchers[1:], matchers[2:], strict=False):
        if name[0] != "word" or value[0] != "string":
            continue
        found.labels[metric].add(name[1])
        if operator[1] == "=":
            found.values[metric, name[1]].add(value[1][1:-1])


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(expression):
        token = _TOKEN.match(expression, at)
        if token is None:
            raise ValueError(f"cannot read {expression[at : at + 20]!r}")
        at = token.end()
        if token.lastgroup is not None:
            found.append((token.lastgroup, token[0]))
    return found
