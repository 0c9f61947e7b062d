"""Pages of other origins call the server from a real browser: those of `server.origins` read everything, all others nothing."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Page
from tests.chaos.server_process import ServerProcess
from tests.deploy.programs import free_port, program
from tests.journeys.shapes import SHAPES, placed
from tests.scale import only_in_full, scaled

CALLS = """
const found = {};
const called = async (name, path, options = {}) => {
  try {
    const headers = {Authorization: `Bearer ${KEY}`, ...options.headers};
    const answer = await fetch(SERVER + path, {...options, headers});
    found[name] = {status: answer.status, request: answer.headers.get("x-request-id"),
      replayed: answer.headers.get("idempotency-replayed"), at: answer.headers.get("location"), answer};
    if (!options.stream) found[name].body = await answer.text();
  } catch (error) {
    found[name] = {refused: String(error)};
  }
  return found[name];
};
const json = (body, more = {}) =>
  ({method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json", ...more}});

await called("public", "/version", {headers: {Authorization: ""}});
await called("fast", "/api/v1/identity/keys/self");
await called("framework", "/openapi.json");
await called("no key", "/api/v1/ai/jobs", {headers: {Authorization: "Bearer x"}});
await called("nothing there", "/api/v1/nothing/there");
await called("wrong method", "/api/v1/ai/kinds", {method: "DELETE"});
await called("not JSON", "/api/v1/ai/jobs", {method: "POST", body: "{", headers: {"Content-Type": "application/json"}});
await called("wrong media", "/api/v1/ai/jobs", {method: "POST", body: "a", headers: {"Content-Type": "text/csv"}});
await called("too large", "/api/v1/identity/accounts", json({name: "x".repeat(2000000)}));
const money = json({account: ACCOUNT, amount: "5", reason: "for a page"}, {"Idempotency-Key": "money"});
await called("deposit", "/api/v1/trading/deposits", money);
const work = json({kind: "embed", input: {texts: ["from a page"]}, max_price: "0.05"}, {"Idempotency-Key": "work"});
const job = await called("job", "/api/v1/ai/jobs", work);
await called("repeated", "/api/v1/ai/jobs", work);
if (job.at) {
  const {answer} = await called("stream", job.at + "/events", {stream: true});
  const reader = answer.body.getReader();
  found.stream.body = new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
}
const file = await called("upload", "/api/v1/ai/artifacts", {
  method: "POST", body: "bytes", headers: {"Content-Type": "application/octet-stream"}});
if (file.body) await called("download", "/api/v1/ai/artifacts/" + JSON.parse(file.body).id);
for (const one of Object.values(found)) delete one.answer;
await report(found);
"""
STATUS = {
    "public": 200,
    "fast": 200,
    "framework": 200,
    "no key": 401,
    "nothing there": 404,
    "wrong method": 405,
    "not JSON": 400,
    "wrong media": 415,
    "too large": 413,
    "deposit": 201,
    "job": 201,
    "repeated": 201,
    "stream": 200,
    "upload": 201,
    "download": 200,
}


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[Page, Page]]:
    """A page that is listed, and one that is not."""
    program("chromium")
    with closing(Page()) as listed, closing(Page()) as other:
        yield listed, other


@pytest.fixture(scope="module", params=scaled(["mounted"], ["mounted", "all split"]))
def server(
    request: pytest.FixtureRequest, pages: tuple[Page, Page], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server that lists the one page."""
    environment = placed(**SHAPES[request.param]) | {"AITBC_SERVER__ORIGINS": pages[0].url}
    server = ServerProcess(tmp_path_factory.mktemp("server") / "state", free_port(), **environment)
    server.start()
    yield server
    server.stop()


def calls(server: ServerProcess, account: str) -> str:
    """The script of a page that calls the server in every way."""
    known = {"SERVER": server.url, "KEY": server.admin_key, "ACCOUNT": account}
    return "\n".join(f"const {name} = {json.dumps(value)};" for name, value in known.items()) + CALLS


def operator_of(server: ServerProcess, page: Page, folder: Path) -> str:
    """The account of the operator, as a listed page is told it."""
    ask = f"fetch('{server.url}/api/v1/identity/keys/self', {{headers: {{'X-Api-Key': '{server.admin_key}'}}}})"
    told: dict[str, Any] = page.run(f"await report(await (await {ask}).json());", folder)
    return str(told["account"])


@only_in_full
def test_a_listed_page_reads_every_answer(server: ServerProcess, pages: tuple[Page, Page], tmp_path: Path) -> None:
    found = pages[0].run(calls(server, operator_of(server, pages[0], tmp_path)), tmp_path)
    assert {name: one.get("status", one) for name, one in found.items()} == STATUS
    assert all(one["request"] for one in found.values())
    assert found["repeated"]["replayed"] == "true"
    assert found["repeated"]["at"] == found["job"]["at"]
    assert json.loads(found["nothing there"]["body"])["code"] == "not_found"
    assert "event: " in found["stream"]["body"]
    assert found["download"]["body"] == "bytes"


def test_another_page_reads_nothing_and_changes_nothing(
    server: ServerProcess, pages: tuple[Page, Page], tmp_path: Path
) -> None:
    found = pages[1].run(calls(server, "acct_01k0000000000000000000000a"), tmp_path)
    assert all("refused" in one for one in found.values()), found
