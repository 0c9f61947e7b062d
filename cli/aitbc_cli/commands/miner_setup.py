"""A miner before it works for others: every kind tried once, and a service that starts it with the machine."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command
from aitbc_cli.commands.miner_kinds import (
    Allow,
    ChatKeyFile,
    ChatModel,
    ChatUrl,
    ContainerNetwork,
    Image,
    Images,
    Kind,
    KindFlags,
    KindsFile,
    Serve,
    ServeCommand,
    kinds_of,
)
from aitbc_cli.commands.miner_run import Name, StateDir, TokenFile, home_of, options_of
from aitbc_cli.exits import NOT_ALLOWED, REFUSED, usage
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import say

SAMPLES: dict[str, Any] = {
    "embed": {"texts": [f"Sentence number {number} of a hundred." for number in range(100)]},
    "chat": {"messages": [{"role": "user", "content": "Count from one to fifty in words."}], "max_tokens": 256},
}
"""What kinds are given at full length; the others are tried by what they do when they start."""
SAMPLE_SECONDS = 300.0
UNIT = """\
# Written by `aitbc miner install`; written anew by the next one.
[Unit]
Description=AITBC, the miner {name}
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={start}
Environment=AITBC_URL={url}
Environment=PYTHONUNBUFFERED=1
# Its own control group, in which it bounds the memory of programs.
Delegate=yes
Restart=on-failure
RestartSec=15s
RestartPreventExitStatus=2 4 5 78
SuccessExitStatus=130
# Only the miner gets the signal: it lets work end, gives back what is left, and ends its workers itself.
KillMode=mixed
TimeoutStopSec=60s
OOMPolicy=continue
UMask=0077

[Install]
WantedBy=default.target
"""


def declare_setup(app: typer.Typer) -> None:
    """Add `test` and `install` to the commands of the noun."""
    command(
        app,
        "test",
        examples=[
            "aitbc miner test",
            "aitbc miner test --kind chat --chat-url http://127.0.0.1:11434/v1",
            "aitbc miner test --kind command --kinds-file kinds.toml",
        ],
        server=False,
    )(try_kinds)
    command(
        app,
        "install",
        examples=[
            "aitbc miner install --name attic",
            "aitbc miner install --name attic -- --slots 4 --schedule 22:00-07:00",
            "aitbc miner install --name attic --dry-run",
        ],
        changes=True,
        ends=[NOT_ALLOWED, REFUSED],
    )(install)


def try_kinds(
    call: Call,
    kind: Kind = None,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_key_file: ChatKeyFile = None,
    serve: Serve = None,
    serve_command: ServeCommand = None,
    allow: Allow = None,
    image: Image = None,
    images: Images = None,
    container_network: ContainerNetwork = False,
    kinds_file: KindsFile = None,
) -> int:
    """Try every kind of work once on this machine, at full length, and say what to mend. Nothing is sent anywhere."""
    import asyncio

    flags = KindFlags(
        *(kind, chat_url, chat_model, chat_key_file, allow, serve, serve_command),
        image=image,
        images=images,
        container_network=container_network,
        kinds_file=kinds_file,
    )
    kinds = kinds_of(flags)
    with tempfile.TemporaryDirectory(prefix="aitbc-miner-test-") as folder:
        rows = asyncio.run(_tried(kinds, Path(folder)))
    shown = (*columns("kind", "result"), Column("MS", "milliseconds", "number"), *columns("message"))
    call.out.rows(rows, shown, name="kind")
    return int(any(row["result"] != "ok" for row in rows))


async def _tried(kinds: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What came of each kind."""
    from aitbc_cli.miner.executors.cgroup import make_room
    from aitbc_cli.miner.executors.pool import ExecutorPool
    from aitbc_cli.miner.inventory import inventory
    from aitbc_cli.miner.serving.host import host_of

    make_room()
    pool = ExecutorPool(slots=1, kinds=kinds, scratch=folder, models=host_of(kinds, slots=1, folder=folder))
    pool.gpus.update(inventory(folder)["devices"])
    try:
        return [await _try(pool, kind, folder) for kind in kinds]
    finally:
        await pool.stop()


async def _try(pool: Any, kind: str, folder: Path) -> dict[str, Any]:
    import time

    from aitbc_cli.miner.executors.pool import Work

    started = time.monotonic()
    status = await pool.check(kind)
    result, message = ("ok" if status.usable else "failed"), status.message
    if status.usable and kind in SAMPLES:
        place = folder / f"sample-{kind}"
        place.mkdir()
        models = status.detail.get("models") or [None]
        value = SAMPLES[kind] | ({"model": models[0]} if models[0] else {})
        work = Work(f"test of {kind}", 1, kind, value, {}, place, SAMPLE_SECONDS)
        outcome = await pool.run(work, on_progress=lambda _: None)
        if outcome.error is not None:
            result, message = "failed", f"{outcome.error.reason}: {outcome.error.message}"
    missing = status.detail.get("missing") or {}
    if missing:
        result = "warning" if result == "ok" else result
        message += "; left out: " + "; ".join(f"{name}: {why}" for name, why in missing.items())
    return {
        "kind": kind,
        "result": result,
        "milliseconds": round((time.monotonic() - started) * 1000),
        "message": message,
    }


def install(
    call: Call,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS…]", help="For `aitbc miner run`, as it has them.")
    ] = None,
    name: Name = None,
    state_dir: StateDir = None,
    token_file: TokenFile = None,
) -> None:
    """Make a service of your own that starts this miner with the machine, and start it.

    It is a unit of systemd for your user, without root. What stands after -- are options of `aitbc miner run`.
    """
    if any(each.partition("=")[0] in ("--name", "--state-dir", "--token-file") for each in arguments or ()):
        raise usage("--name, --state-dir and --token-file stand before --")
    name, home = home_of(call, name, state_dir)
    start = [_program(), "miner", "run", "--name", name, "--state-dir", str(home.absolute())]
    if not call.dry_run:
        options = options_of(call, name, state_dir, token_file, slots=1, region=None, kinds={})
        if options.token is not None:
            start += ["--token-file", str(_kept(home, options.token))]
    unit = UNIT.format(name=name, url=call.where.url, start=_line([*start, *(arguments or ())]))
    file = _folder() / f"aitbc-miner-{home.name}.service".replace(" ", "-")
    if call.dry_run:
        call.out.text(unit)
        say(f"would be {file}; nothing was changed")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(unit, encoding="utf-8")
    started = _systemctl("daemon-reload") and _systemctl("enable", "--now", file.name)
    call.out.one(
        {"unit": str(file), "name": options.name, "started": started}, columns("unit", "name", "started"), name="unit"
    )
    if not started:
        say(
            f"no systemd of yours answers here; sign in on the machine, then: systemctl --user enable --now {file.name}"
        )
    say("so that it works when you are not signed in: loginctl enable-linger")


def _program() -> str:
    """This program, as a service finds it."""
    beside = Path(sys.executable).with_name("aitbc")
    return str(beside) if beside.exists() else shutil.which("aitbc") or "aitbc"


def _line(words: list[str]) -> str:
    """A command line as systemd reads it: its own quotes, and no expansion."""
    return " ".join(
        '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'
        for word in words
    )


def _kept(home: Path, token: str) -> Path:
    """The one-time token in a file that only its owner reads."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / "enrolment_token"
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(token, encoding="utf-8")
    return file.absolute()


def _folder() -> Path:
    """Where units of the user are."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _systemctl(*words: str) -> bool:
    """Whether the user's systemd did it."""
    found = shutil.which("systemctl")
    if found is None:
        return False
    done = subprocess.run([found, "--user", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"systemctl --user {shlex.join(words)}: {done.stderr.strip()[:300]}")
    return done.returncode == 0
