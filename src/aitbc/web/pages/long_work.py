"""Graphs and studies: work of many jobs that goes on by itself, begun, watched, paused and canceled here."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.charts import bars
from aitbc.web.visit import READ, SEND, Visit, part, see

AI = "/api/v1/ai"
PAGE = 25
Cursor = Annotated[str, Meta(max_length=500)]
StateWord = Annotated[str, Meta(max_length=20, pattern=r"^[a-z]+\Z")]
InState = Annotated[StateWord | None, QueryParameter(name="state")]
Act = Literal["pause", "resume", "cancel"]


class LongWorkPages(Controller):
    """What the pages of each sort share; each has a template for one of its own."""

    noun: ClassVar[str]
    plural: ClassVar[str]
    states: ClassVar[tuple[str, ...]]
    """Those by which the list may be narrowed."""
    ended: ClassVar[frozenset[str]]
    include_in_schema = False

    @get("/", opt=READ)
    async def all_of(
        self,
        visit: NamedDependency[Visit],
        in_state: InState = None,
        cursor: FromQuery[Cursor | None] = None,
    ) -> Response[bytes]:
        """One's own, newest first."""
        known = in_state if in_state in self.states else None
        found = await visit.get(f"{AI}/{self.plural}", state=known, limit=PAGE, cursor=cursor)
        return visit.page(
            f"ai/{self.plural}.html", found=found, state=known, states=self.states, cli=[f"aitbc {self.noun} list"]
        )

    @get("/new", opt=READ)
    async def new(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """The form that begins one, from its description."""
        return self._form_page(visit, "", new_uuid().hex)

    @post("/new", opt=SEND)
    async def begin(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Begin one."""
        form = await visit.form()
        written, once = form.text("text"), form.get("once") or new_uuid().hex
        try:
            made = await visit.send(f"{AI}/{self.plural}", _read(written), once=once)
        except AppError as refusal:
            return self._form_page(visit, written, once, refusal)
        return see(f"/{self.plural}/{made['id']}?sent={self.noun}")

    @get("/{one:str}", opt=READ)
    async def one_of(
        self, visit: NamedDependency[Visit], one: FromPath[str], sent: FromQuery[StateWord | None] = None
    ) -> Response[bytes]:
        """One, with its parts: where each is, its job, and what it has cost."""
        return await self._page(visit, part(one), sent=sent)

    @post("/{one:str}/{act:str}", opt=SEND)
    async def change(self, visit: NamedDependency[Visit], one: FromPath[str], act: FromPath[Act]) -> Response[bytes]:
        """Pause, resume or cancel one."""
        await visit.form()
        try:
            await visit.send(f"{AI}/{self.plural}/{part(one)}/{act}")
        except AppError as refusal:
            return await self._page(visit, one, error=refusal)
        return see(f"/{self.plural}/{one}")

    async def _page(
        self, visit: Visit, one: str, *, sent: str | None = None, error: AppError | None = None
    ) -> Response[bytes]:
        found = await visit.get(f"{AI}/{self.plural}/{one}")
        is_open = found["state"] not in self.ended
        return visit.page(
            f"ai/{self.noun}.html",
            one=found,
            noun=self.noun,
            plural=self.plural,
            is_open=is_open,
            sent=sent,
            error=error,
            status=error.status if error else 200,
            cli=[f"aitbc {self.noun} show {one}", *([f"aitbc {self.noun} cancel {one}"] if is_open else ())],
            **self._more(found),
        )

    def _more(self, found: dict[str, Any]) -> dict[str, Any]:
        """What a template of this sort needs beside the answer of the API."""
        return {}

    def _form_page(self, visit: Visit, written: str, once: str, error: AppError | None = None) -> Response[bytes]:
        return visit.page(
            "ai/long_work_new.html",
            noun=self.noun,
            plural=self.plural,
            written=written,
            once=once,
            error=error,
            status=error.status if error else 200,
            cli=[f"aitbc {self.noun} run FILE"],
        )


class GraphPages(LongWorkPages):
    """Graphs."""

    path = "/graphs"
    noun, plural = "graph", "graphs"
    states = ("running", "paused", "succeeded", "failed", "canceled")
    ended = frozenset({"succeeded", "failed", "canceled"})


class StudyPages(LongWorkPages):
    """Studies."""

    path = "/studies"
    noun, plural = "study", "studies"
    states = ("running", "paused", "complete", "exhausted", "failed", "canceled")
    ended = frozenset({"complete", "exhausted", "failed", "canceled"})

    def _more(self, found: dict[str, Any]) -> dict[str, Any]:
        """A picture of the history of its trials, and the parameters from the one that matters most on."""
        values = [trial["value"] for trial in found["results"]]
        importance = sorted((found["importance"] or {}).items(), key=lambda pair: -pair[1])
        return {"history": bars(values, "The value of each trial in its order"), "importance": importance}


def _read(written: str) -> Any:
    """A description as JSON. Raises `Invalid`."""
    try:
        read = msgspec.json.decode(written.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        message = f"It is not JSON: {error}."
        raise Invalid(message, fields=(FieldError("/text", message),)) from None
    if not isinstance(read, dict):
        raise Invalid("A JSON object is wanted.", fields=(FieldError("/text", "A JSON object is wanted."),))
    return read
