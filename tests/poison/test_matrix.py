"""Every operation with every poison that fits it: refused in one form, told in the description, and nothing is written."""

import json
import re
from dataclasses import replace

import pytest

from aitbc.kernel.primitives.errors import AppError
from aitbc.server.asgi.openapi import catalogued
from tests.for_each import for_each
from tests.poison.cases import Case, Poison, chosen
from tests.poison.operations import DESCRIPTION, OPERATIONS, PROTOCOLS, Call, Operation
from tests.poison.poison_bodies import BODIES
from tests.poison.poison_heads import HEADS
from tests.poison.poison_targets import TARGETS
from tests.poison.poison_texts import texts_that_nobody_expects
from tests.poison.poison_values import VALUES
from tests.poison.stocked import StockedApp
from tests.poison.wire import Answer

POISONS: tuple[Poison, ...] = (*VALUES, *BODIES, *TARGETS, *HEADS)
CODES: dict[str, type[AppError]] = {kind.code: kind for kind in catalogued()}
OPEN_TO_ALL = frozenset({"chain:read"})
"""What everybody with a key may read about everybody: the chain is public."""
ON_THE_MARKET = frozenset({"get_listed_gpu", "get_trade_offer", "get_market_offer", "get_market_bid", "get_agent"}) | {
    *("get_plugin", "explain_plugin", "list_plugin_reviews", "review_plugin"),
    *("get_plugin_version", "fetch_plugin_version", "ask_for_market_request", "get_track_record"),
    *("get_exchange_pair", "get_exchange_book", "get_exchange_stats", "list_exchange_candles", "list_exchange_trades"),
    *("get_machine_offer", "get_market_bond"),
}
"""What is offered to everybody."""
TO_BE_DECIDED = frozenset({"get_parameter", "get_proposal", "simulate_proposal", "list_votes", "get_power"})
TO_DECIDE = frozenset({"cancel_proposal", "sponsor_proposal", "cast_vote", "cast_signed_vote"})
"""What is proposed is everybody's to see, and to take part in."""
BY_CODE = frozenset({"get_enrolment_code", "approve_enrolment_code", "deny_enrolment_code"})
"""Whoever reads a code on a machine's screen may answer it: it is nobody's yet."""
NOT_THERE = frozenset({"read_plugin_route", "get_booking_receipt", "get_market_booking_receipt"})
"""What only packages that an operator trusts can answer, and receipts of bookings, which go on here."""
INSIDE = re.compile(r'Traceback|File \\?"|\.py\b|asyncpg|sqlalchemy|msgspec|litestar|SELECT |relation "', re.IGNORECASE)
"""What only the inside knows."""

ORDER = {ident: place for place, ident in enumerate(OPERATIONS)}
for_each_operation = for_each(OPERATIONS.values(), lambda operation: operation.ident)
pytestmark = pytest.mark.usefixtures("quiet")


def faults_of(operation: Operation, case: Case, answer: Answer) -> list[str]:
    """Everything that is wrong with the answer to a poisoned request."""
    faults = []
    if answer.status not in case.statuses:
        faults.append(f"answered {answer.status}, not one of {sorted(case.statuses)}: {answer.body[:300]!r}")
    if not case.of_the_wall and answer.status not in operation.statuses:
        faults.append(f"its description does not know the status {answer.status}")
    request_id = answer.header("x-request-id")
    if not request_id:
        faults.append("it has no X-Request-ID")
    if answer.header("content-type") != "application/problem+json":
        return [*faults, f"its type is {answer.header('content-type')}"]
    told = answer.json()
    if (told["status"], told["request_id"]) != (answer.status, request_id):
        faults.append(f"status or request id differ from the head: {told}")
    if case.codes and told["code"] not in case.codes:
        faults.append(f"its code is {told['code']}, not one of {sorted(case.codes)}")
    if told["code"] not in CODES or CODES[told["code"]].status != answer.status:
        faults.append(f"the catalogue does not know {told['code']} with {answer.status}")
    if INSIDE.search(answer.body.decode()):
        faults.append(f"it shows the inside: {answer.body[:300]!r}")
    if answer.status == 401 and not answer.header("www-authenticate"):
        faults.append("it has no WWW-Authenticate")
    if answer.status == 405:
        faults += wrong_allow(operation, answer)
    return faults


def wrong_allow(operation: Operation, answer: Answer) -> list[str]:
    """What is wrong with `Allow`: it names what the path takes, and nothing else."""
    told = {method.strip() for method in (answer.header("allow") or "").split(",")}
    true = operation.path_methods | {"OPTIONS"} | ({"HEAD"} if "GET" in operation.path_methods else set())
    return [] if told == true else [f"Allow names {sorted(told)}, not {sorted(true)}"]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_every_poison_is_refused_and_writes_nothing(stocked: StockedApp, operation: Operation) -> None:
    right = stocked.call(operation)
    before = await stocked.before()
    faults = {}
    turn = ORDER[operation.ident]
    for number, poison in enumerate(POISONS):
        for case in chosen(poison(operation, right), turn + number):
            if found := faults_of(operation, case, await stocked.ask(case.call)):
                faults[case.name] = found
    assert not faults, "\n".join(f"{name}: {'; '.join(found)}" for name, found in faults.items())
    assert await stocked.after(before) == before


@for_each_operation
async def test_a_key_without_the_scope_is_refused(
    operation: Operation, stocked: StockedApp, nothing_written: None
) -> None:
    if operation.is_public:
        return
    narrow = stocked.call(operation).by(stocked.narrow_for(operation))
    for name, call in {"known": narrow, "unknown": stocked.unknown(operation, narrow)}.items():
        case = Case(name, call, frozenset({403}), frozenset({"forbidden"}))
        assert faults_of(operation, case, await stocked.ask(call)) == []


@for_each_operation
async def test_what_belongs_to_others_is_as_unknown_as_what_nobody_has(
    operation: Operation, stocked: StockedApp, nothing_written: None
) -> None:
    secret = stocked.key_for(operation, foreign=True)
    if not operation.parameters("path") or secret in (None, stocked.admin) or operation.permission in OPEN_TO_ALL:
        return
    if operation.ident in ON_THE_MARKET | TO_BE_DECIDED | TO_DECIDE | BY_CODE:
        return
    assert secret is not None
    foreign = stocked.call(operation).by(secret)
    answers = []
    for call in (foreign, stocked.unknown(operation, foreign)):
        answer = await stocked.ask(call)
        case = Case("foreign", call, frozenset({404, 409} if "attempt" in call.places else {404}))
        assert faults_of(operation, case, answer) == []
        answers.append({key: value for key, value in answer.json().items() if key != "request_id"})
    assert answers[0] == answers[1]


@for_each_operation
async def test_options_and_head_answer_what_get_would(operation: Operation, stocked: StockedApp) -> None:
    call = operation.brisk(stocked.call(operation))
    bare = replace(call, body=None).headed("content-type")
    options = await stocked.ask(replace(bare, method="OPTIONS"))
    assert options.status == 204
    assert wrong_allow(operation, options) == []
    if operation.method != "GET" or operation.ident in NOT_THERE:
        return
    head = await stocked.ask(replace(bare, method="HEAD"))
    assert (head.status, head.body) == (operation.success, b"")
    refused = await stocked.ask(replace(bare, method="HEAD").asked("poison", "1"))
    assert (refused.status, refused.body) == (422, b"")
    assert refused.header("content-type") == "application/problem+json"


@for_each_operation
async def test_every_reading_answers_as_it_is_described(operation: Operation, stocked: StockedApp) -> None:
    if operation.method != "GET" or operation.ident in NOT_THERE:
        return
    answer = await stocked.ask(operation.brisk(stocked.call(operation)))
    assert answer.status == operation.success, answer.body
    (media_type,) = operation.told["responses"][str(answer.status)]["content"]
    assert answer.header("content-type", plain=True) == media_type.partition(";")[0]
    assert answer.header("x-request-id")


@for_each_operation
async def test_a_right_request_is_not_taken_for_poison(operation: Operation, stocked: StockedApp) -> None:
    """The matrix would prove nothing if its right requests were refused for their form already."""
    if operation.method == "GET":
        return
    unknown: Call = stocked.unknown(operation, stocked.call(operation))
    if unknown.places:
        answer = await stocked.ask(unknown)
        assert answer.status in {404, 409}, answer.body


@for_each_operation
async def test_texts_that_nobody_expects_never_fail(operation: Operation, stocked: StockedApp) -> None:
    """Where the description allows a text, any text may come; what is made of it is the operation's business, a 500 is not."""
    keys = {stocked.key_for(operation)}
    if operation.method == "GET" and not operation.is_public:
        keys |= {stocked.key_for(operation, foreign=True), stocked.admin}
    answers = {}
    for number, secret in enumerate(sorted(keys, key=str)):
        right = operation.brisk(operation.call(stocked.known, secret))
        unexpected = texts_that_nobody_expects(operation, stocked.unknown(operation, right))
        for case in chosen(unexpected, ORDER[operation.ident] + number):
            answer = await stocked.ask(case.call)
            if answer.status not in case.statuses or answer.status not in operation.statuses:
                answers[case.name] = answer
    assert not answers


def test_the_matrix_holds_every_operation_of_the_description() -> None:
    told = [one["operationId"] for item in DESCRIPTION["paths"].values() for one in item.values()]
    assert sorted(told) == sorted(OPERATIONS)


async def test_the_description_is_that_of_the_running_app(stocked: StockedApp) -> None:
    async with stocked.app.client() as client:
        served = json.loads((await client.get("/openapi.json")).content)
    own = {path: told for path, told in served["paths"].items() if not path.startswith(PROTOCOLS)}
    assert own == DESCRIPTION["paths"]
    assert served["components"] == DESCRIPTION["components"]
