"""The images that an operator allows, and what the miner announces of them."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aitbc_cli.miner.executors.fields import FieldError, read_text

IMAGES_MAX = 14
"""Each is announced by name and by digest, with and without a network, among the 64 that a kind may have."""
ANY, NETWORK = "any", "+network"
_NAME = re.compile(r"[a-z0-9][A-Za-z0-9._-]{0,39}\Z")
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,200}@(sha256:[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Allowed:
    """The images of one miner."""

    by_name: Mapping[str, str]
    """Their references, each with its digest."""
    takes_any: bool
    gives_network: bool

    def reference_of(self, wanted: str) -> str | None:
        """The reference of what a job asks for by name or by digest; none where it is not allowed."""
        if wanted in self.by_name:
            return self.by_name[wanted]
        asked = _REFERENCE.match(wanted)
        if asked is None:
            return None
        same = (reference for reference in self.by_name.values() if digest_of(reference) == asked[1])
        return next(same, wanted if self.takes_any else None)

    def announced(self, *, but: Collection[str]) -> list[str]:
        """What jobs are matched by, without the images that cannot be run now."""
        names = [ANY] if self.takes_any else []
        for name, reference in self.by_name.items():
            names += [] if name in but else [name, digest_of(reference)]
        names = list(dict.fromkeys(names))
        return [*names, *(name + NETWORK for name in names)] if self.gives_network else names


def read_images(options: Mapping[str, Any]) -> Allowed:
    """The images of the options. Raises `FieldError`."""
    given = options.get("images", {})
    if not isinstance(given, Mapping) or len(given) > IMAGES_MAX:
        raise FieldError(f"images must name up to {IMAGES_MAX} images, each a reference with its digest.")
    by_name = {}
    for name, value in given.items():
        reference = read_text(value, f"images.{name}", longest=300)
        if not _NAME.match(str(name)) or name == ANY:
            raise FieldError(f"images: {name!r} cannot name an image; use up to 40 letters, digits, dots and dashes.")
        if not _REFERENCE.match(reference):
            raise FieldError(
                f"images.{name}: {reference!r} has no digest; write REFERENCE@sha256:… (podman images --digests)."
            )
        by_name[name] = reference
    for name in ("any_image", "network"):
        if not isinstance(options.get(name, False), bool):
            raise FieldError(f"{name} must be true or false.")
    if not by_name and not options.get("any_image"):
        raise FieldError('images must name what may be run, like {"python": "docker.io/library/python@sha256:…"}.')
    return Allowed(by_name, bool(options.get("any_image")), bool(options.get("network")))


def digest_of(reference: str) -> str:
    """The digest of a reference."""
    return reference.partition("@")[2]
