"""The edge of a running miner."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aitbc_cli.miner.client import MinerClient
from aitbc_cli.miner.edge.edge import Edge
from aitbc_cli.miner.edge.work import Steps
from aitbc_cli.miner.event_log import EventLog
from aitbc_cli.miner.executors.pool import ExecutorPool
from aitbc_cli.miner.home import Home
from aitbc_cli.miner.options import EdgeOptions

Serving = Callable[[MinerClient, str, Callable[[], Mapping[str, Any]]], Coroutine[Any, Any, None]]
"""Serves until it is cancelled: with a client, the id of the miner, and what it announces."""


def edge_of(options: EdgeOptions, home: Home, pool: ExecutorPool, event_log: EventLog) -> Serving:
    """The edge of the miner of this folder, whose work is done in this pool."""

    async def serve(client: MinerClient, miner: str, can: Callable[[], Mapping[str, Any]]) -> None:
        steps = Steps(pool, home.work)
        edge = Edge(options, miner=miner, key=home.key, folder=home.folder, steps=steps, can=can, event_log=event_log)
        await edge.run(client)

    return serve
