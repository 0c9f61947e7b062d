"""Enrolment: one token, one miner, and a lost answer costs nothing."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.crypto.signing import key_fingerprint
from aitbc.kernel.primitives import clock, ids
from tests.modules.gpu.make import GPU, INVENTORY, Fleet, Rig


async def test_a_machine_becomes_a_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    made = await owner.post(f"{GPU}/enrolment-tokens", {})
    assert made.status_code == 201
    token = made.json()
    assert (token["account"], token["token"][:12]) == (owner.principal.account, "aitbc_enrol_")
    rig = Rig(fleet)
    answer = await rig.enrol(token["token"])
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["fingerprint"] == key_fingerprint(rig.key.public)
    assert (told["account"], told["heartbeat_seconds"]) == (owner.principal.account, 10.0)
    miner = await fleet.see(owner, rig)
    assert (miner["status"], miner["public_key"], miner["last_seen_at"]) == ("enrolled", rig.key.public, None)
    assert (miner["kinds"], miner["slots"], miner["reputation"], miner["newcomer"]) == (["embed"], 2, 0.5, True)
    assert miner["fingerprint"] == told["fingerprint"]
    async with fleet.stage.client(rig.secret) as client:
        me = (await client.get("/api/v1/identity/keys/self")).json()
    assert (me["kind"], me["miner"], me["account"]) == ("miner", rig.id, owner.principal.account)


async def test_what_a_miner_could_not_read_of_itself_is_null(fleet: Fleet) -> None:
    owner = await fleet.owner()
    miner = await fleet.see(owner, await fleet.rig(owner))
    (device,) = miner["inventory"]["devices"]
    assert device == {
        "vendor": "GenuineIntel",
        "type": "cpu",
        "index": 0,
        "uuid": None,
        "name": "Some CPU",
        "driver_version": None,
        "runtime_version": None,
        "compute_capability": None,
        "memory_total_mib": 4096,
        "memory_reserved_mib": None,
        "memory_used_mib": None,
        "memory_sellable_mib": None,
        "utilization": None,
        "temperature_celsius": None,
        "power_watts": None,
        "brake_reasons": None,
        "memory_is_shared": None,
        "rests": None,
        "fault": None,
    }
    assert miner["inventory"]["host"] == {
        "os": "Linux",
        "kernel": None,
        "cpu_model": None,
        "cpu_count": 2,
        "memory_mib": None,
        "disk_free_mib": 10_000,
    }


async def test_only_the_digest_of_a_token_is_kept(fleet: Fleet) -> None:
    token = await fleet.token(await fleet.owner())
    rows = await fleet.sql("SELECT t::text AS row FROM gpu.enrolment_tokens t")
    rows += await fleet.sql("SELECT a::text AS row FROM gpu.answers a")
    rows += await fleet.sql("SELECT a::text AS row FROM gpu.audit a")
    assert rows
    assert not [row for row in rows if token in row["row"]]


async def test_of_twenty_machines_with_one_token_one_becomes_a_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    token = await fleet.token(owner)
    answers = await asyncio.gather(*(Rig(fleet).enrol(token) for _ in range(20)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] + [409] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"enrolment_token_used"}
    listed = (await owner.get(f"{GPU}/miners")).json()["data"]
    assert len(listed) == 1


async def test_twenty_requests_of_one_machine_make_one_miner_with_one_key(fleet: Fleet) -> None:
    owner = await fleet.owner()
    token = await fleet.token(owner)
    rig = Rig(fleet)
    answers = await asyncio.gather(*(rig.enrol(token) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.json()["miner"] for answer in answers}) == 1
    opening = 0
    for answer in answers:
        async with fleet.stage.client(answer.json()["api_key"]) as client:
            opening += (await client.get("/api/v1/identity/keys/self")).status_code == 200
    assert opening == 1


async def test_one_machine_with_two_tokens_at_once_is_one_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    tokens = [await fleet.token(owner) for _ in range(8)]
    rig = Rig(fleet)
    answers = await asyncio.gather(*(rig.enrol(token) for token in tokens))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.json()["miner"] for answer in answers}) == 1
    assert len((await owner.get(f"{GPU}/miners")).json()["data"]) == 1


async def test_a_lost_answer_is_asked_for_again_and_the_earlier_key_ends(fleet: Fleet) -> None:
    token = await fleet.token(await fleet.owner())
    rig = Rig(fleet)
    first = (await rig.enrol(token)).json()
    assert (await rig.heartbeat())["status"] == "online"
    second = (await rig.enrol(token)).json()
    assert second["miner"] == first["miner"]
    assert second["api_key"] != first["api_key"]
    assert (await rig.heartbeat())["status"] == "online"
    rig.secret = first["api_key"]
    assert (await rig.call("GET", "/leases")).status_code == 401


async def test_a_machine_comes_back_with_a_new_token_and_new_abilities(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    before = await fleet.see(owner, rig)
    rig.offer = {"kinds": ["embed", "ocr"], "region": "eu"}
    again = await rig.enrol(await fleet.token(owner), name="renamed")
    assert (again.status_code, again.json()["miner"]) == (201, before["id"])
    after = await fleet.see(owner, rig)
    assert (after["name"], after["kinds"], after["region"]) == ("renamed", ["embed", "ocr"], "eu")
    assert after["capabilities_version"] == before["capabilities_version"] + 1
    assert after["status"] == "online"


async def test_a_token_runs_out(fleet: Fleet) -> None:
    owner = await fleet.owner()
    token, used = await fleet.token(owner, expires_seconds=60), await fleet.token(owner)
    rig = Rig(fleet)
    assert (await rig.enrol(used)).status_code == 201
    clock.move(timedelta(seconds=61))
    late = await Rig(fleet).enrol(token)
    assert (late.status_code, late.json()["code"]) == (403, "invalid_enrolment_token")
    assert (await rig.enrol(used)).status_code == 201, "within its life"
    clock.move(timedelta(seconds=3600))
    assert (await rig.enrol(used)).status_code == 403, "after its life"
    other = await Rig(fleet).enrol(used)
    assert (other.status_code, other.json()["code"]) == (409, "enrolment_token_used")


async def test_a_token_that_never_was_opens_nothing(fleet: Fleet) -> None:
    known = await fleet.token(await fleet.owner())
    for token in (new_key("enrol"), new_key("live"), known[:-1] + ("a" if known[-1] != "a" else "b"), "", "x" * 100):
        answer = await Rig(fleet).enrol(token)
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_enrolment_token"), token
    assert (await Rig(fleet).enrol(known)).status_code == 201


async def test_who_does_not_hold_the_private_key_is_refused_and_the_token_stays_good(fleet: Fleet) -> None:
    token = await fleet.token(await fleet.owner())
    rig, thief = Rig(fleet), Rig(fleet)
    stolen = thief.request(token)["proof"]
    for changes in (
        {"proof": stolen},
        {"public_key": thief.key.public},
        {"proof": rig.key.sign(token.encode())},
        {"proof": rig.request(await fleet.token(await fleet.owner()))["proof"]},
        {"public_key": "A" * 43, "proof": "A" * 86},
    ):
        answer = await rig.enrol(token, **changes)
        assert (answer.status_code, answer.json()["code"]) == (422, "wrong_proof"), changes
    for changes in ({"public_key": rig.key.public + "="}, {"proof": "short"}, {"public_key": "ä" * 43}):
        assert (await rig.enrol(token, **changes)).status_code == 422
    assert (await rig.enrol(token)).status_code == 201


async def test_a_public_key_belongs_to_one_account(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    other = await fleet.token(await fleet.owner())
    answer = await rig.enrol(other)
    assert (answer.status_code, answer.json()["code"]) == (409, "public_key_taken")
    assert (await Rig(fleet).enrol(other)).status_code == 201, "the token was not used up"


async def test_a_machine_that_was_removed_is_enrolled_anew_as_another_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    token = await fleet.token(owner)
    rig = Rig(fleet)
    await rig.enrol(token)
    removed = rig.id
    assert (await owner.client.delete(f"{GPU}/miners/{removed}")).status_code == 200
    assert (await rig.enrol(token)).json()["code"] == "enrolment_token_used"
    assert (await rig.enrol(await fleet.token(owner))).status_code == 201
    assert rig.id != removed


async def test_an_account_has_so_many_tokens_and_miners_and_no_more(few_allowed: Fleet) -> None:
    fleet = few_allowed
    owner = await fleet.owner()
    tokens = [await fleet.token(owner) for _ in range(3)]
    refused = await owner.post(f"{GPU}/enrolment-tokens", {})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_enrolment_tokens")
    rigs = [Rig(fleet) for _ in range(3)]
    codes = [(await rig.enrol(token)).status_code for rig, token in zip(rigs, tokens, strict=True)]
    assert codes == [201, 201, 409]
    assert (await rigs[0].enrol(tokens[2])).status_code == 201, "one that is known takes no room"
    await owner.client.delete(f"{GPU}/miners/{rigs[0].id}")
    assert (await rigs[2].enrol(await fleet.token(owner))).status_code == 201


async def test_a_key_of_a_miner_makes_no_tokens(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    assert (await rig.call("POST", "/enrolment-tokens", {})).status_code == 403
    assert (await rig.call("GET", "/miners")).status_code == 403


async def test_enrolment_is_on_record(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    actions = await fleet.sql("SELECT action, account FROM gpu.audit WHERE object = $1", rig.id)
    assert [(row["action"], row["account"]) for row in actions] == [("miner.enrol", owner.principal.account)]
    steps = await fleet.sql(
        "SELECT status FROM gpu.status_changes WHERE miner = $1 ORDER BY id", ids.decode("mnr", rig.id)
    )
    assert [row["status"] for row in steps] == ["enrolled", "online"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"slots": 0}, "/slots"),
        ({"slots": 65}, "/slots"),
        ({"slots": "2"}, "/slots"),
        ({"name": "\u202eevil"}, "/name"),
        ({"capabilities": {"kinds": []}}, "/capabilities/kinds"),
        ({"capabilities": {"kinds": ["Embed"]}}, "/capabilities/kinds/0"),
        ({"capabilities": {"kinds": ["embed"], "device": "tpu"}}, "/capabilities/device"),
        ({"capabilities": {"kinds": ["embed"], "vram_mib": -1}}, "/capabilities/vram_mib"),
        ({"capabilities": {"kinds": ["embed"], "reputation": 1.0}}, "/capabilities/reputation"),
        ({"capabilities": {"kinds": ["embed"], "models": {"embed": ["m"] * 65}}}, "/capabilities/models"),
        ({"inventory": {"devices": [{"type": "cpu"}] * 65}}, "/inventory/devices"),
        ({"inventory": {"devices": [{"utilization": 101}]}}, "/inventory/devices/0/utilization"),
        ({"inventory": {"devices": [{"name": "x\u001b[31m"}]}}, "/inventory/devices/0/name"),
        ({"inventory": INVENTORY | {"earnings": 1}}, "/inventory/earnings"),
        ({"status": "online"}, "/status"),
    ],
)
async def test_hostile_words_are_refused_by_their_place(fleet: Fleet, changes: dict[str, object], place: str) -> None:
    answer = await Rig(fleet).enrol(new_key("enrol"), **changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(place), answer.text


async def test_a_token_ends_with_the_key_that_made_it_and_one_being_replaced_makes_none(fleet: Fleet) -> None:
    owner = await fleet.owner()
    identity = fleet.stage.runtime.identity
    short = await identity.issue(
        account=owner.principal.account, kind="live", name="short", lifetime=timedelta(minutes=5)
    )
    async with fleet.stage.client(short.secret) as client:
        token = (await client.post(f"{GPU}/enrolment-tokens", json={})).json()
        assert abs(datetime.fromisoformat(token["expires_at"]) - short.expires_at) < timedelta(seconds=1)
        assert (await client.post(f"/api/v1/identity/keys/{short.id}/rotate", json={})).status_code == 201
        refused = await client.post(f"{GPU}/enrolment-tokens", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "key_being_replaced")
        again = await client.post(f"/api/v1/identity/keys/{short.id}/rotate", json={})
        assert (again.status_code, again.json()["code"]) == (403, "key_being_replaced")
        made = await client.post("/api/v1/identity/keys", json={"name": "x"})
        assert (made.status_code, made.json()["code"]) == (403, "key_being_replaced")
    rig = Rig(fleet)
    assert (await rig.enrol(token["token"])).status_code == 201
    async with fleet.stage.client(rig.secret) as client:  # a miner's key makes none
        assert (await client.post("/api/v1/identity/keys", json={"name": "x"})).status_code == 403


async def test_the_key_in_an_answer_to_a_legacy_registration_ends_with_its_owners(fleet: Fleet) -> None:
    owner = await fleet.owner()
    identity = fleet.stage.runtime.identity
    short = await identity.issue(
        account=owner.principal.account, kind="live", name="short", lifetime=timedelta(hours=2)
    )
    async with fleet.stage.client(short.secret) as client:
        wish = {"miner_id": "old-rig", "gpu": {"name": "RTX 4090", "memory_gb": 24}}
        answer = await client.post("/gpu/v1/miners/register", json=wish)
        assert answer.status_code == 200, answer.text
    keys = await identity.keys(owner.principal, limit=9, after=None)
    (given,) = [key for key in keys if key.kind == "miner"]
    assert given.expires_at <= short.expires_at


async def test_a_machine_asks_with_a_code_and_enrols_once_its_owner_has_approved_it(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    rig, token = Rig(fleet), new_key("enrol")
    question = {"token": token, "public_key": rig.key.public, "name": "attic"}

    async def ask(status: int = 200, **changes: str) -> dict[str, Any]:
        async with fleet.stage.client() as client:
            answer = await client.post(f"{GPU}/enrolment-codes", json=question | changes)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    asked = await asyncio.gather(*(ask() for _ in range(5)))
    assert len({one["code"] for one in asked}) == 1 and {one["state"] for one in asked} == {"waiting"}
    code, shown = asked[0]["code"], key_fingerprint(rig.key.public)
    assert asked[0]["path"] == f"/miners/approve?code={code}"
    assert (await rig.enrol(token)).status_code == 403  # nobody has approved it
    assert (await ask(403, public_key=Rig(fleet).key.public))["code"] == "invalid_enrolment_token"
    assert (await ask(403, token="aitbc_enrol_x"))["code"] == "invalid_enrolment_token"
    typed = code.lower().replace("-", " ")
    found = (await owner.get(f"{GPU}/enrolment-codes/{typed}")).json()
    assert (found["name"], found["fingerprint"], found["state"]) == ("attic", shown, "waiting")
    assert (await owner.get(f"{GPU}/enrolment-codes/BCDF-BCDF")).status_code == 404
    path = f"{GPU}/enrolment-codes/{code}"
    answers = await asyncio.gather(*(owner.post(f"{path}/approve") for _ in range(5)))
    assert [one.json()["state"] for one in answers] == ["approved"] * 5
    for late, act in ((other, "approve"), (other, "deny"), (owner, "deny")):
        refused = await late.post(f"{path}/{act}")
        assert (refused.status_code, refused.json()["code"]) == (409, "enrolment_code_answered")
    assert (await ask())["state"] == "approved"
    assert (await rig.enrol(token)).status_code == 201
    assert (await fleet.see(owner, rig))["account"] == owner.principal.account
    assert (await Rig(fleet).enrol(token)).status_code == 409  # one machine
    for table in ("enrolment_codes", "answers", "audit"):
        assert not [row for row in await fleet.sql(f"SELECT t::text AS row FROM gpu.{table} t") if token in row["row"]]


async def test_a_code_that_is_denied_or_not_answered_in_time_gives_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rigs, tokens = [Rig(fleet) for _ in range(2)], [new_key("enrol") for _ in range(2)]
    questions = [
        {"token": token, "public_key": rig.key.public, "name": "attic"} for rig, token in zip(rigs, tokens, strict=True)
    ]
    async with fleet.stage.client() as client:
        codes = [(await client.post(f"{GPU}/enrolment-codes", json=one)).json()["code"] for one in questions]
        assert (await owner.post(f"{GPU}/enrolment-codes/{codes[0]}/deny")).json()["state"] == "denied"
        clock.move(timedelta(minutes=10, seconds=1))
        for code in codes:
            assert (await owner.post(f"{GPU}/enrolment-codes/{code}/approve")).status_code == 404
        states = [(await client.post(f"{GPU}/enrolment-codes", json=one)).json()["state"] for one in questions]
    assert states == ["denied", "expired"]
    assert [(await rig.enrol(token)).status_code for rig, token in zip(rigs, tokens, strict=True)] == [403, 403]
