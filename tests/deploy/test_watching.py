"""Alerts and dashboard: Prometheus accepts them, and all that they ask for stands in the figures of a real server."""

import json
import re
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from aitbc.app import MODULES
from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement
from aitbc.server.config.keys import keys_of
from tests.chaos.server_process import ServerProcess
from tests.cli.program import in_process
from tests.deploy.programs import DEPLOY, free_port, run
from tests.deploy.promql import OF_PROMETHEUS, needs
from tests.scale import scaled

FOLDER = DEPLOY / "prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana/aitbc.json").read_text())
MADE_BY_PROMETHEUS = {"up": frozenset({"job", "instance"})}
FAULTS = [("comes", "({}) and on () vector(1) > 1"), ("stays away", "vector(1)")]
"""An alert that never comes fails the first kind of its tests, one that always comes the second."""
LONG_ROUTES = ("/api/v1/ai/jobs/{job}/wait", "/api/v1/ai/jobs/{job}/events", "/api/v1/gpu/polls")
"""They last as long as they are meant to: the speed of answers leaves them out."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a job that waits, one that is being done, a miner, a block, and a bus that is away."""
    bus = {"AITBC_NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    made = ServerProcess(tmp_path_factory.mktemp("watched"), free_port(), **bus)
    made.start()
    try:
        account = ask(made, made.admin_key, "GET", "/api/v1/identity/keys/self")["account"]
        ask(made, made.admin_key, "POST", "/api/v1/trading/deposits", {"account": account, "amount": "1"})
        for _ in range(2):
            job = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.01"}
            ask(made, made.admin_key, "POST", "/api/v1/ai/jobs", job)
        miner = enrol(made)
        ask(made, miner, "POST", "/api/v1/gpu/heartbeats", {"slots": 1, "slots_busy": 0, "leases": []})
        assert ask(made, miner, "POST", "/api/v1/gpu/polls", {"slots": 1, "wait_seconds": 0})["leases"]
        yield made
    finally:
        made.stop()


def ask(server: ServerProcess, key: str, method: str, path: str, body: Any = None) -> Any:
    """The answer of an operation."""
    request = urllib.request.Request(server.url + path, method=method)
    request.add_header("Authorization", f"Bearer {key}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.add_header("Idempotency-Key", uuid.uuid4().hex)
    content = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, content, timeout=20) as answer:
        text = answer.read().decode()
    return text if path == "/metrics" else json.loads(text)


def enrol(server: ServerProcess) -> str:
    """The key of a new miner."""
    token = ask(server, server.admin_key, "POST", "/api/v1/gpu/enrolment-tokens", {})["token"]
    key = Key.generate()
    proof = key.sign(canonical(enrolment_statement(token=token, public_key=key.public)))
    body = {"token": token, "public_key": key.public, "proof": proof, "name": "watched", "slots": 1}
    body["capabilities"] = {"kinds": ["embed"]}
    request = urllib.request.Request(server.url + "/api/v1/gpu/enrolments", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Idempotency-Key", uuid.uuid4().hex)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.loads(answer.read())["api_key"])


@pytest.fixture(scope="module")
def figures(server: ServerProcess) -> str:
    """What Prometheus gets, with the narrow key that its configuration asks for."""
    grant = {"name": "prometheus", "kind": "admin", "scopes": ["metrics:read"], "expires_in_days": 365}
    key = ask(server, server.admin_key, "POST", "/api/v1/identity/keys", grant)["secret"]
    end = time.monotonic() + 20
    while True:
        text = str(ask(server, key, "GET", "/metrics"))
        if all(part in text for part in ("aitbc_block_height", 'state="queued"', 'state="online"', 'state="leased"')):
            return text
        assert time.monotonic() < end, text
        time.sleep(0.5)


Series = tuple[Mapping[str, frozenset[str]], Mapping[tuple[str, str], set[str]]]


@pytest.fixture(scope="module")
def series(figures: str) -> Series:
    """The labels of each metric, and the values of each label."""
    labels: dict[str, set[str]] = defaultdict(set)
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(figures):
        for sample in family.samples:
            labels[sample.name] |= sample.labels.keys()
            for name, value in sample.labels.items():
                values[sample.name, name].add(value)
    return {name: frozenset(found) for name, found in labels.items()} | MADE_BY_PROMETHEUS, values


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that alerts and dashboard ask, with who asks."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            yield variable["name"], f"count by ({label}) ({metric})"


def test_everything_asked_for_is_told_by_a_real_server(series: Series) -> None:
    labels, values = series
    missing = []
    for who, expression in expressions():
        needed = needs(expression)
        have = OF_PROMETHEUS.union(*(labels.get(metric, frozenset()) for metric in needed.labels))
        missing += [f"{who}: no label {label}" for label in needed.grouped - have]
        for metric, selected in needed.labels.items():
            if metric not in labels:
                missing.append(f"{who}: no metric {metric}")
                continue
            missing += [f"{who}: {metric} has no {one}" for one in selected - labels[metric] - OF_PROMETHEUS]
        for (metric, label), wanted in needed.values.items():
            if label not in OF_PROMETHEUS | {"status", "route"}:
                missing += [f"{who}: {metric} has no {label}={one}" for one in wanted - values[metric, label]]
    assert not missing


def test_the_reader_of_expressions_finds_what_is_not_there(series: Series) -> None:
    found = needs('sum by (state, colour) (rate(aitbc_jobs{kind="x", size=~"y"}[5m])) / on (shape) aitbc_nothing > 0.5')
    assert dict(found.labels) == {"aitbc_jobs": {"kind", "size"}, "aitbc_nothing": set()}
    assert found.grouped == {"state", "colour", "shape"}
    assert dict(found.values) == {("aitbc_jobs", "kind"): {"x"}}
    assert "aitbc_nothing" not in series[0]
    with pytest.raises(ValueError, match="cannot read"):
        needs("up ; down")


def test_every_metric_of_ours_is_watched(series: Series) -> None:
    asked = {metric for _, expression in expressions() for metric in needs(expression).labels}
    ours = {re.sub("_(bucket|count|sum)$", "", name) for name in series[0] if name.startswith("aitbc_")}
    unseen = ours - {re.sub("_bucket$", "", name) for name in asked}
    assert not unseen, f"neither an alert nor the dashboard (deploy/grafana/aitbc.json) asks for {sorted(unseen)}"


def test_the_speed_of_answers_leaves_out_what_waits_on_purpose(server: ServerProcess) -> None:
    paths = ask(server, server.admin_key, "GET", "/openapi.json")["paths"]
    (pattern,) = {found for _, text in expressions() for found in re.findall(r'duration\S+\{.*route!~"([^"]+)"', text)}
    left_out = {path for path in paths if re.fullmatch(pattern, path)}
    assert set(LONG_ROUTES) <= left_out
    assert all("/artifacts" in path for path in left_out - set(LONG_ROUTES)), left_out


def test_prometheus_finds_nothing_to_say_about_the_figures(figures: str) -> None:
    assert run("promtool", "check", "metrics", stdin=figures.encode()).strip() == ""


def test_prometheus_accepts_configuration_and_rules() -> None:
    run("promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yml")
    assert f"{len(RULES)} rules found" in run("promtool", "check", "rules", FOLDER / "alerts.yml")


def test_each_alert_comes_when_it_should_and_stays_away_when_it_should() -> None:
    run("promtool", "test", "rules", FOLDER / "alerts_test.yml")
    tested = re.findall(r"- name: (\w+) (comes|stays away)", (FOLDER / "alerts_test.yml").read_text())
    for rule in RULES:
        assert {(rule["alert"], "comes"), (rule["alert"], "stays away")} <= set(tested)


@pytest.mark.parametrize(("kind", "fault"), scaled(FAULTS[:1], FAULTS))
def test_an_alert_that_never_or_always_comes_would_be_noticed(kind: str, fault: str, tmp_path: Path) -> None:
    rules = [{**rule, "expr": fault.format(rule["expr"])} for rule in RULES]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "aitbc", "rules": rules}]}))
    document = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
    document["tests"] = [test for test in document["tests"] if kind in test["name"]]
    (tmp_path / "alerts_test.yml").write_text(yaml.safe_dump(document))
    with pytest.raises(AssertionError) as said:
        run("promtool", "test", "rules", tmp_path / "alerts_test.yml")
    noticed = re.findall(r'expr: "ALERTS\{alertname=\\"(\w+)', str(said.value))
    assert {rule["alert"] for rule in RULES} == set(noticed)


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len(RULES) >= 12
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "runbook"}, rule["alert"]
        assert len(notes["runbook"]) > 40 and "\n" not in notes["runbook"], rule["alert"]


def test_what_a_runbook_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    books = "\n".join(rule["annotations"]["runbook"] for rule in RULES)
    commands = set(re.findall(r"\baitbc ((?:doctor|backup)|[a-z]+ [a-z]+)", books)) - {"events list", "events replay"}
    for command in sorted(commands | {"events list --state dead", "events replay evt"}):
        ended = in_process(capsys, *command.split(), "--help")
        assert ended.code == 0, f"aitbc {command}: {ended.err}"
    periodic_tasks = {task.run.__name__ for module in MODULES for task in module.periodic_tasks}
    assert set(re.findall(r"\btask=(\w+)", books)) <= periodic_tasks
    assert "task=seal" in books
    sources = "\n".join(path.read_text() for path in (DEPLOY.parent / "src").rglob("*.py"))
    for event in set(re.findall(r"\b[a-z]+_(?:failed|paused|restarted|unavailable)\b", books)):
        assert f'"{event}"' in sources, event
    names = keys_of({m.name: m.settings for m in MODULES if m.settings is not None}, [m.name for m in MODULES])
    assert set(re.findall(r"\bserver\.[a-z_]+", books)) <= set(names)


def test_labels_in_sentences_are_labels_of_the_alert(series: Series) -> None:
    for rule in RULES:
        needed = needs(rule["expr"])
        have = OF_PROMETHEUS.union(*(series[0].get(metric, frozenset()) for metric in needed.labels))
        if needed.grouped and " unless " not in rule["expr"]:
            have = frozenset(needed.grouped)
        said = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= have, rule["alert"]


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
