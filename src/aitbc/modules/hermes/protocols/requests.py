"""What A2A's clients send. Members that are not known here are passed over, as the protocol wants."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.money import parse
from aitbc.modules.hermes.protocols.errors import ContentNotSupported
from aitbc.modules.hermes.service.push_configs import PushConfig

Kind = TypeVar("Kind", bound=Struct)
Id = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
OptionalId = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Secret = Annotated[str, Meta(max_length=4096)]
EXACT_MAX = 2**53
"""Up to here every integer is a double of its own."""
PageSize = Annotated[int, Meta(ge=1, le=100)]


class Part(Struct, frozen=True, rename="camel"):
    """A piece of a message."""

    text: str | None = None
    data: Any | UnsetType = UNSET
    raw: str | None = None
    url: str | None = None


class Message(Struct, frozen=True, rename="camel"):
    """What a client says."""

    message_id: Id
    role: str
    parts: Annotated[list[Part], Meta(min_length=1, max_length=100)]
    task_id: OptionalId | None = None
    context_id: OptionalId | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """Its text. Raises `ContentNotSupported` for files."""
        if any(part.raw is not None or part.url is not None for part in self.parts):
            raise ContentNotSupported
        return "\n".join(part.text for part in self.parts if part.text is not None)

    @property
    def data(self) -> Any:
        """The data of its first part that has any, with whole numbers as integers.

        The protocol's own form knows doubles alone, so that a client sends 256.0 where its user said 256
        (findings/a2a-sdk-makes-doubles-of-integers.sh).
        """
        return whole_numbers(next((part.data for part in self.parts if part.data is not UNSET), None))


class Authentication(Struct, frozen=True, rename="camel"):
    """How to authenticate a push."""

    scheme: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_-]*\Z")]
    credentials: Annotated[str, Meta(max_length=4096, pattern=r"^[\x21-\x7e]*\Z")] = ""


class PushWish(Struct, frozen=True, rename="camel"):
    """Where a client wants to be told of a task."""

    url: Url
    id: OptionalId = ""
    task_id: str = ""
    token: Annotated[str, Meta(max_length=4096, pattern=r"^[\x21-\x7e]*\Z")] = ""
    authentication: Authentication | None = None

    def config(self, task: str) -> PushConfig:
        """As the service takes it; without an id it has its task's."""
        how = self.authentication
        return PushConfig(
            id=(self.id or task)[:200],
            url=self.url,
            token=self.token,
            scheme=how.scheme if how is not None else "",
            credentials=how.credentials if how is not None else "",
        )


class Configuration(Struct, frozen=True, rename="camel"):
    """How a client wants its answer."""

    return_immediately: bool = False
    history_length: Annotated[int, Meta(ge=0)] | None = None
    task_push_notification_config: PushWish | None = None


class SendMessage(Struct, frozen=True, rename="camel"):
    """A message to an agent."""

    message: Message
    configuration: Configuration = Configuration()
    metadata: dict[str, Any] | None = None

    def said(self, name: str) -> str | None:
        """A text in the metadata of the message, or of the request. Raises `Invalid`."""
        for place, found in (("message/metadata", self.message.metadata), ("metadata", self.metadata)):
            value = (found or {}).get(name)
            if value is not None and not isinstance(value, str):
                raise Invalid(fields=(FieldError(f"/{place}/{name}", "Expected a text"),))
            if value:
                return value
        return None

    @property
    def budget_units(self) -> int | None:
        """The budget in the metadata. Raises `InvalidAmount`."""
        said = self.said("budget")
        return None if said is None else parse(said, zero=True)


class OneTask(Struct, frozen=True, rename="camel"):
    """A task that is asked for."""

    id: str
    history_length: Annotated[int, Meta(ge=0)] | None = None


class ManyTasks(Struct, frozen=True, rename="camel"):
    """Tasks that are asked for."""

    context_id: OptionalId = ""
    status: str = ""
    page_size: PageSize = 50
    page_token: str = ""
    history_length: Annotated[int, Meta(ge=0)] | None = None
    include_artifacts: bool = False


class OnePush(Struct, frozen=True, rename="camel"):
    """A push configuration that is asked for."""

    task_id: str
    id: Id


class ManyPushes(Struct, frozen=True, rename="camel"):
    """The push configurations of a task."""

    task_id: str


def read(params: Any, kind: type[Kind], *, strict: bool = True) -> Kind:
    """The parameters of a method. Raises `Invalid` with the name of what does not fit."""
    try:
        return msgspec.convert(params, kind, strict=strict)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        pointer = place.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
        raise Invalid(fields=(FieldError(pointer or "", message),)) from None


def whole_numbers(value: Any) -> Any:
    """JSON with each double that is an integer of up to 53 bits as that integer."""
    match value:
        case float() if value.is_integer() and abs(value) <= EXACT_MAX:
            return int(value)
        case list():
            return [whole_numbers(each) for each in value]
        case dict():
            return {name: whole_numbers(each) for name, each in value.items()}
    return value
