"""The SQL of `aitbc.kernel.primitives.model_names`: rows whose model has a name in it, however either is written."""

from typing import Any

from sqlalchemy import ColumnElement, func

from aitbc.kernel.primitives.model_names import NOISE, squeezed


def is_named(column: Any, wanted: str) -> ColumnElement[bool]:
    """The condition that a column's model has the wanted name in it."""
    sought = squeezed(wanted)
    if not sought:
        plain: ColumnElement[bool] = column.icontains(wanted, autoescape=True)
        return plain
    return func.regexp_replace(func.lower(column), NOISE, "", "g").contains(sought)
