"""The gateway: one application behind several ports, and what callers of older paths show it."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.cluster.gateway import Gateway, is_legacy, module_of
from aitbc.server.cluster.legacy_key import GatewayKey
from aitbc.server.config.settings import GatewaySettings

PLACES: Any = SimpleNamespace(ports={8101: ("gpu",)}, trusting_ports={})


def a_scope(path: str, port: int = 8080, headers: Mapping[bytes, bytes] | None = None) -> Any:
    """A request."""
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "server": ("::1", port),
        "headers": list((headers or {}).items()),
    }


async def test_what_came_bare_to_the_port_of_a_module_is_counted_under_its_route_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_template"] = scope["path"].replace("mnr_1", "{miner}")

    gateway = Gateway(app, PLACES, {}, lambda method, path: None, None)
    for port, path, route in (
        (8101, "/v1/miners/mnr_1", "/gpu/v1/miners/{miner}"),
        (8080, "/api/v1/gpu/miners/mnr_1", "/api/v1/gpu/miners/{miner}"),
    ):
        scope = a_scope(path, port)
        await gateway(scope, None, None)  # type: ignore[arg-type]
        assert (scope["path"], scope["path_template"]) == (path, route)


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        *(("/healthz", "/healthz"), ("/readyz", "/readyz"), ("/version", "/version")),
        *(("/health", "/coordinator/health"), ("/v1/health", "/coordinator/v1/health")),
        *(("/health/live", "/coordinator/health/live"), ("/v1/jobs", "/coordinator/v1/jobs")),
    ],
)
@pytest.mark.parametrize("port", [8011, 8000])
async def test_the_ports_of_the_coordinator_answer_for_their_health(port: int, path: str, reached: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    places: Any = SimpleNamespace(ports={8011: ("gpu", "ai"), 8000: ("gpu", "ai")}, trusting_ports={})
    await Gateway(app, places, {}, lambda method, path: None, None)(a_scope(path, port), None, None)  # type: ignore[arg-type]
    assert seen == [reached]


@pytest.mark.parametrize(
    ("path", "module"),
    [
        *(("/gpu", "gpu"), ("/gpu/v1/miners", "gpu"), ("/ai/jobs", "ai"), ("/plugin/x", "plugins")),
        *(("/agents/x", None), ("/airdrop", None), ("/plugins/y", None), ("/marketplaces", None), ("/gpus", None)),
        *(
            ("/coordinator/v1/jobs", "coordinator"),
            ("/coordinators", None),
            ("/v11/jobs", None),
            ("/", None),
        ),
    ],
)
def test_a_prefix_is_a_whole_segment_of_the_path(path: str, module: str | None) -> None:
    assert module_of(path) == module
    assert is_legacy(path) == (module is not None)


def test_a_path_of_a_public_protocol_is_its_modules_and_no_legacy_one() -> None:
    assert module_of("/v1/models") == module_of("/v1") == "ai"
    assert not is_legacy("/v1/models")


async def test_a_bare_path_on_a_modules_port_and_its_prefix_on_the_gateway_reach_the_same_handler() -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append((scope["path"], scope["raw_path"]))

    gateway = Gateway(app, PLACES, {}, lambda method, path: None, None)
    await gateway(a_scope("/v1/miners", 8101), None, None)  # type: ignore[arg-type]
    await gateway(a_scope("/gpu/v1/miners", 8080), None, None)  # type: ignore[arg-type]
    assert reached == [("/gpu/v1/miners", b"/gpu/v1/miners")] * 2


@pytest.mark.parametrize(
    ("path", "port", "headers", "wanted"),
    [
        ("/gpu/v1/miners", 8080, {}, 401),
        ("/gpu/v1/miners", 8080, {b"authorization": b"Basic b3Blbg=="}, 401),
        ("/gpu/v1/miners", 8080, {b"authorization": b"Bearer "}, 401),
        ("/gpu/v1/miners", 8080, {b"authorization": b"Bearer wrong"}, 403),
        ("/gpu/v1/miners", 8080, {b"authorization": b"Bearer \xff"}, 403),
        ("/coordinator/v1/jobs", 8080, {}, 401),
        ("/gpu/v1/miners", 8080, {b"authorization": b"Bearer open"}, None),
        ("/coordinator/v1/jobs", 8080, {b"authorization": b"bearer open", b"x-api-key": b"mine"}, None),
        ("/health", 8080, {}, None),
        ("/services", 8080, {}, None),
        ("/api/v1/gpu/miners", 8080, {}, None),
        ("/v1/miners", 8101, {}, None),
    ],
)
async def test_with_the_older_key_asked_for_every_older_path_on_the_gateway_needs_it(
    path: str, port: int, headers: Mapping[bytes, bytes], wanted: int | None
) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(dict(scope["headers"]))

    key = GatewayKey.of(GatewaySettings(require_auth=True, auth_key=Secret("open")))
    gateway = Gateway(app, PLACES, {}, lambda method, path: None, None, key=key)
    if wanted is None:
        await gateway(a_scope(path, port, headers), None, None)  # type: ignore[arg-type]
        shown = [b"x-api-key"] if b"x-api-key" in headers else []
        assert [list(each) for each in reached] == [shown]
        return
    with pytest.raises(AppError) as refused:
        await gateway(a_scope(path, port, headers), None, None)  # type: ignore[arg-type]
    assert refused.value.status == wanted
    assert not reached


def test_the_older_key_is_off_by_default_and_opens_to_nobody_when_it_is_not_set() -> None:
    assert GatewayKey.of(GatewaySettings(auth_key=Secret("open"))) is None
    unset = GatewayKey.of(GatewaySettings(require_auth=True))
    assert unset is not None
    with pytest.raises(AppError) as refused:
        unset.seen(a_scope("/gpu/v1/miners", headers={b"authorization": b"Bearer x"}))
    assert refused.value.status == 500
