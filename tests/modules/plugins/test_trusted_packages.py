"""Packages that the settings trust: their routes, below their own names, and the commands that they add."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.modules.ai.models.kinds.registry import use_kinds
from aitbc_cli import tree
from aitbc_cli.exits import NOT_FOUND, USAGE
from aitbc_cli.main import run
from tests.app import TestApp, running_app
from tests.cli.forked_program import as_forked
from tests.cli.program import surroundings
from tests.journeys.hand_miner import HandMiner
from tests.listening import listening
from tests.modules.plugins.make import API
from tests.web.conftest import person

EXAMPLE = Path(__file__).parents[3] / "examples/plugins/house-rules/house_rules.py"
MORE = """
import typer
from msgspec import Struct
from aitbc.kernel.hooks.kinds import JobKind, Metered
from aitbc.kernel.hooks.routes import RouteAnswer, plugin_route

class Text(Struct, forbid_unknown_fields=True):
    text: str

def measure(given):
    if not given.text:
        raise ValueError("There is nothing to turn around.")
    if given.text == "break":
        raise ZeroDivisionError("oh")
    return Metered(units=len(given.text), units_max=2 * len(given.text), expects={"letters": len(given.text)})

def verify(output, expects):
    if output.text == "break":
        raise ZeroDivisionError("oh")
    return None if len(output.text) == expects["letters"] else "it has not as many letters"

reverse = JobKind(
    name="more-reverse", summary="Turns a text around.", unit="letter", metering="Each letter, there and back.",
    unit_price_units=1_000, input=Text, output=Text, measure=measure, verify=verify,
    meter=lambda output, expects: expects["letters"] + len(output.text),
    agrees=lambda one, other: one.text == other.text, equality="The same text.",
)
wrong = JobKind(
    name="embed", summary="", unit="", metering="", unit_price_units=1, input=Text, output=Text,
    measure=measure, meter=lambda output, expects: 0,
)

@plugin_route("echo", verb="POST", permission="plugins:write")
async def echo(asked):
    return RouteAnswer(body={"arguments": dict(asked.arguments), "account": asked.account})

@plugin_route("refuse")
def refuse(asked):
    return RouteAnswer(body={}, refusal=f"not about {asked.argument}")

@plugin_route("broken")
def broken(asked):
    raise ZeroDivisionError("oh")

@plugin_route("odd")
def odd(asked):
    return RouteAnswer(body={"thing": object()})

@plugin_route("guarded", permission="operations:read")
def guarded(asked):
    return RouteAnswer(body={"secret": 1})

app = typer.Typer()

@app.command()
def hello(name: str) -> None:
    print(f"hello {name}")
"""


def install(folder: Path, package: str, source: str, points: str) -> None:
    """A package as an installer leaves it."""
    name = package.replace("-", "_")
    (folder / f"{name}.py").write_text(source)
    told = folder / f"{name}-1.0.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
    (told / "entry_points.txt").write_text(points)
    (told / "RECORD").write_text(f"{name}.py,,\n{told.name}/METADATA,,\n")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example, and a package with every other kind of route."""
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "house-rules", EXAMPLE.read_text(), "[aitbc.plugins]\nrules = house_rules\n")
    named = {"more": "app", "broken": "nothing", "other": "measure", "job": "app"}
    commands = "[aitbc.commands]\n" + "".join(f"{noun} = more_rules:{name}\n" for noun, name in named.items())
    install(folder, "more-rules", MORE, f"[aitbc.plugins]\nrules = more_rules\n{commands}")
    sys.path.insert(0, str(folder))
    invalidate_caches()
    tree.added.cache_clear()
    yield
    sys.path.remove(str(folder))
    tree.added.cache_clear()
    use_kinds(())
    for name in ("house_rules", "more_rules"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
async def app(
    packages: None, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target], anyio_backend: str
) -> AsyncIterator[TestApp]:
    """A running app that trusts both."""
    hooks = HookSettings(trusted=["house-rules", "more-rules"], rest_after=2)
    async with running_app(new_database(), tmp_path_factory.mktemp("app"), hooks=hooks) as made:
        yield made


async def test_routes_answer_below_the_name_of_their_package_under_their_scope_until_they_break(app: TestApp) -> None:
    bob, admin = await app.who("bob"), await app.admin()
    listed = (await bob.get(f"{API}/routes")).json()["data"]
    found = [(one["package"], one["route"], one["verb"]) for one in listed]
    assert ("house-rules", "limits", "GET") in found and ("more-rules", "echo", "POST") in found and len(found) == 6
    limits = await bob.get(f"{API}/routes/house-rules/limits")
    assert (limits.status_code, limits.json()["body"]) == (
        200,
        {"max_price": "100", "asked_by": bob.principal.account},
    )
    echo = await bob.post(f"{API}/routes/more-rules/echo", {"arguments": {"a": [1]}})
    assert (echo.status_code, echo.json()["body"]["arguments"]) == (200, {"a": [1]}), echo.text
    refused = await bob.get(f"{API}/routes/more-rules/refuse", argument="that")
    assert (refused.status_code, refused.json()["code"]) == (409, "plugin_route_refused")
    assert "not about that" in refused.json()["detail"]
    for route in ("echo", "nothing"):
        missing = await bob.get(f"{API}/routes/more-rules/{route}")
        assert (missing.status_code, missing.json()["code"]) == (404, "plugin_route_not_found")
    forbidden = await bob.get(f"{API}/routes/more-rules/guarded")
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "forbidden")
    assert (await admin.get(f"{API}/routes/more-rules/guarded")).json()["body"] == {"secret": 1}
    # A route that breaks ends there, and its package rests.
    odd = await bob.get(f"{API}/routes/more-rules/odd")
    assert (odd.status_code, odd.json()["code"]) == (503, "plugin_route_failed")
    for _ in range(3):
        broken = await bob.get(f"{API}/routes/more-rules/broken")
        assert (broken.status_code, broken.json()["code"]) == (503, "plugin_route_failed")
    assert "ZeroDivisionError" in app.runtime.platform.hooks.trouble("more-rules:rules:routes")
    resting = await bob.get(f"{API}/routes/more-rules/refuse")
    assert resting.status_code == 503
    assert (await bob.get(f"{API}/routes/house-rules/limits")).status_code == 200


async def test_a_kind_of_a_package_is_quoted_leased_verified_metered_and_paid(app: TestApp) -> None:
    bob = await app.who("bob", funds="1")
    listed = {one["name"]: one for one in (await bob.get("/api/v1/ai/kinds")).json()["data"]}
    assert listed["more-reverse"]["unit_price"] == "0.00001" and listed["embed"]["summary"]
    assert '"text": {"type": "string"}' in json.dumps(listed["more-reverse"]["input_schema"])
    job = {"kind": "more-reverse", "input": {"text": "live"}, "max_price": "0.01"}
    quote = (await bob.post("/api/v1/ai/quotes", job)).json()
    assert (quote["units"], quote["units_max"], quote["price_max"]) == (4, 8, "0.00008")
    for value, said in (
        ({"text": ""}, "nothing to turn around"),
        ({"words": 1}, ""),
        ({"text": "break"}, "ZeroDivision"),
    ):
        refused = await bob.post("/api/v1/ai/jobs", job | {"input": value})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input"), refused.text
        assert said in refused.text
    made = await bob.post("/api/v1/ai/jobs", job)
    assert made.status_code == 201, made.text
    for text, state in (("ev", "queued"), ("break", "queued"), ("evil", "succeeded")):
        miner = await HandMiner.enrol(app, await app.who("owner"), kinds=("more-reverse",))
        [lease] = await miner.poll(wait=20)
        assert (lease["job"], lease["kind"]) == (made.json()["id"], "more-reverse")
        done = await miner.deliver(lease, {"text": text})
        assert (await bob.get(f"/api/v1/ai/jobs/{lease['job']}")).json()["state"] == state, done.text
    seen = (await bob.get(f"/api/v1/ai/jobs/{lease['job']}")).json()
    assert (seen["output"], seen["units"], seen["price"]) == ({"text": "evil"}, 8, "0.00008")
    use_kinds(())  # as after a start without the package
    try:
        again = await bob.get(f"/api/v1/ai/jobs/{lease['job']}")
        assert (again.status_code, again.json()["price"]) == (200, "0.00008")
        gone = await bob.post("/api/v1/ai/jobs", job)
        assert (gone.status_code, gone.json()["code"]) == (422, "unknown_kind")
    finally:
        use_kinds(app.runtime.platform.hooks.kinds)


async def test_a_kind_of_a_package_is_ordered_by_pages_and_by_the_command_line(app: TestApp, tmp_path: Path) -> None:
    bob = await app.who("bob", funds="1")
    browser, page = await person(app, bob), "/jobs/new/more-reverse"
    assert page in (await browser.get("/jobs/new")).text
    assert 'name="in:text"' in (await browser.get(page)).text
    wanted = {"in:text": "live", "max_price": "0.01"}
    assert "0.00008" in (await browser.send(page, **wanted, do="quote")).text
    refused = await browser.send(page, **wanted | {"in:text": "break"}, do="submit")
    assert (refused.status_code, "ZeroDivision" in refused.text) == (422, True)
    sent = await browser.send(page, **wanted, do="submit")
    assert sent.status_code == 303, sent.text
    assert "More-reverse job" in (await browser.get(sent.headers["location"])).text
    async with listening(app.asgi) as port:
        known = surroundings(tmp_path) | {"AITBC_URL": f"http://127.0.0.1:{port}", "AITBC_API_KEY": bob.secret}

        async def does(*words: str, code: int = 0) -> str:
            ended = await asyncio.to_thread(as_forked, "job", "submit", *words, environment=known, folder=tmp_path)
            assert ended.code == code, ended
            return ended.out if code == 0 else ended.err

        set_, most = ("more-reverse", "--set", "text=live"), ("--max-price", "0.01")
        quote = json.loads(await does(*set_, "--dry-run", "-o", "json"))
        assert (quote["kind"], quote["price_max"]) == ("more-reverse", "0.00008")
        made = json.loads(await does(*set_, *most, "-o", "json"))
        assert (await bob.get(f"/api/v1/ai/jobs/{made['id']}")).json()["input"] == {"text": "live"}
        assert "text=…" in await does("more-reverse", "--set", "words=live", *most, code=USAGE)
        assert "more-reverse" in await does("no-such-kind", "--set", "text=live", *most, code=NOT_FOUND)
        assert "--set FIELD=VALUE" in await does("more-reverse", "--help")
    for job in (sent.headers["location"].split("/")[2].partition("?")[0], made["id"]):
        assert (await bob.post(f"/api/v1/ai/jobs/{job}/cancel")).json()["state"] == "canceled"


def test_a_package_adds_commands_and_replaces_none(packages: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["more", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"
    assert run(["plugin", "commands", "-o", "json"]) == 0
    assert "more-rules" in capsys.readouterr().out
    assert run(["broken"]) == 1
    told = capsys.readouterr().err
    assert "more-rules cannot be loaded" in told and "uninstall more-rules" in told
    assert run(["other"]) == 1
    assert "more_rules:measure is no typer.Typer" in capsys.readouterr().err
    assert run(["job", "--help"]) == 0
    assert "hello" not in capsys.readouterr().out
