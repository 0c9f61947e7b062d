"""What the demonstration does and shows: each step with what it cost and how long it took, and whether it held."""

import base64
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from aitbc.kernel.crypto.chain_format import ChainError, verify_receipt
from aitbc.kernel.crypto.chain_verifier import verify_export
from aitbc_cli.demo import engine
from aitbc_cli.demo.api import Api, Refused
from aitbc_cli.demo.children import Child, ChildFailed

SERVER_SECONDS = 90.0
MINER_SECONDS = 120.0
JOB_SECONDS = 120
ENGINE_SECONDS = 120.0
FUNDS = "10"
SENTENCES = (
    "A miner offers its graphics card for an hour.",
    "Somebody rents out a GPU for sixty minutes.",
    "The cat sleeps on the warm window sill.",
    "Every payment is written into the ledger.",
)
ACCOUNT = "demo"
CHAT = {
    "model": engine.MODEL,
    "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
    "max_tokens": 24,
    "stream": True,
}


class StoryFailed(Exception):
    """A step of the demonstration did not hold; the message says which and why."""


def say(text: str = "") -> None:
    """One line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """A step on the screen: its title, then what came of it and the time it took."""
    notes: list[str] = []
    started = time.monotonic()
    sys.stdout.write(f"  {title:<34}")
    sys.stdout.flush()
    try:
        yield notes.append
    except BaseException:
        say("failed")
        raise
    say(f"{time.monotonic() - started:6.2f} s   {'  '.join(notes)}")


class Story:
    """One run of the demonstration over a state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "demo"
        self.children: list[Child] = []
        self.admin = self.caller = Api("", "")
        self.engine_url: str | None = None

    # The installation

    def start_server(self, port: int | None) -> None:
        """A server of our own, on the embedded database."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        file = self.state / "server.json"
        if (other := _live_server(file)) is not None:
            raise StoryFailed(f"a server is running on {self.state} already, at {other}; stop it, or use it as it is")
        file.unlink(missing_ok=True)
        arguments = ["serve", *(["--port", str(port)] if port is not None else [])]
        with step("server and database") as note:
            environment = {"AITBC_STATE_DIR": str(self.state)}
            server = Child("server", arguments, environment, self.folder / "server.log")
            self.children.append(server)
            server.await_ready(lambda: _live_server(file) is not None and self._is_ready(file), SERVER_SECONDS)
            note(self.admin.url)

    def _is_ready(self, file: Path) -> bool:
        url = str(json.loads(file.read_text())["url"])
        self.admin = Api(url, (self.state / "admin.key").read_text().strip())
        try:
            return bool(self.admin.get("/readyz")["ready"])
        except (Refused, OSError):
            return False

    def open_account(self) -> None:
        """Play money for an account with a key of its own, and for the operator's, which the next commands use."""
        with step("test account") as note:
            account = self._account()
            self._fill(account)
            self._fill(str(self.admin.get("/api/v1/identity/keys/self")["account"]))
            key_file = self.folder / "account.key"
            if not self._key_works(key_file):
                made = self.admin.post(
                    "/api/v1/identity/keys", {"name": "demonstration", "kind": "test", "account": account}
                )
                _write_private(key_file, made["secret"])
                self._key_works(key_file)
            balance = self.caller.get(f"/api/v1/trading/accounts/{account}")
            note(f"{balance['available']} AITBC of play money")

    def _fill(self, account: str) -> None:
        """A deposit for a purse that is half empty."""
        balance = self.admin.get(f"/api/v1/trading/accounts/{account}")
        if Decimal(balance["available"]) < Decimal(FUNDS) / 2:
            deposit = {"account": account, "amount": FUNDS, "reason": "demonstration"}
            self.admin.post("/api/v1/trading/deposits", deposit, once=uuid.uuid4().hex)

    def _account(self) -> str:
        file = self.folder / "account"
        if file.exists():
            return file.read_text().strip()
        name = f"{ACCOUNT}-{uuid.uuid4().hex[:8]}"
        account = str(self.admin.post("/api/v1/identity/accounts", {"name": name})["id"])
        _write_private(file, account)
        return account

    def _key_works(self, file: Path) -> bool:
        if not file.exists():
            return False
        self.caller = Api(self.admin.url, file.read_text().strip())
        try:
            self.caller.get("/api/v1/identity/keys/self")
        except Refused:
            return False
        return True

    def start_engine(self) -> None:
        """A small language model on this machine's processor."""
        with step("language model on this machine") as note:
            file = self.folder / engine.URL_FILE
            file.unlink(missing_ok=True)
            module, log = "aitbc_cli.demo.engine", self.folder / "engine.log"
            child = Child("language model", [str(self.folder)], {}, log, module=module)
            self.children.append(child)
            child.await_ready(file.exists, ENGINE_SECONDS)
            self.engine_url = file.read_text()
            note(f"{engine.MODEL} at {self.engine_url}")

    def start_miner(self) -> None:
        """A miner on this machine, the operator's: it enrols itself with a one-time token and then asks for work."""
        with step("miner on this machine") as note:
            home = self.folder / "miner"
            environment = {"AITBC_URL": self.admin.url}
            if not (home / "credentials.json").exists():
                token = self.admin.post("/api/v1/gpu/enrolment-tokens", {})
                environment["AITBC_ENROLMENT_TOKEN"] = str(token["token"])
            arguments = ["miner", "run", "--name", ACCOUNT, "--state-dir", str(home), "--slots", "2"]
            arguments += ["--chat-url", self.engine_url] if self.engine_url is not None else []
            miner = Child("miner", arguments, environment, self.folder / "miner.log")
            self.children.append(miner)
            online: list[dict[str, Any]] = []

            def is_online() -> bool:
                found = self.admin.get("/api/v1/gpu/miners?status=online&limit=100")["data"]
                online[:] = [one for one in found if one["id"] == _miner_of(home) and one["kinds"]]
                return bool(online)

            miner.await_ready(is_online, MINER_SECONDS)
            note(f"{online[0]['id']}  does {', '.join(sorted(online[0]['kinds']))}")

    # The jobs

    def job(self, title: str, body: dict[str, Any], tell: Callable[[Any], str]) -> dict[str, Any]:
        """Submit a paid job, wait for its result, and show what it cost."""
        with step(title) as note:
            submitted = self.caller.post("/api/v1/ai/jobs", body, once=uuid.uuid4().hex)
            end = time.monotonic() + JOB_SECONDS
            done = submitted
            while done["state"] not in ("succeeded", "failed", "canceled", "expired") and time.monotonic() < end:
                done = self.caller.get(f"/api/v1/ai/jobs/{submitted['id']}/wait?seconds=20")
            if done["state"] != "succeeded":
                why = self.caller.get(f"/api/v1/ai/jobs/{submitted['id']}/explain")
                raise StoryFailed(f"the job is {done['state']}: {json.dumps(why)[:400]}")
            note(f"{done['price']} AITBC  {tell(done['output'])}")
            return dict(done)

    def embed(self) -> dict[str, Any]:
        """Four sentences become vectors; the two that mean the same lie closest."""
        body = {"kind": "embed", "input": {"texts": list(SENTENCES)}, "max_price": "0.05"}
        return self.job("embedding of four sentences", body, _closest)

    def ocr(self) -> dict[str, Any]:
        """A picture becomes text."""
        picture = base64.b64encode((files("aitbc_cli.demo") / "invoice.png").read_bytes()).decode()
        body = {"kind": "ocr", "input": {"image": picture}, "max_price": "0.05"}
        return self.job("text in a picture", body, lambda output: f"“{' / '.join(output['text'].split(chr(10))[:2])}”")

    def chat(self) -> None:
        """A question to the language model, in the protocol that its clients know; its answer comes as it is made."""
        with step("streamed chat, as OpenAI's client asks") as note:
            began, first = time.monotonic(), 0.0
            texts: list[str] = []
            receipt: dict[str, Any] = {}
            for chunk in self.caller.stream("/v1/chat/completions", CHAT):
                if "error" in chunk:
                    raise StoryFailed(str(chunk["error"]["message"]))
                texts.append(chunk["choices"][0]["delta"].get("content") or "")
                first = first or (time.monotonic() - began if texts[-1] else 0.0)
                receipt = chunk.get("aitbc", receipt)
            said = " ".join("".join(texts).split())[:48]
            note(f"{receipt['price']} AITBC  first word after {first:.2f} s: “{said}”")

    # The proof

    def verify(self, job: dict[str, Any]) -> None:
        """Save the receipt and the whole chain, and verify both from the files alone."""
        receipt_file, chain_file = self.folder / "receipt.json", self.folder / "chain.jsonl"
        with step("receipt, sealed into a block") as note:
            self._sealed_receipt(str(job["receipt"]), receipt_file)
            note(str(receipt_file))
        keys = {key["public_key"] for key in self.caller.get("/api/v1/trading/chain/keys")["data"]}
        with step("offline check of the receipt") as note:
            found = verify_receipt(receipt_file.read_bytes(), trusted_keys=keys).receipt
            note(f"receipt verified: {found['price']} paid = {found['earned']} for the miner + {found['fee']} fee")
        with step("offline check of the chain") as note:
            self.caller.save("/api/v1/trading/chain/export", chain_file)
            with chain_file.open("rb") as file:
                checked = verify_export(file, trusted_keys=keys)
            note(f"chain verified: {checked.height + 1} blocks, {checked.records} records")

    def _sealed_receipt(self, receipt: str, file: Path) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                found = self.caller.get(f"/api/v1/trading/receipts/{receipt}")
                if found.get("proof"):
                    file.write_text(json.dumps(found, indent=2) + "\n")
                    return
            except Refused as refused:
                if refused.status != 404:
                    raise
            if time.monotonic() > end:
                raise StoryFailed(f"{receipt} was not sealed into a block within 20 s")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the miner, then the server."""
        for child in reversed(self.children):
            child.stop()


def run(*, once: bool, port: int | None = None, state: Path, chat: bool = False) -> int:
    """The whole demonstration; 0 only if every step held. Without `once` it serves until Ctrl-C."""
    story, began = Story(state), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"AITBC: paid AI work on this machine. State: {state}\n")
    try:
        story.start_server(port)
        story.open_account()
        if chat:
            story.start_engine()
        story.start_miner()
        story.embed()
        if chat:
            story.chat()
        story.verify(story.ocr())
        say(f"\n  everything held, in {time.monotonic() - began:.1f} s")
        if once:
            return 0
        _show_next(story)
        while True:
            for child in story.children:
                child.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("\nstopping")
        return 130 if once else 0
    except (StoryFailed, ChildFailed, Refused, ChainError, OSError) as error:
        sys.stderr.write(f"\naitbc demo: {error}\n")
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the children get their time to end well
        story.stop()


def _show_next(story: Story) -> None:
    command = _command()
    prefix = "" if os.environ.get("AITBC_STATE_DIR") is None else f"AITBC_STATE_DIR={story.state} "
    link = story.admin.post("/api/v1/identity/sign-in-links", {})["path"]
    say(
        f"\n  serving at {story.admin.url}   description of the API: {story.admin.url}/docs"
        f"\n\n  open in a browser (signs you in once, within ten minutes; `{prefix}{command} login` prints another):"
        f"\n    {story.admin.url}{link}\n\n  try next, in another terminal:"
    )
    say(f'    {prefix}{command} job submit embed --text "hello" --max-price 0.05 --wait')
    say(f"    {prefix}{command} job list")
    say(f"    {prefix}{command} receipt verify {story.folder / 'receipt.json'}")
    if story.engine_url is not None:
        say(f'    {prefix}{command} chat "Why is the sky blue?"')
    else:
        say("\n  a language model beside it, to chat with by the clients of OpenAI and Anthropic:   make run CHAT=1")
    say("\n  Ctrl-C stops everything; the data stays.")


def _command() -> str:
    """How `aitbc` is called here: by its name where that finds it, else by the shortest path to this installation's."""
    own = Path(sys.executable).with_name("aitbc")
    found = shutil.which("aitbc")
    if found is not None and Path(found).samefile(own):
        return "aitbc"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def _miner_of(home: Path) -> str | None:
    try:
        return str(json.loads((home / "credentials.json").read_text())["miner"])
    except (OSError, ValueError, KeyError):
        return None


def _closest(output: Any) -> str:
    vectors = output["vectors"]
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i)]
    i, j = max(pairs, key=lambda pair: _cosine(vectors[pair[0]], vectors[pair[1]]))
    return f"{len(vectors)} vectors of {output['dimensions']}; closest: “{SENTENCES[j]}” and “{SENTENCES[i]}”"


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return float(dot / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5))


def _live_server(file: Path) -> str | None:
    try:
        server = json.loads(file.read_text())
        os.kill(int(server["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return str(server["url"])


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
