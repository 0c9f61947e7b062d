"""A served installation whose ports speak the legacy dialect, its operator, and the account of those who bring no key."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.server_process import ServerProcess
from tests.cli.installation import MinerAtWork
from tests.plain_http import UNUSED_TLS
from tests.server.runtime.test_serve import free_port

MODULES = ("gpu", "ai", "trading", "marketplace", "governance", "monitoring", "hermes", "plugins")
PATIENCE_SECONDS = 40.0


class Installation:
    """One server: each module's address by its name, and `coordinator`, the older coordinator's.

    Whoever calls a module's port without a key acts as the account `local`. The coordinator is met under its prefix on the
    gateway, where everybody needs a key: `local` is that account's, `admin` the operator's.
    """

    def __init__(self, folder: Path, place: str = "exposed") -> None:
        self.ports = {name: free_port() for name in MODULES}
        chosen: dict[str, str] = {}
        for name, port in self.ports.items():
            module = f"AITBC_MODULES__{name.upper()}"
            chosen |= {f"{module}__PLACE": place, f"{module}__PORT": str(port), f"{module}__TRUST": "loopback"}
        self.server = ServerProcess(folder / "state", free_port(), **chosen)
        self.gateway = self.server.url
        self.coordinator = f"{self.gateway}/coordinator"
        (
            self.gpu,
            self.ai,
            self.trading,
            self.marketplace,
            self.governance,
            self.monitoring,
            self.hermes,
            self.plugins,
        ) = (f"http://127.0.0.1:{self.ports[name]}" for name in MODULES)

    def start(self) -> "Installation":
        """Serve, and let the account `local` come to be."""
        self.server.start()
        return self

    @property
    def admin(self) -> str:
        """The operator's key."""
        return self.server.admin_key

    @property
    def local(self) -> str:
        """The key of the account `local`."""
        return (self.server.state / "local.key").read_text().strip()

    @property
    def account(self) -> str:
        """The id of the account `local`."""
        return str(self.ours("GET", "identity/keys/self", key=self.local)["account"])

    def client(self, place: str, key: str | None = None) -> httpx.Client:
        """A legacy client of a module, of `coordinator` or of `gateway`; it sends X-Api-Key if it has a key.

        To the coordinator it goes with the key of `local` unless another is given.
        """
        key = self.local if key is None and place == "coordinator" else key
        headers = {} if key is None else {"X-Api-Key": key}
        address = str(getattr(self, place))
        return httpx.Client(base_url=address, headers=headers, timeout=PATIENCE_SECONDS, verify=UNUSED_TLS)

    def ours(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """What our own API answers below /api/v1, which must be a success; to the operator unless another key is given."""
        headers = {"Authorization": f"Bearer {key or self.admin}", "Idempotency-Key": uuid.uuid4().hex}
        url = f"{self.gateway}/api/v1/{path}"
        answer = httpx.request(method, url, json=body, headers=headers, timeout=PATIENCE_SECONDS, verify=UNUSED_TLS)
        assert answer.is_success, answer.text
        return answer.json()

    def fund(self, amount: str = "10", account: str | None = None) -> None:
        """Play money for an account, `local` unless another is named."""
        self.ours(
            "POST", "trading/deposits", {"account": account or self.account, "amount": amount, "reason": "welcome"}
        )

    def resident(self, name: str) -> tuple[str, str]:
        """Somebody else: the account and a live key of it."""
        account = self.ours("POST", "identity/accounts", {"name": f"{name}-{uuid.uuid4().hex[:8]}"})["id"]
        wanted = {"name": "laptop", "kind": "live", "account": account, "expires_in_days": 1}
        return account, self.ours("POST", "identity/keys", wanted)["secret"]

    def submit(self, text: str = "A sentence.", *, max_price: str = "0.1", key: str | None = None) -> str:
        """An embedding job of the account `local`, or of a key's, through our own API; its id."""
        body = {"kind": "embed", "input": {"texts": [text]}, "max_price": max_price}
        return str(self.ours("POST", "ai/jobs", body, key=key or self.local)["id"])

    def job(self, job: str) -> Any:
        """A job as our own API tells it to the operator."""
        return self.ours("GET", f"ai/jobs/{job}")

    def cancel_what_waits(self) -> None:
        """No job of anybody is left that a miner could be given."""
        for state in ("queued", "leased", "running"):
            for job in self.ours("GET", f"ai/jobs?state={state}&limit=100")["data"]:
                headers = {"Authorization": f"Bearer {self.admin}"}
                url = f"{self.gateway}/api/v1/ai/jobs/{job['id']}/cancel"
                answer = httpx.post(url, json={}, headers=headers, timeout=PATIENCE_SECONDS, verify=UNUSED_TLS)
                assert answer.status_code in (200, 409), answer.text

    def until(self, job: str, state: str) -> Any:
        """The job, once it is in this state."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := self.job(job))["state"] != state:
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def sealed(self, *, after: int) -> None:
        """Until there is a block of a greater height."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.ours("GET", "trading/blocks/head")["height"] <= after:
            assert time.monotonic() < end
            time.sleep(0.05)

    @contextmanager
    def miner(self, *, fails: bool = False) -> Iterator[MinerAtWork]:
        """A miner of the operator's at work on every `embed` job that waits, until the end of the block."""
        token = self.ours("POST", "gpu/enrolment-tokens", {})["token"]
        with MinerAtWork(self.gateway, token, fails=fails) as at_work:
            yield at_work

    def paid_job(self, text: str = "A sentence.") -> Any:
        """A job of the account `local` that was done and paid, as our own API tells it; `receipt` is its receipt's id."""
        self.fund()
        job = self.submit(text)
        with self.miner():
            done = self.until(job, "succeeded")
        end = time.monotonic() + PATIENCE_SECONDS
        while not (done := self.job(job))["receipt"]:
            assert time.monotonic() < end, done
            time.sleep(0.05)
        return done


@contextmanager
def installed(folder: Path, place: str) -> Iterator[Installation]:
    """An installation as long as the block lasts."""
    made = Installation(folder, place).start()
    try:
        yield made
    finally:
        if made.server.is_alive:
            made.server.stop()
