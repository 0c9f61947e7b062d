"""What servers and commands of tests are forked from: all that they need is loaded, and is never searched for garbage."""

import gc
from importlib import import_module

from aitbc_cli.tree import NOUNS

for module in ("aitbc.app", "aitbc_cli.main", "pydantic.type_adapter", "encodings.idna", "tests.cli.forked_program"):
    import_module(module)
for module, _ in NOUNS.values():
    import_module(f"aitbc_cli.commands.{module}")
gc.collect()
gc.freeze()
