"""Edges: deployed to with a status for each location, rolled out and back, and receipts that are kept once."""

import asyncio
import uuid
from datetime import timedelta

from aitbc.kernel.primitives import clock
from tests.modules.hermes.edge_make import (
    DEPLOYMENTS,
    DIGEST,
    EDGES,
    MODEL,
    HandEdge,
    an_edge,
    changed,
    deployed,
    seen,
)
from tests.modules.hermes.make import Town, a_job, approval, registered, skill

NOBODY = "dep_01k0000000000000000000000a"


async def roll(town: Town, seconds: float = 0.0) -> None:
    """Let time pass, and have roll-outs moved on."""
    clock.move(timedelta(seconds=seconds))
    await town.service.roll_out()


async def test_each_location_has_its_own_status_and_none_is_dropped(town: Town) -> None:
    owner = await town.owner()
    here = await an_edge(town, owner, "eu-central")
    made = await deployed(owner, "eu-central", "atlantis", "eu-central")
    assert [(one["location"], one["status"]) for one in made["locations"]] == [
        ("eu-central", "waiting"),
        ("atlantis", "no_edge"),
    ]
    assert made["state"] == "rolling"
    await roll(town)
    assert (await seen(owner, made["id"]))["locations"][0]["status"] == "waiting", "nothing was heard of it"
    assert (await here.report())["desired"] == []
    await roll(town)
    told = await here.report()
    (work,) = told["desired"]
    assert (work["version"], work["steps"][0]["kind"]) == (1, "embed")
    assert work["steps"][0]["input"] == {"texts": ["{{text}}"], "model": "wordllama-256"}
    assert (await seen(owner, made["id"]))["locations"][0]["status"] == "rolling"
    await here.obey()
    await roll(town)
    assert (await seen(owner, made["id"]))["state"] == "rolling", "the gate"
    clock.move(timedelta(seconds=30))
    await here.obey()
    await roll(town)
    live = await seen(owner, made["id"])
    assert (live["state"], live["good"], live["locations"][0]["status"]) == ("live", 1, "ready")
    assert live["locations"][0]["edges"][0]["serves"] == 1
    ended = await owner.post(f"{DEPLOYMENTS}/{made['id']}/end")
    assert ended.json()["state"] == "ended"
    assert (await here.report())["desired"] == []
    assert (await owner.post(f"{DEPLOYMENTS}/{made['id']}/versions", MODEL)).json()["code"] == "deployment_ended"
    assert (await owner.post(f"{DEPLOYMENTS}/{made['id']}/end")).json()["state"] == "ended", "asked again"


async def test_a_bad_version_is_rolled_back_by_itself_and_those_that_were_away_get_the_good_one(town: Town) -> None:
    owner = await town.owner()
    edges = [await an_edge(town, owner, "us-west") for _ in range(4)]
    plan = {"canary_percent": 25, "gate_seconds": 20}
    deployment = (await deployed(owner, "us-west", plan=plan, replicas=10))["id"]
    *there, away = sorted(edges, key=lambda edge: edge.id)

    async def all_obey(state: str = "ready", problem: str = "") -> list[int]:
        told = [await edge.obey(state, problem) for edge in there]
        return [one["desired"][0]["version"] if one["desired"] else 0 for one in told]

    await all_obey()
    await roll(town)
    assert await all_obey() == [1, 0, 0], "the canary"
    await roll(town)
    assert await all_obey() == [1, 0, 0], "has not stood the gate"
    await roll(town, 20)
    assert await all_obey() == [1, 1, 1]
    clock.move(timedelta(seconds=20))
    await all_obey()
    await roll(town)
    assert (await seen(owner, deployment))["state"] == "live"
    assert (await seen(owner, deployment))["locations"][0]["edges"][3]["presence"] == "unknown"

    sent = uuid.uuid4().hex
    path = f"{DEPLOYMENTS}/{deployment}/versions"
    for _ in range(2):
        answer = await owner.post(path, {"model": {"kind": "embed", "name": "other"}}, once=sent)
        assert (answer.status_code, answer.json()["version"]) == (201, 2)
    assert (await owner.post(path, MODEL)).json()["code"] == "deployment_rolling"
    await roll(town)
    assert await all_obey() == [2, 1, 1]
    assert (await there[0].obey("failed", "model_unavailable"))["desired"][0]["version"] == 2
    await roll(town)
    back = await seen(owner, deployment)
    assert (back["state"], back["problem"], back["target"], back["good"]) == ("rolled_back", "model_unavailable", 1, 1)
    assert await all_obey() == [1, 1, 1]
    await away.report()
    await roll(town)
    assert (await away.report())["desired"][0]["version"] == 1, "it came later"

    await owner.post(path, MODEL)
    await roll(town)
    given_up = await owner.post(f"{DEPLOYMENTS}/{deployment}/rollback")
    assert (given_up.json()["state"], given_up.json()["problem"]) == ("rolled_back", "rolled_back_by_owner")
    fewer = (await owner.post(f"{DEPLOYMENTS}/{deployment}/scale", {"replicas": 2})).json()
    assert len(fewer["locations"][0]["edges"]) == 2
    published = await town.fleet.sql(
        "SELECT body::jsonb ->> 'state' AS state FROM hermes.outbox WHERE kind = 'hermes.deployment_changed'"
        " AND body::jsonb ->> 'deployment' = $1 ORDER BY id",
        deployment,
    )
    assert [row["state"] for row in published] == [
        *("rolling", "live", "rolling", "rolled_back", "rolling", "rolled_back"),
    ]


async def test_a_first_version_that_fails_leaves_nothing_deployed(town: Town) -> None:
    owner = await town.owner()
    edge = await an_edge(town, owner, "eu-north")
    await edge.report(memory_mib=1000)
    needy = await deployed(owner, "eu-north", needs={"memory_mib": 2000})
    assert needy["locations"][0]["status"] == "no_edge", "it has too little memory"
    deployment = (await deployed(owner, "eu-north", plan={"ready_seconds": 60}))["id"]
    await roll(town)
    for _ in range(3):
        clock.move(timedelta(seconds=25))
        await edge.report()
    await roll(town)
    found = await seen(owner, deployment)
    assert (found["state"], found["problem"], found["target"]) == ("failed", "not_ready_in_time", 0)
    assert (await edge.report())["desired"] == []


async def test_receipts_are_checked_and_kept_once(town: Town) -> None:
    owner = await town.owner()
    edge, other = [await an_edge(town, owner, "asia") for _ in range(2)]
    deployment = (await deployed(owner, "asia"))["id"]
    await edge.report()
    receipts = [edge.receipt(deployment, number, cut_off=number > 2) for number in range(1, 6)]
    taken = await asyncio.gather(*(edge.bring(receipts[:4]) for _ in range(3)), edge.bring(receipts[2:]))
    assert sum(one["kept"] for one in taken) == 5
    assert sum(one["known"] for one in taken) == 3 * 4 + 3 - 5
    assert await edge.bring(receipts) == {"kept": 0, "known": 5, "refused": []}
    broken = edge.receipt(deployment, 6, problem="timed_out", output_digest="")
    forged = {**receipts[0], "statement": changed(receipts[0]["statement"], sequence=99)}
    wrong = [
        *(forged, edge.receipt(deployment, 1, milliseconds=9), other.receipt(deployment, 1)),
        *(edge.receipt(NOBODY, 7), {**receipts[0], "statement": receipts[0]["statement"] + " "}),
        {**receipts[0], "statement": "{]"},
    ]
    mixed = await edge.bring([*wrong, broken])
    assert (mixed["kept"], mixed["known"]) == (1, 0), "what is wrong keeps nothing else from being kept"
    assert [(one["number"], one["reason"]) for one in mixed["refused"]] == [
        *((0, "wrong_signature"), (1, "conflicts"), (2, "wrong_edge"), (3, "not_deployed_there")),
        *((4, "not_canonical"), (5, "unreadable")),
    ]
    found = await seen(owner, deployment)
    assert (found["served"], found["broken"], found["served_cut_off"]) == (5, 1, 3)
    listed = (await owner.get(f"{DEPLOYMENTS}/{deployment}/receipts", limit=4)).json()
    rest = (await owner.get(f"{DEPLOYMENTS}/{deployment}/receipts", cursor=listed["next_cursor"])).json()
    assert [one["sequence"] for one in listed["data"] + rest["data"]] == [1, 2, 3, 4, 5, 6]
    assert DIGEST in listed["data"][0]["statement"]


async def test_a_neighbour_vouches_for_an_edge_that_is_cut_off(town: Town) -> None:
    owner, stranger = await town.owner(), await town.owner()
    first, second = [await an_edge(town, owner, "eu-south") for _ in range(2)]
    foreign = await an_edge(town, stranger, "eu-south")
    first.address, second.address = "http://10.0.0.5:1", "http://10.0.0.6:1"
    await first.report()
    assert [one["address"] for one in (await second.report())["neighbours"]] == ["http://10.0.0.5:1"]
    await foreign.report()

    async def presence(edge: HandEdge) -> str:
        return str((await owner.get(f"{EDGES}/{edge.id}")).json()["presence"])

    clock.move(timedelta(seconds=60))
    assert await presence(first) == "failed"
    forged = first.sign_of_life() | {"at": first.sign_of_life()["at"] + 1000}
    await second.report(relayed=[forged])
    await foreign.report(relayed=[first.sign_of_life()])
    assert await presence(first) == "failed", "neither a forgery nor a stranger's word counts"
    sign = first.sign_of_life()
    await second.report(relayed=[sign, second.sign_of_life()])
    assert await presence(first) == "cut_off"
    clock.move(timedelta(seconds=91))
    await second.report(relayed=[sign])
    assert await presence(first) == "failed", "an old sign is no news"


async def test_coordination_is_kept_and_callers_are_spread(town: Town) -> None:
    owner = await town.owner()
    edges = sorted([await an_edge(town, owner, "sa-east") for _ in range(2)], key=lambda edge: edge.id)
    deployment = (await deployed(owner, "sa-east", replicas=2, plan={"canary_percent": 100}))["id"]
    path = f"{DEPLOYMENTS}/{deployment}"
    assert (await owner.post(f"{path}/choose")).json()["code"] == "no_edge_serves"
    for edge in edges:
        await edge.report()
    await roll(town)
    for edge in edges:
        await edge.obey()
    turns = [(await owner.post(f"{path}/choose")).json()["edge"] for _ in range(4)]
    assert turns == [edges[0].id, edges[1].id] * 2
    kept = await owner.post(f"{path}/coordination", {"balancing": "active_passive"})
    assert kept.json()["coordination"] == {"balancing": "active_passive"}
    assert (await seen(owner, deployment))["coordination"] == {"balancing": "active_passive"}
    assert {(await owner.post(f"{path}/choose")).json()["edge"] for _ in range(3)} == {edges[0].id}
    clock.move(timedelta(seconds=31))
    await edges[1].obey()
    assert (await owner.post(f"{path}/choose")).json()["edge"] == edges[1].id, "the first fails, the next takes over"
    assert (await owner.post(f"{DEPLOYMENTS}/{NOBODY}/coordination", {})).status_code == 404


async def test_an_agent_whose_steps_are_jobs_is_deployed_and_no_other(town: Town) -> None:
    owner, stranger = await town.owner(), await town.owner()
    agent = await registered(owner, skill(a_job()))
    made = await deployed(owner, "us-east", model=None, agent={"agent": agent})
    assert [(step["name"], step["kind"]) for step in made["steps"]] == [("vectors", "embed")]
    asking = await registered(owner, skill(a_job(), approval()))
    foreign = await registered(stranger, skill(a_job()))
    body = {"name": "x", "locations": ["us-east"]}
    for content, code in (
        ({"agent": {"agent": asking}}, "edge_work_invalid"),
        ({"agent": {"agent": foreign}}, "agent_not_found"),
        ({"agent": {"agent": agent, "skill": "other"}}, "agent_skill_not_found"),
        ({"model": {"kind": "embed", "input": {"texts": ["{{steps.a}}"]}}}, "edge_work_invalid"),
        ({}, "edge_work_invalid"),
        ({"agent": {"agent": agent}, **MODEL}, "edge_work_invalid"),
    ):
        answer = await owner.post(DEPLOYMENTS, body | content)
        assert answer.json().get("code") == code, answer.text
    for ask in ("", "/token", "/receipts"):
        assert (await stranger.get(f"{DEPLOYMENTS}/{made['id']}{ask}")).status_code == 404
    assert (await owner.get(f"{DEPLOYMENTS}/{made['id']}/token")).json()["token"].startswith("edge_")
    rig = await town.fleet.rig(stranger)
    assert (await owner.post(EDGES, {"miner": rig.id, "location": "us-east"})).status_code == 404
    assert (await HandEdge(town, rig).post("reports", {})).json()["code"] == "edge_not_found"
    edge = await an_edge(town, owner, "us-east")
    assert (await stranger.get(f"{EDGES}/{edge.id}")).status_code == 404
    scaled = (await owner.post(f"{DEPLOYMENTS}/{made['id']}/scale", {"replicas": 1})).json()
    assert scaled["locations"][0]["edges"][0]["miner"] == edge.id, "an edge that came since"
    await owner.post(f"{EDGES}/{edge.id}/remove")
    assert (await seen(owner, made["id"]))["locations"][0]["status"] == "no_edge"
    assert (await edge.post("reports", {})).json()["code"] == "edge_not_found"
    assert (await owner.get(EDGES)).json()["data"] == []
    assert [one["id"] for one in (await owner.get(DEPLOYMENTS)).json()["data"]] == [made["id"]]
