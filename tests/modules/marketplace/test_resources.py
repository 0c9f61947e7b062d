"""Resources of the older coordinator's market: miners that are listed and rented, for clients that call themselves agents."""

from typing import Any

import pytest

from aitbc.server.config.placement import LEGACY_COORDINATOR_PREFIX
from tests.app import Caller
from tests.modules.gpu.make import Fleet, gpu_device
from tests.modules.marketplace.make import audited
from tests.modules.marketplace.test_bookings import BOOKINGS, fleet

__all__ = ["fleet"]
pytestmark = pytest.mark.anyio
GPU = "NVIDIA H100 80GB HBM3"
PATH = f"/{LEGACY_COORDINATOR_PREFIX}/v1/marketplace"


async def asked(who: Caller, path: str, status: int, **body: Any) -> dict[str, Any]:
    """The answer to a request of the older dialect, which must have this status."""
    answer = await who.post(f"{PATH}/{path}", body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def test_a_miner_is_listed_by_its_owner_and_rented_at_no_more_than_was_said(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(
        owner, devices=[gpu_device(GPU, 81_559)], kinds=["embed"], device="gpu", gpu_models=[GPU], vram_mib=81_559
    )
    wish = {
        "resource_id": rig.id,
        "resource_type": "gpu",
        "compute_power": 9.5,
        "gpu_memory": 80,
        "price_per_hour": 3.6,
    }
    words = {"provider_id": "agent-7", "availability": "always"}
    assert "detail" in await asked(buyer, "list", 404, **wish, **words)
    assert "detail" in await asked(owner, "list", 404, **(wish | {"resource_id": "no-such-miner"}))
    listed = await asked(owner, "list", 201, **wish, **words)
    assert (listed["resource_id"], listed["provider_id"]) == (rig.id, owner.principal.account)
    rent = {"resource_id": rig.id, "consumer_id": "agent-8", "duration_hours": 2}
    assert "detail" in await asked(buyer, "rent", 409, **rent, max_price_per_hour=3.5)
    for wanted in ({"min_gpu_memory": 96}, {"min_compute_power": 1}):
        assert "detail" in await asked(buyer, "rent", 422, **rent, requirements=wanted)
    needs = {"min_compute_power": 0, "min_gpu_memory": 80, "gpu_required": True}
    rented = await asked(buyer, "rent", 201, **rent, max_price_per_hour=3.6, requirements=needs)
    assert (rented["status"], rented["consumer_id"]) == ("active", buyer.principal.account)
    assert rented["resource_id"] == rig.id
    assert (await buyer.post(f"{BOOKINGS}/{rented['rental_id']}/end")).json()["state"] in ("ending", "ended")
    assert "detail" in await asked(buyer, "rent", 404, **(rent | {"resource_id": "mnr_01kb2c3d4e5f6g7h8j9kamnpqr"}))
    await audited(fleet)
