"""Draws docs/map.md from the manifests: who calls whom, who hears what, what each does by itself, and what its role may touch.

It stands here because it has to see the list of modules, which the kernel must not, and because nobody needs it in production.
"""

import importlib
import inspect
from collections.abc import Sequence

from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.module import Module
from aitbc.server.cluster.stubs import operations

COMMON = ("answers", "audit", "inbox", "outbox")
HEAD = """\
# The map

Written by `make map` from the manifests in `src/aitbc/modules/*/module.py`; change it there. Solid arrows are calls, and go
down; dotted arrows are events, and go anywhere.
"""


def draw(modules: Sequence[Module]) -> str:
    """The text of docs/map.md."""
    sections = [
        HEAD,
        _picture(modules),
        "## Who calls whom\n",
        _calls(modules),
        "## Who hears what\n",
        _events(modules),
        "## What each does by itself\n",
        _chores(modules),
        "## Tables, and what the module's role may do with them\n",
        f"Each schema also has {_listed(COMMON)}: the outbox and inbox of events, stored answers, the audit trail. The last",
        "column is for a database that spreads tables over servers: see [Operating](operate.md).\n",
        _tables(modules),
    ]
    return "\n".join(sections)


def module_of(thing: type) -> str:
    """The module that a face or an event belongs to."""
    name = thing.__module__.removeprefix("aitbc.modules.").split(".")[0]
    assert thing.__module__.startswith("aitbc.modules."), f"{thing.__qualname__} belongs to no module"
    return name


def told_by(module: Module) -> list[type[Event]]:
    """The events that a module tells, by kind."""
    return sorted(
        (e for e in Event.registry.values() if e.__module__ == f"aitbc.modules.{module.name}.events"), key=_kind
    )


def _kind(event: type[Event]) -> str:
    return event.kind


def _picture(modules: Sequence[Module]) -> str:
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {module.name}["{module.name}"]' for module in modules]
    for module in modules:
        lines += [f"    {module.name} -->|calls| {module_of(api)}" for api in module.needs.values()]
    for module in modules:
        for event in sorted(module.handles, key=_kind):
            lines.append(f"    {module_of(event)} -.->|{event.__name__}| {module.name}")
    return "\n".join([*lines, "```", ""])


def _calls(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        needs = ", ".join(module_of(api) for api in module.needs.values()) or "nobody"
        offers = ", ".join(f"`{name}`" for name in operations(module.api)) or "nothing"
        rows.append([module.name, _purpose(module), needs, offers])
    return _table(["module", "what it is", "calls", "offers its neighbours"], rows)


def _purpose(module: Module) -> str:
    """The sentence in the module's own `__init__`."""
    package = importlib.import_module(f"aitbc.modules.{module.name}")
    return (package.__doc__ or "").strip().partition(": ")[2].rstrip(".")


def _events(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        for event in told_by(module):
            event_handlers = [
                f"{other.name} (`{other.handles[event].__name__}`)" for other in modules if event in other.handles
            ]
            if event.concerns is not None:
                event_handlers.append(f"webhooks of its `{event.concerns}`")
            meaning = (event.__doc__ or "").strip().splitlines()[0]
            rows.append([f"`{event.kind}`", ", ".join(event_handlers) or "nobody yet", meaning])
    return _table(["event", "heard by", "what it says"], rows)


def _chores(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        for chore in module.periodic_tasks:
            where = "one process at a time" if chore.leader else "every process"
            meaning = inspect.getdoc(chore.run) or ""
            every = f"{chore.every_seconds:g} s"
            rows.append(
                [module.name, f"`{chore.run.__name__}`", every, where, meaning.splitlines()[0] if meaning else ""]
            )
    return _table(["module", "chore", "every", "by", "what it does"], rows)


def _tables(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        tables = sorted(module.metadata.tables.values(), key=lambda table: table.name)
        rows += [
            [f"`{table.fullname}`", _grants(table), spread_by(table)] for table in tables if table.name not in COMMON
        ]
    return _table(["table", "may", "could be spread by"], rows)


def spread_by(table: Table) -> str:
    """The column by which the rows could lie on several servers: it must be part of everything that is unique."""
    unique = [
        [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint)
    ]
    unique += [[column.name for column in index.columns] for index in table.indexes if index.unique]
    key = [column.name for column in table.primary_key.columns]
    shared = [name for name in key if all(name in names for names in unique)]
    # One account's, job's or miner's rows belong together: the plainest of the names that do.
    found = next((name for name in ("account", "job", "miner") if name in shared), next(iter(shared), None))
    return f"`{found}`" if found else "stays whole"


def _grants(table: Table) -> str:
    granted = table.info.get("grants", ALL["grants"])
    return ", ".join(granted).lower()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None yet.\n"
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in cells) + "\n"
