"""Settings: those of the server and of the command line, and what they open to others."""

import re
import shlex
from urllib.parse import urlsplit

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, failed, ok, skipped, warning
from aitbc_cli.exits import Stop
from aitbc_cli.settings import LOOPBACK

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NEVER_PROXIED = ("localhost", "127.0.0.1")
_UNKNOWN_VARIABLE = re.compile(r"environment: (AITBC_\w+) is not a setting(?:; did you mean (\w+)\?)?")
_UNKNOWN_NAME = re.compile(r"(.+?): (\S+) is not a setting(?:; did you mean (\S+)\?)?")
TLS_LINES = 'server.tls_certificate = "/etc/aitbc/tls.pem"\nserver.tls_key = "/etc/aitbc/tls.key"'


def configuration(case: Case) -> Finding:
    """Every source of the server's settings can be used."""
    from aitbc.kernel.primitives.errors import ConfigError

    try:
        loaded = case.load()
    except ConfigError as error:
        return failed(error.message, fix_of(error.message))
    sources = sorted({origin for origin in loaded.origins.values() if origin not in ("default", "flag")})
    return ok(f"settings from {', '.join(sources)}" if sources else "every setting is at its default")


def fix_of(complaint: str) -> str:
    """What to type against a complaint about a setting, which names the source, the setting and the remedy."""
    if found := _UNKNOWN_VARIABLE.match(complaint):
        wrong, near = found.groups()
        return f'export {near}="${wrong}"; unset {wrong}' if near else f"unset {wrong}"
    if "; run: " in complaint:
        return complaint.rpartition("; run: ")[2]
    if found := _UNKNOWN_NAME.match(complaint):
        file, wrong, near = found.groups()
        leaf, right = wrong.rpartition(".")[2], (near or "").rpartition(".")[2]
        change = f"s/^{leaf}\\b/{right}/" if near else f"/^{leaf}\\b/d"
        return f"sed -i {shlex.quote(change)} {shlex.quote(file)}"
    source, _, rest = complaint.partition(": ")
    remedy = rest.rpartition("; ")[2] or rest
    if source.startswith("AITBC_"):
        return f"unset {source}  # or {remedy}"
    return f"in {source}: {remedy}"


def client(case: Case) -> Finding:
    """The command line knows which server to ask, and with which key."""
    try:
        where = case.find()
    except Stop as stop:
        hint = stop.hint or "aitbc config show --origin"
        return failed(stop.message, hint.removeprefix("run: "))
    return ok(f"{where.url} ({where.url_origin}); key: {where.key_origin}")


def proxy(case: Case) -> Finding:
    """No proxy stands between programs of this machine."""
    named = [name for base in PROXIES for name in (base, base.upper()) if case.environ.get(name)]
    if not named:
        return ok("no proxy is set")
    spared = case.environ.get("no_proxy") or case.environ.get("NO_PROXY") or ""
    words = [word.strip() for word in spared.split(",")]
    if "*" in words or all(each in words for each in NEVER_PROXIED):
        return ok(f"{', '.join(named)}, and loopback is spared")
    message = f"{', '.join(named)} would catch requests to this machine, those of curl and of scripts"
    line = ",".join(dict.fromkeys([*(word for word in words if word), *NEVER_PROXIED, "::1"]))
    return warning(message, f"export no_proxy={line} NO_PROXY={line}")


def exposure(case: Case) -> Finding:
    """The server is open to nobody who could listen in."""
    settings = case.settings.server
    running = case.running
    host = urlsplit(running.url).hostname if running is not None else settings.host
    is_plain = urlsplit(running.url).scheme == "http" if running is not None else settings.tls_certificate is None
    if is_plain and not _is_loopback(host or ""):
        message = f"{host} can be reached by others, and without TLS they can read keys and results on the way"
        if running is None and not settings.i_accept_plain_http:
            return failed(f"{message}; the server refuses to start so", f'server.host = "127.0.0.1"\n# or\n{TLS_LINES}')
        return warning(f"{message}; it was accepted", TLS_LINES)
    if is_plain and settings.i_accept_plain_http:
        return warning("plain HTTP is accepted beforehand, and not needed", "server.i_accept_plain_http = false")
    return ok(f"{host}, {'loopback only' if is_plain else 'with TLS'}")


def transport(case: Case) -> Finding:
    """The key of the command line travels where nobody can read it."""
    where = case.where
    parts = urlsplit(where.url)
    if parts.scheme == "https":
        return ok("the key travels with TLS")
    if case.is_local:
        return ok("the key stays on this machine")
    return warning(f"the key travels to {parts.hostname} in the clear", f"export AITBC_URL=https://{parts.netloc}")


def tls(case: Case) -> Finding:
    """Certificate and key of the server can be read, and belong together."""
    settings = case.settings.server
    if settings.tls_certificate is None:
        return skipped("no certificate is set; loopback needs none")
    from aitbc.kernel.primitives.errors import ConfigError
    from aitbc.server.config.listeners import tls_context

    try:
        tls_context(settings)
    except ConfigError as error:
        made = (
            f"openssl req -x509 -newkey ed25519 -nodes -days 365 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
            f"-keyout {shlex.quote(str(settings.tls_key))} -out {shlex.quote(str(settings.tls_certificate))}"
        )
        return failed(error.message, fix_of(error.message) if "; run: " in error.message else made)
    return ok(f"{settings.tls_certificate} and its key")


def webhooks(case: Case) -> Finding:
    """Webhooks reach nothing that is inside of this network."""
    settings = case.settings.webhooks
    if settings.allow_private:
        message = "whoever may make a webhook reaches what this machine reaches: webhooks.allow_private is set"
        return warning(message, "webhooks.allow_private = false")
    return ok(f"to public addresses only, on port {', '.join(map(str, settings.ports))}")


def _is_loopback(host: str) -> bool:
    return host in LOOPBACK or host.startswith("127.")


CHECKS = (
    Check("configuration", "the settings of the server", configuration),
    Check("client", "which server the command line asks", client),
    Check("proxy", "proxies that would catch loopback", proxy),
    Check("exposure", "who can reach the server", exposure),
    Check("webhooks", "where webhooks may be sent", webhooks),
    Check("transport", "who can read the key on its way", transport),
    Check("tls", "certificate and key of the server", tls),
)
