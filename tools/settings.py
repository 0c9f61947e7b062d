"""Writes docs/settings.md: every setting with default, limits and meaning, from the Structs and their docstrings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from aitbc.kernel.module import Module
from aitbc.kernel.primitives.field_texts import field_texts
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.config.keys import keys_of, toml_text
from aitbc.server.config.settings import ModuleSettings, Settings

HEAD = """# Settings

Written from the code by `make map`. A setting is given by a flag (`aitbc serve --set NAME=VALUE`), a variable of the
environment, or in a file: `./aitbc.toml`, `~/.config/aitbc/config.toml`, `/etc/aitbc/config.toml`. The first of them that says
something counts. `aitbc config show --origin` tells what holds here and where it comes from; a name that is no setting is
refused, with the nearest that is one.

The variable of `server.port` is `AITBC_SERVER__PORT`. A secret can stand in a file of its own, which `NAME_file` names.
"""


def written(modules: Sequence[Module]) -> str:
    """The document."""
    tables = {module.name: module.settings for module in modules if module.settings is not None}
    keys = keys_of(tables, [module.name for module in modules])
    meanings = dict(_meanings(Settings, ""))
    for module in modules:
        meanings |= dict(_meanings(ModuleSettings, f"modules.{module.name}."))
        if module.settings is not None:
            meanings |= dict(_meanings(module.settings, f"{module.name}."))
    parts, section = [HEAD], None
    for key in keys.values():
        if key.points_to is not None:
            continue
        table, _, leaf = key.name.rpartition(".")
        if table.startswith("modules.") and table != f"modules.{modules[0].name}":
            continue  # every module has the same
        if table != section:
            section = table
            title = "modules.NAME" if table.startswith("modules.") else table
            parts.append(f"## `[{title}]`\n" if table else "## Outside of any table\n")
            parts.append("| setting | default | | meaning |\n| --- | --- | --- | --- |")
        meaning = meanings.get(key.name, "").replace("\n", " ").replace("|", "\\|")
        parts.append(f"| `{leaf}` | {_default(key.default, secret=key.secret)} | {_limits(key.type)} | {meaning} |")
    return "\n".join(_spaced(parts)) + "\n"


def _spaced(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if part.startswith("## "):
            yield ""
        yield part.rstrip("\n") + ("\n" if part.startswith("## ") else "")


def _meanings(struct: type[Struct], prefix: str) -> Iterator[tuple[str, str]]:
    """The docstring under each field, by the dotted name of the setting."""
    texts = field_texts(struct)
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _meanings(field.type, f"{prefix}{field.name}.")
        elif field.name in texts:
            yield prefix + field.name, texts[field.name].description


def _default(value: Any, *, secret: bool) -> str:
    if secret or value is None or value is NODEFAULT:
        return "none"
    return f"`{toml_text(value)}`"


def _limits(kind: Any) -> str:
    """What a value must be: its type in plain words, and its bounds."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        bounds = [note for note in notes if isinstance(note, Meta)]
        words = _limits(inner)
        for note in bounds:
            least = note.ge if note.ge is not None else note.gt
            most = note.le if note.le is not None else note.lt
            if least is not None and most is not None:
                words += f", {'over ' if note.gt is not None else ''}{least} to {most}"
            elif least is not None:
                words += f", {'over' if note.gt is not None else 'at least'} {least}"
        return words
    if get_origin(kind) is Literal:
        return " \\| ".join(f"`{choice}`" for choice in get_args(kind))
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) in (list, dict):
        return "list" if get_origin(kind) is list else "table"
    if parts:
        return " or ".join(_limits(part) for part in parts)
    return {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", Secret: "secret"}.get(
        kind, getattr(kind, "__name__", str(kind)).lower()
    )
