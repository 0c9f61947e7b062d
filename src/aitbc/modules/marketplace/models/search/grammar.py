"""The parser: from the text of a search to a tree of comparisons.

expression := all ("or" all)*
all        := one (["and"] one)*            what stands side by side must hold together
one        := "not" one | "(" expression ")" | field op value
op         := = == != > >= < <= | ["not"] in [value, …]
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from aitbc.modules.marketplace.models.search.values import SearchInvalid

LENGTH_MAX = 1_000
COMPARISONS_MAX = 50
DEPTH_MAX = 20
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<op>==|!=|>=|<=|[=<>])
      | (?P<mark>[()\[\],])
      | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
      | (?P<word>[^\s()\[\]=<>!"',]+(?:,[^\s()\[\]=<>!"',]+)*)
    )""",
    re.VERBOSE,
)


class Comparison(Struct, frozen=True):
    """A field, how it is compared, and with what; several values for `in`."""

    field: str
    operator: str
    values: tuple[str, ...]


class Not(Struct, frozen=True):
    """What must not hold."""

    inner: "Node"


class All(Struct, frozen=True):
    """What must hold together."""

    parts: tuple["Node", ...]


class Any(Struct, frozen=True):
    """Of which one must hold."""

    parts: tuple["Node", ...]


Node = Comparison | Not | All | Any


class Token(Struct, frozen=True):
    """A piece of the text: an operator, a mark, a quoted text or a word."""

    sort: str
    text: str
    at: int


def parse(text: str) -> Node:
    """The tree of a search; without a word in it, one that everything fits. Raises `SearchInvalid`."""
    if len(text) > LENGTH_MAX:
        raise SearchInvalid(f"A search has {LENGTH_MAX} characters at most.")
    tokens = _tokens(text)
    if not tokens:
        return All(())
    reader = _Reader(tokens)
    node = reader.expression(0)
    if (rest := reader.peek()) is not None:
        raise SearchInvalid(f"{rest.text!r} at {rest.at + 1} is not expected there.")
    return node


def fields_of(node: Node) -> set[str]:
    """The fields that a search names."""
    match node:
        case Comparison():
            return {node.field}
        case Not():
            return fields_of(node.inner)
        case All() | Any():
            return set().union(*(fields_of(part) for part in node.parts))


def _tokens(text: str) -> Sequence[Token]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise SearchInvalid(f"{text[at : at + 10].strip()!r} at {at + 1} cannot be read.")
        found.append(Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return found


class _Reader:
    """Reads tokens from the left to the right."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._comparisons = 0

    def peek(self) -> Token | None:
        """The token that comes next."""
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _is(self, text: str, sort: str = "word") -> bool:
        token = self.peek()
        return token is not None and token.sort == sort and token.text.lower() == text

    def _took(self, text: str, sort: str = "word") -> bool:
        if self._is(text, sort):
            self._next += 1
            return True
        return False

    def _take(self, wanted: str, *sorts: str) -> Token:
        token = self.peek()
        if token is None:
            raise SearchInvalid(f"The search ends where {wanted} is expected.")
        if token.sort not in sorts:
            raise SearchInvalid(f"{token.text!r} at {token.at + 1} stands where {wanted} is expected.")
        self._next += 1
        return token

    def expression(self, depth: int) -> Node:
        """Parts of which one must hold."""
        if depth > DEPTH_MAX:
            raise SearchInvalid(f"A search is nested {DEPTH_MAX} deep at most.")
        parts = [self._all(depth)]
        while self._took("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while (token := self.peek()) is not None and not self._is("or") and not self._is(")", "mark"):
            if not self._took("and") and token.sort not in ("word", "mark"):
                break
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Node:
        if self._took("not"):
            if depth >= DEPTH_MAX:
                raise SearchInvalid(f"A search is nested {DEPTH_MAX} deep at most.")
            return Not(self._one(depth + 1))
        if self._took("(", "mark"):
            inner = self.expression(depth + 1)
            if not self._took(")", "mark"):
                raise SearchInvalid("A parenthesis is not closed.")
            return inner
        return self._comparison()

    def _comparison(self) -> Node:
        self._comparisons += 1
        if self._comparisons > COMPARISONS_MAX:
            raise SearchInvalid(f"A search has {COMPARISONS_MAX} comparisons at most.")
        field = self._take("a field", "word").text.lower()
        if self._is("not"):
            self._next += 1
            if not self._took("in"):
                raise SearchInvalid(f"`in` is expected after `{field} not`.")
            return Not(Comparison(field, "in", self._list()))
        if self._took("notin"):
            return Not(Comparison(field, "in", self._list()))
        if self._took("in"):
            return Comparison(field, "in", self._list())
        operator = self._take("an operator (= != > >= < <= in)", "op").text
        value = self._take("a value", "word", "double", "single").text
        return Comparison(field, "=" if operator == "==" else operator, (value,))

    def _list(self) -> tuple[str, ...]:
        close = {"[": "]", "(": ")"}[self._take("a list such as [a, b]", "mark").text.replace(",", "[")]
        values: list[str] = []
        while not self._took(close, "mark"):
            if self._took(",", "mark"):
                continue
            token = self._take("a value", "word", "double", "single")
            values += token.text.split(",") if token.sort == "word" else [token.text]
        if not values:
            raise SearchInvalid("A list has a value at least.")
        if len(values) > COMPARISONS_MAX:
            raise SearchInvalid(f"A list has {COMPARISONS_MAX} values at most.")
        return tuple(values)
