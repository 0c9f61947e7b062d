"""Plugins: find them, buy them, install them; and write, check and publish your own."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import Column, columns
from aitbc_cli.tree import added
from aitbc_cli.written import given_json

PATH = "/api/v1/plugins"
PRICE = Column("PRICE", "price", "number")
BRIEF = (*columns("id", "latest", "category", "kind"), PRICE, *columns("downloads", "rating", "summary"))
FULL = (
    *columns("id", "state", "latest", "kind", "category", "tags", "license", "price", "trial_days", "verified"),
    *columns("deprecated", "downloads", "ratings", "rating", "summary", "description", "account", "released_at"),
)
VERSIONS = columns("id", "plugin", "version", "state", "size_bytes", "changed_at", "reason")
LICENCES = columns("id", "plugin", "state", "price", "refundable_until", "until")
INSTALLS = columns("plugin", "version", "state", "hooks", "grants", "priority", "reason", "trouble")
DAYS = (
    *columns("day", "version", "downloads", "installs", "uninstalls", "purchases", "refunds", "revenue"),
    *columns("calls", "failures"),
)
Which = Annotated[str, typer.Argument(metavar="PLUGIN", help="Its namespace, a dot and its name.")]
app = noun("plugin", "Plugins: find, buy and install them, or write your own.")


@command(app, "search", examples=["aitbc plugin search night", "aitbc plugin search --sort newest"], lists=True)
def search(
    call: Call,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A part of the name, the summary or a tag.")] = "",
    category: Annotated[str | None, typer.Option("--category", help="pricing, policy, quality or other.")] = None,
    sort: Annotated[str, typer.Option("--sort", help="relevance, newest or name.")] = "relevance",
) -> None:
    """Find plugins that passed, the most relevant ones first."""
    call.list(f"{PATH}/catalogue", BRIEF, search=text, category=category, sort=sort)


@command(app, "show", examples=["aitbc plugin show acme.night-price"], ends=[NOT_FOUND])
def show(call: Call, plugin: Which) -> None:
    """Show a plugin."""
    call.out.one(call.api.get(f"{PATH}/catalogue/{part(plugin)}"), FULL)


@command(app, "buy", examples=["aitbc plugin buy acme.night-price --trial"], changes=True, ends=[NOT_FOUND])
def buy(
    call: Call,
    plugin: Which,
    trial: Annotated[bool, typer.Option("--trial", help="Begin its trial instead.")] = False,
) -> None:
    """Buy a licence; for thirty days it can be given back."""
    call.out.one(call.change("POST", f"{PATH}/licences", {"plugin": plugin, "trial": trial}), LICENCES)


@command(app, "licences", examples=["aitbc plugin licences"], lists=True)
def licences(call: Call) -> None:
    """List your licences."""
    call.list(f"{PATH}/licences", LICENCES)


@command(app, "refund", examples=["aitbc plugin refund plic_01…"], changes=True, ends=[NOT_FOUND])
def refund(call: Call, licence: Annotated[str, typer.Argument(metavar="LICENCE", help="Its id, plic_…")]) -> None:
    """Give a licence back within thirty days: all of its price returns."""
    call.out.one(call.change("POST", f"{PATH}/licences/{part(licence)}/refund", natural=True), LICENCES)


@command(
    app,
    "install",
    examples=["aitbc plugin install acme.night-price", "aitbc plugin install acme.night-price --grant log"],
    changes=True,
    ends=[NOT_FOUND],
)
def install(
    call: Call,
    plugin: Which,
    version: Annotated[str | None, typer.Option("--version", help="The highest that fits when left out.")] = None,
    grant: Annotated[list[str] | None, typer.Option("--grant", help="log or storage; repeatable.")] = None,
    priority: Annotated[int, typer.Option("--priority", help="Plugins with the least are asked first.")] = 100,
    override: Annotated[bool, typer.Option("--override", help="Although it was revoked.")] = False,
) -> None:
    """Install a plugin, or upgrade it (admins). It says what that changes, and asks before permissions are added."""
    grants = list(grant or ())
    if not override:
        planned = call.api.get(f"{PATH}/installs/{part(plugin)}/upgrade", **({"version": version} if version else {}))
        version = version or planned["version"]
        missing = [one for one in planned["permissions_missing"] if one not in grants]
        before = planned["installed"] or "nothing"
        changes = [f"{plugin} {version} takes the place of {before}"]
        for name in ("hooks_added", "hooks_removed", "permissions_added", "permissions_removed"):
            changes += [f"{name.replace('_', ' ')}: {', '.join(planned[name])}"] if planned[name] else []
        if missing:
            call.confirm(f"{'; '.join(changes)}. Grant {', '.join(missing)}?")
            grants += missing
    body = {"plugin": plugin, "version": version, "grants": grants, "priority": priority, "override": override}
    call.out.one(call.change("POST", f"{PATH}/installs", body, natural=True), INSTALLS, name="plugin")


@command(app, "installed", examples=["aitbc plugin installed"], lists=True)
def installed(call: Call) -> None:
    """List what is and was installed here (admins)."""
    call.list(f"{PATH}/installs", INSTALLS, name="plugin")


@command(app, "rulings", examples=["aitbc plugin rulings"], lists=True)
def rulings(call: Call) -> None:
    """List the plugins that governance has allowed or withdrawn."""
    call.list(f"{PATH}/rulings", columns("plugin", "allowed", "proposal", "ruled_at"), name="plugin")


@command(app, "routes", examples=["aitbc plugin routes"], lists=True)
def routes(call: Call) -> None:
    """List what the packages that the server trusts answer."""
    call.list(f"{PATH}/routes", columns("package", "route", "verb", "permission", "summary"), name="package")


@command(app, "commands", examples=["aitbc plugin commands"], server=False)
def commands(call: Call) -> None:
    """List the commands that packages beside this program add, on this machine."""
    found = [
        {"command": f"aitbc {name}", "package": point.dist.name if point.dist else "", "object": point.value}
        for name, point in sorted(added().items())
    ]
    call.out.rows(found, columns("command", "package", "object"), name="command")


Package = Annotated[str, typer.Argument(metavar="PACKAGE", help="The package.")]
RouteName = Annotated[str, typer.Argument(metavar="ROUTE", help="The name of its route.")]
ANSWER = columns("package", "route", "body")


@command(app, "read", examples=["aitbc plugin read house-rules limits"], ends=[NOT_FOUND])
def read_route(
    call: Call,
    package: Package,
    route: RouteName,
    argument: Annotated[str, typer.Option("--argument", help="What it is asked about.")] = "",
) -> None:
    """Ask a route of a package that the server trusts, which changes nothing."""
    answer = call.api.get(
        f"{PATH}/routes/{part(package)}/{part(route)}", **({"argument": argument} if argument else {})
    )
    call.out.one(answer, ANSWER, name="package")


@command(
    app,
    "call",
    examples=["""aitbc plugin call house-rules note --data '{"text": "hello"}'"""],
    changes=True,
    ends=[NOT_FOUND],
)
def call_route(
    call: Call,
    package: Package,
    route: RouteName,
    data: Annotated[str, typer.Option("--data", help="What it needs, a JSON object.")] = "{}",
) -> None:
    """Call a route of a package that the server trusts, which may change something."""
    arguments = given_json("--data", data, example='{"text": "hello"}')
    path = f"{PATH}/routes/{part(package)}/{part(route)}"
    call.out.one(call.change("POST", path, {"arguments": arguments}, natural=True), ANSWER, name="package")


@command(app, "remove", examples=["aitbc plugin remove acme.night-price"], changes=True, ends=[NOT_FOUND])
def remove(
    call: Call,
    plugin: Which,
    forget: Annotated[bool, typer.Option("--forget", help="Delete what it keeps, too.")] = False,
) -> None:
    """Ask a plugin no more (admins)."""
    path = f"{PATH}/installs/{part(plugin)}/remove"
    call.out.one(
        call.change("POST", path, {"forget": forget}, natural=True), columns("plugin", "versions"), name="plugin"
    )


@command(app, "restore", examples=["aitbc plugin restore acme.night-price"], changes=True, ends=[NOT_FOUND])
def restore(call: Call, plugin: Which) -> None:
    """Take an upgrade back: the version before it is asked again (admins)."""
    path = f"{PATH}/installs/{part(plugin)}/restore"
    call.out.one(call.change("POST", path, natural=True), INSTALLS, name="plugin")


@command(
    app, "revoke", examples=["aitbc plugin revoke acme.night-price --reason 'It lies.'"], changes=True, ends=[NOT_FOUND]
)
def revoke(
    call: Call,
    plugin: Which,
    reason: Annotated[str, typer.Option("--reason", help="Why, for all who see it.")],
    version: Annotated[str | None, typer.Option("--version", help="Only this one.")] = None,
) -> None:
    """Have no process ask a plugin any more, and nobody install it again (admins)."""
    call.confirm(f"Revoke {plugin} {version or 'for good'}?")
    path = f"{PATH}/catalogue/{part(plugin)}/revoke"
    told = call.change("POST", path, {"version": version, "reason": reason}, natural=True)
    call.out.one(told, columns("plugin", "installs", "within_seconds"), name="plugin")


@command(app, "figures", examples=["aitbc plugin figures acme.night-price"], ends=[NOT_FOUND])
def figures(
    call: Call,
    plugin: Which,
    days: Annotated[int, typer.Option("--days", help="How many days back it begins.")] = 30,
) -> None:
    """Show how a plugin of yours does, by version and day."""
    found = call.api.get(f"{PATH}/catalogue/{part(plugin)}/figures", days=days)
    call.out.rows(found["data"], DAYS, name="day")


@command(app, "versions", examples=["aitbc plugin versions --state rejected"], lists=True)
def versions(
    call: Call, state: Annotated[str | None, typer.Option("--state", help="For instance passed or rejected.")] = None
) -> None:
    """List the versions that you published, and what became of them."""
    call.list(f"{PATH}/versions", VERSIONS, state=state)


@command(
    app,
    "price",
    examples=["aitbc plugin price acme.night-price 5 --trial-days 14"],
    changes=True,
    ends=[NOT_FOUND],
)
def price(
    call: Call,
    plugin: Which,
    amount: Annotated[str, typer.Argument(metavar="AITBC", help="What a licence costs; 0 for nothing.")],
    trial_days: Annotated[int, typer.Option("--trial-days", help="For how long it can be tried.")] = 0,
    deprecated: Annotated[bool, typer.Option("--deprecated", help="You recommend something else by now.")] = False,
) -> None:
    """Set what a licence of a plugin of yours costs from now on."""
    body = {"price": amount, "trial_days": trial_days, "deprecated": deprecated}
    call.out.one(call.change("PUT", f"{PATH}/catalogue/{part(plugin)}/terms", body), FULL)
