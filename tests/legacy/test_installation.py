"""The installation itself: its ports trust this machine, its coordinator wants a key, and work is done and paid in it."""

from tests.legacy.installation import Installation


def test_work_of_the_account_local_is_done_and_paid(installation: Installation) -> None:
    done = installation.paid_job()
    assert done["state"] == "succeeded"
    assert installation.ours("GET", f"trading/receipts/{done['receipt']}")["receipt"]["price"] == done["price"]


def test_a_port_serves_who_brings_no_key_and_the_gateway_does_not(installation: Installation) -> None:
    with installation.client("gpu") as at_port, installation.client("gateway") as at_gateway:
        assert at_port.get("/api/v1/gpu/miners").status_code == 200
        assert at_gateway.get("/api/v1/gpu/miners").status_code == 401
