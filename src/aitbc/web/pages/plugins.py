"""Plugins: the registry with its search, one with versions and reviews, licences, and what is installed here."""

from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

PLUGINS = "/api/v1/plugins"
PAGE = 25
Cursor = Annotated[str, Meta(max_length=500)]
Query = Annotated[str, Meta(max_length=200)]
Version = Annotated[str, Meta(max_length=50)]
Category = Literal["pricing", "policy", "quality", "other"]
Sort = Literal["relevance", "newest", "name"]
OPERATE = "plugins:operate"
GRANTS = ("log", "storage")


class PluginPages(Controller):
    """What is listed."""

    path = "/plugins"
    include_in_schema = False

    @get("/", opt=READ)
    async def plugins(
        self,
        visit: NamedDependency[Visit],
        q: FromQuery[Query] = "",
        category: FromQuery[Category | None] = None,
        sort: FromQuery[Sort] = "relevance",
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """Plugins that passed, the most relevant first."""
        found = await visit.get(
            f"{PLUGINS}/catalogue", search=q.strip(), category=category, sort=sort, limit=PAGE, cursor=cursor
        )
        commands = ["aitbc plugin search price"]
        return visit.page("plugins/plugins.html", plugins=found, q=q, category=category, sort=sort, cli=commands)

    @get("/own", opt=READ)
    async def own(self, visit: NamedDependency[Visit], cursor: FromQuery[Cursor | None] = None) -> Response[bytes]:
        """What one handed in and bought."""
        return visit.page(
            "plugins/own.html",
            namespaces=(await visit.get(f"{PLUGINS}/namespaces", limit=100))["data"],
            versions=await visit.get(f"{PLUGINS}/versions", limit=PAGE, cursor=cursor),
            licences=(await visit.get(f"{PLUGINS}/licences", limit=100))["data"],
            cli=["aitbc plugin versions", "aitbc plugin licences", "aitbc plugin publish FOLDER"],
        )

    @get("/{plugin:str}", opt=READ)
    async def plugin(
        self, visit: NamedDependency[Visit], plugin: FromPath[str], version: FromQuery[Version | None] = None
    ) -> Response[bytes]:
        """One plugin: versions, reviews, what it costs; for the operator what installing it would change."""
        return await _plugin_page(visit, part(plugin), version=version)

    @post("/{plugin:str}/buy", opt=SEND)
    async def buy(self, visit: NamedDependency[Visit], plugin: FromPath[str]) -> Response[bytes]:
        """Buy a plugin, or try it for a while."""
        form = await visit.form()
        body = {"plugin": part(plugin), "trial": form.get("do") == "try"}
        return await _done(visit, plugin, "POST", f"{PLUGINS}/licences", body, form.get("once"))

    @post("/{plugin:str}/review", opt=SEND)
    async def review(self, visit: NamedDependency[Visit], plugin: FromPath[str]) -> Response[bytes]:
        """Say what one makes of a plugin that one uses."""
        form = await visit.form()
        body = {"rating": int(form.get("rating")) if form.get("rating").isdigit() else 0, "text": form.get("text")}
        return await _done(visit, part(plugin), "PUT", f"{PLUGINS}/catalogue/{plugin}/review", body)

    @post("/{plugin:str}/install", opt=SEND)
    async def install(self, visit: NamedDependency[Visit], plugin: FromPath[str]) -> Response[bytes]:
        """Install a version with the permissions that were ticked."""
        form = await visit.form()
        grants = [name[6:] for name in form.fields if name.startswith("grant:")]
        body: dict[str, Any] = {"plugin": part(plugin), "grants": grants, **form.given("version")}
        return await _done(visit, plugin, "POST", f"{PLUGINS}/installs", body, form.get("once"))

    @post("/{plugin:str}/{action:str}", opt=SEND)
    async def act(self, visit: NamedDependency[Visit], plugin: FromPath[str], action: FromPath[str]) -> Response[bytes]:
        """Remove what is installed, or take an upgrade back."""
        await visit.form()
        if action not in ("remove", "restore"):
            raise NotFound
        body: dict[str, Any] | None = {} if action == "remove" else None
        return await _done(visit, part(plugin), "POST", f"{PLUGINS}/installs/{plugin}/{action}", body)


class InstalledPages(Controller):
    """What is installed here: the operator's."""

    path = "/plugins/installed"
    include_in_schema = False

    @get("/", opt=READ)
    async def installed(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Everything that is installed, with what it is asked for and what went wrong."""
        found = await visit.get(f"{PLUGINS}/installs", limit=200)
        return visit.page("plugins/installed.html", installs=found, cli=["aitbc plugin installed"])


async def _done(visit: Visit, plugin: str, method: str, path: str, body: Any, once: str = "") -> Response[bytes]:
    """Ask the API for a change, and show the plugin again."""
    try:
        await visit.send(path, body, method=method, once=once or None)
    except AppError as refusal:
        return await _plugin_page(visit, plugin, error=refusal)
    return see(f"/plugins/{plugin}")


async def _plugin_page(
    visit: Visit, plugin: str, *, version: str | None = None, error: AppError | None = None
) -> Response[bytes]:
    found = await visit.get(f"{PLUGINS}/catalogue/{plugin}")
    licences = [one for one in (await visit.get(f"{PLUGINS}/licences", limit=100))["data"] if one["plugin"] == plugin]
    upgrade = None
    if found["latest"] is not None:
        upgrade = await visit.maybe(f"{PLUGINS}/installs/{plugin}/upgrade", scope=OPERATE, version=version)
    return visit.page(
        "plugins/plugin.html",
        plugin=found,
        is_own=found["account"] == visit.who.account,
        versions=(await visit.get(f"{PLUGINS}/versions", plugin=plugin, limit=50))["data"],
        reviews=await visit.get(f"{PLUGINS}/catalogue/{plugin}/reviews", limit=PAGE),
        licences=licences,
        grants=GRANTS,
        install=await visit.maybe(f"{PLUGINS}/installs/{plugin}", scope=OPERATE),
        upgrade=upgrade,
        once=new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=[f"aitbc plugin show {plugin}", f"aitbc plugin install {plugin} --dry-run"],
    )
