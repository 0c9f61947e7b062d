"""Draws docs/map.md from manifests and imports: calls, events, periodic tasks, tables; the rooms of kernel and server.

It stands here because it has to see the list of modules, which the kernel must not, and because nobody needs it in
production.
"""

import importlib
import inspect
from collections.abc import Sequence

import grimp
from sqlalchemy import PrimaryKeyConstraint, Table, UniqueConstraint

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.module import Module
from aitbc.server.cluster.stubs import operations

COMMON = ("answers", "audit", "inbox", "outbox")
HEAD = """\
# The map

Written by `make map` from the code: the modules from their manifests (`src/aitbc/modules/*/module.py`), the rooms of kernel and
server from their imports. Change it there. Solid arrows are calls, and go down; dotted arrows are events, and go anywhere.
"""
ROOMS = """\
The packages of `src/aitbc/{tree}/`, and which imports which. An arrow points to what is imported. The order is held by the import
contract "{tree}" in `pyproject.toml`.
"""


def draw(modules: Sequence[Module]) -> str:
    """The text of docs/map.md."""
    sections = [
        HEAD,
        _picture(modules),
        "## Who calls whom\n",
        _calls(modules),
        "## Who handles which event\n",
        _events(modules),
        "## Periodic tasks\n",
        _periodic_tasks(modules),
        "## Tables, and what the module's role may do with them\n",
        f"Each schema also has {_listed(COMMON)}: the outbox and inbox of events, stored answers, the audit trail. The last",
        "column is for a database that spreads tables over servers: see [Operating](operate.md).\n",
        _tables(modules),
        *_rooms("kernel"),
        *_rooms("server"),
    ]
    return "\n".join(sections)


def module_of(thing: type) -> str:
    """The module that a face or an event belongs to."""
    name = thing.__module__.removeprefix("aitbc.modules.").split(".")[0]
    assert thing.__module__.startswith("aitbc.modules."), f"{thing.__qualname__} belongs to no module"
    return name


def published_by(module: Module) -> list[type[Event]]:
    """The events that a module publishes, by kind."""
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
    return _table(["module", "what it is", "calls", "offers other modules"], rows)


def _purpose(module: Module) -> str:
    """The sentence in the module's own `__init__`."""
    package = importlib.import_module(f"aitbc.modules.{module.name}")
    return (package.__doc__ or "").strip().partition(": ")[2].rstrip(".")


def _events(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        for event in published_by(module):
            event_handlers = [
                f"{other.name} (`{other.handles[event].__name__}`)" for other in modules if event in other.handles
            ]
            event_handlers += [f"webhooks of its `{field}`" for field in event.concerns]
            meaning = (event.__doc__ or "").strip().splitlines()[0]
            rows.append([f"`{event.kind}`", ", ".join(event_handlers) or "nobody yet", meaning])
    return _table(["event", "handled by", "what it says"], rows)


def _periodic_tasks(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        for task in module.periodic_tasks:
            where = "one process at a time" if task.leader else "every process"
            meaning = inspect.getdoc(task.run) or ""
            every = f"{task.every_seconds:g} s"
            rows.append(
                [module.name, f"`{task.run.__name__}`", every, where, meaning.splitlines()[0] if meaning else ""]
            )
    return _table(["module", "periodic task", "every", "by", "what it does"], rows)


def _tables(modules: Sequence[Module]) -> str:
    rows = []
    for module in modules:
        tables = sorted(module.metadata.tables.values(), key=lambda table: table.name)
        rows += [
            [f"`{table.fullname}`", _grants(table), spread_by(table)] for table in tables if table.name not in COMMON
        ]
    return _table(["table", "may", "could be spread by"], rows)


def _rooms(tree: str) -> list[str]:
    """The section of one tree: its packages with the arrows between them, and the sentence of each."""
    graph = grimp.build_graph("aitbc", cache_dir=None)
    found = sorted(graph.find_children(f"aitbc.{tree}"))
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {_last(room)}["{_last(room)}"]' for room in found]
    for room in found:
        for other in found:
            if room != other and graph.direct_import_exists(importer=room, imported=other, as_packages=True):
                lines.append(f"    {_last(room)} --> {_last(other)}")
    rows = [[f"`{_last(room)}`", _first_line(room)] for room in found]
    return [
        f"## The rooms of the {tree}\n",
        ROOMS.format(tree=tree),
        "\n".join([*lines, "```", ""]),
        _table(["room", "what it is"], rows),
    ]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _first_line(name: str) -> str:
    """The first line of a module's docstring, without loading more than the module."""
    return (importlib.import_module(name).__doc__ or "").strip().splitlines()[0]


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
