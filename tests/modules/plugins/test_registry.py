"""The registry: who may publish what, what becomes of it, and how it is found."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.hooks.points import NotHere
from aitbc.kernel.primitives import clock
from tests.app import TestApp
from tests.kernel.hooks.plugins import HALF, module
from tests.modules.plugins.make import API, package, publisher, put, word


async def test_a_version_is_received_looked_at_and_listed(app: TestApp) -> None:
    alice = await publisher(app)
    declared = alice.manifest(word("price"), category="pricing", tags=("night",))
    sent = await alice.hand_in(declared)
    assert (sent.status_code, sent.json()["state"]) == (201, "received")
    assert (await alice.caller.get(f"{API}/catalogue/{declared.name}")).status_code == 404, "nothing has passed yet"
    passed = await alice.looked_at(sent.json()["id"])
    assert (passed["state"], passed["findings"]) == ("passed", [])
    bob = await app.who("bob")
    found = (await bob.get(f"{API}/catalogue/{declared.name}")).json()
    assert (found["latest"], found["category"], found["price"], found["rating"]) == ("1.0.0", "pricing", "0", None)
    fetched = (await bob.post(f"{API}/versions/{passed['id']}/fetch")).json()
    assert (fetched["digest"], fetched["public_key"]) == (passed["digest"], alice.key.public)
    assert (await bob.post(f"{API}/versions/{passed['id']}/fetch")).status_code == 200
    figures = (await alice.caller.get(f"{API}/catalogue/{declared.name}/figures")).json()
    assert [(day["version"], day["downloads"]) for day in figures["data"]] == [("1.0.0", 1)], "counted once a day"
    assert (await bob.get(f"{API}/catalogue/{declared.name}/figures")).status_code == 404


async def test_a_version_never_changes_and_the_highest_is_the_latest(app: TestApp) -> None:
    alice, name = await publisher(app), word("price")
    first = await alice.publish(alice.manifest(name, version="1.10.0"))
    await alice.publish(alice.manifest(name, version="1.9.0"))
    again = await alice.hand_in(alice.manifest(name, version="1.10.0", summary="Another."), module("(i32.const 0)"))
    assert (again.status_code, again.json()["code"]) == (409, "plugin_version_exists")
    assert (await alice.caller.get(f"{API}/catalogue/{first['plugin']}")).json()["latest"] == "1.10.0"
    yanked = await alice.caller.post(f"{API}/versions/{first['id']}/yank", {"reason": "wrong"})
    assert (yanked.status_code, yanked.json()["state"], yanked.json()["reason"]) == (200, "yanked", "wrong")
    assert (await alice.caller.get(f"{API}/catalogue/{first['plugin']}")).json()["latest"] == "1.9.0"
    bob = await app.who("bob")
    assert (await bob.post(f"{API}/versions/{first['id']}/fetch")).status_code == 404
    assert (await bob.post(f"{API}/versions/{first['id']}/yank", {})).status_code == 404


async def test_only_the_owner_of_a_namespace_publishes_there_with_its_present_key(app: TestApp) -> None:
    alice, bob = await publisher(app), await publisher(app)
    name = word("price")
    declared = alice.manifest(name)
    stolen = await bob.caller.post(f"{API}/versions", package(declared, module(HALF), bob.key))
    assert (stolen.status_code, stolen.json()["code"]) == (404, "plugin_namespace_not_found")
    other = package(alice.manifest(name, version="1.0.1"), module(HALF), alice.key)["signature"]
    old, alice.key = alice.key, Key.generate()
    changed = await put(alice.caller, f"/namespaces/{alice.namespace}/key", {"public_key": alice.key.public})
    assert changed.json()["public_key"] == alice.key.public
    for signature in (other, package(declared, module(HALF), old)["signature"], "A" * 86):
        sent = await alice.hand_in(declared, signature=signature)
        assert (sent.status_code, sent.json()["code"]) == (403, "plugin_signature_wrong")
    assert (await alice.publish(declared))["public_key"] == alice.key.public
    taken = await bob.caller.post(f"{API}/namespaces", {"name": alice.namespace, "public_key": bob.key.public})
    assert (taken.status_code, taken.json()["code"]) == (409, "plugin_namespace_taken")
    none = await bob.caller.post(f"{API}/namespaces", {"name": word(), "public_key": "A" * 42 + "B"})
    assert none.status_code == 422


WRONG: dict[str, dict[str, Any]] = {
    "leaked_secret": {"artifact": module(HALF, data='(data (i32.const 0) "AKIAABCDEFGHIJKLMNOP")')},
    "blocked_host": {"artifact": module(HALF, data='(data (i32.const 0) "https://x.evil.example/")')},
    "imports": {"artifact": module(HALF, imports='(import "env" "open" (func (param i32)))')},
    "exports": {"artifact": b"\0asm"},
    "manifest": {"aitbc": ">=9"},
    "scan": {"artifact": module(HALF).replace(b"\x41\x10\x0b", b"\x42\x10\x0b")},
}


@pytest.mark.parametrize("rule", WRONG)
async def test_what_breaks_a_rule_is_rejected_with_its_name_and_never_listed(app: TestApp, rule: str) -> None:
    alice = await publisher(app)
    changes = dict(WRONG[rule])
    artifact = changes.pop("artifact", None)
    version = await alice.publish(alice.manifest(word("price"), **changes), artifact)
    assert version["state"] == "rejected"
    assert rule in {finding["rule"] for finding in version["findings"] if finding["severity"] == "reject"}
    assert (await alice.caller.get(f"{API}/catalogue/{version['plugin']}")).status_code == 404


async def test_a_name_that_is_taken_for_anothers_is_rejected_or_waits_for_an_operator(app: TestApp) -> None:
    name = word("quality")
    await (alice := await publisher(app)).publish(alice.manifest(name))
    mallory = await publisher(app)
    near = mallory.manifest(name.replace("quality", "qualjty"))
    version = await mallory.publish(near)
    assert [(one["rule"], one["severity"]) for one in version["findings"]] == [("similar_name", "reject")]
    doubtful = await mallory.publish(mallory.manifest(name.replace("quality", "qvalitx")))
    assert doubtful["state"] == "quarantined"
    admin = await app.admin()
    assert (await mallory.caller.post(f"{API}/versions/{doubtful['id']}/decide", {"passes": True})).status_code == 403
    for _ in range(2):
        decided = await admin.post(f"{API}/versions/{doubtful['id']}/decide", {"passes": True, "reason": "fine"})
        assert (decided.status_code, decided.json()["state"]) == (200, "passed")
    other = await admin.post(f"{API}/versions/{doubtful['id']}/decide", {"passes": False})
    assert (other.status_code, other.json()["code"]) == (409, "plugin_version_decided")


async def test_what_cannot_be_scanned_is_not_published_and_is_looked_at_again(
    app: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: bytes) -> str | None:
        raise NotHere("the scanner is down")

    alice = await publisher(app)
    with monkeypatch.context() as patch:
        patch.setattr("aitbc.modules.plugins.service.pipeline.compile_apart", down)
        version = await alice.publish(alice.manifest(word("price")))
        assert version["state"] == "errored" and "scanner is down" in version["findings"][0]["message"]
        assert (await alice.caller.get(f"{API}/catalogue/{version['plugin']}")).status_code == 404
    clock.move(timedelta(seconds=60))
    try:
        assert (await alice.looked_at(version["id"]))["state"] == "passed"
    finally:
        clock.reset()


async def test_a_search_is_ranked_by_the_stated_formula_and_explained(app: TestApp) -> None:
    tag = word("tag")
    names = ("alpha", "beta", "gamma")
    people = [await publisher(app, f"{name}-{tag}") for name in names]
    for one, name in zip(people, names, strict=True):
        await one.publish(one.manifest(f"{name}-plugin", tags=(tag,)))
    admin = await app.admin()
    assert (await put(admin, f"/namespaces/{people[1].namespace}/verified", {"verified": True})).status_code == 200
    terms = {"price": "0", "deprecated": True}
    assert (
        await put(people[2].caller, f"/catalogue/{people[2].namespace}.gamma-plugin/terms", terms)
    ).status_code == 200
    bob = await app.who("bob")
    found = (await bob.get(f"{API}/catalogue", search=tag)).json()["data"]
    assert [one["id"].partition("-")[0] for one in found] == ["beta", "alpha", "gamma"]
    page = (await bob.get(f"{API}/catalogue", search=tag, limit=2)).json()
    rest = (await bob.get(f"{API}/catalogue", search=tag, limit=2, cursor=page["next_cursor"])).json()
    assert [one["id"] for one in page["data"] + rest["data"]] == [one["id"] for one in found]
    why = (await bob.get(f"{API}/catalogue/{found[2]['id']}/relevance", search=tag)).json()
    assert why["factor"] == pytest.approx(0.4) and why["text"] == 0.7
    total = 2 * why["text"] + why["rating"] + why["downloads"] + 0.5 * why["recency"]
    assert why["relevance"] == pytest.approx(why["factor"] * total, abs=1e-5)
    assert (await bob.get(f"{API}/catalogue", search=tag, category="quality")).json()["data"] == []


async def test_those_who_had_a_plugin_review_it_once_each(app: TestApp) -> None:
    alice, bob, carol = await publisher(app), await app.who("bob"), await app.who("carol")
    version = await alice.publish(alice.manifest(word("price")))
    path = f"/catalogue/{version['plugin']}/review"
    for who in (bob, alice.caller):
        refused = await put(who, path, {"rating": 5})
        assert (refused.status_code, refused.json()["code"]) == (403, "plugin_not_used")
    for who in (bob, carol):
        await who.post(f"{API}/versions/{version['id']}/fetch")
    for who, rating in ((bob, 1), (carol, 4), (bob, 5)):
        assert (await put(who, path, {"rating": rating, "text": "hm"})).status_code == 200
    assert (await put(bob, path, {"rating": 6})).status_code == 422
    found = (await bob.get(f"{API}/catalogue/{version['plugin']}")).json()
    assert (found["ratings"], found["rating"], found["downloads"]) == (2, 4.5, 2)
    reviews = (await bob.get(f"{API}/catalogue/{version['plugin']}/reviews")).json()["data"]
    assert sorted(one["rating"] for one in reviews) == [4, 5]


async def test_what_is_counted_says_nothing_of_whom(app: TestApp) -> None:
    service = app.service("plugins")
    async with service.db.reading() as session:
        columns = await session.scalars(
            text(
                "SELECT column_name FROM information_schema.columns "
                "WHERE table_schema = 'plugins' AND table_name IN ('figures', 'fetches')"
            )
        )
        assert set(columns) == {"plugin", "version", "day", "name", "count", "digest"}
    clock.move(timedelta(days=3))
    try:
        await service.purge()
    finally:
        clock.reset()
    async with service.db.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM plugins.fetches")) == 0


async def test_the_older_service_registers_names_and_lists_what_passed(app: TestApp) -> None:
    bob = await app.who("bob")
    assert (await bob.get("/plugin/health")).json() == {"status": "healthy", "service": "plugin-service"}
    assert (await bob.get("/plugin")).json()["service"] == "AITBC Plugin Service"
    sent = await bob.post("/plugin/register", {"name": "GPU Optimizer", "version": "1.0.0", "x": 1})
    assert (sent.status_code, sent.json()["status"], sent.json()["name"]) == (200, "registered", "GPU Optimizer")
    assert sent.json()["plugin_id"].endswith(".gpu-optimizer")
    again = await bob.post("/plugin/register", {"name": "gpu optimizer"})
    assert again.status_code == 409
    other = await (await app.who("carol")).post("/plugin/register", {"name": "GPU Optimizer"})
    assert other.json()["plugin_id"] != sent.json()["plugin_id"]
    seller = await publisher(app)
    await seller.publish(seller.manifest(word("plugin")), module("(i32.const 0)"))
    listing = (await bob.get("/plugin/marketplace/plugins")).json()
    assert listing["total"] == len(listing["plugins"]) > 0
    assert sent.json()["plugin_id"] not in {one["id"] for one in listing["plugins"]}
    figures = (await bob.get("/plugin/analytics/plugins")).json()
    assert figures["total_plugins"] == listing["total"]
