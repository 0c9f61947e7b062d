"""What servers and commands of tests are forked from: all that they need is loaded, and is never searched for garbage.

What each of them would work out anew of the code that all share is worked out once here: the application of a main process
with its routes, the mapping of all tables, and which migrations there are.
"""

import asyncio
import gc
from importlib import import_module
from typing import Any, cast

from sqlalchemy.orm import configure_mappers

from aitbc.app import MODULES, parts
from aitbc.kernel.database.migrations import head_of
from aitbc.web.site import Site
from aitbc_cli.tree import NOUNS
from tests.litestar_memory import remember_signatures
from tests.registered import register_once, release
from tools.api import application

FORKED = (
    *("tests.chaos.clusters", "tests.chaos.server_process", "tests.cli.forked_program"),
    *("tests.server.cluster.far_module", "tests.server.runtime.small_server", "tests.cli.miner.forked_miner"),
    *("aitbc_cli.miner.daemon", "aitbc_cli.miner.kinds"),
)
for module in ("aitbc.app", "aitbc_cli.main", "pydantic.type_adapter", "encodings.idna", *FORKED):
    import_module(module)
for module, _ in NOUNS.values():
    import_module(f"aitbc_cli.commands.{module}")
remember_signatures()
register_once()
release(application(Site(cast(Any, None), asyncio.Event())))
configure_mappers()
for part in parts(MODULES):
    head_of(part)
gc.collect()
gc.freeze()
