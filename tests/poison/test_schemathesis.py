"""The description against the server that runs, by a tool that knows only the description."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.chaos.server_process import ServerProcess
from tests.poison.operations import DESCRIPTION, OPERATIONS
from tests.scale import scaled

EXAMPLES = scaled(2, 20)
PHASES = scaled(["examples", "fuzzing"], ["examples", "coverage", "fuzzing"])
"""What it calls coverage, each bound of each field, the matrix has too."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAMS = ("follow_job", "export_chain")
"""What answers as long as something happens; the matrix asks it."""

LEFT = [ident for number, ident in enumerate(OPERATIONS) if number % 3]
"""What is left to `make test-all`: the matrix asks for every operation in both."""

schema = schemathesis.openapi.from_dict(DESCRIPTION).exclude(operation_id=[*STREAMS, *scaled(LEFT, [])])
schema.config.phases.update(phases=PHASES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with nothing in it yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = ServerProcess(tmp_path_factory.mktemp("schemathesis") / "state", port)
    made.start()
    yield made
    assert made.stop() == 0
    assert "Traceback" not in (Path(made.state).parent / "server.log").read_text()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_does_what_its_description_says(case: Any, server: ServerProcess) -> None:
    logging.getLogger("schemathesis").setLevel(logging.ERROR)
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS, timeout=20)
