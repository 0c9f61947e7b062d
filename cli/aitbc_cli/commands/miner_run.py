"""A miner on this machine: its options, and how it enrols."""

import json
import os
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
    ServeIdle,
    ServeMax,
    ServeSlots,
    kinds_of,
)
from aitbc_cli.exits import CONFIGURATION, NOT_ALLOWED, REFUSED, Stop, usage
from aitbc_cli.miner.options import NOT_ENROLLED
from aitbc_cli.output import columns
from aitbc_cli.settings import checked_key, is_same_server, read_private
from aitbc_cli.times import seconds_of

SLOTS_MAX = 64
NAME_LENGTH_MAX = 100
"""As the server has it."""
Name = Annotated[str | None, typer.Option("--name", help="What people call it; this machine's name unless given.")]
Slots = Annotated[int, typer.Option("--slots", min=1, max=SLOTS_MAX, help="How many jobs at once.")]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="Its own folder: key, credentials, undelivered results."),
]
Region = Annotated[str | None, typer.Option("--region", help="Where it stands, for jobs that ask for it.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Where the one-time token is; AITBC_ENROLMENT_TOKEN."),
]


OnlyWhenIdle = Annotated[
    bool, typer.Option("--only-when-idle", help="Take work only while nobody else uses the machine.")
]
JsonEvents = Annotated[bool, typer.Option("--json-events", help="What happens as JSON lines on standard output.")]
EdgePort = Annotated[
    int | None,
    typer.Option("--edge-port", min=0, max=65535, help="Serve deployments there, as an edge; 0 for any port."),
]
EdgeHost = Annotated[str, typer.Option("--edge-host", help="Where the edge listens.")]
EdgeAddress = Annotated[
    str | None, typer.Option("--edge-address", metavar="URL", help="Where others find the edge, if not there.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="URL", help="Run programs as jobs of the Ray cluster with this dashboard."),
]
Slurm = Annotated[
    bool, typer.Option("--slurm", help="Run programs as jobs of the Slurm cluster that this machine belongs to.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Show its metrics on loopback there; 0 for any port."),
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", metavar="HOURS", help="Work only then, by this machine's clock: 22:00-07:00."),
]


def declare_running(app: typer.Typer) -> None:
    """Add `run` and `enrol` to the commands of the noun."""
    command(
        app,
        "run",
        examples=[
            "aitbc miner run",
            "aitbc miner run --name attic --slots 4 --chat-url http://127.0.0.1:11434/v1",
            "aitbc miner run --serve llama=~/models/llama-3.2-3b-q4.gguf --slots 2",
            "aitbc miner run --kind command --allow 'wc=/usr/bin/wc --'",
            "aitbc miner run --image python=docker.io/library/python@sha256:…",
            "aitbc miner run --slurm --slots 32 --allow 'train=/shared/train' --state-dir /shared/miner",
            "aitbc miner run --schedule 22:00-07:00 --only-when-idle",
            "aitbc miner run --edge-port 8170 --edge-host 0.0.0.0 --edge-address http://10.0.0.5:8170",
        ],
        output=False,
        ends=[NOT_ALLOWED, REFUSED, CONFIGURATION],
    )(run)
    command(
        app,
        "enrol",
        examples=["AITBC_ENROLMENT_TOKEN=aitbc_enrol_… aitbc miner enrol --name attic"],
        ends=[NOT_ALLOWED, REFUSED, CONFIGURATION],
    )(enrol)


def run(
    call: Call,
    name: Name = None,
    slots: Slots = 1,
    state_dir: StateDir = None,
    region: Region = None,
    kind: Kind = None,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_key_file: ChatKeyFile = None,
    serve: Serve = None,
    serve_command: ServeCommand = None,
    serve_idle: ServeIdle = None,
    serve_max: ServeMax = None,
    serve_slots: ServeSlots = None,
    allow: Allow = None,
    image: Image = None,
    images: Images = None,
    container_network: ContainerNetwork = False,
    kinds_file: KindsFile = None,
    token_file: TokenFile = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long running work may go on after the first Ctrl-C.")
    ] = "30s",
    schedule: Schedule = None,
    only_when_idle: OnlyWhenIdle = False,
    slurm: Slurm = False,
    ray: Ray = None,
    metrics_port: MetricsPort = None,
    edge_port: EdgePort = None,
    edge_host: EdgeHost = "127.0.0.1",
    edge_address: EdgeAddress = None,
    json_events: JsonEvents = False,
) -> int:
    """Do paid work on this machine until a signal. It opens connections, and listens nowhere but for its own metrics
    and, as an edge, for those who are near.

    The first start enrols it: with a one-time token, or, where an API key is at hand that may make one, by itself.
    The first Ctrl-C or SIGTERM lets running work end, the second gives it back at once.
    """
    flags = KindFlags(
        *(kind, chat_url, chat_model, chat_key_file, allow, serve, serve_command, serve_idle, serve_max),
        *(serve_slots, image, images, container_network, kinds_file),
    )
    kinds = kinds_of(flags)
    if slurm and ray:
        raise usage("--slurm and --ray are two clusters; a miner stands before one")
    if (slurm or ray) and not {"command", "container"} & set(kinds):
        raise usage("--slurm and --ray run programs, and none is allowed", hint="--allow 'train=/shared/train'")
    if ray and "container" in kinds:
        hint = "without images; what the cluster runs containers with is a program: --allow 'py=apptainer exec /shared/py.sif'"
        raise usage("the cluster gets no containers, and they would run on this machine alone", hint=hint)
    options = options_of(
        *(call, name, state_dir, token_file),
        slots=slots,
        region=region,
        kinds=kinds,
        grace_seconds=seconds_of(grace),
        schedule=_schedule(schedule),
        only_when_idle=only_when_idle,
        slurm=slurm,
        ray=_ray(ray),
        metrics_port=metrics_port,
        edge=_edge(edge_port, edge_host, edge_address),
        json_events=json_events,
    )
    from aitbc_cli.miner import daemon

    return int(_guarded(daemon.run, options))


def _ray(url: str | None) -> str | None:
    """The dashboard of a Ray. Raises a fault of usage for what is no URL."""
    if url is not None and not url.startswith(("http://", "https://")):
        raise usage(f"--ray {url} is no address of a dashboard", hint="--ray http://127.0.0.1:8265")
    return url


def enrol(
    call: Call,
    name: Name = None,
    slots: Slots = 1,
    state_dir: StateDir = None,
    region: Region = None,
    kind: Kind = None,
    token_file: TokenFile = None,
    code: Annotated[
        bool, typer.Option("--code", help="Show a code that its owner approves in the browser; needs no token.")
    ] = False,
) -> None:
    """Enrol this machine without working yet: it makes its key, and keeps the credentials in its folder."""
    kinds = kinds_of(KindFlags(kind=kind))
    options = options_of(*(call, name, state_dir, token_file), slots=slots, region=region, kinds=kinds, by_code=code)
    from aitbc_cli.miner import enrol_only

    enrolled = _guarded(enrol_only.enrol, options)
    call.out.one(enrolled, columns("miner", "account", "fingerprint", "url"), name="miner")


def _guarded(work: Any, options: Any) -> Any:
    from aitbc_cli.miner.options import MinerFailed

    try:
        return work(options)
    except MinerFailed as failed:
        raise Stop(str(failed), exit_code=failed.exit_code, code="miner_failed") from None


def options_of(
    call: Call,
    name: str | None,
    state_dir: Path | None,
    token_file: Path | None,
    *,
    slots: int,
    region: str | None,
    kinds: dict[str, dict[str, Any]],
    by_code: bool = False,
    **how: Any,
) -> Any:
    """The options of the miner of this name, with a token where it is not enrolled. Raises `Stop`."""
    from aitbc_cli.miner.options import Options

    name, home = home_of(call, name, state_dir)
    return Options(
        url=call.where.url,
        home=home,
        name=name,
        slots=slots,
        kinds=kinds,
        token=_token(call, home, token_file, code_for=name if by_code else None),
        region=region,
        **how,
    )


def home_of(call: Call, name: str | None, state_dir: Path | None) -> tuple[str, Path]:
    """The name of a miner, this machine's unless it is given, and its folder. Raises a usage error."""
    import socket

    name = socket.gethostname().partition(".")[0] or "miner" if name is None else _checked_name(name)
    return name, state_dir or call.where.state_dir / "miners" / _folder_of(name)


def _edge(port: int | None, host: str, address: str | None) -> Any:
    """How it serves as an edge; none for a miner that is none. Raises a usage error for what says no port."""
    from aitbc_cli.miner.options import EdgeOptions

    if port is None:
        if address is not None:
            raise usage("--edge-address says where an edge is found, and this is none", hint="--edge-port 8170")
        return None
    if address is not None and not address.startswith(("http://", "https://")):
        raise usage("--edge-address: expected a URL", hint="--edge-address http://10.0.0.5:8170")
    return EdgeOptions(port=port, host=host, address=address)


def _schedule(hours: str | None) -> str | None:
    """The hours as they were given. Raises a usage error for what is no time of day."""
    from aitbc_cli.miner.hours import Hours

    try:
        Hours(hours)
    except ValueError as error:
        raise usage(f"--schedule: {error}") from None
    return hours


def _checked_name(name: str) -> str:
    """A name as the server takes it. Raises a usage error that says what is wrong with it."""
    fault = None
    if not name.strip():
        fault = "it is blank"
    elif len(name) > NAME_LENGTH_MAX:
        fault = f"it has {len(name)} characters, and {NAME_LENGTH_MAX} are the most"
    elif name != name.strip() or not name.isprintable():
        fault = "it has spaces at its ends or characters that cannot be seen"
    if fault is not None:
        raise usage(f"--name: {fault}", hint="leave it out for this machine's name, or say for instance --name attic")
    return name


def _folder_of(name: str) -> str:
    if name.startswith(".") or any(not letter.isalnum() and letter not in "-_. " for letter in name):
        raise usage(
            f"{name!r} cannot name a folder", hint="say --state-dir, or choose a name of letters, digits and dashes"
        )
    return name


def _token(call: Call, home: Path, file: Path | None, *, code_for: str | None) -> str | None:
    """The one-time token; none where the miner is enrolled already. A caller who may make tokens needs none.

    With `code_for`, the machine's name, it is one of its own that its owner approves by a code.

    Raises `Stop` where there is none to be had: before anything is started that takes its time.
    """
    if _is_enrolled(home, call.where.url):
        return None
    if code_for is not None:
        from aitbc_cli.miner.approval import approved_token

        return approved_token(call, home, code_for)
    if file is not None:
        return read_private(file, "--token-file")
    if os.environ.get("AITBC_ENROLMENT_TOKEN"):
        return checked_key(os.environ["AITBC_ENROLMENT_TOKEN"], "AITBC_ENROLMENT_TOKEN")
    if call.where.key is None:
        raise Stop(NOT_ENROLLED, exit_code=NOT_ALLOWED, code="miner_failed")
    return str(call.api.post("/api/v1/gpu/enrolment-tokens", {}, natural=True)["token"])


def _is_enrolled(home: Path, url: str) -> bool:
    try:
        return is_same_server(json.loads((home / "credentials.json").read_bytes())["url"], url)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
