"""A miner of before: it has a name and no key, and speaks to the coordinator."""

import uuid
from typing import Any

import httpx

from tests.legacy.installation import Installation

POLLS_MAX = 20
PRICE = "1"


class LegacyMiner:
    """Registered under a name that nobody else has, and asking for prompts."""

    def __init__(self, installation: Installation, client: httpx.Client, **capabilities: Any) -> None:
        self.installation = installation
        self.name = f"m-{uuid.uuid4().hex[:8]}"
        self.client = client
        self.headers = {"X-Miner-ID": self.name}
        self.registered = self.post("register", {"capabilities": capabilities})
        assert self.registered.status_code == 200, self.registered.text

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """One call below /v1/miners under the miner's name."""
        return self.client.post(f"/v1/miners/{path}", json=body, headers=self.headers, **more)

    def poll(self, wait: float = 0) -> dict[str, Any] | None:
        """A job, if there is one."""
        answer = self.post("poll", {"max_wait_seconds": wait})
        assert answer.status_code in (200, 204), answer.text
        return dict(answer.json()) if answer.status_code == 200 and answer.json() else None

    def gets(self, job: str) -> dict[str, Any]:
        """This job; others that wait are given back."""
        for _ in range(POLLS_MAX):
            given = self.poll(2)
            if given is not None and given["job_id"] == job:
                return given
            if given is not None:
                self.post(f"{given['job_id']}/fail", {"error_code": "NOT_MINE", "error_message": ""})
        raise AssertionError(f"{job} did not come")

    def leaves(self) -> None:
        """Deregister."""
        assert self.client.delete(f"/v1/miners/{self.name}").status_code == 200


def prompt(installation: Installation, text: str = "Hello?", *, key: str | None = None) -> str:
    """A chat job of the account `local`, or of a key's, through our own API; its id."""
    body = {"kind": "chat", "input": {"messages": [{"role": "user", "content": text}]}, "max_price": PRICE}
    return str(installation.ours("POST", "ai/jobs", body, key=key or installation.local)["id"])
