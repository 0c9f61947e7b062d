"""What servers and commands of tests are forked from: all that they need is loaded, and is never searched for garbage."""

import gc
from importlib import import_module

from aitbc.app import MODULES
from aitbc_cli.tree import NOUNS
from tests.litestar_memory import remember_controllers, remember_signatures

FORKED = (
    *("tests.chaos.clusters", "tests.chaos.server_process", "tests.cli.forked_program"),
    *("tests.server.cluster.far_module", "tests.server.runtime.small_server"),
)
for module in ("aitbc.app", "aitbc_cli.main", "pydantic.type_adapter", "encodings.idna", *FORKED):
    import_module(module)
for module, _ in NOUNS.values():
    import_module(f"aitbc_cli.commands.{module}")
remember_signatures()
remember_controllers(
    controller for module in MODULES for controller in (*module.routes, *module.legacy, *module.legacy_coordinator)
)
gc.collect()
gc.freeze()
