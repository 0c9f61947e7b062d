"""Every request that the existing command line makes of gpu, ai, trading and marketplace, or of the older coordinator for them.

The rows of gpu are replayed in the tests of gpu; those of ai and trading here. `docs/legacy.md` is written from all of them:
`python -m tests.legacy.test_rows` writes it anew.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from aitbc.modules.marketplace.legacy.refused import REFUSED as NO_MARKET
from tests.legacy.exchange_rows import EXCHANGE, EXCHANGED, REASONS
from tests.legacy.hermes_rows import HOLDS as AGENTS
from tests.legacy.hermes_rows import REFUSED as NO_AGENTS
from tests.legacy.installation import Installation, installed
from tests.legacy.test_gpu_coordinator import CALLS as MINERS
from tests.legacy.test_gpu_market import HOLDS as MARKET
from tests.scale import scaled

DOCUMENT = Path(__file__).parents[2] / "docs/legacy.md"
PROMPT = {"payload": {"type": "inference", "prompt": "Hello", "model": "llama2"}, "ttl_seconds": 900}
EXAMPLE = {
    "payload": {"type": "inference", "task": "text", "model": "m", "prompt": "Hi", "parameters": {"max_tokens": 9}}
}
JOB = {"job_id", "state", "assigned_miner_id", "requested_at", "expires_at"}


class Row(Struct, frozen=True):
    """A request, and what the command reads of the answer."""

    command: str
    place: str
    method: str
    path: str
    """With `{job}` (one that waits), `{paid}`, `{payment}`, `{tx}` and `{account}` in it."""
    body: Any = None
    codes: tuple[int, ...] = (200,)
    reads: frozenset[str] = frozenset()
    items: str | None = None
    """The list in the answer whose first row is read; empty for a bare list."""
    admin: bool = False


def reads(*names: str) -> frozenset[str]:
    """The fields that a command reads."""
    return frozenset(names)


ROWS: dict[str, Row] = {
    "K51": Row("ai status", "ai", "GET", "/health", reads=reads("status")),
    "O201": Row("client submit", "ai", "POST", "/jobs", PROMPT, (200, 201), reads("job_id")),
    "O202": Row("client status", "ai", "GET", "/jobs/{job}", reads=reads("id", "state")),
    "O203": Row("client history", "ai", "GET", "/jobs?limit=10", items="jobs", reads=reads("id", "state")),
    "O204": Row(
        *("client history, filtered", "ai", "GET"),
        "/jobs?limit=10&status=pending&type=embed&from_time=2020-01-01&to_time=2099-01-01",
        items="jobs",
        reads=reads("id", "state"),
    ),
    "O205": Row("client result", "ai", "GET", "/jobs/{paid}/result", reads=reads("result", "receipt")),
    "O205, not ready": Row("client result, too early", "ai", "GET", "/jobs/{job}/result", codes=(425,)),
    "O207": Row("client batch-submit", "ai", "POST", "/jobs", PROMPT, (201,), reads("job_id")),
    "O213": Row("client payment-status", "ai", "GET", "/jobs/{paid}/payment", reads=reads("payment_id", "status")),
    "O102": Row("admin jobs", "ai", "GET", "/admin/jobs?limit=10", items="jobs", reads=reads("id"), admin=True),
    "O103": Row("admin job-details", "ai", "GET", "/admin/jobs/{job}", reads=reads("id", "state"), admin=True),
    "O104": Row("admin prioritize-job", "ai", "POST", "/admin/jobs/{job}/prioritize", {"reason": "demo"}, admin=True),
    "O206": Row("client cancel", "ai", "POST", "/jobs/{job}/cancel", reads=reads("state")),
    "O105": Row("admin delete-job", "ai", "DELETE", "/admin/jobs/{job}", admin=True),
    "O210": Row("client blocks", "trading", "GET", "/api/v1/blocks?limit=10&chain_id=ait-devnet", items="blocks"),
    "O211": Row(
        *("client receipts", "trading", "GET", "/v1/explorer/receipts?limit=10&job_id={paid}"), items="receipts"
    ),
    "O301": Row("blockchain transaction", "trading", "GET", "/explorer/transactions/{tx}?chain_id=ait-devnet"),
    "O302": Row(
        "blockchain sync-status", "coordinator", "GET", "/v1/sync-status?chain_id=ait-devnet", reads=reads("available")
    ),
    "E01": Row("examples/client.py submit", "coordinator", "POST", "/v1/jobs", EXAMPLE, (201,), reads("job_id")),
    "E02": Row("examples/client.py status", "coordinator", "GET", "/v1/jobs/{job}", reads=frozenset(JOB)),
    "O203, by type": Row(
        *("client history, of a type that was submitted", "ai", "GET", "/jobs?limit=10&type=inference"),
        items="jobs",
        reads=reads("id", "state", "client_id", "assigned_miner_id"),
    ),
    "O211, paid": Row(
        *("client receipts, paid", "trading", "GET", "/v1/explorer/receipts?limit=10&status=paid"), items="receipts"
    ),
    "E03": Row(
        *("examples/client.py blocks", "coordinator", "GET", "/v1/explorer/blocks?limit=5"),
        items="items",
        reads=reads("height", "hash", "timestamp", "proposer"),
    ),
    "E04": Row(
        *("examples/client.py browser", "coordinator", "GET", "/v1/explorer/transactions?limit=5"),
        items="items",
        reads=reads("hash", "from", "to", "value", "status", "block"),
    ),
    "E04, receipts": Row(
        *("examples/client.py browser", "coordinator", "GET", "/v1/explorer/receipts?limit=5"),
        items="items",
        reads=reads("status", "payload"),
    ),
    "E05": Row("examples/client.py demo", "coordinator", "POST", "/v1/jobs", EXAMPLE, (201,), reads("job_id")),
    "E06": Row("client_enhanced.py submit", "coordinator", "POST", "/v1/jobs", PROMPT, (201,), reads("job_id")),
    "E07": Row("client_enhanced.py status", "coordinator", "GET", "/v1/jobs/{job}", reads=frozenset(JOB)),
    "E08": Row("client_enhanced.py blocks", "coordinator", "GET", "/v1/explorer/blocks?limit=5", items="items"),
    "E09": Row(
        *("client_enhanced.py receipts", "coordinator", "GET", "/v1/explorer/receipts?limit=5&job_id={paid}"),
        items="items",
    ),
    "E10": Row("client_enhanced.py cancel", "coordinator", "POST", "/v1/jobs/{job}/cancel"),
    "K31, jobs": Row("monitor metrics", "coordinator", "GET", "/jobs", items="", reads=reads("status")),
    "K32": Row("monitor history", "coordinator", "GET", "/jobs", items="", reads=reads("status")),
    "O731": Row("marketplace test health", "coordinator", "GET", "/health", reads=reads("status")),
    "G09": Row("wallet balance", "coordinator", "GET", "/rpc/balance/{account}", reads=reads("balance")),
    "O212": Row(
        *("client pay", "coordinator", "POST", "/v1/payments"),
        {"job_id": "{job}", "amount": 0.05, "currency": "AITBC", "payment_method": "aitbc_token"},
        (201,),
    ),
    "O214": Row("client payment-receipt", "coordinator", "GET", "/v1/payments/{payment}/receipt"),
    "O215": Row(
        *("client refund", "coordinator", "POST", "/v1/payments/{waiting}/refund"),
        {"job_id": "{job}", "payment_id": "{waiting}", "reason": "changed my mind"},
    ),
    "K30": Row(
        *("monitor dashboard", "coordinator", "GET", "/api/v1/dashboard"),
        reads=reads("metrics", "overall_status", "services"),
    ),
    "K31, status": Row("monitor metrics", "coordinator", "GET", "/status", reads=reads("status")),
    "O101": Row("admin status", "coordinator", "GET", "/v1/admin/stats", reads=reads("total_jobs"), admin=True),
    "O110": Row("admin analytics", "coordinator", "GET", "/admin/analytics?days=7", reads=reads("by_day"), admin=True),
    "O111": Row(
        *("admin logs", "coordinator", "GET", "/admin/logs?level=INFO&limit=10"),
        items="logs",
        reads=reads("event", "level"),
        admin=True,
    ),
    "O112": Row(
        "admin execute", "coordinator", "POST", "/admin/execute/cleanup", {}, reads=reads("removed"), admin=True
    ),
    "O112, reindex": Row(
        *("admin execute", "coordinator", "POST", "/admin/execute/reindex", {"target": "all"}),
        reads=reads("indexes"),
        admin=True,
    ),
    "O113": Row("admin maintenance cleanup", "coordinator", "POST", "/admin/maintenance/cleanup", admin=True),
    "O114": Row("admin maintenance reindex", "coordinator", "POST", "/admin/maintenance/reindex", admin=True),
    "O115": Row(
        *("admin maintenance backup", "coordinator", "POST", "/admin/maintenance/backup"),
        reads=reads("file", "bytes"),
        admin=True,
    ),
}
SOLD = {"wallet": "w", "item": "a card", "item_type": "gpu", "price": 0.5, "description": "As new."}
OFFER = reads("id", "model", "price_per_hour", "status")
ROWS |= {
    "U21": Row("market create", "marketplace", "POST", "/v1/marketplace/offers", SOLD, (200, 201)),
    "U22": Row(
        "market list", "marketplace", "GET", "/v1/marketplace/offers?chain_id=ait-devnet", items="", reads=OFFER
    ),
    "U23": Row("market get", "marketplace", "GET", "/v1/marketplace/offers/{item}", reads=OFFER),
    "U24": Row(
        *("market buy", "marketplace", "POST", "/v1/marketplace/offers/{item}/book"),
        {"duration_hours": 1.0, "wallet": "w", "price": 0.5},
        (200, 201),
    ),
    "U25": Row(
        *("market orders", "marketplace", "GET", "/v1/marketplace/orders?wallet=w"),
        items="orders",
        reads=reads("id", "order_type", "item", "price", "status"),
    ),
    "U26": Row("market delete", "marketplace", "DELETE", "/v1/marketplace/offers/{item}"),
    "M08": Row("miner_cli marketplace list", "coordinator", "GET", "/v1/marketplace/miner-offers?region=eu"),
    "M09": Row(
        *("miner_cli marketplace create", "coordinator", "POST", "/v1/marketplace/offers"),
        {"miner_id": "m", "price": 0.5, "capacity": 1, "region": "eu"},
        (200, 201),
    ),
    "O713": Row(
        *("marketplace bid submit", "coordinator", "POST", "/v1/marketplace/bids"),
        {"provider": "p", "capacity": 1, "price": 0.25, "notes": "soon"},
        (202,),
        reads("id"),
    ),
    "O714": Row(
        *("marketplace bid list", "coordinator", "GET", "/v1/marketplace/bids?limit=10&provider=p"),
        items="",
        reads=reads("id"),
    ),
    "O715": Row(
        "marketplace bid details", "coordinator", "GET", "/v1/marketplace/bids/{bid}", reads=reads("id", "price")
    ),
    "O716": Row(
        *("marketplace offers create", "coordinator", "POST", "/v1/marketplace/offers"),
        {
            "gpu_id": "g",
            "price_per_hour": 0.5,
            "min_hours": 1,
            "max_hours": 9,
            "supported_models": ["m"],
            "status": "active",
        },
        (201,),
        reads("id"),
    ),
    "O717": Row(
        *("marketplace offers list", "coordinator", "GET", "/v1/marketplace/offers?limit=10&status=open&price_max=1"),
        items="",
        reads=OFFER,
    ),
    "O902": Row(
        *("multimodal process", "coordinator", "POST", "/multimodal/agents/embed/process"),
        {"modalities": {"text": "Hello"}, "output_format": "json"},
        reads=frozenset({"id", "task_id", "status"}),
    ),
    "O903": Row(
        *("multimodal benchmark", "coordinator", "POST", "/multimodal/agents/embed/benchmark"),
        {"dataset": "d", "metrics": ["latency"], "iterations": 3},
        reads=frozenset({"id", "latency_ms", "throughput"}),
    ),
    "O908": Row(
        *("multimodal capabilities", "coordinator", "GET", "/multimodal/agents/ocr/capabilities"),
        reads=frozenset({"id", "modalities", "status", "input_schema"}),
    ),
    "O909": Row(
        *("multimodal test", "coordinator", "POST", "/multimodal/agents/embed/test/text"),
        {},
        reads=frozenset({"status", "processing_time", "accuracy"}),
    ),
    "OA06": Row(
        *("optimize predict", "coordinator", "POST", "/predict/agents/embed/resources"),
        {"horizon_hours": 24, "resources": "cpu", "confidence_threshold": 0.9},
        reads=frozenset({"agent_id", "prediction", "seconds", "confidence"}),
    ),
    "O726": Row(
        *("marketplace agents analytics", "coordinator", "GET", "/analytics/marketplace?time_range=24h"),
        reads=frozenset({"total_offers", "total_transactions", "total_volume"}),
    ),
    "O729": Row(
        *("marketplace governance list-proposals", "coordinator", "GET", "/proposals?limit=10&status=active"),
    ),
}
"""Each request by the number of its case; those of the marketplace and of governance last."""
REFUSED: Mapping[str, tuple[str, str, str, Any]] = {
    "O901": ("multimodal agent", "POST", "/multimodal/agents", {"name": "a", "modalities": ["text"]}),
    "O904": ("multimodal optimize", "POST", "/multimodal/agents/a/optimize", {"objective": "latency"}),
    "O905": ("multimodal convert", "POST", "/multimodal/convert", {"output_format": "text"}),
    "O906": ("multimodal search", "POST", "/multimodal/search", {"query": "q"}),
    "O907": ("multimodal attention", "POST", "/multimodal/agents/a/attention", {"inputs": {}}),
    "OA01": ("optimize self-opt enable", "POST", "/optimize/agents/a/enable", {"mode": "auto-tune"}),
    "OA02": ("optimize self-opt status", "GET", "/optimize/agents/a/status", None),
    "OA03": ("optimize self-opt objectives", "POST", "/optimize/agents/a/objectives", {"targets": {}}),
    "OA04": ("optimize self-opt recommendations", "GET", "/optimize/agents/a/recommendations", None),
    "OA05": ("optimize self-opt apply", "POST", "/optimize/agents/a/apply/r1", {"confirm": True}),
    "OA07": ("optimize tune auto", "POST", "/tune/agents/a/auto", {"parameters": {}}),
    "OA10": ("optimize disable", "POST", "/optimize/agents/a/disable", {}),
}
"""Requests of ai's paths on the older coordinator that no kind of work answers: refused, with that reason."""
RESOURCES = {
    "O720": ("marketplace agents list-resource", "/v1/marketplace/list"),
    "O721": ("marketplace agents rent", "/v1/marketplace/rent"),
}
"""Those that list and rent miners; `tests/modules/marketplace/test_resources.py` makes them."""
MARKET_CASES = {
    "O722": "/blockchain/contracts/execute",
    "O723": "/payments/process",
    "O730": "/testing/load-test",
}
"""What a command asks for of what is refused of the coordinator's market."""
TUNING = {
    "OA08": ("optimize tune status", "/tune/sessions/t"),
    "OA09": ("optimize tune results", "/tune/sessions/t/results"),
}
"""Those that a study answers; `test_ai` makes them."""
NOT_HERE = {
    "E14 O701": "these commands end before they send anything",
}


@pytest.fixture(scope="module", params=scaled(["split"], ["exposed", "split"]))
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A process for each module, in `make test` too."""
    with installed(tmp_path_factory.mktemp("installation"), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def names(installation: Installation) -> dict[str, str]:
    """What the paths of the rows name: a paid job, its payment, a transaction, an account."""
    done = installation.paid_job("a row")
    with installation.client("coordinator") as client:
        payment = client.get(f"/v1/jobs/{done['id']}/payment").json()["payment_id"]
        transaction = client.get("/v1/explorer/transactions?limit=1").json()["items"][0]["hash"]
        bid = client.post("/v1/marketplace/bids", json={"provider": "p", "capacity": 1, "price": 1}).json()["id"]
        sold = client.post("/v1/marketplace/offers", json=SOLD)
        assert sold.status_code == 201, sold.text
    return {"paid": done["id"], "payment": payment, "tx": transaction, "account": installation.account} | {
        "bid": bid,
        "item": sold.json()["id"],
    }


def waiting(installation: Installation) -> dict[str, str]:
    """A job that waits, with its payment."""
    job = installation.submit("waits")
    with installation.client("coordinator") as client:
        return {"job": job, "waiting": client.get(f"/v1/jobs/{job}/payment").json()["payment_id"]}


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """A path or a body with the names in it."""
    if isinstance(value, dict):
        return {key: filled(one, names) for key, one in value.items()}
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
    return value


def fault_of(installation: Installation, row: Row, names: Mapping[str, str]) -> str | None:
    """What is wrong with the answer to a row."""
    with installation.client(row.place, installation.admin if row.admin else None) as client:
        answer = client.request(row.method, filled(row.path, names), json=filled(row.body, names))
    if answer.status_code not in row.codes:
        return f"{answer.status_code}: {answer.text}"
    read = answer.json()
    if isinstance(read, list) and row.items is None:
        return None
    if row.items is not None:
        rows = read[row.items] if row.items else read
        if not rows:
            return f"no rows in {read}"
        read = rows[0]
    return None if row.reads <= read.keys() else f"{row.reads - read.keys()} missing"


@pytest.mark.usefixtures("served")
def test_every_row_holds(installation: Installation, names: dict[str, str]) -> None:
    installation.fund("50")
    faults = {}
    known = names | waiting(installation)
    for case, row in ROWS.items():
        if fault := fault_of(installation, row, known):
            faults[case] = fault
        if row.method != "GET":  # it may have ended the job
            known |= waiting(installation)
    with installation.client("coordinator") as client:
        for one in client.get("/v1/jobs?limit=100&status=QUEUED").json()["items"]:
            client.post(f"/v1/jobs/{one['job_id']}/cancel")
    assert faults == {}


def test_what_nobody_can_do_is_refused_with_its_reason(installation: Installation) -> None:
    faults = {}
    with installation.client("coordinator") as client:
        for case, (_, method, path, body) in REFUSED.items():
            answer = client.request(method, path, json=body)
            if answer.status_code != 501 or "kind of work" not in answer.json()["detail"]:
                faults[case] = f"{answer.status_code}: {answer.text}"
    assert faults == {}


def test_pairs_and_market_makers_are_those_of_our_exchange(installation: Installation) -> None:
    for code in ("GOLD", "IRON"):
        installation.ours("POST", "trading/assets", {"code": code, "name": code.title()})
    faults, bot = {}, ""
    for case, (_, place, method, path, body, read) in EXCHANGED.items():
        key = installation.admin if "/exchange/" in path else None
        with installation.client(place, key) as client:
            answer = client.request(method, path.format(bot=bot), json=body)
        if answer.status_code != 200 or read not in answer.json():
            faults[case] = f"{answer.status_code}: {answer.text}"
        else:
            bot = answer.json().get("bot_id", bot)
    assert faults == {}
    with installation.client("coordinator") as client:
        assert client.get("/v1/exchange/pairs?pair=GOLD/AITBC").json()["pairs"][0]["price_precision"] == 4
        other = {"exchange": "elsewhere", "pair": "GOLD/AITBC"}
        assert client.post("/api/v1/market-maker/create", json=other).status_code == 422


def test_what_an_exchange_was_asked_for_is_refused_with_its_reason(installation: Installation) -> None:
    faults = {}
    for case, (_, place, method, path, word) in EXCHANGE.items():
        with installation.client(place) as client:
            answer = client.request(method, path, json={} if method == "POST" else None)
        if answer.status_code != 501 or word not in answer.json()["detail"]:
            faults[case] = f"{answer.status_code}: {answer.text}"
    assert faults == {}


def test_what_the_coordinator_promised_of_its_market_is_refused_with_its_reason(installation: Installation) -> None:
    faults: dict[str, str] = {}
    with installation.client("coordinator") as client:
        for reason, method, path in market_refusals():
            answer = client.request(method, path.replace("{id}", "x"), json={} if method == "POST" else None)
            if answer.status_code != 501 or answer.json()["detail"] != reason:
                faults[f"{method} {path}"] = f"{answer.status_code}: {answer.text}"
    assert faults == {}


def market_refusals() -> list[tuple[str, str, str]]:
    """The reason, the method and the path of all that is refused of the coordinator's market."""
    return [
        (reason, method, path.replace("{id:str}", "{id}"))
        for reason, (gets, posts) in NO_MARKET.items()
        for method, paths in (("GET", gets), ("POST", posts))
        for path in paths
    ]


def test_what_nobody_can_do_is_refused_whatever_its_query_and_without_a_traceback(installation: Installation) -> None:
    log = (installation.server.state.parent / "server.log").read_text().count("request_failed")
    others = (
        *(("POST", f"/v1/services/{path}") for path in ("whisper", "whisper/transcribe", "blender/render")),
        *(("POST", "/v1/payments/send"), ("GET", "/v1/services/whisper/schema"), ("GET", "/v1/state/dump")),
        ("GET", "/v1/ml-zk/circuits"),
    )
    refused = [(method, path) for _, method, path, _ in REFUSED.values()]
    with installation.client("coordinator") as client:
        for method, path in (*refused, *others):
            answer = client.request(method, f"{path}?chain_id=x&limit=5", json={} if method == "POST" else None)
            assert answer.status_code == 501, (path, answer.text)
    with installation.client("ai") as client:
        answer = client.post("/multimodal/process?quality=best", json={"modality": "audio"})
        assert answer.status_code == 501
    assert (installation.server.state.parent / "server.log").read_text().count("request_failed") == log


def document() -> str:
    """The table of all rows."""
    lines = [
        "# What the existing command line finds here",
        "",
        "Each row is a request that a command of the existing AITBC command line makes of gpu, ai, trading, marketplace, hermes",
        "or, for what is theirs, of the older coordinator, by the number of its case. `tests/legacy` replays each over a real",
        "socket, and checks the status and the fields that the command reads; this page is written from the same lists. How",
        "to give modules their older ports, and let programs on this machine in without a key, says [Operating](operate.md).",
        "",
        "What clients compare is said in their words: `state` on the coordinator is in upper case and `status` in lower case, a",
        "chat is an `inference`, `client_id` is the account (never a key), and `assigned_miner_id` who took the job last. There is",
        "one chain, `ait-devnet`: another `chain_id` is refused, and for `sync-status` not available. A poll is answered within",
        "4 s, since the command line gives up after 5. The `session_token` of a registration is a key for this miner's own calls.",
        "`client pay` raises what is held for a job that waits. What is refused with 501 is refused whatever its query.",
        "What it asks of port 8001, marketplace answers on the port that its place opens; what begins with `/api/v1/exchange/`",
        "is trading's. Pairs are the operator's to make; one that is asked for with more than eight decimal places in all gets",
        "four for prices and four for sizes, and says so.",
        "",
        "| case | command | asks | |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {case} | {row.command} | `{row.method} {row.path.partition('?')[0]}` ({row.place}) | holds |"
        for case, row in ROWS.items()
    ]
    lines += [
        f"| {case} | miner | `{method} {path.partition('?')[0]}` ({place}) | holds |"
        for case, (place, method, path, *_) in MINERS.items()
    ]
    lines += [f"| {case} | {command} | the GPU market | holds |" for case, command in MARKET.items()]
    lines += [
        f"| {case} | {command} | `{method} {path}` (coordinator) | 501: no kind of work does it |"
        for case, (command, method, path, _) in REFUSED.items()
    ]
    lines += [
        f"| {case} | {command} | `GET {path}` (coordinator) | holds |" for case, (command, path) in TUNING.items()
    ]
    lines += [f"| {case} | {command} | `{asks}` ({place}) | holds |" for case, (command, asks, place) in AGENTS.items()]
    lines += [
        f"| {case} | {command} | `{method} {path}` (coordinator) | 501: {why} |"
        for case, (command, method, path, why) in NO_AGENTS.items()
    ]
    lines += [
        f"| {case} | {command} | `{method} {path.partition('?')[0]}` ({place}) | holds |"
        for case, (command, place, method, path, _, _) in EXCHANGED.items()
    ]
    lines += [
        f"| {case} | {command} | `{method} {path}` ({place}) | 501: {REASONS[word]} |"
        for case, (command, place, method, path, word) in EXCHANGE.items()
    ]
    lines += [
        f"| {case} | {command} | `POST {path}` (coordinator) | holds |" for case, (command, path) in RESOURCES.items()
    ]
    named = {path: case for case, path in MARKET_CASES.items()}
    lines += [
        f"| {named.get(path, '-')} | the coordinator's market | `{method} {path}` (coordinator) | 501: {reason} |"
        for reason, method, path in market_refusals()
    ]
    lines += [f"| {case} | | | not here: {reason} |" for case, reason in NOT_HERE.items()]
    return "\n".join(lines) + "\n"


def test_the_page_says_which_rows_hold() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m tests.legacy.test_rows"


if __name__ == "__main__":
    sys.exit(DOCUMENT.write_text(document()) == 0)
