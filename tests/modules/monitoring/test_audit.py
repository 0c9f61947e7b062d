"""The audit trail says what was before and after, whatever module changed it."""

from typing import Any

from tests.journeys.hand_miner import HandMiner
from tests.modules.monitoring.make import Watched


async def entry(watched: Watched, action: str, target: str) -> dict[str, Any]:
    """The newest entry of an action about something."""
    answer = await watched.admin.get("/api/v1/operations/audit", action=action, limit=50)
    found: list[dict[str, Any]] = [one for one in answer.json()["data"] if one["object"] == target]
    assert found, answer.text
    return found[0]


async def test_a_change_is_told_with_before_and_after_actor_and_request(watched: Watched) -> None:
    owner = await watched.app.who("owner")
    miner = await HandMiner.enrol(watched.app, owner)
    await miner.beat()
    answer = await owner.post(f"/api/v1/gpu/miners/{miner.id}/drain", {"message": "new fans"})
    assert answer.status_code == 200, answer.text
    told = await entry(watched, "miner.drain", miner.id)
    assert told["details"]["before"]["status"] == "online"
    assert told["details"]["after"]["status"] == "draining"
    assert told["details"]["after"]["drain_message"] == "new fans"
    assert (told["account"], told["key"]) == (owner.principal.account, owner.principal.key)
    assert told["request_id"] == answer.headers["x-request-id"]


async def test_what_is_secret_is_named_and_not_shown(watched: Watched) -> None:
    owner = await watched.app.who("hooked")
    hook = (await owner.post("/api/v1/webhooks/endpoints", {"url": "https://hooks.example/a"})).json()
    changed = await owner.post(f"/api/v1/webhooks/endpoints/{hook['id']}/rotate", {})
    assert changed.status_code == 201, changed.text
    told = await entry(watched, "webhook.rotate", hook["id"])
    assert told["details"]["after"]
    assert hook["secret"] not in str(told) and changed.json()["secret"] not in str(told)
    values = {**told["details"]["before"], **told["details"]["after"]}
    assert all(value == "********" for name, value in values.items() if "secret" in name)


async def test_what_monitoring_removes_is_told_with_what_it_was(watched: Watched) -> None:
    made = await watched.post("monitors", {"name": "audited", "kind": "push"})
    assert (await entry(watched, "monitor.create", "audited"))["details"]["after"]["kind"] == "push"
    await watched.admin.client.delete(f"/api/v1/monitoring/monitors/{made['id']}")
    assert (await entry(watched, "monitor.remove", "audited"))["details"]["before"]["kind"] == "push"
