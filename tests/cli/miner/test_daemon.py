"""The miner as its owner runs it: it joins, works, survives what happens to it and to the server, and leaves nothing behind."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from tests.chaos.server_process import ServerProcess, children_of
from tests.cli.miner.chat_engine import Engine
from tests.cli.miner.fake_nvml import FakeNvml, python_with_torch
from tests.cli.miner.forked_miner import ForkedMiner
from tests.server.runtime.test_serve import free_port

START = """
import json, sys
from pathlib import Path
from aitbc_cli.miner.daemon import run
from aitbc_cli.miner.options import MinerFailed, Options
told = json.loads(sys.argv[1])
told["home"] = Path(told["home"])
try:
    sys.exit(run(Options(**told)))
except MinerFailed as failed:
    sys.stderr.write(f"{failed}\\n")
    sys.exit(failed.exit_code)
"""
SHELL = {"command": {"programs": {"sh": ["/bin/sh", "-c"]}}}


Miner = subprocess.Popen[bytes] | ForkedMiner


class Market:
    """A server, an account with money and a key, and its miners: those of one test."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.miners: list[Miner] = []
        self.key = server.admin_key
        name = f"market {secrets.token_hex(6)}"
        account = self.ask("/api/v1/identity/accounts", {"name": name})["id"]
        self.ask("/api/v1/trading/deposits", {"account": account, "amount": "100"}, once=name)
        self.key = str(self.ask("/api/v1/identity/keys", {"name": "market", "account": account})["secret"])

    def request(self, path: str, body: Any = None, *, once: str | None = None, method: str | None = None) -> Request:
        """A request with the account's key."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": once} if once else {}
        data = json.dumps(body).encode() if body is not None else None
        return Request(self.server.url + path, data, headers, method=method)

    def ask(self, path: str, body: Any = None, *, once: str | None = None, method: str | None = None) -> Any:
        """The answer to a request."""
        with urllib.request.urlopen(self.request(path, body, once=once, method=method), timeout=70) as answer:
            return json.loads(answer.read() or b"null")

    def close(self) -> None:
        """End the miners and cancel what waits, so that nothing of this test meets the next."""
        for miner in self.miners:
            if miner.poll() is None:
                miner.kill()
                miner.wait()
        for state in ("queued", "leased", "running"):
            for job in self.ask(f"/api/v1/ai/jobs?status={state}")["data"]:
                self.ask(f"/api/v1/ai/jobs/{job['id']}/cancel", method="POST")

    def token(self) -> str:
        """A token for one miner."""
        return str(self.ask("/api/v1/gpu/enrolment-tokens", {})["token"])

    def start(self, name: str = "rig", *, forked: bool = True, **options: Any) -> Miner:
        """A miner in a process of its own, with its log beside its home; forked, unless it has to load all by itself."""
        told = {
            "url": self.server.url,
            "home": str(self.folder / name),
            "name": name,
            "slots": 2,
            "kinds": SHELL,
            **options,
        }
        self.miners.append(self._launch(told, self.folder / f"{name}.log", forked=forked))
        return self.miners[-1]

    def _launch(self, told: dict[str, Any], log: Path, *, forked: bool) -> Miner:
        if forked:
            return ForkedMiner(told, log)
        with log.open("ab") as file:
            return subprocess.Popen([sys.executable, "-c", START, json.dumps(told)], stdout=file, stderr=file)

    def log(self, name: str = "rig") -> str:
        """What the miner said."""
        return (self.folder / f"{name}.log").read_text()

    def submit(self, script: str, **changes: Any) -> str:
        """A paid job for a shell."""
        body = {"kind": "command", "input": {"program": "sh", "arguments": [script]}, "max_price": "1"}
        body["clocks"] = {"run_seconds": 30}
        return str(self.ask("/api/v1/ai/jobs", body | changes, once=f"{script}{time.monotonic()}")["id"])

    def job(self, job: str) -> Any:
        """How a job stands."""
        return self.ask(f"/api/v1/ai/jobs/{job}")

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        assert self.ask(f"/api/v1/ai/jobs/{job}/cancel", method="POST")["state"] == "canceled"

    def until(self, holds: Callable[[], Any], seconds: float = 40.0) -> Any:
        """Wait until something holds; answers what it gave."""
        end = time.monotonic() + seconds
        while not (found := self._look(holds)):
            assert time.monotonic() < end, [self.log(path.stem) for path in self.folder.glob("*.log")]
            time.sleep(0.1)
        return found

    def _look(self, holds: Callable[[], Any]) -> Any:
        try:
            return holds()
        except (urllib.error.URLError, OSError):
            return None

    def until_state(self, job: str, state: str, seconds: float = 40.0) -> Any:
        """Wait until the job is in a state."""

        def holds() -> Any:
            told = self.job(job)
            return told if told["state"] == state else None

        return self.until(holds, seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with quick sweeps."""
    quick = {"AITBC_AI__GRACE_SECONDS": "2", "AITBC_GPU__HEARTBEAT_SECONDS": "1"}
    quick |= {"AITBC_GPU__PROOF_SIZE": "32"}  # small enough for Python alone
    made = ServerProcess(tmp_path_factory.mktemp("daemon") / "state", free_port(), **quick)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def market(server: ServerProcess, tmp_path: Path) -> Iterator[Market]:
    """An account of the test's own, with no miner yet."""
    made = Market(server, tmp_path)
    yield made
    made.close()


def workers_of(miner: Miner) -> list[int]:
    """The worker processes of a miner."""
    return [pid for pid in children_of(miner.pid) if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_miner_joins_works_and_leaves(market: Market) -> None:
    miner = market.start(token=market.token(), metrics_port=0)
    job = market.submit("echo hello")
    done = market.until_state(job, "succeeded")
    assert done["output"]["stdout"] == "hello\n"
    url = re.search(r"http://127.0.0.1:[0-9]+/metrics", market.log())
    assert url is not None
    counted = 'aitbc_miner_work_total{kind="command",outcome="succeeded",fault="none"} 1\n'
    market.until(lambda: counted.encode() in urllib.request.urlopen(url[0], timeout=20).read())
    miner.terminate()
    assert miner.wait(30) == 0
    [seen] = market.ask("/api/v1/gpu/miners")["data"]
    assert seen["status"] == "offline"
    assert seen["inventory"]["devices"][-1]["type"] == "cpu"
    again = market.start()
    other = market.submit("echo again")
    assert market.until_state(other, "succeeded")["output"]["stdout"] == "again\n"
    assert len(market.ask("/api/v1/gpu/miners")["data"]) == 1
    assert again.poll() is None


def test_the_first_signal_lets_work_end_and_the_second_does_not(market: Market) -> None:
    miner = market.start(token=market.token(), grace_seconds=20)
    quick = market.submit("sleep 1; echo done")
    market.until(lambda: market.job(quick)["state"] in ("leased", "running"))
    miner.terminate()
    assert miner.wait(30) == 0
    assert market.job(quick)["state"] == "succeeded"
    impatient = market.start(grace_seconds=20)
    slow = market.submit("sleep 25")
    market.until(lambda: slow in market.log())
    impatient.terminate()
    time.sleep(0.5)
    impatient.terminate()
    assert impatient.wait(20) == 0
    assert market.until_state(slow, "queued")["attempts"] == 0


def test_a_killed_miner_leaves_no_worker_and_its_job_goes_to_another(market: Market) -> None:
    first = market.start("first", token=market.token())
    job = market.submit("sleep 1; echo $$", clocks={"run_seconds": 4})  # what the dead miner holds, runs out
    market.until(lambda: market.job(job)["state"] in ("leased", "running"))
    workers = workers_of(first)
    assert workers
    first.kill()
    first.wait()
    market.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    market.start("second", token=market.token())
    assert market.until_state(job, "succeeded", 60)["state"] == "succeeded"


def test_a_restart_of_the_server_loses_no_work(market: Market) -> None:
    market.start(token=market.token())
    job = market.submit("sleep 2; echo survived")
    market.until(lambda: "lease_taken" in market.log())  # what is leased may not have reached its miner yet
    market.server.kill()
    market.server.start()
    done = market.until_state(job, "succeeded")
    assert done["output"]["stdout"] == "survived\n"
    assert len(done["history"]) == 1


def test_a_result_that_was_never_answered_is_delivered_after_a_restart(market: Market) -> None:
    miner = market.start(token=market.token())
    job = market.submit("sleep 2; echo owed")
    market.until(lambda: "lease_taken" in market.log())
    market.server.kill()
    owed = market.folder / "rig" / "undelivered"
    market.until(lambda: list(owed.glob("att_*.json")))
    miner.kill()
    miner.wait()
    market.server.start()
    market.start()
    done = market.until_state(job, "succeeded")
    assert done["output"]["stdout"] == "owed\n"
    market.until(lambda: not list(owed.glob("att_*.json")))
    assert len(done["history"]) == 1


def test_canceled_work_is_stopped(market: Market) -> None:
    miner = market.start(token=market.token())
    job = market.submit("sleep 28")
    market.until(lambda: market.job(job)["state"] == "running")
    market.cancel(job)
    market.until(lambda: "lease_ended" in market.log())
    follow = market.submit("echo next")
    assert market.until_state(follow, "succeeded")["output"]["stdout"] == "next\n"
    assert miner.poll() is None


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs, for the miners that are started."""
    (tmp_path / "lib").mkdir()
    made = FakeNvml(tmp_path / "lib", monkeypatch)
    made.count(2)
    return made


def gpu_programs(folder: Path, torch: str = "") -> dict[str, Any]:
    """A shell and a Python with a PyTorch."""
    programs = {"sh": ["/bin/sh", "-c"], "python": [python_with_torch(folder, torch), "-c"]}
    return {"command": {"programs": programs} | ({"user": "root"} if os.getuid() == 0 else {})}


def test_a_miner_shows_and_offers_its_gpus_as_they_are_now(market: Market, gpus: FakeNvml) -> None:
    market.start(forked=False, token=market.token(), kinds=gpu_programs(gpus.folder), slots=1)

    def seen() -> Any:
        [miner] = market.ask("/api/v1/gpu/miners?status=online")["data"]
        return miner

    def device(index: int) -> Any:
        return seen()["inventory"]["devices"][index]

    market.until(lambda: market.ask("/api/v1/gpu/miners?status=online")["data"])
    market.until(lambda: seen()["gpu_models"] == ["Card 0", "Card 1"])
    assert (seen()["device"], seen()["vram_mib"]) == ("gpu", 81_079)
    gpus.change(0, used=53 << 30, gpu=100, power=686_000, reasons=4)
    market.until(lambda: device(0)["utilization"] == 100.0)
    now = device(0)
    readings = now["memory_used_mib"], now["memory_reserved_mib"], now["power_watts"], now["brake_reasons"]
    assert readings == (53 * 1024, 480, 686.0, ["power_cap"])
    gpus.change(0, fails={"nvmlDeviceGetHandleByIndex": 15})
    market.until(lambda: seen()["gpu_models"] == ["Card 1"])
    market.until(lambda: device(0)["fault"] == "GPU is lost")  # readings come by a heartbeat of their own
    assert (device(0)["uuid"], device(0)["utilization"]) == ("GPU-00000000", None)
    job = market.until_state(market.submit("echo $CUDA_VISIBLE_DEVICES", requirements={"gpus": 1}), "succeeded")
    assert job["output"]["stdout"] == "GPU-00000001\n"
    gpus.count(2)
    market.until(lambda: seen()["gpu_models"] == ["Card 0", "Card 1"])


def test_a_gpu_that_fails_or_is_not_free_is_leased_to_nobody_and_its_owner_sees_why(
    market: Market, gpus: FakeNvml
) -> None:
    gpus.show(gpus.module.device(0, uuid="GPU-00000010"))  # another test's is another account's
    market.start(forked=False, token=market.token(), kinds=gpu_programs(gpus.folder), slots=2)

    def device() -> Any:
        [miner] = market.ask("/api/v1/gpu/miners?status=online")["data"]
        return miner["inventory"]["devices"][0]

    market.until(lambda: market.ask("/api/v1/gpu/miners?status=online")["data"])
    running = market.submit("sleep 2; echo $CUDA_VISIBLE_DEVICES", requirements={"vram_mib": 8000})
    market.until_state(running, "running")
    none = market.until_state(market.submit("echo .$CUDA_VISIBLE_DEVICES"), "succeeded")
    assert none["output"]["stdout"] == ".\n"
    gpus.change(0, used=(3 + 900) << 20)
    done = market.until_state(running, "succeeded")
    assert done["output"]["stdout"] == "GPU-00000010\n"
    (used,) = done["history"][0]["devices"]
    assert (used["index"], used["memory_mib"], used["is_whole"]) == (0, 8000, False)
    assert device()["rests"] == "draining: 900 MiB of its memory are still held"  # told before the result was
    waits = market.submit("echo again", requirements={"gpus": 1})
    market.until(lambda: "rests no more" in market.ask(f"/api/v1/ai/jobs/{waits}/explain")["suggestion"])
    gpus.change(0, used=3 << 20)
    assert market.until_state(waits, "succeeded")["output"]["stdout"] == "again\n"
    gpus.report(0, 48)
    market.until(lambda: "Xid 48" in (device()["fault"] or ""))


def test_a_miner_proves_its_gpus_and_one_without_a_runtime_says_so(market: Market, gpus: FakeNvml) -> None:
    gpus.show(gpus.module.device(0, uuid="GPU-00000020", total=2 << 20, reserved=0, used=0))
    kinds = gpu_programs(gpus.folder)
    kinds["command"]["proof"] = "plain"  # what a miner says of its runtime is its own affair: its answers count
    market.start(forked=False, token=market.token(), kinds=kinds)
    [miner] = market.until(lambda: market.ask("/api/v1/gpu/miners?status=online")["data"])

    def fact() -> Any:
        return next(iter(market.ask(f"/api/v1/gpu/miners/{miner['id']}/hardware")["data"]), None)

    known = market.until(fact)
    assert (known["source"], known["runtime"], known["gpu"]) == ("measured", "plain", "GPU-00000020")
    job = market.submit("echo $CUDA_VISIBLE_DEVICES", requirements={"verified": True})
    assert market.until_state(job, "succeeded")["output"]["stdout"] == "GPU-00000020\n"
    market.start("bare", forked=False, token=market.token(), kinds=gpu_programs(gpus.folder))
    market.until(lambda: "unverified: no runtime" in market.log("bare"))


def test_a_miner_whose_programs_cannot_use_its_gpus_says_why(market: Market, gpus: FakeNvml) -> None:
    miner = market.start(forked=False, token=market.token(), kinds=gpu_programs(gpus.folder, "init"))
    assert miner.wait(30) == 1
    assert "CUDA driver initialization failed" in market.log()


def test_a_large_output_travels_as_an_artifact(market: Market) -> None:
    market.start(token=market.token())
    job = market.submit("head -c 300000 /dev/zero | tr '\\0' a")
    done = market.until_state(job, "succeeded")
    reference = done["output"]
    assert market.ask(f"/api/v1/ai/artifacts/{reference['artifact']}")["stdout"].startswith("a" * 1000)


def test_without_a_token_or_with_a_wrong_one_it_says_what_helps(market: Market) -> None:
    lost = market.start("lost")
    assert lost.wait(30) == 4
    assert "AITBC_ENROLMENT_TOKEN" in market.log("lost")
    wrong = market.start("wrong", token="aitbc_enrol_" + "A" * 43)
    assert wrong.wait(30) == 4
    assert "refused" in market.log("wrong")


def test_a_second_miner_in_the_same_folder_is_refused(market: Market) -> None:
    market.start(token=market.token())
    market.until(lambda: "miner_started" in market.log())
    second = market.start()
    assert second.wait(30) == 5


def test_its_key_and_credentials_are_private(market: Market) -> None:
    market.start(token=market.token())
    market.until(lambda: "miner_started" in market.log())
    home = market.folder / "rig"
    assert home.stat().st_mode & 0o077 == 0
    for name in ("miner.key", "credentials.json", "lock"):
        assert (home / name).stat().st_mode & 0o077 == 0
    key = json.loads((home / "credentials.json").read_text())["api_key"]
    assert key not in market.log()


def test_a_removed_miner_stops_and_says_why(market: Market) -> None:
    miner = market.start(token=market.token())
    [seen] = market.until(lambda: market.ask("/api/v1/gpu/miners?status=online")["data"])
    urllib.request.urlopen(market.request(f"/api/v1/gpu/miners/{seen['id']}", method="DELETE"), timeout=30).close()
    assert miner.wait(30) == 4
    assert "enrol it again" in market.log()


def test_a_miner_follows_its_chat_server(market: Market, engine: Engine) -> None:
    miner = market.start(kinds={"chat": {"base_url": engine.url}, **SHELL}, token=market.token())
    body = {"kind": "chat", "max_price": "1", "requirements": {"model": "m2"}}
    body["input"] = {"messages": [{"role": "user", "content": "Hello?"}]}

    def models() -> list[str]:
        return [one["name"] for one in market.ask("/api/v1/ai/models?kind=chat")["data"] if one["miners"]]

    def ask(once: str) -> str:
        return str(market.ask("/api/v1/ai/jobs", body, once=once)["id"])

    market.until(lambda: models() == ["m1", "m2"])
    done = market.until_state(ask("m2"), "succeeded")
    assert done["output"]["model"] == engine.asked[-1] == "m2"
    engine.listed, engine.loaded = [], set()  # the job that finds out costs no attempt, and no later one is taken
    lost = ask("lost")
    market.until(lambda: models() == [])
    assert (market.job(lost)["attempts"], market.job(lost)["state"]) == (0, "queued")
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask("late")
    assert json.loads(refused.value.read())["code"] == "unknown_model"
    engine.listed, engine.loaded = ["m2"], None
    market.until(lambda: models() == ["m2"])
    assert miner.poll() is None


def test_a_miner_serves_a_model_of_its_own_and_takes_it_along(market: Market) -> None:
    engine = Path(__file__).with_name("served_engine.py")
    serve = {"own": {"command": f"{sys.executable} {engine} --port {{port}} --as org/own"}}
    miner = market.start(kinds={"chat": {"serve": serve}}, token=market.token())
    body = {"kind": "chat", "max_price": "1", "input": {"messages": [{"role": "user", "content": "Hello?"}]}}
    market.until(lambda: [each for each in market.ask("/api/v1/ai/models?kind=chat")["data"] if each["name"] == "own"])
    job = market.ask("/api/v1/ai/jobs", body | {"requirements": {"model": "own"}}, once="own")["id"]
    done = market.until_state(job, "succeeded")
    assert done["output"]["model"] == "own"
    process = int(done["output"]["message"]["content"].removeprefix("org/own "))
    assert "loading own" in json.dumps(market.ask(f"/api/v1/ai/jobs/{job}/logs"))
    miner.kill()
    market.until(lambda: not Path(f"/proc/{process}").exists())
