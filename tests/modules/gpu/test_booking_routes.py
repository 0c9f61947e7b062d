"""Bookings over HTTP: who may do what, in which words, and what a repetition answers."""

import uuid
from typing import Any

import pytest

from aitbc.kernel.primitives import ids
from tests.app import Caller
from tests.modules.gpu.make import GPU, Fleet, gpu_device

pytestmark = pytest.mark.anyio


async def listed(fleet: Fleet, owner: Caller, **changes: Any) -> dict[str, Any]:
    """A GPU of this owner's on the market, in a miner that shows it."""
    body = {"model": f"H100 {uuid.uuid4().hex[:8]}", "price_per_hour": "0.25", "memory_gb": 80} | changes
    rig = await fleet.rig(owner, devices=[gpu_device(f"NVIDIA {body['model']}", 81_559)])
    body["miner"] = rig.id
    answer = await owner.post(f"{GPU}/listings", body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{GPU}/listings/{answer.json()['id']}"
    return dict(answer.json())


async def test_a_gpu_is_listed_found_booked_and_released(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    made = await listed(fleet, owner, region="eu")
    assert (made["status"], made["price_per_hour"]) == ("available", "0.25")
    found = (await buyer.get(f"{GPU}/listings", model=made["model"].lower(), region="EU", available="true")).json()
    assert [one["id"] for one in found["data"]] == [made["id"]]
    wish = {"gpu": made["id"], "duration_seconds": 7200, "max_price": "0.5", "label": "training"}
    key = uuid.uuid4().hex
    answer = await buyer.post(f"{GPU}/bookings", wish, once=key)
    assert answer.status_code == 201, answer.text
    booking = answer.json()
    assert answer.headers["location"] == f"{GPU}/bookings/{booking['id']}"
    expected = {
        "state": "active",
        "price": "0.5",
        "cost": None,
        "returned": None,
        "miner": made["miner"],
        "label": "training",
    }
    assert {name: booking[name] for name in expected} == expected
    again = await buyer.post(f"{GPU}/bookings", wish, once=key)
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, booking, "true")
    other = await buyer.post(f"{GPU}/bookings", wish | {"label": "x"}, once=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await buyer.get(f"{GPU}/listings/{made['id']}")).json()["status"] == "booked"
    refused = await owner.client.delete(f"{GPU}/listings/{made['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "gpu_booked")
    squeezed = made["model"].replace(" ", "-").lower()
    assert (await buyer.get(f"{GPU}/listings", model=squeezed)).json()["data"][0]["id"] == made["id"]
    for who in (buyer, owner):
        for word in ("state", "status"):  # the field's name, and its older one
            page = (await who.get(f"{GPU}/bookings", **{word: "active"})).json()
            assert [one["id"] for one in page["data"]] == [booking["id"]]
    assert (await owner.post(f"{GPU}/bookings/{booking['id']}/release")).status_code == 404
    over = (await buyer.post(f"{GPU}/bookings/{booking['id']}/release")).json()
    assert over["state"] == "released"
    assert 0.49 < float(over["returned"]) <= 0.5
    settled = (await buyer.get(f"{GPU}/bookings/{booking['id']}")).json()
    assert settled["settled_at"] is not None
    held = (await buyer.get(f"/api/v1/trading/transactions?reference={booking['id']}")).json()["data"]
    assert [one["kind"] for one in held] == ["rent", "hold"]
    gone = await owner.client.delete(f"{GPU}/listings/{made['id']}")
    assert (gone.status_code, gone.json()) == (200, {"id": made["id"], "status": "removed"})
    assert (await buyer.get(f"{GPU}/listings/{made['id']}")).status_code == 404


async def test_a_list_goes_on_where_it_stopped(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    model = f"A100-{uuid.uuid4().hex[:8]}"
    made = [await listed(fleet, owner, model=model) for _ in range(3)]
    first = (await buyer.get(f"{GPU}/listings", model=model, limit=2)).json()
    rest = (await buyer.get(f"{GPU}/listings", model=model, limit=2, cursor=first["next_cursor"])).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == [one["id"] for one in reversed(made)]
    bookings = []
    for one in made:
        answer = await buyer.post(f"{GPU}/bookings", {"gpu": one["id"], "duration_seconds": 60, "max_price": "1"})
        bookings.append(answer.json()["id"])
    first = (await buyer.get(f"{GPU}/bookings", limit=2)).json()
    rest = (await buyer.get(f"{GPU}/bookings", limit=2, cursor=first["next_cursor"])).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == bookings[::-1]
    wrong = await buyer.get(f"{GPU}/bookings", status="active", cursor=first["next_cursor"])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


async def test_what_makes_no_sense_is_refused_and_leaves_nothing_behind(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="0.1")
    made = await listed(fleet, owner)
    wish = {"gpu": made["id"], "duration_seconds": 3600, "max_price": "0.25"}
    for changes, status, code in (
        ({"duration_seconds": 59}, 422, None),
        ({"duration_seconds": 31_536_001}, 422, None),
        ({"gpu": "gpu_1"}, 422, None),
        ({"gpu": ids.new_id("gpu")}, 404, "listed_gpu_not_found"),
        ({"max_price": "0.24"}, 409, "booking_costs_more"),
        ({"max_price": "-1"}, 422, None),
        ({"colour": "red"}, 422, None),
        ({}, 402, "insufficient_funds"),
    ):
        answer = await buyer.post(f"{GPU}/bookings", wish | changes)
        assert answer.status_code == status, answer.text
        assert code in (None, answer.json()["code"])
    assert (await buyer.get(f"{GPU}/listings/{made['id']}")).json()["status"] == "available"
    for changes in ({"price_per_hour": "1e3"}, {"model": ""}, {"miner": "mine"}, {"price_per_hour": "99999999999"}):
        body = {"model": "H100", "price_per_hour": "0.25"} | changes
        assert (await owner.post(f"{GPU}/listings", body)).status_code == 422
    rig = await fleet.rig(buyer)
    body = {"model": "H100", "price_per_hour": "0.25", "miner": rig.id}
    assert (await owner.post(f"{GPU}/listings", body)).status_code == 404
    for path in ("bookings/book_1", f"bookings/{ids.new_id('book')}"):
        assert (await buyer.get(f"{GPU}/{path}")).status_code == 404
        assert (await buyer.post(f"{GPU}/{path}/release")).status_code == 404


async def test_a_key_that_may_not_create_jobs_books_nothing(fleet: Fleet) -> None:
    owner, reader = await fleet.owner(), await fleet.owner(funds="1", scopes=["jobs:read", "miners:read"])
    made = await listed(fleet, owner)
    answer = await reader.post(f"{GPU}/bookings", {"gpu": made["id"], "duration_seconds": 60, "max_price": "1"})
    assert answer.status_code == 403
    assert (await reader.get(f"{GPU}/listings/{made['id']}")).status_code == 200
