"""Containers: an image that its miner's owner allows, run without privileges, with files in and out."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Measure, Reference, TimedKind

ARGUMENTS_MAX = 64
STDIN_MAX = 512 * 1024
FILES_MAX = 16
OUTPUT_FILES_MAX = 32
ENVIRONMENT_MAX = 64
NETWORK = "+network"
"""What follows the name of an image where its container gets a network."""
ANY = "any"
"""What miners announce that run any image; no image has this name."""
DIGEST = "@sha256:"

FileName = Annotated[
    str,
    Meta(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "examples": ["data.csv"]}),
]
VariableName = Annotated[
    str,
    Meta(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "examples": ["SEED"]}),
]
Image = Annotated[
    str,
    Meta(
        max_length=300,
        pattern=r"^[a-z0-9]([A-Za-z0-9._-]{0,39}|[A-Za-z0-9._:/-]{0,200}@sha256:[0-9a-f]{64})\Z",
        examples=["python"],
    ),
    Meta(
        extra_json_schema={
            "pattern": "^[a-z0-9]([A-Za-z0-9._-]{0,39}|[A-Za-z0-9._:/-]{0,200}@sha256:[0-9a-f]{64})$",
        }
    ),
]


class ContainerInput(Struct, frozen=True, forbid_unknown_fields=True):
    """An image, what it is to do, and the files that it reads."""

    image: Image
    """The name under which owners of miners allow it, or a reference with its digest (`…@sha256:…`), which a miner
    takes that allows this very digest, or any image."""
    command: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=ARGUMENTS_MAX)] = []
    """The arguments of the image's entrypoint, or where it has none the program and its arguments; left out, what the
    image says. For example `["python3", "/in/train.py"]`."""
    stdin: Annotated[str, Meta(max_length=STDIN_MAX)] | None = None
    """What it reads from its standard input. For example `one line`."""
    env: Annotated[dict[VariableName, Annotated[str, Meta(max_length=4096)]], Meta(max_length=ENVIRONMENT_MAX)] = {}
    """Its environment beside what the image sets. For example `{"SEED": "7"}`."""
    files: Annotated[dict[FileName, Reference], Meta(max_length=FILES_MAX)] = {}
    """Uploaded files by the names that they have in its folder `/in`."""
    network: bool = False
    """Whether it needs a network; only miners whose owners give containers one take it then."""


class OutputFile(Struct, frozen=True):
    """A file that a container left in its folder `/out`."""

    artifact: str
    """The file. For example `art_01k0000000000000000000000a`."""
    digest: str
    """SHA-256 of its content. For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    bytes: Annotated[int, Meta(ge=0)]
    """Its size in bytes. For example `48213`."""


class ContainerOutput(Struct, frozen=True):
    """How the container ended, what it wrote, and the files that it made."""

    exit_code: int | None
    """How it ended; null where that is not known. For example `0`."""
    stdout: str
    """What it wrote. For example `epoch 3: 0.91`."""
    stderr: str
    """What it wrote to its standard error; may be empty. For example `warning: old format`."""
    truncated: bool
    """Whether something of either was cut. For example `false`."""
    files: Annotated[dict[str, OutputFile], Meta(max_length=OUTPUT_FILES_MAX)] = {}
    """The files of its folder `/out` by their paths there."""


class Container(TimedKind):
    """Metered by the time of the lease as the platform sees it."""

    name = "container"
    summary = "Runs an image that the miner's owner allowed, without privileges, with files in and out."
    input = ContainerInput
    output = ContainerOutput

    def references(self, given: ContainerInput) -> Mapping[str, Reference]:
        """The files."""
        return {f"files/{name}": reference for name, reference in given.files.items()}

    def measure(self, given: ContainerInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Nothing is known before the run but its longest time."""
        if any("\0" in text for text in (*given.command, *given.env.values(), given.stdin or "")):
            raise InvalidInput("Neither command nor environment nor standard input may hold a NUL character.")
        if given.image == ANY:
            raise InvalidInput("An image is asked for by its own name, or by its digest.")
        return Measure(units=0, units_max=run_seconds, model=_matched_by(given), expects={"run_seconds": run_seconds})


def _matched_by(given: ContainerInput) -> str:
    """What miners announce among their models of this kind: the name, or the digest, and whether with a network."""
    name, found, digest = given.image.partition(DIGEST)
    return (f"sha256:{digest}" if found else name) + (NETWORK if given.network else "")
