"""Edges on the command line: a real miner becomes one, serves what is deployed, and its receipts are checked."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from aitbc_cli.exits import NOT_FOUND, REFUSED, USAGE
from tests.cli.installation import CliInstallation, served
from tests.cli.miner.forked_miner import ForkedMiner

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliInstallation]:
    """One whose edges report often."""
    with served(tmp_path_factory.mktemp("installation"), AITBC_HERMES__REPORT_SECONDS="0.2") as made:
        yield made


def test_a_miner_serves_as_an_edge_and_its_receipts_are_checked(installation: CliInstallation) -> None:
    from aitbc_cli.miner.options import EdgeOptions

    admin = installation.admin
    token = admin.gets("miner", "token")["token"]
    home = admin.home / "edge-miner"
    told = {"url": installation.server.url, "home": str(home), "name": "edgy", "slots": 1, "kinds": {"embed": {}}}
    miner = ForkedMiner(told | {"token": token, "edge": EdgeOptions(port=0)}, admin.home / "edge.log")
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not (home / "credentials.json").exists():
            assert time.monotonic() < until, (admin.home / "edge.log").read_text()
            time.sleep(0.1)
        identity = json.loads((home / "credentials.json").read_text())["miner"]
        admin.does("edge", "add", "mnr_" + "0" * 26, "attic", code=NOT_FOUND)
        assert admin.gets("edge", "add", identity, "attic")["location"] == "attic"
        wanted = ("edge", "deploy", "near", "--at", "attic", "--at", "cellar", "--kind", "embed", "--gate", "0")
        assert admin.gets(*wanted, "--dry-run")["body"]["locations"] == ["attic", "cellar"]
        admin.does(*wanted, "--agent", "agt_x", "--model", "m", code=USAGE)
        deployment = admin.gets(*wanted)["id"]
        while (found := admin.gets("edge", "show", deployment))["state"] != "live":
            assert time.monotonic() < until, (found, (admin.home / "edge.log").read_text())
            time.sleep(0.2)
        assert [one["status"] for one in found["locations"]] == ["ready", "no_edge"]
        chosen = admin.gets("edge", "choose", deployment)
        assert chosen["edge"] == identity
        secret = admin.gets("edge", "secret", deployment)["token"]
        request = urllib.request.Request(
            f"{chosen['address']}/deployments/{deployment}/run",
            json.dumps({"text": "near"}).encode(),
            {"Authorization": f"Bearer {secret}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["version"] == 1
        while not (signed := admin.gets("edge", "receipts", deployment)):
            assert time.monotonic() < until, (admin.home / "edge.log").read_text()
            time.sleep(0.2)
        assert [(one["valid"], one["cut_off"], one["edge"]) for one in signed] == [(True, False, identity)]
        assert admin.gets("edge", "balance", deployment, "active_passive")["coordination"]["balancing"]
        assert admin.gets("edge", "scale", deployment, "2")["replicas"] == 2
        assert admin.gets("edge", "rollback", deployment)["state"] == "live", "none was on its way"
        assert deployment in {one["id"] for one in admin.gets("edge", "deployments")}
        assert admin.gets("edge", "end", deployment)["state"] == "ended"
        admin.does("edge", "update", deployment, "--kind", "embed", code=REFUSED)
        assert [one["presence"] for one in admin.gets("edge", "list")] == ["healthy"]
        assert admin.gets("edge", "remove", identity)["miner"] == identity
    finally:
        miner.kill()
        miner.wait()
