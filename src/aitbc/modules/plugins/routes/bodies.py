"""What the routes of plugins take and answer."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.hooks.manifest import Manifest, PluginName, Version
from aitbc.kernel.hooks.rules.size_rule import ARTIFACT_BYTES_MAX
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Text
from aitbc.modules.plugins.service.catalogue import SetTerms
from aitbc.modules.plugins.service.installs import InstallPlugin

Amount = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["5", "0"]}),
]
NamespaceName = Annotated[
    str,
    Meta(max_length=40, pattern=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]\Z"),
    Meta(extra_json_schema={"pattern": r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$", "examples": ["acme"]}),
]
PublicKey = Annotated[
    str,
    Meta(max_length=43, pattern=r"^[A-Za-z0-9_-]{43}\Z"),
    Meta(
        extra_json_schema={
            "pattern": "^[A-Za-z0-9_-]{43}$",
            "examples": ["O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"],
        }
    ),
]
Signature = Annotated[
    str,
    Meta(max_length=86, pattern=r"^[A-Za-z0-9_-]{86}\Z"),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_-]{86}$"}),
]
Artifact = Annotated[bytes, Meta(max_length=ARTIFACT_BYTES_MAX)]
Reason = Annotated[str, Meta(max_length=500)]


class TakePluginNamespace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A word that names of plugins begin with, and the key that signs them."""

    name: NamespaceName
    """The word. For example `acme`."""
    public_key: PublicKey
    """The Ed25519 public key, url-safe base 64 without padding. For example
    `O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik`."""


class SetPluginKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key that signs from now on."""

    public_key: PublicKey
    """The Ed25519 public key, url-safe base 64 without padding. For example
    `O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik`."""


class VerifyPluginNamespace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the operator knows whose namespace it is."""

    verified: bool
    """Whether that is so. For example `true`."""


class PublishPlugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of a plugin, signed."""

    manifest: Manifest
    """What `plugin.json` says."""
    artifact: Artifact = b""
    """The WebAssembly module, base 64; empty for a remote plugin. For example `AGFzbQEAAAA=`."""
    signature: Signature
    """The signature over the digest of both, url-safe base 64 without padding, as `aitbc plugin publish` makes it.
    For example `qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3Aw`."""


class PluginPackage(Struct, frozen=True, kw_only=True):
    """A version as it was published: all that is needed to check it."""

    manifest: Manifest
    """What it says of itself."""
    artifact: bytes
    """The WebAssembly module, base 64; empty for a remote plugin. For example `AGFzbQEAAAA=`."""
    digest: str
    """The digest of both. For example `sha256:9f86…`."""
    public_key: str
    """The key that signed it, url-safe base 64. For example `O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik`."""
    signature: str
    """The signature, url-safe base 64. For example
    `qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3qLx3Aw`."""


class YankPluginVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a version is taken back."""

    reason: Reason = ""
    """Why, for those who had it. For example `A wrong price on Sundays.`."""


class DecidePluginVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of a version in quarantine."""

    passes: bool
    """Whether it is published, or rejected. For example `true`."""
    reason: Reason = ""
    """Why it is so decided, for its publisher. For example `The names are not alike.`."""


class RevokePlugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not asked any more."""

    version: Version | None = None
    """Only this version; left out, all of them, and the plugin for good. For example `1.0.0`."""
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    """Why, for all who see it. For example `It refuses jobs of competitors.`."""


class PluginsRevoked(Struct, frozen=True, kw_only=True):
    """What a revocation did."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    installs: int
    """How many installed versions are not asked any more. For example `1`."""
    within_seconds: float
    """After how long no process asks them. For example `5.0`."""


class SetPluginTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On which terms a plugin is had."""

    price: Amount
    """What a licence costs, in AITBC; `0` for a free plugin. For example `5`."""
    trial_days: Annotated[int, Meta(ge=0, le=90)] = 0
    """For how many days it can be tried; 0 for no trial. For example `14`."""
    deprecated: bool = False
    """Whether you recommend something else by now. For example `false`."""

    def command(self) -> SetTerms:
        """As the service takes it. Raises `InvalidAmount`."""
        return SetTerms(
            price_units=parse(self.price, zero=True), trial_days=self.trial_days, deprecated=self.deprecated
        )


class WritePluginReview(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What you think of a plugin."""

    rating: Annotated[int, Meta(ge=1, le=5)]
    """From 1 to 5. For example `5`."""
    text: Text = ""
    """In words. For example `Does what it says.`."""


class BuyPlugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A licence, or a trial."""

    plugin: PluginName
    """The plugin. For example `acme.night-price`."""
    trial: bool = False
    """Whether to begin its trial instead of buying it. For example `false`."""


class InstallPluginHere(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be installed, and what it may do."""

    plugin: PluginName
    """The plugin. For example `acme.night-price`."""
    version: Version | None = None
    """The version; left out, the highest that passed and fits. For example `1.0.0`."""
    grants: Annotated[tuple[Literal["log", "storage"], ...], Meta(max_length=10)] = ()
    """The permissions that you grant: all that its manifest asks for. For example `["log"]`."""
    priority: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """Plugins with the least are asked first. For example `100`."""
    override: bool = False
    """Install it although it was revoked. For example `false`."""

    def command(self) -> InstallPlugin:
        """As the service takes it."""
        return InstallPlugin(
            plugin=self.plugin,
            version=self.version,
            grants=tuple(self.grants),
            priority=self.priority,
            override=self.override,
        )


class RemovePlugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a plugin is removed."""

    forget: bool = False
    """Whether what it keeps is deleted too. For example `false`."""


class PluginRemoved(Struct, frozen=True, kw_only=True):
    """What a removal did."""

    plugin: str
    """The plugin. For example `acme.night-price`."""
    versions: int
    """How many versions were turned off. For example `1`."""


class CallPluginRoute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a route of a trusted plugin is called with."""

    arguments: Annotated[dict[Annotated[str, Meta(max_length=80)], Any], Meta(max_length=100)] = {}
    """What it needs, as its author says. For example `{"max_price": "100"}`."""
