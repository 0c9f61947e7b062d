"""Files that people write things in: JSON, or YAML where its package is installed."""

import json
from importlib.util import find_spec
from typing import Any

from aitbc_cli.exits import CONFIGURATION, Stop, usage
from aitbc_cli.files import read
from aitbc_cli.packages import PROGRAM, install

FILE_BYTES_MAX = 1 << 20


def read_written(name: str, *, hint: str) -> dict[str, Any]:
    """The object in a file, or on standard input; by its name YAML, else JSON. Raises `Stop`."""
    text = read(name, bytes_max=FILE_BYTES_MAX)
    found = _yaml(name, text) if name.endswith((".yaml", ".yml")) else _json(name, text)
    if not isinstance(found, dict):
        raise usage(f"{name} is no object with names and values", hint=hint)
    return found


def given_json(flag: str, text: str, *, example: str) -> Any:
    """The JSON value that was given to an option. Raises `Stop`."""
    try:
        return json.loads(text)
    except ValueError:
        raise usage(f"{flag} is no JSON", hint=f"for instance {flag} '{example}'") from None


def _json(name: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise usage(f"{name} is no JSON: {error}", hint="YAML is read from files named .yaml or .yml") from None


def _yaml(name: str, text: bytes) -> Any:
    if find_spec("yaml") is None:
        raise Stop(
            "reading YAML needs the package pyyaml, which is not installed here",
            exit_code=CONFIGURATION,
            code="yaml_not_installed",
            hint=f"run: {install([f'{PROGRAM}[yaml]'])}, or write the same as JSON",
        )
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.load(text, Loader=_loader(yaml))  # noqa: S506 - a safe loader, which makes plain values only
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise usage(f"{name} is no YAML: {error}") from None


def _loader(yaml: Any) -> Any:
    """YAML's plain values as JSON has them: dates stay texts, and no alias can make a small file a large value."""

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not read; write the value out")
            return super().compose_node(parent, index)

    times = "tag:yaml.org,2002:timestamp"
    Plain.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != times]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Plain
