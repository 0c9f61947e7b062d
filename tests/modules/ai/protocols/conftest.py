"""A served installation with real miners in processes of their own, for the official clients."""

from collections.abc import Iterator

import pytest

from tests.chaos.server_process import ServerProcess
from tests.modules.ai.protocols.bench import Bench
from tests.server.runtime.test_serve import free_port


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file."""
    return "asyncio"


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One server in one process, with one miner: shared by the tests of a file, which says whether it `EMBEDS`."""
    folder = tmp_path_factory.mktemp("protocols")
    server = ServerProcess(
        folder / "state",
        free_port(),
        AITBC_AI__GRACE_SECONDS="2",
        AITBC_AI__MODEL_RANKS='["grand", "scripted"]',
        AITBC_GPU__HEARTBEAT_SECONDS="1",
    )
    server.start()
    made = Bench(server, folder, embeds=getattr(request.module, "EMBEDS", False))
    try:
        made.begin()
        yield made
    finally:
        made.close()
        server.stop()
