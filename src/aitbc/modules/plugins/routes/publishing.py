"""The HTTP of those who publish: namespaces and versions."""

from typing import Annotated, Literal

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Invalid
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.plugins.routes.bodies import (
    DecidePluginVersion,
    PluginPackage,
    PublishPlugin,
    SetPluginKey,
    TakePluginNamespace,
    VerifyPluginNamespace,
    YankPluginVersion,
)
from aitbc.modules.plugins.service.catalogue import Catalogue, PluginLicenceNeeded
from aitbc.modules.plugins.service.namespaces import (
    NamespaceNotFound,
    Namespaces,
    NamespaceTaken,
    PluginNamespace,
    TooManyNamespaces,
)
from aitbc.modules.plugins.service.releases import (
    PluginSignatureWrong,
    PluginVersion,
    PluginVersionDecidedAlready,
    PluginVersionExists,
    PluginVersionNotFound,
    Releases,
    TooManyVersionsWaiting,
)

Who = NamedDependency[Principal]
Once = NamedDependency[IdempotencyKey]
PluginWord = Annotated[str, Meta(max_length=81)]
StateName = Literal[
    "received", "validating", "scanning", "quarantined", "rejected", "passed", "errored", "yanked", "revoked"
]
InState = Annotated[StateName | None, QueryParameter(name="state")]
WRITE, READ, OPERATE = "plugins:write", "plugins:read", "plugins:operate"


class PluginNamespaceController(Controller):
    """Whose names begin with which word."""

    path = "/namespaces"
    tags = ("plugins",)

    @post(
        "/",
        operation_id="take_plugin_namespace",
        summary="Take a namespace",
        opt={
            "permission": WRITE,
            "idempotency": "required",
            "errors": (NamespaceTaken, TooManyNamespaces, Invalid),
        },
    )
    async def take(
        self, plugin_namespaces: NamedDependency[Namespaces], who: Who, once: Once, data: JSONBody[TakePluginNamespace]
    ) -> PluginNamespace:
        """Take a namespace for the caller's account: its plugins are named in it, and signed with its key."""
        return await plugin_namespaces.take(who, data.name, data.public_key, once)

    @get(
        "/",
        operation_id="list_plugin_namespaces",
        summary="List your namespaces",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        plugin_namespaces: NamedDependency[Namespaces],
        who: Who,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginNamespace]:
        """List the caller's namespaces by name, for an operator everybody's."""
        found = await plugin_namespaces.page(who, Page.position("plugin_namespaces", cursor), limit + 1)
        return Page.of("plugin_namespaces", found, limit, lambda one: one.name)

    @put(
        "/{namespace:str}/key",
        operation_id="set_plugin_key",
        summary="Change a namespace's key",
        opt={"permission": WRITE, "idempotency": "natural", "errors": (NamespaceNotFound, Invalid)},
    )
    async def set_key(
        self,
        plugin_namespaces: NamedDependency[Namespaces],
        who: Who,
        namespace: FromPath[str],
        data: JSONBody[SetPluginKey],
    ) -> PluginNamespace:
        """Sign with another key from now on. What was published before keeps the key that signed it."""
        return await plugin_namespaces.set_key(who, namespace, data.public_key)

    @put(
        "/{namespace:str}/verified",
        operation_id="verify_plugin_namespace",
        summary="Verify a namespace",
        opt={"permission": OPERATE, "idempotency": "natural", "errors": (NamespaceNotFound,)},
    )
    async def verify(
        self,
        plugin_namespaces: NamedDependency[Namespaces],
        who: Who,
        namespace: FromPath[str],
        data: JSONBody[VerifyPluginNamespace],
    ) -> PluginNamespace:
        """Say whether you know whose it is, as an operator: its plugins are found higher up."""
        return await plugin_namespaces.verify(who, namespace, verified=data.verified)


class PluginVersionController(Controller):
    """What was handed in, and what became of it."""

    path = "/versions"
    tags = ("plugins",)

    @post(
        "/",
        operation_id="publish_plugin_version",
        summary="Publish a version",
        opt={
            "permission": WRITE,
            "idempotency": "required",
            "errors": (
                *(NamespaceNotFound, PluginSignatureWrong, PluginVersionExists),
                *(PluginVersionDecidedAlready, TooManyVersionsWaiting),
            ),
        },
    )
    async def publish(
        self, plugin_releases: NamedDependency[Releases], who: Who, once: Once, data: JSONBody[PublishPlugin]
    ) -> PluginVersion:
        """Hand a signed version in. It is validated, scanned, and published when it passed: ask for its state."""
        return await plugin_releases.publish(who, data.manifest, data.artifact, data.signature, once)

    @get(
        "/",
        operation_id="list_plugin_versions",
        summary="List your versions",
        opt={"permission": READ, "errors": (InvalidCursor,)},
    )
    async def mine(
        self,
        plugin_releases: NamedDependency[Releases],
        who: Who,
        plugin: FromQuery[PluginWord | None] = None,
        in_state: InState = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[PluginVersion]:
        """List the versions that the caller handed in from the newest on, for an operator everybody's."""
        bound = (plugin or "", in_state or "")
        after = after_id("plugin_versions", cursor, "pver", bound_to=bound)
        found = await plugin_releases.page(who, plugin=plugin, state=in_state, after=after, limit=limit + 1)
        return Page.of("plugin_versions", found, limit, lambda one: one.id, bound_to=bound)

    @get(
        "/{plugin_version:str}",
        operation_id="get_plugin_version",
        summary="Get a version",
        opt={"permission": READ, "errors": (PluginVersionNotFound,)},
    )
    async def one(
        self, plugin_releases: NamedDependency[Releases], who: Who, plugin_version: FromPath[str]
    ) -> PluginVersion:
        """Read a version of the caller's, or one that passed, with what the rules found."""
        return await plugin_releases.one(who, plugin_version)

    @post(
        "/{plugin_version:str}/fetch",
        status_code=200,
        operation_id="fetch_plugin_version",
        summary="Fetch a version",
        opt={
            "permission": READ,
            "idempotency": "natural",
            "errors": (PluginVersionNotFound, PluginLicenceNeeded),
        },
    )
    async def fetch(
        self,
        plugin_releases: NamedDependency[Releases],
        plugin_catalogue: NamedDependency[Catalogue],
        who: Who,
        plugin_version: FromPath[str],
    ) -> PluginPackage:
        """Fetch a version that passed, with its signature; one that is sold needs a licence. It is counted."""
        artifact = await plugin_catalogue.fetch(who, plugin_version)
        found = await plugin_releases.one(who, plugin_version)
        return PluginPackage(
            manifest=found.manifest,
            artifact=artifact,
            digest=found.digest,
            public_key=found.public_key,
            signature=found.signature,
        )

    @post(
        "/{plugin_version:str}/yank",
        status_code=200,
        operation_id="yank_plugin_version",
        summary="Take a version back",
        opt={
            "permission": WRITE,
            "idempotency": "natural",
            "errors": (PluginVersionNotFound, PluginVersionDecidedAlready),
        },
    )
    async def yank(
        self,
        plugin_releases: NamedDependency[Releases],
        who: Who,
        plugin_version: FromPath[str],
        data: JSONBody[YankPluginVersion],
    ) -> PluginVersion:
        """Take a version of the caller's back: nobody gets it any more. Where it is installed it stays."""
        return await plugin_releases.yank(who, plugin_version, data.reason)

    @post(
        "/{plugin_version:str}/decide",
        status_code=200,
        operation_id="decide_plugin_version",
        summary="Decide on a version in quarantine",
        opt={
            "permission": OPERATE,
            "idempotency": "natural",
            "errors": (PluginVersionNotFound, PluginVersionDecidedAlready),
        },
    )
    async def decide(
        self,
        plugin_releases: NamedDependency[Releases],
        who: Who,
        plugin_version: FromPath[str],
        data: JSONBody[DecidePluginVersion],
    ) -> PluginVersion:
        """Publish a version in quarantine, or reject it, as an operator."""
        return await plugin_releases.decide(who, plugin_version, passes=data.passes, reason=data.reason)
