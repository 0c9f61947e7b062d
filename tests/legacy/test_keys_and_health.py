"""What legacy clients send as a key, and where they ask whether somebody is there."""

import httpx
import pytest

from tests.legacy.installation import Installation
from tests.plain_http import UNUSED_TLS

FOREIGN = ("miner_prod_key_use_real_value", "test-key", "dev_key", "")
HEALTH = {
    "/health": "ok",
    "/v1/health": "ok",
    "/healthz": "ok",
    "/health/live": "alive",
    "/health/ready": "ready",
}


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("place", ["ai", "gpu", "trading"])
def test_a_key_that_is_none_of_ours_is_worth_what_none_is_worth(
    installation: Installation, place: str, key: str
) -> None:
    path = {"ai": "/jobs", "gpu": "/v1/miners/nobody/gpus", "trading": "/blocks"}[place]
    with installation.client(place) as client:
        for headers in (
            {"X-Api-Key": key},
            {"Authorization": f"Bearer {key}".strip()},
            {"Authorization": f"Basic {key}".strip()},
        ):
            assert client.get(path, headers=headers).status_code == client.get(path).status_code != 401
        mixed = client.get(path, headers={"X-Api-Key": key, "Authorization": f"Bearer {installation.admin}"})
        assert mixed.status_code == client.get(path).status_code
        damaged = client.get(path, headers={"X-Api-Key": installation.local[:-1]})
        assert damaged.status_code == 401, "a key of ours that is wrong is said to be wrong"
    with installation.client("gateway") as client:
        answer = client.get("/ai/jobs", headers={"X-Api-Key": key})
    assert answer.status_code == 401, "and where nobody is trusted it opens nothing"


def test_a_foreign_key_that_a_client_repeats_as_its_name_is_not_kept(installation: Installation) -> None:
    installation.fund()
    with installation.client("gpu") as client:
        gpu = client.post(
            "/v1/marketplace/gpu/register", json={"gpu": {"name": "RTX 4090", "price_per_hour": 0.1}}
        ).json()["gpu_id"]
        at = f"/v1/marketplace/gpu/{gpu}"
        if client.post(f"{at}/book", json={"duration_hours": 1}).status_code == 201:
            sent = {"X-Api-Key": "a-key-of-another-system"}
            answer = client.post(f"{at}/confirm", json={"client_id": "a-key-of-another-system"}, headers=sent)
            assert answer.json()["client_id"] == "********"
            client.post(f"{at}/release")


@pytest.mark.parametrize(("path", "status"), HEALTH.items())
def test_the_coordinator_says_that_it_is_there(installation: Installation, path: str, status: str) -> None:
    answer = httpx.get(f"{installation.coordinator}{path}", verify=UNUSED_TLS)
    assert (answer.status_code, answer.json()["status"]) == (200, status)
