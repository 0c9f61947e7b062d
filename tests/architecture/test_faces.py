"""What imports cannot say about the modules: their faces are kept, and everything that crosses can cross."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_type_hints

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from aitbc.app import MODULES
from aitbc.kernel.database.outbox import Event
from aitbc.kernel.identity.principal import EVERYTHING
from aitbc.kernel.module import Module
from aitbc.server.cluster.stubs import operations
from tests.architecture.source import module_folders, tree
from tests.architecture.values import examples

ROOMS = ("__init__", "api", "events", "models", "module", "routes", "service")
BY_NAME = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def room(module: Module, name: str) -> ModuleType:
    """One of a module's files, imported."""
    return importlib.import_module(f"aitbc.modules.{module.name}.{name}")


def own(module: ModuleType, kind: type) -> Iterator[Any]:
    """The classes of a kind that a file itself defines."""
    return (
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, kind) and thing.__module__ == module.__name__
    )


def test_every_folder_is_mounted_and_everything_mounted_has_a_folder() -> None:
    assert {module.name for module in MODULES} == {folder.name for folder in module_folders()}


@pytest.mark.parametrize("folder", module_folders(), ids=lambda folder: folder.name)
def test_a_module_has_the_seven_files(folder: Any) -> None:
    present = {path.stem for path in folder.iterdir()}
    assert not set(ROOMS) - present


@pytest.mark.parametrize("folder", module_folders(), ids=lambda folder: folder.name)
def test_the_package_of_a_module_imports_nothing(folder: Any) -> None:
    body = tree(folder / "__init__.py").body
    assert len(body) == 1, "one sentence and nothing else: an import here would load the module into every neighbour"
    assert ast.get_docstring(tree(folder / "__init__.py"))


@BY_NAME
def test_a_module_gives_keys_only_what_its_own_routes_ask_for(module: Module) -> None:
    controllers = (*module.routes, *module.legacy, *module.legacy_coordinator)
    handlers = [thing for one in controllers for thing in vars(one).values() if isinstance(thing, HTTPRouteHandler)]
    asked = {handler.opt["permission"] for handler in handlers}
    assert {scope for scopes in module.scopes.values() for scope in scopes} <= asked
    assert EVERYTHING not in asked


@BY_NAME
def test_a_service_has_the_signatures_that_its_face_promises(module: Module) -> None:
    for name in operations(module.api):
        promised, kept = getattr(module.api, name), getattr(module.service, name, None)
        assert kept is not None, f"{module.name} does not offer {name}"
        assert inspect.iscoroutinefunction(kept), f"{module.name}.{name} must be a coroutine"
        assert _shape(kept) == _shape(promised), f"{module.name}.{name} differs from its face"


def _shape(method: Any) -> Any:
    parameters = inspect.signature(method).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters], get_type_hints(method, include_extras=True)


@BY_NAME
def test_every_operation_can_cross_to_another_process(module: Module) -> None:
    for operation in operations(module.api).values():
        for kind in (operation.arguments, operation.result):
            _assert_crosses(kind)


@BY_NAME
def test_every_struct_and_event_survives_json(module: Module) -> None:
    for kind in own(room(module, "api"), Struct):
        assert kind.__struct_config__.frozen, f"{kind.__name__} crosses between modules and must be frozen"
        _assert_crosses(kind)
    for kind in own(room(module, "events"), Event):
        assert kind.kind.startswith(f"{module.name}.")
        _assert_crosses(kind)


def _assert_crosses(kind: Any) -> None:
    for value in examples(kind):
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


@BY_NAME
def test_an_event_speaks_in_plain_values(module: Module) -> None:
    for event in own(room(module, "events"), Event):
        hints = get_type_hints(event)
        for name in event.__struct_fields__:
            assert "aitbc." not in str(hints[name]), (
                f"{event.__name__}.{name} carries a struct; hearers know ids and plain values"
            )


def test_every_event_that_is_heard_is_told_by_somebody() -> None:
    source = "\n".join(path.read_text() for folder in module_folders() for path in folder.rglob("*.py"))
    heard = {event.__name__ for module in MODULES for event in module.handles}
    told = set(re.findall(r"(?<!class )(?<!\w)([A-Z]\w+)\(", source))
    assert heard <= told, f"nobody tells {heard - told}"


@BY_NAME
def test_hearers_and_chores_have_the_form_the_kernel_calls(module: Module) -> None:
    for event, method in module.handles.items():
        assert getattr(module.service, method.__name__) is method
        assert inspect.iscoroutinefunction(method)
        assert len(inspect.signature(method).parameters) == 3, (
            f"{module.name}.{method.__name__}(self, uow, events) hears {event.kind}"
        )
    for task in module.periodic_tasks:
        assert getattr(module.service, task.run.__name__) is task.run
        assert inspect.iscoroutinefunction(task.run)
        assert list(inspect.signature(task.run).parameters) == ["self"], (
            f"the periodic task {module.name}.{task.run.__name__} takes nothing"
        )


@BY_NAME
def test_calls_go_down_the_list(module: Module) -> None:
    below = [other.api for other in MODULES[MODULES.index(module) + 1 :]]
    assert all(api in below for api in module.needs.values())
