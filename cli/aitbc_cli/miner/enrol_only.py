"""A miner that enrols without working."""

import asyncio
from typing import Any

from aitbc_cli.miner.enrolment import enrolled
from aitbc_cli.miner.executors.pool import ExecutorPool
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.inventory import capabilities, inventory
from aitbc_cli.miner.kinds import Kinds
from aitbc_cli.miner.options import Options
from aitbc_cli.miner.serving.host import host_of


def enrol(options: Options) -> dict[str, Any]:
    """Enrol without working; answers miner, account and fingerprint. Raises `MinerFailed`."""
    home = Home(options.home)
    try:
        credentials = asyncio.run(_enrol(options, home))
    finally:
        home.close()
    return {name: credentials[name] for name in ("miner", "account", "fingerprint", "url")}


async def _enrol(options: Options, home: Home) -> dict[str, Any]:
    pool = ExecutorPool(
        slots=1, kinds=options.kinds, scratch=home.work, models=host_of(options.kinds, slots=1, folder=home.folder)
    )
    pool.gpus.update(inventory(home.folder)["devices"])
    try:
        kinds = Kinds(pool, options.kinds)
        await kinds.start()
    finally:
        await pool.stop()
    found = inventory(home.folder)
    return await enrolled(options, home, found, capabilities(found, kinds.work, options.region))
