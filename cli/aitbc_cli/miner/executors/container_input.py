"""What a job of kind `container` asks for: the image, what runs in it, its environment, and its folders."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc_cli.miner.containers import confinement
from aitbc_cli.miner.containers.confinement import Container
from aitbc_cli.miner.containers.images import Allowed
from aitbc_cli.miner.executors.fields import read_list, read_object, read_text
from aitbc_cli.miner.executors.work import Work, WorkFailed

ARGUMENTS_MAX = 64
ARGUMENT_CHARACTERS_MAX = 4_096
STDIN_CHARACTERS_MAX = 1_048_576
FILES = "files/"
"""What the names of the files of an input begin with."""
FIELDS = frozenset({"image", "command", "stdin", "env", "files", "network"})


def read_fields(work: Work) -> Mapping[str, Any]:
    """The fields of an input. Raises `FieldError`."""
    return read_object(work.input, allowed=FIELDS, what="input of container")


def asked_image(fields: Mapping[str, Any], images: Allowed) -> tuple[str, str]:
    """What an input calls the image, and its reference. Raises `WorkFailed` where it is not allowed, `FieldError`."""
    wanted = read_text(fields.get("image"), "image", shortest=1, longest=300)
    if fields.get("network") and not images.gives_network:
        raise WorkFailed("platform", "program_unavailable", "Containers get no network on this miner.")
    reference = images.reference_of(wanted)
    if reference is None:
        raise WorkFailed("platform", "program_unavailable", f"The image {wanted!r} is not allowed on this miner.")
    return wanted, reference


def read_stdin(fields: Mapping[str, Any]) -> bytes:
    """What the program reads. Raises `FieldError`."""
    stdin = fields.get("stdin")
    return b"" if stdin is None else read_text(stdin, "stdin", longest=STDIN_CHARACTERS_MAX).encode()


def read_container(
    fields: Mapping[str, Any], name: str, reference: str, work: Work, *, worker: str, folder: Path
) -> Container:
    """The container of an input, its folders made below `folder`. Raises `FieldError`."""
    words = read_list(fields.get("command") or [], "command", fewest=0, most=ARGUMENTS_MAX)
    command = [
        read_text(word, f"command[{number}]", longest=ARGUMENT_CHARACTERS_MAX) for number, word in enumerate(words)
    ]
    env = read_object(fields.get("env") or {}, allowed=frozenset(fields.get("env") or {}), what="env")
    wanted = {key: read_text(value, f"env.{key}", longest=ARGUMENT_CHARACTERS_MAX) for key, value in env.items()}
    return Container(
        name=name,
        image=reference,
        command=command,
        env={"HOME": "/tmp", **wanted, **_told(work, worker)},  # noqa: S108 - within the container
        mounts=_folders(work, folder),
        gpus=work.gpus or (),
        has_network=fields.get("network") is True,
    )


def _told(work: Work, worker: str) -> dict[str, str]:
    """What the miner says to the program."""
    given = {name: value for name, value in work.env.items() if name.startswith("AITBC_") and "\0" not in value}
    shares = [gpu.memory_mib for gpu in work.gpus or () if gpu.memory_mib is not None]
    return {
        **given,
        "AITBC_JOB_ID": work.job_id,
        "AITBC_ATTEMPT": str(work.attempt),
        "AITBC_WORKER": worker,
        **({"AITBC_GPU_MEMORY_MIB": str(min(shares))} if shares else {}),
    }


def _folders(work: Work, folder: Path) -> dict[str, tuple[Path, bool]]:
    """The folder that it reads, with the files of the input, and those that it may write to."""
    source, target, temporary = (folder / name for name in ("in", "out", "tmp"))
    source.mkdir(mode=0o755)
    target.mkdir(mode=0o700)
    temporary.mkdir()
    temporary.chmod(0o1777)
    for field, path in work.input_files.items():
        name = Path(field.removeprefix(FILES)).name
        path.chmod(0o644)
        os.link(path, source / name)
    if (user := confinement.user_of()) is not None:
        os.chown(target, user, user)
    return {"/in": (source, False), "/out": (target, True), "/tmp": (temporary, True)}  # noqa: S108
