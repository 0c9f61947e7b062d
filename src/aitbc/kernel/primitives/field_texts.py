"""The docstrings under the fields of a struct, read from its source: what OpenAPI and docs/settings.md say of them.

A docstring may end with an example, ``For example `…`.``: JSON, or plain text for a field of text.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

EXAMPLE = re.compile(r"\s*For example `(.+)`\.\Z", re.DOTALL)


class FieldText(NamedTuple):
    """What a field means, and an example of it."""

    description: str
    example: str | None


@functools.cache
def field_texts(struct: type) -> Mapping[str, FieldText]:
    """The text of each field that has one, by its name in Python; those of its bases too."""
    found: dict[str, FieldText] = {}
    for cls in reversed(struct.__mro__):
        found |= _classes(cls.__module__).get(cls.__qualname__, {})
    return found


@functools.cache
def _classes(module: str) -> Mapping[str, Mapping[str, FieldText]]:
    """The texts of each class of a module; none where its source is not to be had."""
    source = getattr(sys.modules.get(module), "__file__", None)
    if not module.startswith("aitbc") or source is None or not Path(source).exists():
        return {}
    tree = ast.parse(Path(source).read_text(encoding="utf-8"))
    return {node.name: dict(_texts(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _texts(body: ast.ClassDef) -> Iterator[tuple[str, FieldText]]:
    for statement, after in zip(body.body, body.body[1:], strict=False):
        is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if is_field and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
            example = EXAMPLE.search(text)
            description = EXAMPLE.sub("", text)
            yield statement.target.id, FieldText(description, example[1] if example else None)  # type: ignore[attr-defined]
