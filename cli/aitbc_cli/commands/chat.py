"""Chat with a model in the terminal: a question and its answer, or a conversation."""

from decimal import Decimal
from typing import Annotated, Any

import typer

from aitbc_cli import following
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import usage
from aitbc_cli.following import PATH
from aitbc_cli.output import columns
from aitbc_cli.terminal import say

QUOTES = "/api/v1/ai/quotes"
NOT_QUOTED_YET = "1"
"""The limit that a request for a quote names; the quote then gives the one that the job is submitted with."""
app = noun("chat", "Chat with a model, and see what it costs.", alone=True)


@command(
    app,
    "chat",
    examples=['aitbc chat "Why is the sky blue?"', 'aitbc chat --model llama-3-8b --max-tokens 200 "Write a haiku."'],
    changes=True,
)
def chat(
    call: Call,
    question: Annotated[str | None, typer.Argument(help="What to ask; left out, a conversation.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model; aitbc model list shows them.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="How the model is to behave.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.")] = 512,
) -> int:
    """Ask a model and read its answer as it comes; what it cost is said at its end.

    Held is the most that the answer can cost, paid what was delivered. Without a question it is a conversation, until
    an empty line or the end of the input.
    """
    messages = [{"role": "system", "content": system}] if system else []
    settings: dict[str, Any] = {"max_tokens": max_tokens, **({"model": model} if model else {})}
    if question:
        return _turn(call, messages, settings, question, call.once)
    if call.dry_run or call.options.curl or not call.out.is_for_people:
        raise usage("say what to ask: a conversation is for people at a terminal")
    return _conversation(call, messages, settings)


def _conversation(call: Call, messages: list[dict[str, Any]], settings: dict[str, Any]) -> int:
    turn = 0
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            return 0
        if not question:
            return 0
        turn += 1
        code = _turn(call, messages, settings, question, f"{call.once}-{turn}")
        if code:
            return code


def _turn(call: Call, messages: list[dict[str, Any]], settings: dict[str, Any], question: str, once: str) -> int:
    """One question and its answer, both added to the conversation."""
    messages.append({"role": "user", "content": question})
    body: dict[str, Any] = {"kind": "chat", "input": {"messages": messages, **settings}, "max_price": NOT_QUOTED_YET}
    if not call.options.curl:
        quote = call.api.post(QUOTES, body, natural=True)
        body["max_price"] = limit_of(quote)
        if call.dry_run:
            call.out.one(quote, columns("kind", "unit", "unit_price", "units", "units_max", "price_max"))
            say("a quote: nothing was changed")
            return 0
    job = call.api.post(PATH, body, once=once)
    ended = following.stream(call, job["id"])
    code = following.outcome(ended)
    if code == 0:
        messages.append({"role": "assistant", "content": ended["output"]["message"]["content"]})
        say(f"{ended['units']} {ended['unit']}s for {ended['price']} AITBC; receipt {ended['receipt']}")
    return code


def limit_of(quote: dict[str, Any]) -> str:
    """A limit that covers the platform's price and the cheapest offer."""
    mosts = [quote["price_max"], *(offer["price_max"] for offer in quote["offers"][:1])]
    return str(max(mosts, key=Decimal))
