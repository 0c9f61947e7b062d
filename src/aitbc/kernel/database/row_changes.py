"""What rows were before a unit of work changed them, and what they are after it: for the audit trail."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.event import listens_for
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

CHANGES = "changes"
TEXT_LENGTH_MAX = 200
PRIVATE = ("secret", "sealed", "digest", "token", "input", "output")
"""Columns with one of these words in their names are named, and their values are not."""
MASK = "********"

Change = tuple[dict[str, Any], dict[str, Any]]


class RecordingSession(Session):
    """A session that remembers what the rows that it changes were before."""


@listens_for(RecordingSession, "before_flush")
def _remember(session: Session, _context: object, _instances: object) -> None:
    for row in session.dirty:
        _note(session, inspect(row))


def _note(session: Session, state: "InstanceState[Any]") -> None:
    for column in state.mapper.column_attrs:
        history = state.get_history(column.key, PASSIVE_NO_INITIALIZE)
        if not history.has_changes() or not history.deleted or not history.added:
            continue
        known: dict[Any, Change] = session.info.setdefault(CHANGES, {})
        before, after = known.setdefault((state.mapper, state.identity), ({}, {}))
        before.setdefault(column.key, history.deleted[0])
        after[column.key] = history.added[0]


def changes_of(session: Session, target: str) -> Mapping[str, Any]:
    """`before` and `after` of the columns that changed in the row with this id; nothing where none did."""
    for row in session.dirty:
        _note(session, inspect(row))
    for (_, identity), (before, after) in session.info.get(CHANGES, {}).items():
        if identity is not None and str(identity[0]) == target:
            names = [name for name in after if before[name] != after[name]]
            if names:
                return {
                    "before": {name: _shown(name, before[name]) for name in names},
                    "after": {name: _shown(name, after[name]) for name in names},
                }
    return {}


def _shown(name: str, value: Any) -> Any:
    """A value as the audit trail keeps it: short, as JSON, and without what is private."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes) or any(word in name for word in PRIVATE):
        return MASK
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [str(one)[:TEXT_LENGTH_MAX] for one in value[:20]]
    return str(value)[:TEXT_LENGTH_MAX]
