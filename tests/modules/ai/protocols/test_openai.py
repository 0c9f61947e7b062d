"""OpenAI's own client against a served installation with a miner: it works unchanged, and fails as it expects to."""

import base64
import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from tests.modules.ai.protocols.bench import Bench, ask
from tests.modules.ai.protocols.scripted_engine import MODEL

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather.", "parameters": {"type": "object", "properties": {}}},
}
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 100, 50, 8, 6, 0, 0, 0, 0)
).decode()
EMBEDS, EMBED = True, "wordllama-256"


def raw(bench: Bench, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """A request as no client sends it."""
    head = {"Authorization": f"Bearer {bench.key}", **headers}
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    head |= {"content-type": "application/json"} if content is not None and "content-type" not in head else {}
    return httpx.request(method, bench.server.url + path, content=content, headers=head, timeout=60)


def chunks_of(bench: Bench, words: str, **more: Any) -> list[Any]:
    with bench.openai().chat.completions.create(**ask(words, stream=True, **more)) as stream:
        return list(stream)


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_listed_with_what_they_cost_and_got_by_name(bench: Bench) -> None:
    models = {model.id: model for model in bench.openai().models.list()}
    assert {MODEL, EMBED} <= models.keys()
    assert all((model.object, model.owned_by) == ("model", "miners") for model in models.values())
    (offer,) = models[MODEL].aitbc["kinds"]
    assert (offer["kind"], offer["miners_online"], offer["unit"]) == ("chat", 1, "byte") and offer["unit_price"]
    assert bench.openai().models.retrieve(MODEL) == models[MODEL]
    with pytest.raises(openai.NotFoundError, match="No miner serves the model 'a/b'") as refused:
        bench.openai().models.retrieve("a/b")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


# --- chat ------------------------------------------------------------------------------------------------------------


def test_a_chat_is_answered_whole_with_usage_and_a_receipt(bench: Bench) -> None:
    answer = bench.openai().chat.completions.create(**ask("say hello you"))
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "hello you ", "stop")
    assert answer.object == "chat.completion" and answer.model == MODEL and answer.id.startswith("chatcmpl-")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 2, 7)
    receipt = answer.aitbc
    assert bench.market.ask(f"/api/v1/ai/jobs/{receipt['job']}")["price"] == receipt["price"]
    bench.market.until(lambda: bench.market.ask(f"/api/v1/trading/receipts/{receipt['receipt']}"))


def test_a_stream_has_the_shape_that_clients_need(bench: Bench) -> None:
    chunks = chunks_of(bench, "say one two", stream_options={"include_usage": True})
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    *telling, last = chunks
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in telling)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in telling) == "one two "
    assert [chunk.choices[0].finish_reason for chunk in telling if chunk.choices[0].finish_reason] == ["stop"]
    assert last.choices == [] and last.usage.total_tokens == 7 and last.aitbc["receipt"]


def test_a_stream_without_usage_has_a_choice_in_each_chunk_and_the_receipt_in_the_last(bench: Bench) -> None:
    chunks = chunks_of(bench, "say one")
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].aitbc["price"]


def test_the_bytes_of_a_stream_are_as_both_clients_read_them(bench: Bench) -> None:
    answer = raw(bench, "POST", "/v1/chat/completions", ask("say é", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream") and "connection" not in answer.headers
    assert answer.headers["x-request-id"] and answer.text.endswith("data: [DONE]\n\n")
    events = answer.text.split("\n\n")[:-1]
    assert all(event.startswith("data: {") or event in (": keep-alive", "data: [DONE]") for event in events)
    assert events[0] == ": keep-alive"


def test_the_clients_own_helper_reads_a_stream(bench: Bench) -> None:
    with bench.openai().chat.completions.stream(**ask("say one two")) as stream:
        stream.until_done()
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "one two "


async def test_the_asynchronous_client_streams(bench: Bench) -> None:
    async with openai.AsyncOpenAI(base_url=f"{bench.server.url}/v1/", api_key=bench.key) as client:
        stream = await client.chat.completions.create(**ask("say one two", stream=True))
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(texts) == "one two "


def test_a_tool_is_asked_for_and_answered(bench: Bench) -> None:
    client = bench.openai()
    (choice,) = client.chat.completions.create(**ask("call", tools=[TOOL], tool_choice="auto")).choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None and choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert (call.id, call.type) == ("call_7", "function") and call.function.name == "weather"
    messages = [
        {"role": "user", "content": "call"},
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "say fine"},
    ]
    after = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    assert after.choices[0].message.content == "fine "
    assert bench.engine.requests[-1]["messages"] == messages


def test_a_tool_is_asked_for_in_a_stream(bench: Bench) -> None:
    with bench.openai().chat.completions.stream(**ask("call", tools=[TOOL])) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls
    (call,) = final.message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_7", "weather", {"city": "Oslo"})


def test_every_parameter_reaches_the_models_server(bench: Bench) -> None:
    told: dict[str, Any] = {
        "max_tokens": 300,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 7,
        "n": 1,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "reasoning_effort": "low",
    }
    bench.openai().chat.completions.create(**ask("echo", stop="END", **told))
    seen = bench.engine.requests[-1]
    assert {name: seen[name] for name in told} == told and seen["stop"] == ["END"]
    bench.openai().chat.completions.create(**ask("echo", max_completion_tokens=77, stop=["A", "B"]))
    assert bench.engine.requests[-1]["max_tokens"] == 77 and bench.engine.requests[-1]["stop"] == ["A", "B"]


def test_several_answers_and_their_likelihoods(bench: Bench) -> None:
    answer = bench.openai().chat.completions.create(**ask("say a b", n=3, logprobs=True))
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(n, "a b ") for n in range(3)]
    for choice in answer.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert [token.token for token in choice.logprobs.content] == ["a ", "b "]
    with bench.openai().chat.completions.stream(**ask("say a b", n=2, logprobs=True)) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["a b ", "a b "]
    assert final.choices[0].logprobs is not None


def test_a_limit_on_tokens_ends_an_answer(bench: Bench) -> None:
    assert bench.openai().chat.completions.create(**ask("say a b c", max_tokens=2)).choices[0].finish_reason == "length"


def test_a_stream_ends_where_its_budget_does_and_the_next_request_is_a_402(bench: Bench) -> None:
    words = "say " + " ".join("w" for _ in range(60))
    covered = (len(words) + 20 * 16) * 20
    limit = f"{covered / 10**8:.8f}"
    budget = bench.market.ask("/api/v1/trading/budgets", {"limit": limit, "model": MODEL}, once=limit)["id"]
    try:
        with pytest.raises(openai.APIStatusError, match=r"has .* left; .* It is renewed at") as refused:
            bench.openai().chat.completions.create(**ask(words))
        assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
        chunks = chunks_of(bench, words)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "w " * 20
        assert chunks[-1].choices[0].finish_reason == "length"
        used = bench.market.until(
            lambda: (now := bench.market.ask(f"/api/v1/trading/budgets/{budget}"))["held"] == "0" and now
        )
        assert used["spent"] == chunks[-1].aitbc["price"] and float(used["spent"]) <= float(limit)
        bench.market.ask(f"/api/v1/trading/budgets/{budget}", {"limit": used["spent"]}, method="PUT")
        with pytest.raises(openai.APIStatusError) as empty:
            chunks_of(bench, words)
        assert empty.value.status_code == 402
    finally:
        bench.market.ask(f"/api/v1/trading/budgets/{budget}", method="DELETE")


def test_answers_say_how_rate_limits_stand_and_refuse_what_is_more(bench: Bench) -> None:
    limits: dict[str, Any] = {"requests_per_minute": 2, "tokens_per_minute": 100_000, "concurrency": 9, "model": EMBED}
    limit = bench.market.ask("/api/v1/ai/rate-limits", limits, once="rates")["id"]
    try:
        asked = {"model": EMBED, "input": "one"}
        first = bench.openai().embeddings.with_raw_response.create(**asked)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-tokens"].isdigit()
        for path, body, prefix in (
            ("/v1/embeddings", asked, "x-ratelimit-remaining-requests"),
            ("/v1/messages", {**ask("hi"), "model": EMBED, "max_tokens": 5}, "anthropic-ratelimit-requests-remaining"),
        ):
            answer = bench.market.until(partial(_refused, bench, asked, path, body))
            assert answer.headers[prefix] == "0" and 1 <= int(answer.headers["retry-after"]) <= 60
            assert "allows 2 requests a minute" in answer.json()["error"]["message"]
            assert answer.json()["error"]["type"] == "rate_limit_error"
    finally:
        bench.market.ask(f"/api/v1/ai/rate-limits/{limit}", method="DELETE")


def _refused(bench: Bench, asked: Any, path: str, body: Any) -> httpx.Response | None:
    """The answer to a third request in a minute; none where a minute has just ended."""
    for _ in range(2):
        raw(bench, "POST", "/v1/embeddings", asked)
    answer = raw(bench, "POST", path, body)
    return answer if answer.status_code == 429 else None


def test_pictures_reach_the_models_server_and_count_by_their_size(bench: Bench) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}
    content = [{"type": "text", "text": "say red"}, picture]
    messages: Any = [{"role": "user", "content": content}]
    answer = bench.openai().chat.completions.create(model=MODEL, messages=messages)
    assert bench.engine.requests[-1]["messages"][0]["content"] == content
    assert answer.aitbc["units"] == len("say red") + 1024 + len("red ")
    for url in ("https://example.com/a.png", "data:image/png;base64,AAAA", "data:image/gif;base64,R0lG"):
        messages[0]["content"][1] = {"type": "image_url", "image_url": {"url": url}}
        with pytest.raises(openai.BadRequestError) as refused:
            bench.openai().chat.completions.create(model=MODEL, messages=messages)
        assert refused.value.param == "messages[0].content[1].image_url.url"


def test_what_a_model_takes_is_told_and_more_is_refused_before_money_is_held(bench: Bench) -> None:
    told = bench.openai().models.retrieve(MODEL).aitbc["kinds"][0]
    assert (told["context"], told["modalities"], told["digest"]) == (8192, None, None)
    held = bench.money()
    with pytest.raises(openai.BadRequestError) as refused:
        bench.openai().chat.completions.create(**ask("say " + "word " * 60_000))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert bench.money() == held


def test_the_model_may_be_left_to_the_platform_which_says_what_it_took(bench: Bench) -> None:
    asked = bench.openai().chat.completions.with_raw_response
    for word in ("auto:cheap", "auto:balanced", "auto:best"):
        answer = asked.create(**ask("say hello") | {"model": word})
        assert answer.parse().model == MODEL
        assert answer.headers["x-aitbc-model"].startswith(f"{MODEL}; asked={word}; unit_price=0.")
    with bench.openai().chat.completions.create(**ask("say one", stream=True) | {"model": "auto:best"}) as stream:
        assert {chunk.model for chunk in stream} == {MODEL}
    with pytest.raises(openai.NotFoundError):
        bench.openai().chat.completions.create(**ask("say hello") | {"model": "auto:fastest"})


def test_an_alias_stands_for_one_model_wherever_it_is_named(bench: Bench) -> None:
    ask_api, client = bench.market.ask, bench.openai()
    made = ask_api("/api/v1/ai/model-aliases", {"name": "house/default", "model": MODEL})
    assert ask_api("/api/v1/ai/model-aliases", {"name": "house/default", "model": MODEL}) == made
    listed = {model.id: model for model in client.models.list()}
    assert listed["house/default"].aitbc["alias_of"] == MODEL
    assert client.models.retrieve("house/default") == listed["house/default"]
    answer = client.chat.completions.create(**ask("say one") | {"model": "house/default"})
    assert (answer.model, answer.aitbc["model"]) == ("house/default", MODEL)
    assert bench.engine.requests[-1]["model"] == MODEL
    with bench.anthropic().messages.stream(**ask("say two", max_tokens=9) | {"model": "house/default"}) as stream:
        assert "".join(stream.text_stream) == "two "
    quoted = {"kind": "embed", "input": {"texts": ["a"], "model": "vectors"}, "max_price": "1"}
    vectors = ask_api("/api/v1/ai/model-aliases", {"name": "vectors", "model": EMBED})
    assert ask_api("/api/v1/ai/quotes", quoted)["miners_eligible"] == 1
    other = ask_api("/api/v1/ai/model-aliases", {"name": "vectors", "model": "gone"})
    assert other["id"] != vectors["id"] and len(ask_api("/api/v1/ai/model-aliases")["data"]) == 2
    with pytest.raises(openai.NotFoundError, match="'gone'"):
        client.embeddings.create(model="vectors", input="x")
    for alias in (made, other):
        assert ask_api(f"/api/v1/ai/model-aliases/{alias['id']}", method="DELETE")["ended_at"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("house/default")


def test_an_operators_alias_is_for_all_but_for_who_has_that_name(bench: Bench) -> None:
    operator = {"Authorization": f"Bearer {bench.server.admin_key}"}
    aliases = f"{bench.server.url}/api/v1/ai/model-aliases"
    for_all = {"name": "everybodys", "model": MODEL, "for_all": True}
    assert raw(bench, "POST", "/api/v1/ai/model-aliases", for_all).json()["code"] == "model_alias_for_all"
    set_by = httpx.post(aliases, json=for_all, headers=operator).json()
    assert bench.openai().models.retrieve("everybodys").aitbc["alias_of"] == MODEL
    assert raw(bench, "DELETE", f"/api/v1/ai/model-aliases/{set_by['id']}").status_code == 403
    own = bench.market.ask("/api/v1/ai/model-aliases", {"name": "everybodys", "model": EMBED})
    assert bench.openai().models.retrieve("everybodys").aitbc["alias_of"] == EMBED
    bench.market.ask(f"/api/v1/ai/model-aliases/{own['id']}", method="DELETE")
    assert bench.openai().models.retrieve("everybodys").aitbc["alias_of"] == MODEL
    assert httpx.delete(f"{aliases}/{set_by['id']}", headers=operator).json()["ended_at"]
    for name, model in (("auto:mine", MODEL), (MODEL, MODEL), ("", MODEL)):
        wrong = {"name": name, "model": model}
        assert raw(bench, "POST", "/api/v1/ai/model-aliases", wrong).status_code == 422


def test_a_rate_limit_on_a_model_binds_its_aliases(bench: Bench) -> None:
    alias = bench.market.ask("/api/v1/ai/model-aliases", {"name": "limited", "model": EMBED})
    wish = {"requests_per_minute": 1, "model": EMBED}
    limit = bench.market.ask("/api/v1/ai/rate-limits", wish, once="limits an alias")["id"]
    asked = {"model": "limited", "input": "x"}
    try:
        assert bench.market.until(lambda: _refused(bench, asked, "/v1/embeddings", asked))
    finally:
        bench.market.ask(f"/api/v1/ai/rate-limits/{limit}", method="DELETE")
        bench.market.ask(f"/api/v1/ai/model-aliases/{alias['id']}", method="DELETE")


# --- embeddings ------------------------------------------------------------------------------------------------------


def test_embeddings_are_equal_as_numbers_and_as_base64(bench: Bench) -> None:
    create = bench.openai().embeddings.create
    plain = create(model=EMBED, input=["one", "two"], encoding_format="float")
    coded = create(model=EMBED, input=["one", "two"])
    assert [each.index for each in coded.data] == [0, 1] and coded.usage.total_tokens == plain.usage.total_tokens > 0
    for one, other in zip(plain.data, coded.data, strict=True):
        assert len(one.embedding) == 256 and other.embedding == pytest.approx(one.embedding, abs=1e-6)
    assert len(create(model=EMBED, input="one", dimensions=64).data[0].embedding) == 64
    with pytest.raises(openai.BadRequestError) as refused:
        create(model=EMBED, input="one", dimensions=512)
    assert refused.value.param == "dimensions"
    with pytest.raises(openai.BadRequestError) as refused:
        create(model=EMBED, input=[1, 2, 3])
    assert refused.value.param == "input"


def test_documents_are_ranked_by_a_query(bench: Bench) -> None:
    texts = ["Interest rates rose in March.", "A kitten is napping on the couch.", "Add two spoons of salt."]
    asked = {
        "model": EMBED,
        "query": "The cat sleeps on the sofa.",
        "documents": [texts[0], {"text": texts[1]}, texts[2]],
    }
    whole = raw(bench, "POST", "/v1/rerank", asked | {"return_documents": True}).json()
    ranked = whole["results"]
    assert (ranked[0]["index"], ranked[0]["document"]["text"], len(ranked)) == (1, texts[1], 3)
    scores = [one["relevance_score"] for one in ranked]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[1] + 0.2
    assert whole["usage"]["total_tokens"] > 10 and whole["aitbc"]["receipt"]
    best = raw(bench, "POST", "/v1/rerank", asked | {"top_n": 1}).json()["results"]
    assert best == [{"index": 1, "relevance_score": scores[0]}]


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_refused_before_money_moves(bench: Bench) -> None:
    before = bench.money()
    with pytest.raises(openai.NotFoundError, match="scripted") as refused:
        bench.openai().chat.completions.create(**ask("say x") | {"model": "script"})
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert bench.money() == before


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"n": 100}, "n"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": []}, "messages"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(bench: Bench, more: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        bench.openai().chat.completions.create(**ask("say x"), extra_body=more)
    assert refused.value.param == named and named.split("[", maxsplit=1)[0] in str(refused.value)
    assert refused.value.request_id


def test_what_the_models_server_refuses_is_the_callers_to_mend(bench: Bench) -> None:
    with pytest.raises(openai.BadRequestError, match="the prompt is too long"):
        bench.openai().chat.completions.create(**ask("refuse the prompt is too long"))
    with pytest.raises(openai.APIError, match="the prompt is too long") as broken:
        chunks_of(bench, "refuse the prompt is too long")
    assert broken.value.code == "request_refused"


def test_each_failure_is_the_exception_that_clients_expect(bench: Bench) -> None:
    with pytest.raises(openai.AuthenticationError):
        bench.openai(api_key="aitbc_live_nobody").models.list()
    with pytest.raises(openai.InternalServerError, match="No miner offers") as refused:
        bench.openai(max_retries=2).moderations.create(input="x")
    assert refused.value.status_code == 501 and refused.value.response.headers["x-should-retry"] == "false"
    for method, path, body, status in (
        ("GET", "/v1/nowhere", None, 404),
        ("DELETE", "/v1/chat/completions", None, 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * (2 * 1024 * 1024), 413),
        ("POST", "/v1/images/generations", {}, 501),
        ("POST", "/v1/audio/speech", {}, 501),
        ("POST", "/v1/rerank", {"model": EMBED, "query": "x", "documents": [5]}, 400),
        ("POST", "/v1/rerank", {"model": EMBED, "query": "x", "documents": []}, 400),
    ):
        answer = raw(bench, method, path, body)
        assert answer.status_code == status and answer.headers["content-type"] == "application/json", answer.text
        error = answer.json()["error"]
        assert isinstance(error["message"], str) and isinstance(error["type"], str) and {"code", "param"} < error.keys()
    assert raw(bench, "POST", "/v1/embeddings", b"{}", **{"content-type": "text/plain"}).status_code == 415


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_what_no_miner_offers_is_a_501_that_is_not_repeated(bench: Bench) -> None:
    client, sound, picture = bench.openai(max_retries=2), ("a.wav", b"RIFF"), ("a.png", b"PNG")
    asks: list[Callable[[], object]] = [
        lambda: client.images.generate(prompt="x"),
        lambda: client.images.edit(image=picture, prompt="x"),
        lambda: client.audio.transcriptions.create(model="x", file=sound),
        lambda: client.audio.translations.create(model="x", file=sound),
        lambda: client.audio.speech.create(model="x", voice="x", input="x"),
        lambda: client.moderations.create(input="x"),
    ]
    for ask_for in asks:
        with pytest.raises(openai.InternalServerError, match="No miner offers") as refused:
            ask_for()
        assert refused.value.status_code == 501 and refused.value.response.headers["x-should-retry"] == "false"


def test_doubled_and_trailing_slashes_are_taken(bench: Bench) -> None:
    assert raw(bench, "GET", "/v1//models").json() == raw(bench, "GET", "/v1/models/").json()
    assert bench.openai(base_url=f"{bench.server.url}/v1//").models.list().data


def test_the_same_key_is_the_same_job(bench: Bench) -> None:
    create = bench.openai().chat.completions.create
    once = {"Idempotency-Key": "one-and-the-same"}
    first, again = (create(**ask("say once"), extra_headers=once) for _ in range(2))
    assert first.id == again.id
