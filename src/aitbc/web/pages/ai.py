"""Work: the list of jobs, a form for every kind, the live page of a job with its result, and running one again."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, NotFound
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.forms import UPLOAD_BYTES_MAX, Form
from aitbc.web.job_forms import Field, fields_of, input_of, talk_of
from aitbc.web.market import kinds_of
from aitbc.web.results import map_of, nearest, picture_of, said_in
from aitbc.web.visit import FOLLOW, READ, SEND, Visit, attachment, event_stream, faults_of, part, see

AI = "/api/v1/ai"
PAGE = 25
NEEDS = ("device", "gpu_model", "region", "booking")
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
State = Literal["queued", "leased", "running", "succeeded", "failed", "canceled", "expired"]
InState = Annotated[State | None, QueryParameter(name="state")]
Cursor = Annotated[str, Meta(max_length=500)]
KindName = Annotated[str, Meta(max_length=40)]
EventId = Annotated[str, Meta(max_length=64, pattern=r"^[0-9.]+\Z")]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID")]
PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class JobPages(Controller):
    """Jobs."""

    include_in_schema = False

    @get("/jobs", opt=READ)
    async def jobs(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        kind: FromQuery[KindName | None] = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """One's own jobs, for an operator all; newest first."""
        found = await visit.get(f"{AI}/jobs", state=in_state, kind=kind, limit=PAGE, cursor=cursor)
        kinds = (await visit.get(f"{AI}/kinds"))["data"]
        return visit.page("ai/jobs.html", jobs=found, kinds=kinds, state=in_state, kind=kind, cli=["aitbc job list"])

    @get("/jobs/new", opt=READ)
    async def choose(
        self, visit: NamedDependency[Visit], booking: FromQuery[KindName | None] = None
    ) -> Response[bytes]:
        """What can be done, and who does it; with `booking` by the miner that is booked."""
        kinds = await kinds_of(visit.get)
        return visit.page("ai/kinds.html", kinds=kinds, booking=booking, cli=["aitbc model list"])

    @get("/jobs/new/{kind:str}", opt=READ)
    async def new(
        self,
        visit: NamedDependency[Visit],
        kind: FromPath[str],
        again: FromQuery[Cursor | None] = None,
        booking: FromQuery[KindName | None] = None,
    ) -> Response[bytes]:
        """The form of a kind; with `again` filled with what an earlier job was given, with `booking` for that one."""
        earlier = await visit.get(f"{AI}/jobs/{part(again)}") if again else None
        return await _form_page(visit, kind, earlier=earlier, booking=booking)

    @post("/jobs/new/{kind:str}", opt=SEND | {"raw_body_bytes": UPLOAD_BYTES_MAX})
    async def submit(self, visit: NamedDependency[Visit], kind: FromPath[str]) -> Response[bytes]:
        """Quote a job, or submit it. A file is uploaded first, and kept for the next step."""
        form = await visit.form()
        shown = await _kind(visit, kind)
        fields = fields_of(shown["input_schema"])
        uploaded = None
        try:
            if form.upload is not None:
                uploaded = (await visit.upload(f"{AI}/artifacts", form.upload.content))["id"]
            body = _body(kind, input_of(fields, form.fields, uploaded), form)
            if form.get("do") == "submit":
                job = await visit.send(f"{AI}/jobs", body, once=form.get("once") or None)
                return see(f"/jobs/{job['id']}?sent={kind}")
            quote = await visit.send(f"{AI}/quotes", body)
        except AppError as refusal:
            return await _form_page(visit, kind, form=form, uploaded=uploaded, error=refusal, status=refusal.status)
        return await _form_page(visit, kind, form=form, uploaded=uploaded, quote=quote)

    @get("/jobs/{job:str}", opt=READ)
    async def job(
        self, visit: NamedDependency[Visit], job: FromPath[str], sent: FromQuery[KindName | None] = None
    ) -> Response[bytes]:
        """One job: where it stands and why, what it wrote, what came of it and what it cost."""
        found = await visit.get(f"{AI}/jobs/{part(job)}")
        is_open = found["state"] not in ENDED
        log = await visit.get(f"{AI}/jobs/{job}/logs", limit=200)
        commands = [f"aitbc job show {job}", f"aitbc job watch {job}", f"aitbc job explain {job}"]
        return visit.page(
            "ai/job.html",
            job=found,
            sent=sent,
            is_open=is_open,
            explained=await visit.get(f"{AI}/jobs/{job}/explain"),
            log=log,
            can_stop=is_open and await _streams(visit, found["kind"]),
            cli=[*commands, f"aitbc job cancel {job}"] if is_open else commands,
            **_result(found),
        )

    @get("/jobs/{job:str}/events", opt=FOLLOW)
    async def events(
        self,
        visit: NamedDependency[Visit],
        job: FromPath[str],
        seen: FromQuery[EventId | None] = None,
        last_event_id: LastEventId = None,
    ) -> Stream:
        """What happens to a job, as the API streams it, from the event on that was seen last."""
        place = last_event_id or seen
        headers = {} if place is None else {"last_event_id": place}
        _, pieces = await visit.stream(f"{AI}/jobs/{part(job)}/events", **headers)
        return event_stream(pieces)

    @post("/jobs/{job:str}/cancel", opt=SEND)
    async def cancel(self, visit: NamedDependency[Visit], job: FromPath[str]) -> Response[bytes]:
        """Cancel a job; the money goes back."""
        await visit.form()
        await visit.send(f"{AI}/jobs/{part(job)}/cancel")
        return see(f"/jobs/{job}")

    @post("/jobs/{job:str}/stop", opt=SEND)
    async def stop(self, visit: NamedDependency[Visit], job: FromPath[str]) -> Response[bytes]:
        """Finish a job early, with what was delivered until now."""
        await visit.form()
        await visit.send(f"{AI}/jobs/{part(job)}/stop")
        return see(f"/jobs/{job}")

    @get("/jobs/{job:str}/output", opt=READ)
    async def output(self, visit: NamedDependency[Visit], job: FromPath[str]) -> Response[bytes]:
        """The output of a job as a file."""
        found = await visit.get(f"{AI}/jobs/{part(job)}")
        if found["output"] is None:
            raise NotFound("This job has no output, or it is kept no longer.")
        content = json.dumps(found["output"], ensure_ascii=False, indent=2).encode()
        return Response(content, media_type="application/json", headers=attachment(f"{job}.json"))

    @get("/artifacts/{artifact:str}", opt=READ)
    async def artifact(self, visit: NamedDependency[Visit], artifact: FromPath[str]) -> Response[bytes]:
        """A file: a picture is shown, everything else is saved."""
        content = await visit.content(f"{AI}/artifacts/{part(artifact)}")
        kind = next((kind for mark, kind in PICTURE_TYPES.items() if content.startswith(mark)), None)
        if kind is None:
            return Response(content, media_type="application/octet-stream", headers=attachment(artifact))
        return Response(content, media_type=kind, headers={"cache-control": "private, max-age=3600"})


def _body(kind: str, given: dict[str, Any], form: Form) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": kind, "input": given, "max_price": form.get("max_price")}
    if form.get("priority"):
        body["priority"] = form.get("priority")
    needs = {name: form.get(f"need:{name}") for name in NEEDS if form.get(f"need:{name}")}
    if needs:
        body["requirements"] = needs
    return body


async def _streams(visit: Visit, kind: str) -> bool:
    """Whether jobs of this kind can be finished early."""
    return any(one["streams"] for one in (await visit.get(f"{AI}/kinds"))["data"] if one["name"] == kind)


async def _kind(visit: Visit, kind: str) -> dict[str, Any]:
    """A kind of work with the models that are served for it. Raises `NotFound`."""
    found = next((one for one in await kinds_of(visit.get) if one["name"] == kind), None)
    if found is None:
        raise NotFound("There is no such kind of work.")
    return found


async def _form_page(
    visit: Visit,
    kind: str,
    *,
    form: Form | None = None,
    earlier: Mapping[str, Any] | None = None,
    booking: str | None = None,
    uploaded: str | None = None,
    quote: Any = None,
    error: AppError | None = None,
    status: int = 200,
) -> Response[bytes]:
    shown = await _kind(visit, kind)
    if earlier is not None and (earlier["kind"] != kind or earlier["input"] is None):
        raise NotFound("The input of that job is kept no longer.")
    balance = await visit.maybe(f"/api/v1/trading/accounts/{visit.who.account}", scope="ledger:read")
    fields = fields_of(shown["input_schema"], earlier["input"] if earlier else None)
    return visit.page(
        "ai/submit.html",
        kind=shown,
        fields=[(field, _value_of(field, form, uploaded)) for field in fields],
        values=form.fields if form else {"need:booking": booking} if booking else {},
        max_price=form.get("max_price") if form else (earlier["max_price"] if earlier else "0.05"),
        once=(form.get("once") if form else "") or new_uuid().hex,
        quote=quote,
        balance=balance,
        error=error,
        faults=faults_of(error) if error else {},
        status=status,
        cli=[f"aitbc job submit {kind} --help"],
    )


def _value_of(field: Field, form: Form | None, uploaded: str | None) -> dict[str, str]:
    """What stands in a field: what was typed, or what it begins with."""
    if field.form == "talk":
        system, text, between = talk_of(field) if form is None else ("", "", "")
        if form is not None:
            system, text = form.text(f"in:{field.name}:system"), form.text(f"in:{field.name}")
            between = form.text(f"in:{field.name}:earlier")
        return {"text": text, "system": system, "earlier": between}
    if field.form == "file":
        kept = (
            json.dumps({"artifact": uploaded})
            if uploaded
            else (form.get(f"in:{field.name}:kept") if form else field.value)
        )
        return {"text": kept}
    return {"text": field.value if form is None else form.text(f"in:{field.name}")}


def _result(job: Mapping[str, Any]) -> dict[str, Any]:
    given, output = job["input"], job["output"]
    points = map_of(given, output)
    return {
        "said": said_in(output),
        "picture": picture_of(given, output),
        "points": points,
        "pairs": nearest(output, given) if points else (),
        "messages": given.get("messages") if isinstance(given, Mapping) else None,
        "texts": given.get("texts") if isinstance(given, Mapping) else None,
    }
