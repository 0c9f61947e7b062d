"""The miners whose folders are on this machine: private, enrolled here, running, and known to the server."""

import json
import shlex
import stat
from pathlib import Path
from typing import Any

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok, skipped, warning
from aitbc_cli.doctor.state import holder_of

FOLDER = "miners"
CREDENTIALS = "credentials.json"
KEY = "miner.key"


def examine(case: Case) -> list[Finding]:
    """A finding for each miner."""
    folder = case.state / FOLDER
    homes = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    if not homes:
        return [skipped("no miner has its folder here", "aitbc miner run")]
    return [_miner(case, home) for home in homes]


def _miner(case: Case, home: Path) -> Finding:
    """The first thing that is not in order with one miner."""
    name, start = home.name, f"aitbc miner run --name {shlex.quote(home.name)}"
    if (opened := _opened(home)) is not None:
        return failed(f"others can read {opened}", f"chmod go= {shlex.quote(str(opened))}", about=name)
    try:
        credentials = json.loads((home / CREDENTIALS).read_bytes())
        miner, url, key = str(credentials["miner"]), str(credentials["url"]), str(credentials["api_key"])
    except FileNotFoundError:
        return warning("it is not enrolled yet", start, about=name)
    except (OSError, ValueError, TypeError, KeyError):
        again = f"rm {shlex.quote(str(home / CREDENTIALS))}; {start}"
        return failed(f"{home / CREDENTIALS} does not hold credentials", again, about=name)
    if not (home / KEY).exists():
        again = f"rm {shlex.quote(str(home / CREDENTIALS))}; {start}"
        return failed(f"{home / KEY} is not there: results cannot be signed", again, about=name)
    try:
        asked = case.where.url
    except Unknown as unknown:
        return skipped(unknown.message, unknown.fix, about=name)
    if url != asked:
        return warning(f"it is enrolled at {url}, and {asked} is asked here", f"{start} --url {url}", about=name)
    return _known(case, home, miner, key, start)


def _known(case: Case, home: Path, miner: str, key: str, start: str) -> Finding:
    name, lock = home.name, home / "lock"
    again = f"rm {shlex.quote(str(home / CREDENTIALS))}; {start}"
    found = lock.stat() if lock.exists() else None
    holder = holder_of(found.st_dev, found.st_ino) if found is not None else None
    undelivered = len(list((home / "undelivered").glob("att_*.json")))
    rest = f", with {undelivered} undelivered results" if undelivered else ""
    try:
        refused = case.ask_as(key, "/api/v1/identity/keys/self")
        status: Any = case.ask(f"/api/v1/gpu/miners/{miner}")
    except Unknown:
        if holder is None:
            return warning(f"{miner} does not run{rest}; the server does not answer either", start, about=name)
        return skipped(f"{miner} runs as process {holder}; the server does not answer", case.start, about=name)
    if refused.status == 401:
        return failed(f"the server refuses the key of {miner}: {refused.detail}", again, about=name)
    if status.status == 404:
        return failed(f"the server does not know {miner}", again, about=name)
    state = (status.json() or {}).get("status") if status.status == 200 else None
    if state == "removed":
        return failed(f"{miner} was removed", again, about=name)
    if holder is None:
        return warning(f"{miner} does not run{rest}", start, about=name)
    if state == "draining":
        return warning(f"{miner} gets no more work: it is draining", f"aitbc miner resume {miner}", about=name)
    if state is not None and state != "online":
        return warning(f"{miner} runs as process {holder}, and is {state}", f"kill {holder}; {start}", about=name)
    return ok(f"{miner} runs as process {holder}, {state or 'its state is not for this key'}{rest}", about=name)


def _opened(home: Path) -> Path | None:
    """The first thing that others can look into."""
    for path in (home, home / KEY, home / CREDENTIALS):
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                return path
        except FileNotFoundError:
            continue
    return None


CHECKS = (Check("miner", "the miners of this machine", examine),)
