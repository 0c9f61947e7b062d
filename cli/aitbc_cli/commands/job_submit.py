"""Submitting jobs: what each kind of work takes, and what all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli import following
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import usage
from aitbc_cli.following import PATH
from aitbc_cli.job_inputs import INPUT_BYTES_MAX, image_of, lines, text_of, uploaded, value_of, variable, with_
from aitbc_cli.output import Column, columns
from aitbc_cli.package_kinds import KindGroup
from aitbc_cli.results import BRIEF, save, show_ended
from aitbc_cli.terminal import say, size
from aitbc_cli.times import seconds_of

LEAST_PRICE = "0.00000001"
BEST = {None: "cheapest", "cheapest": "cheapest", "fastest": "fastest", "balanced": "best balanced"}
CLOCKS = {"queue": "queue_seconds", "start": "start_seconds", "run": "run_seconds", "keep": "retention_seconds"}
app = noun(
    "submit", "Submit a job: embed, ocr, chat, command, container, or a kind that a plugin added.", group=KindGroup
)

Prefer = Annotated[
    str | None, typer.Option("--prefer", metavar="HOW", help="Who gets it first: cheapest, fastest or balanced.")
]
MaxPrice = Annotated[str | None, typer.Option("--max-price", metavar="AITBC", help="The most it may cost: 0.05.")]
Input = Annotated[str | None, typer.Option("--input", metavar="FILE", help="The whole input as JSON; - reads it.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Stay until it has ended; Ctrl-C leaves it running.")]
Out = Annotated[str | None, typer.Option("--out", metavar="FILE", help="With --wait: write the result here as JSON.")]
Verify = Annotated[
    str | None,
    typer.Option("--verify", metavar="HOW", help="Who confirms the answer: sampled, recheck, or quorum:2 to quorum:7."),
]
Priority = Annotated[str | None, typer.Option("--priority", help="low, normal, high, urgent, or 0 to 9.")]
Device = Annotated[str | None, typer.Option("--device", help="Only miners with cpu or gpu.")]
GpuModel = Annotated[str | None, typer.Option("--gpu-model", help="Only GPUs with this in their name: h100.")]
MinVram = Annotated[
    str | None, typer.Option("--min-vram", metavar="SIZE", help="GPU memory of at least: 24GB, 8192MiB.")
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, max=16, help="GPUs of its own, all of one miner.")]
Vram = Annotated[
    str | None, typer.Option("--vram", metavar="SIZE", help="Instead of a whole GPU, so much memory of one: 8GB.")
]
Capability = Annotated[
    str | None, typer.Option("--min-compute-capability", metavar="X.Y", help="What its GPUs can do at least: 8.0.")
]
Cuda = Annotated[str | None, typer.Option("--cuda", metavar="VERSION", help="Only miners with this CUDA: 12 or 12.4.")]
Verified = Annotated[bool, typer.Option("--verified", help="Only GPUs that have proved what they are.")]
Region = Annotated[str | None, typer.Option("--region", help="Only miners there.")]
Model = Annotated[str | None, typer.Option("--model", help="Only this model.")]
Attempts = Annotated[int | None, typer.Option("--attempts", min=1, max=10, help="How often it is tried at most.")]
Retry = Annotated[bool, typer.Option("--retry-failures", help="Try again even when the work itself fails.")]
Clock = Annotated[
    list[str] | None,
    typer.Option("--clock", metavar="NAME=TIME", help="queue=15m, start=30s, run=5m or keep=7d; again for more."),
]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is asked of any job, whatever its kind."""

    max_price: str | None
    prefer: str | None
    wait: bool
    out: str | None
    priority: str | None
    device: str | None
    gpu_model: str | None
    min_vram: str | None
    region: str | None
    model: str | None = None
    attempts: int | None
    retry_failures: bool
    clock: list[str] | None
    stream: bool = False
    gpus: int | None = None
    vram: str | None = None
    min_compute_capability: str | None = None
    cuda: str | None = None
    verified: bool = False
    verify: str | None = None


@command(
    app,
    "embed",
    examples=[
        'aitbc job submit embed --text "a sentence" --max-price 0.05 --wait',
        "aitbc job submit embed --text one --text two --max-price 0.05 --dry-run",
        "aitbc job submit embed --input texts.json --max-price 0.05 --wait --out vectors.json",
    ],
    changes=True,
)
def embed(
    call: Call,
    text: Annotated[
        list[str] | None, typer.Option("--text", help="A text; again for more; - reads one a line.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option("--dimensions", min=1, help="Numbers of each vector.")] = None,
    input: Input = None,  # noqa: A002 - the option's name
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    verify: Verify = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    region: Region = None,
    model: Model = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Turn texts into vectors whose closeness is closeness of meaning."""
    terms = terms_of(locals())
    texts = [each for given in text or () for each in (lines() if given == "-" else [given])]
    value = value_of(input, "--text", {"texts": texts} if text else None)
    return submit(call, "embed", with_(value, model=model, dimensions=dimensions), terms)


@command(
    app,
    "rerank",
    examples=[
        'aitbc job submit rerank --query "when is high tide" --document "The tide is high at noon." --max-price 0.05 --wait',
        "aitbc job submit rerank --input question.json --max-price 0.05 --wait",
    ],
    changes=True,
)
def rerank(
    call: Call,
    query: Annotated[str | None, typer.Option("--query", help="What is looked for.")] = None,
    document: Annotated[
        list[str] | None, typer.Option("--document", help="A document; again for more; - reads one a line.")
    ] = None,
    input: Input = None,  # noqa: A002 - the option's name
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    verify: Verify = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    region: Region = None,
    model: Model = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Say how well documents fit a query."""
    terms = terms_of(locals())
    texts = [each for given in document or () for each in (lines() if given == "-" else [given])]
    given = {"query": query, "documents": texts} if query is not None and document else None
    value = value_of(input, "--query and --document", given)
    return submit(call, "rerank", with_(value, model=model), terms)


@command(
    app,
    "ocr",
    examples=[
        "aitbc job submit ocr --image invoice.png --max-price 0.05 --wait",
        "aitbc job submit ocr --image page.jpg --max-price 0.5 --wait --json --out page.json",
    ],
    changes=True,
)
def ocr(
    call: Call,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="A PNG or JPEG picture.")] = None,
    input: Input = None,  # noqa: A002
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    verify: Verify = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    region: Region = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Read the text in a picture, with the place of each line."""
    terms = terms_of(locals())
    value = value_of(input, "--image", {"image": image_of(call, image)} if image is not None else None)
    return submit(call, "ocr", value, terms)


@command(
    app,
    "chat",
    examples=[
        'aitbc job submit chat --message "Why is the sky blue?" --max-price 0.05 --wait',
        'aitbc job submit chat --message "Tell me a story." --max-price 0.1 --stream',
        'aitbc job submit chat --system "Answer in one word." --message Capital? --max-tokens 20 --max-price 0.1 -w',
    ],
    changes=True,
)
def chat(
    call: Call,
    message: Annotated[
        list[str] | None, typer.Option("--message", "-m", help="What you say; again: turns alternate.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message for the model.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="The longest answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, max=2, help="0 for the likeliest words, more for variety.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For answers that can be repeated.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the text as it is written; Ctrl-C leaves it running.")
    ] = False,
    input: Input = None,  # noqa: A002
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    region: Region = None,
    model: Model = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Let a language model answer messages."""
    terms = terms_of(locals())
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns += [{"role": ("user", "assistant")[place % 2], "content": said} for place, said in enumerate(message or ())]
    value = value_of(input, "--message", {"messages": turns} if message else None)
    value = with_(value, model=model, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return submit(call, "chat", value, terms)


@command(
    app,
    "command",
    examples=[
        "aitbc job submit command --program wc --stdin notes.txt --max-price 0.05 --wait -- -w",
        "aitbc job submit command --program train --gpus 2 --min-vram 40GB --max-price 0.5 -w",
        "aitbc job submit command --program train --vram 8GB --max-price 0.05 --wait -- --epochs 3",
        "aitbc job submit command --program sort --max-price 0.05 --clock run=30s -- --numeric-sort",
    ],
    changes=True,
)
def command_(
    call: Call,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGUMENTS…]", help="For the program.")] = None,
    program: Annotated[str | None, typer.Option("--program", help="Its name, as operators of miners allow it.")] = None,
    stdin: Annotated[
        str | None, typer.Option("--stdin", metavar="FILE", help="Its standard input; - reads it.")
    ] = None,
    input: Input = None,  # noqa: A002
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    verify: Verify = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpus: Gpus = None,
    vram: Vram = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    min_compute_capability: Capability = None,
    cuda: Cuda = None,
    verified: Verified = False,
    region: Region = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Run a program that operators of miners allow."""
    from aitbc_cli import files

    terms = terms_of(locals())
    flags = {"program": program, "arguments": arguments or []} if program is not None else None
    value = value_of(input, "--program", flags)
    if stdin is not None:
        value["stdin"] = text_of(files.read(stdin, bytes_max=INPUT_BYTES_MAX), stdin)
    return submit(call, "command", value, terms)


@command(
    app,
    "container",
    examples=[
        "aitbc job submit container --image python --max-price 0.05 --wait -- -c 'print(6 * 7)'",
        "aitbc job submit container --image train --file data.csv --gpus 1 --max-price 0.5 --wait --out result.json",
        "aitbc job submit container --image docker.io/library/python@sha256:… --network --max-price 0.05 -w",
    ],
    changes=True,
)
def container(
    call: Call,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="What it is to do.")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Its name, as owners of miners allow it, or …@sha256:….")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option("--file", metavar="FILE", help="Uploaded, and in /in there; again for more.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Again for more.")] = None,
    network: Annotated[bool, typer.Option("--network", help="It needs a network.")] = False,
    stdin: Annotated[
        str | None, typer.Option("--stdin", metavar="FILE", help="Its standard input; - reads it.")
    ] = None,
    input: Input = None,  # noqa: A002
    max_price: MaxPrice = None,
    prefer: Prefer = None,
    wait: Wait = False,
    out: Out = None,
    priority: Priority = None,
    device: Device = None,
    gpus: Gpus = None,
    vram: Vram = None,
    gpu_model: GpuModel = None,
    min_vram: MinVram = None,
    min_compute_capability: Capability = None,
    cuda: Cuda = None,
    verified: Verified = False,
    region: Region = None,
    attempts: Attempts = None,
    retry_failures: Retry = False,
    clock: Clock = None,
) -> int:
    """Run a container image. What it leaves in /out comes back as files."""
    from aitbc_cli import files

    terms = terms_of(locals())
    value = value_of(input, "--image", {"image": image, "command": arguments or []} if image is not None else None)
    if stdin is not None:
        value["stdin"] = text_of(files.read(stdin, bytes_max=INPUT_BYTES_MAX), stdin)
    if env:
        value["env"] = dict(variable(each) for each in env)
    if file:
        value["files"] = {path.name: uploaded(call, path) for path in file}
    return submit(call, "container", with_(value, network=network or None), terms)


# What all kinds share ------------------------------------------------------------------------------------------------


def terms_of(given: Mapping[str, Any]) -> Terms:
    """The terms among the options of a command."""
    return Terms(**{name: given[name] for name in Terms.__dataclass_fields__ if name in given})


def submit(call: Call, kind: str, value: dict[str, Any], terms: Terms) -> int:
    """Quote, or submit and, if wished, stay."""
    if terms.max_price is None and not call.dry_run:
        raise usage("say the most it may cost", hint="--max-price 0.05; what it would cost tells --dry-run")
    if terms.out is not None and not (terms.wait or terms.stream):
        raise usage("--out needs --wait", hint="later: aitbc job result JOB --out FILE")
    body = _body(kind, value, terms)
    if call.dry_run:
        _quote(call, body, priced=terms.max_price is not None)
        return 0
    job = call.api.post(PATH, body, once=call.once)
    if terms.stream:
        return _stream(call, job["id"], terms)
    if not terms.wait:
        call.out.one(job, BRIEF)
        if call.out.is_for_people:
            say(following.how_to_resume(job["id"]))
        return 0
    say(f"submitted {job['id']}")
    answer = following.wait(call, job["id"], seen=True)
    show_ended(call, answer, terms.out)
    return following.outcome(answer)


def _stream(call: Call, job: str, terms: Terms) -> int:
    """Show the text as it comes, then what it cost."""
    say(f"submitted {job}")
    answer = following.stream(call, job)
    if answer["state"] == "succeeded":
        early = ", finished early" if answer["reason"] == "stopped_early" else ""
        say(f"{answer['units']} {answer['unit']}s for {answer['price']} AITBC{early}; receipt {answer['receipt']}")
        if terms.out is not None:
            say(f"the result is in {terms.out} ({size(save(call, answer, terms.out))})")
    return following.outcome(answer)


def _quote(call: Call, body: dict[str, Any], *, priced: bool) -> None:
    quote = call.api.post("/api/v1/ai/quotes", body, natural=True)
    if not priced:
        quote["max_price"] = quote["sufficient"] = None
    money = columns("price", "price_max", "fee_max", "max_price", "sufficient")
    eligible = columns("miners_eligible", "own_miners")
    call.out.one(
        quote,
        (*columns("kind", "unit", "unit_price", "units", "units_max"), *money, *columns("position"), *eligible),
        name="price_max",
    )
    if call.out.is_for_people and quote["filters"] and not call.options.fields:
        call.out.text("\nminers that each condition left:")
        numbers = (Column("BEFORE", "before", "number"), Column("AFTER", "after", "number"))
        call.out.rows(quote["filters"], (*columns("filter", "wanted"), *numbers))
    if call.out.is_for_people and quote["offers"] and not call.options.fields:
        call.out.text(f"\nthe {BEST[quote['prefer']]} offers:")
        heads = (("UNIT PRICE", "unit_price"), ("AT MOST", "price_max"), ("UNITS/S", "units_per_second"))
        prices = (Column(head, field, "number") for head, field in heads)
        call.out.rows(quote["offers"], (*columns("offer", "miner"), *prices), name="offer")
    if call.out.is_for_people and not call.options.fields:
        call.out.text("\n".join(("\nwho can read what it is asked and answers:", *quote["readable_by"])))
    if call.out.is_for_people:
        say(quote.get("refund_rule", ""))
    say("a quote: nothing was changed")


def _body(kind: str, value: dict[str, Any], terms: Terms) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": kind, "input": value, "max_price": terms.max_price or LEAST_PRICE}
    needs: dict[str, Any] = {
        "device": terms.device,
        "gpu_model": terms.gpu_model,
        "region": terms.region,
        "model": terms.model,
    }
    needs |= {"gpus": terms.gpus, "min_compute_capability": terms.min_compute_capability, "cuda": terms.cuda}
    requirements: dict[str, Any] = {name: wanted for name, wanted in needs.items() if wanted is not None}
    if terms.min_vram is not None:
        requirements["min_vram_mib"] = mebibytes(terms.min_vram)
    if terms.verified:
        requirements["verified"] = True
    if terms.vram is not None:
        requirements["vram_mib"] = mebibytes(terms.vram)
    if requirements:
        body["requirements"] = requirements
    if terms.verify is not None:
        body["verification"] = terms.verify
    if terms.prefer is not None:
        body["prefer"] = terms.prefer
    if terms.priority is not None:
        body["priority"] = int(terms.priority) if terms.priority.isdecimal() else terms.priority
    if terms.clock:
        body["clocks"] = _clocks(terms.clock)
    retry = {"attempts_max": terms.attempts, "requester_faults": terms.retry_failures or None}
    retry = {name: wanted for name, wanted in retry.items() if wanted is not None}
    if retry:
        body["retry"] = retry
    return body


def _clocks(given: list[str]) -> dict[str, int]:
    found = {}
    for each in given:
        name, _, text = each.partition("=")
        if name not in CLOCKS or not text:
            raise usage(f"{each!r} sets no clock", hint=f"one of {', '.join(f'{known}=5m' for known in CLOCKS)}")
        found[CLOCKS[name]] = round(seconds_of(text))
    return found


def mebibytes(text: str) -> int:
    """Mebibytes of `24GB`, `24GiB`, `8192MiB` or a bare number of them. Raises a usage error."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = {"g": 1024.0, "m": 1.0, "t": 1024.0 * 1024}.get(number[-1:], 0.0)
    try:
        return round(float(number[:-1]) * factor) if factor else int(number)
    except ValueError:
        raise usage(f"{text!r} is no size of memory", hint="write for instance 24GB or 8192MiB") from None
