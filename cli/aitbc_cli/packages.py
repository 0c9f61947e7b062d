"""What of this program is installed here: its packages, those of its extras, and what installs the missing ones."""

import importlib.metadata
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from aitbc_cli.exits import CONFIGURATION, Stop

PROGRAM = "aitbc"
SERVER = "server"
FRAMEWORK = "litestar"
"""A package of the server that nothing else brings along."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([a-z]+)["']""")


def required(extra: str | None = None) -> list[str]:
    """What the program requires, or one of its extras does."""
    found = (each.partition(";") for each in importlib.metadata.requires(PROGRAM) or ())
    return [wanted.strip() for wanted, _, marker in found if _extra_of(marker) == extra]


def missing(extra: str | None = None) -> list[str]:
    """Those of them that are not installed."""
    return [each for each in required(extra) if not is_installed(each)]


def is_installed(requirement: str) -> bool:
    """Whether a distribution of that name is there; the installer sees to its version."""
    found = _NAME.match(requirement)
    try:
        importlib.metadata.version(found[0] if found else requirement)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def has_server() -> bool:
    """Whether the server is installed here, and not the command line and the miner alone."""
    return find_spec(FRAMEWORK) is not None


def install(requirements: Sequence[str], *, anew: bool = False) -> str:
    """The command that installs packages for this interpreter."""
    python, wanted = shlex.quote(sys.executable), shlex.join(requirements)
    if find_spec("pip") is not None:
        return f"{python} -m pip install {'--force-reinstall ' if anew else ''}{wanted}"
    return f"uv pip install --python {python} {'--reinstall ' if anew else ''}{wanted}"


def install_server() -> str:
    """The command that adds the server to what is installed here."""
    return install([f"{PROGRAM}[{SERVER}]"])


def require_server() -> None:
    """Raises `Stop` where the server, or a package that it needs, is not installed."""
    if lacking := missing(SERVER):
        raise server_missing(lacking)


def server_missing(lacking: Sequence[str]) -> Stop:
    """What a command says that needs the server where it is not installed."""
    names = [found[0] for each in lacking if (found := _NAME.match(each))]
    others = f" and {len(names) - 1} more packages are" if len(names) > 1 else " is"
    return Stop(
        f"this needs the server, which is not installed here: {names[0]}{others} missing",
        exit_code=CONFIGURATION,
        code="server_not_installed",
        hint=f"run: {install_server()}",
        missing=names,
    )


def _extra_of(marker: str) -> str | None:
    found = _EXTRA.search(marker)
    return found[1] if found else None
