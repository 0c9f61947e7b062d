"""The server: it is there, it is ready, it is of this version, and its clock agrees."""

import os
import socket
from contextlib import closing
from datetime import timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok, skipped, warning
from aitbc_cli.exits import Stop
from aitbc_cli.times import length

SKEW_SECONDS = 2.0
DATE_SECONDS = 2.0
"""How old the time in an answer's head may be: it has whole seconds, and is made once a second."""
CONNECT_SECONDS = 0.5
MISDIRECTED = 421


def health(case: Case) -> Finding:
    """Somebody answers at the URL, and it is a server of this platform."""
    where = case.where
    try:
        answer = case.health()
    except Stop as stop:
        return failed(stop.message, _start(case) if case.is_local else stop.hint or "aitbc config show --origin")
    if answer.status == MISDIRECTED:
        name = urlsplit(where.url).hostname
        return failed(f"{where.url}: {answer.detail}", f'in the settings of the server: server.hosts = ["{name}"]')
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict) or body.get("status") != "ok":
        message = f"{where.url} is another program: /healthz answers with HTTP {answer.status}"
        return failed(message, "aitbc serve --port 0" if case.is_local else "aitbc config show --origin")
    return ok(f"{where.url} answers")


def readiness(case: Case) -> Finding:
    """The server would serve requests now."""
    body = case.ask_as(None, "/readyz").json()  # without the key first: a key may take the database to look at
    if not isinstance(body, dict) or not isinstance(body.get("ready"), bool):
        raise Unknown("the server does not say whether it is ready", "aitbc doctor --only server")
    if body["ready"]:
        return ok("ready")
    try:
        checks = case.ask("/readyz", public=True).json()["checks"]
    except (Unknown, KeyError, TypeError):
        checks = []
    reasons = {each["name"]: each["reason"] for each in checks}
    failing = [f"{name}: {reasons[name]}" if reasons.get(name) else name for name in body["failing"]]
    return failed(f"not ready: {'; '.join(failing)}", _remedy(case, body["failing"]))


def version(case: Case) -> Finding:
    """Server and command line are of one version."""
    body: dict[str, Any] = case.read("/version")
    ours, theirs = version_of("aitbc"), body.get("version")
    if theirs != ours:
        fix = case.restart if case.is_local else f"uv pip install aitbc=={theirs}"
        return warning(f"the server is {theirs}, this program {ours}", fix)
    if case.running is not None and case.is_local:
        import aitbc
        from aitbc.kernel.primitives.version import commit_of

        commit = commit_of(Path(str(aitbc.__file__)).parents[2])
        if commit != body.get("commit"):
            message = f"the server runs commit {_short(body.get('commit'))}, and the files are of {_short(commit)}"
            return warning(message, case.restart)
    return ok(f"{ours} on both sides, API {body.get('api')}")


def clock(case: Case) -> Finding:
    """The clocks of server and command line agree."""
    started = case.now()
    answer = case.ask_as(None, "/version")  # asked anew: what another check learned has an older date
    date = {name.lower(): value for name, value in answer.headers.items()}.get("date")
    if date is None:
        raise Unknown("the server sends no time")
    theirs = parsedate_to_datetime(date)
    ahead = (started - theirs - timedelta(seconds=DATE_SECONDS)).total_seconds()
    behind = (theirs - case.now()).total_seconds()
    skew = max(ahead, behind, 0.0)
    if skew > SKEW_SECONDS:
        side = "ahead of" if ahead > behind else "behind"
        return warning(f"this machine is at least {length(skew)} {side} the server", "sudo timedatectl set-ntp true")
    return ok("they agree")


def port(case: Case) -> Finding:
    """The port that the server is set to is free, or the server's own."""
    from aitbc.kernel.primitives.port_owner import process_on_port

    settings, running = case.settings.server, case.running
    wanted = settings.port
    if running is not None:
        return ok(f"process {running.pid} listens at {running.url}")
    if wanted == 0:
        return ok("any free one is taken")
    if 0 < wanted < _first_free_for_all() and os.geteuid() != 0:
        return failed(f"port {wanted} is for root only", "aitbc serve --port 8080")
    holder = process_on_port(wanted)
    if holder is not None or _is_taken(settings.host, wanted):
        message = f"port {wanted} is taken by {holder or 'a program of another user'}"
        return failed(message, f"aitbc serve --port 0  # or stop {holder or 'it'}")
    return ok(f"{wanted} is free")


def certificate(case: Case) -> Finding:
    """The certificate of the server holds for two weeks at least."""
    import ssl

    parts = urlsplit(case.where.url)
    if parts.scheme != "https":
        return skipped("the server is asked without TLS")
    case.ask("/version", public=True)  # what is wrong with the connection itself is the check `server`'s to report
    with (
        socket.create_connection((parts.hostname, parts.port or 443), CONNECT_SECONDS * 2) as plain,
        ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname) as secure,
    ):
        certificate: Any = secure.getpeercert()
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - case.now().timestamp()
    if left < 14 * 86_400:
        renew = "renew it, write it to server.tls_certificate and restart the server"
        return warning(f"the certificate of {parts.hostname} ends in {length(max(left, 0))}", renew)
    return ok(f"it holds for {length(left)}")


def ports(case: Case) -> Finding:
    """On which ports modules answer beside the gateway's, and on which of them nobody is asked for a key."""
    rows: list[dict[str, Any]] = case.read("/api/v1/operations/places")["data"]
    open_ = sorted({(port, row["module"]) for row in rows for port in row["ports"]})
    trusting: dict[int, list[str]] = {port: [] for row in rows for port in row.get("trusting", ())}
    for port, module in open_:
        if port in trusting:
            trusting[port].append(module)
    if trusting:
        ways = "; ".join(f"port {port} ({' and '.join(modules)})" for port, modules in sorted(trusting.items()))
        message = f"programs of the server's user and of trust_uids act as the account local without a key at {ways}"
        names = sorted({module for modules in trusting.values() for module in modules})
        lines = "\n".join(f'modules.{name}.trust = "none"' for name in names)
        return warning(message, f"# once no older command line needs it, in the settings of the server:\n{lines}")
    if not open_:
        return ok("all modules answer on the gateway's port alone")
    return ok(f"{', '.join(f'{port} ({module})' for port, module in open_)}; each asks for a key")


def _start(case: Case) -> str:
    running = case.running
    if running is None or running.url != case.where.url:
        return case.start
    return f"kill -9 {running.pid}; {case.start}"  # it lives and does not answer, so it would not hear a kinder word


def _remedy(case: Case, failing: list[str]) -> str:
    if "disk" in failing:
        return f"du -xhd2 {case.state} | sort -h | tail"
    if failing == ["draining"]:
        return case.start
    if not case.is_local:
        return "aitbc doctor, on the machine of the server"
    return case.restart if "database" not in failing else f"aitbc doctor --only database; {case.restart}"


def _first_free_for_all() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _is_taken(host: str, port_: int) -> bool:
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port_)) == 0  # noqa: S104 - compared
        except OSError:
            return False


def _short(commit: Any) -> str:
    return str(commit)[:10] if commit else "unknown"


CHECKS = (
    Check("port", "the port of the server", port),
    Check("server", "the server answers", health),
    Check("ready", "the server is ready", readiness),
    Check("version", "server and command line are of one version", version),
    Check("ports", "ports of modules, and who needs no key there", ports),
    Check("clock", "the clocks agree", clock),
    Check("certificate", "how long the server's certificate holds", certificate),
)
