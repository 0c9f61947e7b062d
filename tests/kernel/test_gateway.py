"""The gateway: one application behind several ports."""

from types import SimpleNamespace
from typing import Any

from aitbc.kernel.gateway import Gateway


async def test_what_came_bare_to_the_port_of_a_module_is_counted_under_its_route_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_template"] = scope["path"].replace("mnr_1", "{miner}")

    places: Any = SimpleNamespace(ports={8101: ("gpu",)}, trusting=frozenset())
    gateway = Gateway(app, places, {}, lambda method, path: None, None)
    for port, path, route in (
        (8101, "/v1/miners/mnr_1", "/gpu/v1/miners/{miner}"),
        (8080, "/api/v1/gpu/miners/mnr_1", "/api/v1/gpu/miners/{miner}"),
    ):
        scope: Any = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "server": ("::1", port)}
        await gateway(scope, None, None)  # type: ignore[arg-type]
        assert (scope["path"], scope["path_template"]) == (path, route)
