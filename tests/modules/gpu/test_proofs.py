"""Proofs of hardware: what computes exactly and in time is measured, and what does not, copies or is late is not."""

import base64
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.kernel.crypto import hardware_proof
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.gpu.models.proofs import task_of
from aitbc_cli.miner.proof_program import Plain, Tree, answer, keys_of, numbers
from tests.modules.gpu.make import GPU, Fleet, Rig, fleet_on, gpu_device

pytestmark = pytest.mark.anyio
SIZE = 32


@pytest.fixture(scope="module")
async def fleet(target: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A running app whose proofs are small enough for Python alone."""

    async with fleet_on(target, tmp_path_factory.mktemp("app"), proof_size=SIZE) as fleet:
        yield fleet


async def rig_of(fleet: Fleet, **offer: Any) -> tuple[Any, Rig]:
    owner = await fleet.owner(funds="10")
    device = gpu_device("NVIDIA H100 80GB HBM3", 2)  # of two mebibytes, so that Python fills its memory
    return owner, await fleet.rig(owner, devices=[device], **offer)


class Machine:
    """A miner at a proof, with Python for a GPU."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.runtime, self.kept = Plain(), dict[str, Any]()
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def begin(self) -> dict[str, Any]:
        found = await self.rig.call("POST", "/proofs", {"gpu": self.rig.devices[0]["uuid"]})
        assert found.status_code == 201, found.text
        return dict(found.json())

    def body(self, proof: dict[str, Any]) -> dict[str, Any]:
        """What an honest miner answers to the present step."""
        asked: dict[str, Any] = {
            "product": {"do": "product", "seed": proof["seed"], "size": proof["size"]},
            "rows": {"do": "rows", "rows": proof["picked"]},
            "memory": {"do": "fill", "seed": proof["seed"], "mib": proof["memory_mib"]},
            "reads": {"do": "read", "places": proof["picked"]},
        }[proof["step"]]
        found = answer(self.runtime, asked, self.kept)
        names = {"product": ("root", "runtime"), "rows": ("rows",), "reads": ("values",)}.get(proof["step"], ())
        return {name: found[name] for name in names} or {"filled": True}

    async def send(self, proof: dict[str, Any], body: dict[str, Any]) -> httpx.Response:
        self.sent.append((proof["id"], body))
        return await self.rig.call("POST", f"/proofs/{proof['id']}", body)

    async def go_on(self, proof: dict[str, Any], until: str = "passed") -> dict[str, Any]:
        """Answer honestly up to a step, or to the end."""
        while proof["step"] not in (until, "passed", "failed"):
            found = await self.send(proof, self.body(proof))
            assert found.status_code == 200, found.text
            proof = found.json()
        return proof


async def fact(owner: Any, rig: Rig) -> dict[str, Any]:
    (found,) = (await owner.get(f"{GPU}/miners/{rig.id}/hardware")).json()["data"]
    return dict(found)


def later(seconds: float) -> None:
    clock.move(timedelta(seconds=seconds))


async def test_what_computes_exactly_and_in_time_is_measured_and_gets_jobs_that_ask_for_it(fleet: Fleet) -> None:
    region = f"r-{uuid.uuid4().hex[:8]}"
    owner, rig = await rig_of(fleet, kinds=["command"], programs=["train"], device="gpu", region=region)
    wish = {"program": "train"}
    needs = {"region": region, "verified": True}
    job = await fleet.submit(owner, kind="command", input=wish, requirements=needs)
    assert (await rig.poll())["leases"] == []
    explained = (await owner.get(f"/api/v1/ai/jobs/{job['id']}/explain")).json()
    assert {one["filter"]: one["after"] for one in explained["filters"]}["verified"] == 0
    machine = Machine(rig)
    assert (await owner.get(f"{GPU}/miners/{rig.id}/hardware")).json()["data"] == []
    assert (await machine.go_on(await machine.begin()))["step"] == "passed"
    found = await fact(owner, rig)
    assert (found["source"], found["runtime"], found["size"], found["memory_mib"]) == ("measured", "plain", SIZE, 1)
    assert found["product_ms"] >= 0 and found["reason"] is None
    await rig.heartbeat(telemetry=rig.inventory())
    for _ in range(400):
        if leases := (await rig.poll(wait_seconds=0.05))["leases"]:
            break
    assert leases[0]["devices"][0]["uuid"] == rig.devices[0]["uuid"]
    later(7.1 * 3600)
    await fleet.gpu.expire_proofs()
    found = await fact(owner, rig)
    assert (found["source"], found["reason"]) == ("claimed", "its last proof is too old")


async def test_one_that_is_late_fails(fleet: Fleet) -> None:
    owner, rig = await rig_of(fleet)
    machine = Machine(rig)
    proof = await machine.begin()
    body = machine.body(proof)
    later(8)
    assert (await machine.send(proof, body)).json()["reason"] == "late"
    found = await fact(owner, rig)
    assert (found["source"], found["reason"]) == ("claimed", "late")
    assert (await machine.send(proof, body)).json()["code"] == "proof_step_passed"


def bent(values: str, at: int) -> str:
    """A row with one number changed."""
    raw = bytearray(base64.b64decode(values))
    raw[4 * at] ^= 1
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("step", "cheat", "said"),
    [
        ("rows", lambda body: body["rows"][0].update(values=bent(body["rows"][0]["values"], 3)), "root was made of"),
        ("rows", lambda body: body["rows"].reverse() or body["rows"].append(body["rows"].pop(0)), "other rows"),
        ("rows", lambda body: body["rows"][1].update(values="AAAA"), "another length"),
        ("rows", lambda body: body["rows"][1].update(values="%%%"), "no base64"),
        ("rows", lambda body: body["rows"][2].update(path=body["rows"][2]["path"][:-1]), "another length"),
        ("reads", lambda body: body["values"].__setitem__(0, body["values"][0] ^ 1), "something else"),
        ("reads", lambda body: body["values"].pop(), "something else"),
    ],
)
async def test_a_wrong_answer_fails_and_is_not_taken_again(
    fleet: Fleet, step: str, cheat: Callable[[Any], Any], said: str
) -> None:
    _, rig = await rig_of(fleet)
    machine = Machine(rig)
    proof = await machine.go_on(await machine.begin(), until=step)
    honest = machine.body(proof)
    wrong = {name: [dict(one) if isinstance(one, dict) else one for one in value] for name, value in honest.items()}
    cheat(wrong)
    if wrong == honest:
        pytest.skip("the picked rows happen to be the same backwards")
    found = (await machine.send(proof, wrong)).json()
    assert found["step"] == "failed" and said in found["reason"]
    assert (await machine.send(proof, honest)).status_code == 409


async def test_a_product_that_was_not_computed_is_found_out(fleet: Fleet) -> None:
    owner, rig = await rig_of(fleet)
    machine = Machine(rig)
    proof = await machine.begin()
    guess = Tree([memoryview(bytes(4 * SIZE)) for _ in range(SIZE)])
    machine.kept["tree"] = guess
    proof = (await machine.send(proof, {"root": guess.levels[-1][0].hex(), "runtime": "none"})).json()
    found = (await machine.send(proof, machine.body(proof))).json()
    assert (found["step"], found["reason"]) == ("failed", "the product is wrong")
    assert (await fact(owner, rig))["source"] == "claimed"


async def test_a_replayed_answer_fails(fleet: Fleet) -> None:
    _, rig = await rig_of(fleet)
    machine = Machine(rig)
    assert (await machine.go_on(await machine.begin()))["step"] == "passed"
    earlier = machine.sent[:]
    later(60)
    proof = await machine.begin()
    for _, body in earlier:
        found = await machine.send(proof, body)
        if found.json().get("step") == "failed":
            break
        proof = found.json()
    assert found.json()["step"] == "failed"


async def test_proofs_are_begun_one_after_the_other_and_are_the_miners_own(fleet: Fleet) -> None:
    owner, rig = await rig_of(fleet)
    _, other = await rig_of(fleet)
    machine = Machine(rig)
    first = await machine.begin()
    again = await rig.call("POST", "/proofs", {"gpu": rig.devices[0]["uuid"]})
    assert (again.status_code, again.json()["code"]) == (429, "too_many_proofs")
    strange = await rig.call("POST", "/proofs", {"gpu": "GPU-of-another"})
    assert (strange.status_code, strange.json()["code"]) == (404, "device_not_shown")
    for path in (first["id"], "prf_1"):
        assert (await other.call("POST", f"/proofs/{path}", {"filled": True})).status_code == 404
    missing = await machine.send(first, {"filled": True})
    assert (missing.status_code, missing.json()["code"]) == (422, "proof_answer_missing")
    later(31)
    second = await machine.begin()
    assert (await fact(owner, rig))["reason"] == "another was begun"
    assert second["seed"] != first["seed"]
    assert (await machine.send(first, machine.body(second))).status_code == 409
    assert (await owner.post(f"{GPU}/proofs", {"gpu": rig.devices[0]["uuid"]})).status_code == 403


def test_both_sides_make_the_same_numbers_and_the_products_are_exact() -> None:
    for name in ("a", "b", "memory"):
        assert keys_of("seed", name) == hardware_proof.keys_of("seed", name)
        keys = keys_of("seed", name)
        places = (0, 1, 4095, 2**32 - 1, 2**32, 2**34 + 7)
        assert [numbers(place, keys) for place in places] == [hardware_proof.number(place, keys) for place in places]
    numpy = pytest.importorskip("numpy")
    places = numpy.arange(2**32 - 500, 2**32 + 500, dtype=numpy.int64)
    found = [int(one) for one in numbers(places, keys)]
    assert found == [hardware_proof.number(int(place), keys) for place in places]


def test_larger_gpus_are_asked_for_more_within_less() -> None:
    assert task_of("NVIDIA H100 80GB HBM3") == (16_384, timedelta(seconds=4))
    assert task_of("NVIDIA GeForce RTX 4090") == (16_384, timedelta(seconds=8))
    assert task_of("Tesla T4") == task_of(None) == (8192, timedelta(seconds=2))


async def test_a_fleet_without_a_size_of_its_own_asks_by_the_name(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    async with fleet_on(new_database(), tmp_path, periodic=False) as fleet:
        _, rig = await rig_of(fleet)
        assert (await Machine(rig).begin())["size"] == 16_384
