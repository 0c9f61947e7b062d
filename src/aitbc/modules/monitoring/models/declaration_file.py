"""The file of declarations: all that it may hold, and how it is read."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from aitbc.modules.monitoring.models.declarations import (
    UnusableDeclaration,
    WantedMonitor,
    WantedObjective,
    WantedRule,
    WantedWindow,
)
from aitbc.modules.monitoring.models.service_classes import WantedServiceClass


class Declarations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a file declares."""

    monitors: Annotated[list[WantedMonitor], Meta(max_length=500)] = field(default_factory=list)
    rules: Annotated[list[WantedRule], Meta(max_length=500)] = field(default_factory=list)
    objectives: Annotated[list[WantedObjective], Meta(max_length=200)] = field(default_factory=list)
    windows: Annotated[list[WantedWindow], Meta(max_length=200)] = field(default_factory=list)
    service_classes: Annotated[list[WantedServiceClass], Meta(max_length=200)] = field(default_factory=list)


def read_declarations(content: bytes) -> Declarations:
    """The declarations in a TOML file. Raises `UnusableDeclaration` with what is wrong."""
    try:
        found = msgspec.toml.decode(content, type=Declarations)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnusableDeclaration(f"It cannot be read: {error}") from None
    for things in (found.monitors, found.rules, found.objectives, found.service_classes):
        names = [thing.name for thing in things]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise UnusableDeclaration(f"The name {double} is declared twice.")
    return found
