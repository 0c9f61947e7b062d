"""What authors of plugins do: make a key, build, validate offline by the server's rules, sign and publish."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command
from aitbc_cli.commands.plugin import PATH, VERSIONS, app
from aitbc_cli.exits import FAILED, NOT_FOUND, bad_configuration, usage
from aitbc_cli.output import columns

KEY_FILE = Path("plugin.key")
WAITING = ("received", "validating", "scanning")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where plugin.json is.")]
KeyFile = Annotated[Path, typer.Option("--key", help="The file of your signing key.")]
FINDINGS = columns("rule", "severity", "message", "help")


def read_package(folder: Path) -> tuple[bytes, bytes]:
    """The manifest and the module of a folder; of a remote plugin no module."""
    try:
        manifest = (folder / "plugin.json").read_bytes()
        module = folder / "plugin.wasm"
        return manifest, module.read_bytes() if module.exists() else b""
    except OSError as error:
        raise usage(f"{error.filename}: {error.strerror}", hint="name the folder of a plugin.json") from None


def _key(file: Path, *, create: bool = False) -> Any:
    from aitbc.kernel.crypto.signing import Key

    try:
        return Key.load(file, create=create)
    except (OSError, ValueError) as error:
        raise bad_configuration(f"{file}: {error}", hint="aitbc plugin keygen makes one") from None


@command(app, "keygen", examples=["aitbc plugin keygen --key plugin.key"], server=False)
def keygen(call: Call, key: KeyFile = KEY_FILE) -> None:
    """Make a signing key in a file that only you can read, or show the public half of the one that is there."""
    made = _key(key, create=True)
    call.out.one({"file": str(key), "public_key": made.public}, columns("file", "public_key"), name="public_key")


@command(app, "namespace", examples=["aitbc plugin namespace acme --key plugin.key"], changes=True)
def namespace(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The word that your plugins' names begin with.")],
    key: KeyFile = KEY_FILE,
) -> None:
    """Take a namespace, and say which key signs in it."""
    body = {"name": name, "public_key": _key(key).public}
    shown = columns("name", "public_key", "verified")
    call.out.one(call.change("POST", f"{PATH}/namespaces", body), shown, name="name")


@command(app, "build", examples=["aitbc plugin build examples/plugins/night-price"], server=False)
def build(call: Call, folder: Folder) -> None:
    """Build plugin.wasm of plugin.wat; other languages have compilers of their own."""
    try:
        import wasmtime
    except ImportError:
        raise bad_configuration("wasmtime is not installed", hint="pip install 'aitbc[plugins]'") from None
    try:
        code = wasmtime.wat2wasm((folder / "plugin.wat").read_text(encoding="utf-8"))
    except OSError as error:
        raise usage(f"{error.filename}: {error.strerror}") from None
    except wasmtime.WasmtimeError as error:
        raise usage(f"{folder / 'plugin.wat'}: {error}") from None
    (folder / "plugin.wasm").write_bytes(bytes(code))
    told = {"file": str(folder / "plugin.wasm"), "size_bytes": len(code)}
    call.out.one(told, columns("file", "size_bytes"), name="file")


@command(app, "validate", examples=["aitbc plugin validate examples/plugins/night-price"], server=False)
def validate(call: Call, folder: Folder) -> int:
    """Check a plugin by the rules that the server publishes by; what only the registry knows is not checked."""
    from aitbc.kernel.hooks.engine import compile_apart, is_there
    from aitbc.kernel.hooks.rules.all_rules import findings_in
    from aitbc.kernel.hooks.rules.package import Known, rejected

    manifest, module = read_package(folder)
    found = list(findings_in(manifest, module, Known()))
    if not found and module and is_there() and (wrong := compile_apart(module)) is not None:
        found.append(rejected("scan", f"The scan failed: {wrong}."))
    rows = [{name: getattr(one, name) for name in one.__struct_fields__} for one in found]
    call.out.rows(rows, FINDINGS, name="rule")
    return FAILED if any(one.severity == "reject" for one in found) else 0


@command(
    app,
    "publish",
    examples=["aitbc plugin publish examples/plugins/night-price --key plugin.key"],
    changes=True,
    ends=[NOT_FOUND],
)
def publish(
    call: Call,
    folder: Folder,
    key: KeyFile = KEY_FILE,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for what becomes of it.")] = 60.0,
) -> int:
    """Sign a version and hand it in; it is published when it has passed the rules and the scan."""
    import base64

    import msgspec

    from aitbc.kernel.hooks.manifest import manifest_of, manifest_text, package_digest, statement

    text, module = read_package(folder)
    try:
        manifest = manifest_of(text)
    except msgspec.MsgspecError as error:
        raise usage(f"{folder / 'plugin.json'}: {error}") from None
    digest = package_digest(manifest_text(manifest), module)
    body = {
        "manifest": msgspec.to_builtins(manifest),
        "artifact": base64.b64encode(module).decode(),
        "signature": _key(key).sign(statement(manifest.name, manifest.version, digest)),
    }
    version = call.change("POST", f"{PATH}/versions", body)
    until = time.monotonic() + wait
    while version["state"] in WAITING and time.monotonic() < until:
        time.sleep(0.3)
        version = call.api.get(f"{PATH}/versions/{part(version['id'])}")
    call.out.one(version, (*VERSIONS, *columns("findings")))
    return FAILED if version["state"] in ("rejected", "errored") else 0
