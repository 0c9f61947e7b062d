"""What a machine with a GPU shows of the whole way, in six minutes: `python -m tools.on_a_gpu [--json FILE]`.

A server and a miner run from this checkout, with the default limits and without a network. Where there is no GPU, only
what needs none is done, and the report says so. `AITBC_GPU_PYTHON` names the Python that finds torch; else `python3`.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 60.0
GIB = 1024
HOLD = """
import sys, time, torch
held = torch.empty(int(sys.argv[1]) << 20, dtype=torch.uint8, device="cuda").fill_(1)
torch.cuda.synchronize()
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""
TORCH = "import torch; a = torch.full((512, 512), 2.0, device='cuda'); print(float((a @ a)[0, 0]))"
SEEN = 'echo "seen:$CUDA_VISIBLE_DEVICES"'


class Place:
    """A server, an owner with money, and a miner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {**os.environ, "AITBC_STATE_DIR": str(folder / "state"), "AITBC_URL": self.url}
        self.server = self._start("server.log", "serve", "--port", str(port))
        until(self._is_ready, 90)
        self.key = (folder / "state" / "admin.key").read_text().strip()
        account = self.ask("/api/v1/identity/accounts", {"name": "on a gpu"})["id"]
        self.ask("/api/v1/trading/deposits", {"account": account, "amount": "1000"})
        self.key = self.ask("/api/v1/identity/keys", {"name": "on a gpu", "account": account})["secret"]
        self.miner = self._miner()

    def _start(self, log: str, *words: str) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as file:
            command = [sys.executable, "-m", "aitbc_cli.main", *words]
            return subprocess.Popen(command, env=self.environment, stdout=file, stderr=file)

    def _miner(self) -> "subprocess.Popen[bytes]":
        python = os.environ.get("AITBC_GPU_PYTHON") or shutil.which("python3") or sys.executable
        kinds = self.folder / "kinds.toml"
        kinds.write_text(f'[command.programs]\npython = ["{python}", "-c"]\nsh = ["/bin/sh", "-c"]\n')
        self.environment["AITBC_ENROLMENT_TOKEN"] = self.ask("/api/v1/gpu/enrolment-tokens", {})["token"]
        words = ("--name", "gpu", "--slots", "4", "--kind", "command", "--kinds-file", str(kinds))
        return self._start("miner.log", "miner", "run", *words, "--state-dir", str(self.folder / "miner"))

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        """The answer to a request of the owner's."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": secrets.token_hex(8)} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def submit(self, program: str, *arguments: str, **requirements: Any) -> str:
        """A job for a program."""
        body = {
            "kind": "command",
            "input": {"program": program, "arguments": list(arguments)},
            "max_price": "1",
            "clocks": {"run_seconds": 120},
            "requirements": requirements,
        }
        return str(self.ask("/api/v1/ai/jobs", body)["id"])

    def job(self, job: str) -> Any:
        """How a job stands."""
        return self.ask(f"/api/v1/ai/jobs/{job}")

    def ended(self, job: str, seconds: float = SECONDS) -> Any:
        """A job, once it has ended."""
        return until(lambda: one if (one := self.job(job))["completed_at"] else None, seconds)

    def running(self, job: str) -> Any:
        """A job, once its program has said that it holds its memory."""

        def holds() -> Any:
            lines = self.ask(f"/api/v1/ai/jobs/{job}/logs")["data"]
            return self.job(job) if any(line["text"] == "held" for line in lines) else None

        return until(holds, SECONDS)

    def seen(self) -> Any:
        """The miner, as its owner sees it, once it is online."""
        return until(lambda: next(iter(self.ask("/api/v1/gpu/miners?status=online")["data"]), None), 180)

    def close(self) -> None:
        """End everything."""
        for process in (self.miner, self.server):
            process.terminate()
        for process in (self.miner, self.server):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def until(holds: Callable[[], Any], seconds: float) -> Any:
    """What holds, once it does. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds:g} seconds")


def used_mib() -> int:
    """What `nvidia-smi` says of the first GPU's memory."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def without_gpu(place: Place) -> dict[str, Any]:
    """What needs no GPU: a program sees none, and a canceled one is gone."""
    plain = place.ended(place.submit("sh", SEEN))
    assert plain["output"]["stdout"].strip() == "seen:", plain
    here = place.folder / "pid"
    here.touch()
    here.chmod(0o666)
    sleeping = place.submit("sh", f"echo $$ > {here}; echo held; exec sleep 60")
    place.running(sleeping)
    pid = int(here.read_text())
    assert Path(f"/proc/{pid}").exists()
    started = time.monotonic()
    place.ask(f"/api/v1/ai/jobs/{sleeping}/cancel", method="POST")
    until(lambda: not Path(f"/proc/{pid}").exists(), SECONDS)
    return {"program_without_gpu_sees_none": True, "cancel_seconds": round(time.monotonic() - started, 2)}


def torch_job(place: Place) -> dict[str, Any]:
    """A torch program under the default limits, on a GPU of its own."""
    done = place.ended(place.submit("python", TORCH, gpus=1))
    return {
        "torch_job": done["state"],
        "said": done["output"]["stdout"].strip(),
        "devices": done["history"][0]["devices"],
    }


def shares(place: Place) -> dict[str, Any]:
    """Two programs on shares of one GPU at once, live telemetry, one past its share, and a cancel."""
    idle = used_mib()
    both = [place.submit("python", HOLD, str(2 * GIB), "20", vram_mib=4 * GIB) for _ in range(2)]
    jobs = [place.running(job) for job in both]
    time.sleep(12)  # a heartbeat
    told = place.seen()["inventory"]["devices"][0]["memory_used_mib"]
    smi = used_mib()
    greedy = place.ended(place.submit("python", HOLD, str(3 * GIB), "20", vram_mib=2 * GIB))
    for job in both:
        place.ask(f"/api/v1/ai/jobs/{job}/cancel", method="POST")
    started = time.monotonic()
    until(lambda: used_mib() <= idle + 64, SECONDS)
    return {
        "shares_at_once": [job["history"][0]["devices"] for job in jobs],
        "telemetry_mib": told,
        "nvidia_smi_mib": smi,
        "telemetry_within_10_percent": abs(told - smi) <= smi / 10,
        "past_its_share": {name: greedy["history"][0][name] for name in ("state", "fault", "reason", "message")},
        "memory_free_after_cancel_seconds": round(time.monotonic() - started, 2),
    }


def proof(place: Place, miner: str) -> dict[str, Any]:
    """What the proof of hardware came to."""
    found = until(lambda: place.ask(f"/api/v1/gpu/miners/{miner}/hardware")["data"], 180)
    return {"hardware": found}


def main(arguments: list[str]) -> int:
    """Run all, print the report as JSON; the exit code is 1 when a step failed."""
    report: dict[str, Any] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="aitbc-on-a-gpu-"))
    folder.chmod(0o711)  # programs run as another user
    place = Place(folder)
    try:
        miner = place.seen()
        gpus = [device for device in miner["inventory"]["devices"] if device["type"] == "cuda"]
        report["gpus"] = [{name: device[name] for name in ("name", "driver_version")} for device in gpus]
        steps: list[Callable[[], dict[str, Any]]] = [lambda: without_gpu(place)]
        if gpus:
            steps = [lambda: proof(place, miner["id"]), *steps, lambda: torch_job(place), lambda: shares(place)]
        else:
            report["note"] = "there is no GPU here: only what needs none was done"
        for step in steps:
            try:
                report |= step()
            except (AssertionError, TimeoutError, urllib.error.URLError, LookupError) as error:
                report.setdefault("failed", []).append(f"{type(error).__name__}: {str(error)[:500]}")
    finally:
        place.close()
        report["seconds"] = round(time.monotonic() - begun)
        if "failed" in report:
            report["miner_log"] = (folder / "miner.log").read_text()[-3000:]
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(report, indent=2))
    if "--json" in arguments:
        Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps(report, indent=2) + "\n")
    return int("failed" in report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
