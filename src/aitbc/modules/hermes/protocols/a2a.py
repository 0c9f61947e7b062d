"""A2A 1.0 for every agent that is registered here: its card, JSON-RPC, and HTTP+JSON."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from litestar.response import Stream
from msgspec import Struct

from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.hermes.api import AgentNotFound
from aitbc.modules.hermes.models.a2a import card_of
from aitbc.modules.hermes.protocols.answers import (
    AnyRequest,
    base_url_of,
    http_answer,
    http_refusal,
    http_stream,
    operations_of,
    require_version,
    rpc_answer,
    rpc_refusal,
    rpc_stream,
)
from aitbc.modules.hermes.protocols.errors import MethodUnknown, encoded
from aitbc.modules.hermes.protocols.operations import Caller, Operations
from aitbc.modules.hermes.protocols.requests import (
    ManyPushes,
    ManyTasks,
    OnePush,
    OneTask,
    PushWish,
    SendMessage,
    read,
)
from aitbc.modules.hermes.service import HermesService

Hermes = NamedDependency[HermesService]
Who = NamedDependency[Principal]
CALL = {"permission": "agents:call", "idempotency": "natural", "lasts": True}
OPEN = {"permission": PUBLIC}
KEPT = {"cache-control": "public, max-age=60"}
Method = Callable[[Operations, Any], Awaitable[Mapping[str, Any]]]
METHODS: Mapping[str, tuple[type[Struct], Method]] = {
    "SendMessage": (SendMessage, Operations.send),
    "GetTask": (OneTask, Operations.get),
    "ListTasks": (ManyTasks, Operations.page),
    "CancelTask": (OneTask, Operations.cancel),
    "CreateTaskPushNotificationConfig": (PushWish, Operations.put_push),
    "GetTaskPushNotificationConfig": (OnePush, Operations.get_push),
    "ListTaskPushNotificationConfigs": (ManyPushes, Operations.pushes),
    "DeleteTaskPushNotificationConfig": (OnePush, Operations.remove_push),
}


class RpcRequest(Struct, frozen=True):
    """A request of JSON-RPC."""

    method: str
    jsonrpc: str = "2.0"
    id: str | int | float | None = None
    params: dict[str, Any] = {}


class AgentCards(Controller):
    """Cards, and the key that signs them."""

    path = "/a2a"
    include_in_schema = False

    @get("/keys", opt=OPEN)
    async def keys(self, hermes: Hermes) -> Response[bytes]:
        """The key of this node, as a JSON Web Key Set."""
        public = hermes.node_key.public
        key = {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": public, "alg": "EdDSA", "use": "sig"}
        return Response(encoded({"keys": [key]}), media_type="application/json", headers=KEPT)

    @get("/{agent:str}/.well-known/agent-card.json", opt=OPEN)
    async def card(self, hermes: Hermes, request: AnyRequest, agent: FromPath[str]) -> Response[bytes]:
        """The signed card of an agent."""
        found = await hermes.agents.find(agent)
        if found.state == "retired":
            raise AgentNotFound
        card = card_of(found, base_url_of(hermes, agent, request), hermes.node_key)
        body = encoded(card)
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(b"", status_code=304, headers=KEPT | {"etag": tag})
        return Response(body, media_type="application/json", headers=KEPT | {"etag": tag})


class AgentRpc(Controller):
    """JSON-RPC."""

    path = "/a2a"
    include_in_schema = False

    @post("/{agent:str}", status_code=200, opt=CALL)
    async def call(
        self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str], data: JSONBody[RpcRequest]
    ) -> Response[bytes] | Stream:
        """One method; an error has the status 200, as the protocol has it."""
        operations = operations_of(hermes, Caller(who, agent), request)
        try:
            require_version(request)
            if data.method == "SendStreamingMessage":
                run = await operations.begin(read(data.params, SendMessage))
                return rpc_stream(data.id, operations.follow(run))
            if data.method == "SubscribeToTask":
                run = await operations.find(read(data.params, OneTask).id)
                return rpc_stream(data.id, operations.follow(run))
            if data.method == "GetExtendedAgentCard":
                return rpc_answer(data.id, await operations.card())
            if data.method not in METHODS:
                raise MethodUnknown
            kind, method = METHODS[data.method]
            return rpc_answer(data.id, await method(operations, read(data.params, kind)))
        except AppError as error:
            return rpc_refusal(data.id, error)


class AgentHttp(Controller):
    """HTTP+JSON."""

    path = "/a2a/{agent:str}"
    include_in_schema = False

    @post("/message:send", status_code=200, opt=CALL)
    async def send(
        self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str], data: JSONBody[dict[str, Any]]
    ) -> Response[bytes]:
        """Send a message."""
        return await _do(hermes, Caller(who, agent), request, "SendMessage", data)

    @post("/message:stream", status_code=200, opt=CALL)
    async def stream(
        self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str], data: JSONBody[dict[str, Any]]
    ) -> Response[bytes] | Stream:
        """Send a message, and follow its task."""
        try:
            require_version(request)
            operations = operations_of(hermes, Caller(who, agent), request)
            return http_stream(operations.follow(await operations.begin(read(data, SendMessage))))
        except AppError as error:
            return http_refusal(error)

    @get("/tasks", opt=CALL)
    async def page(
        self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str], query: QueryParams
    ) -> Response[bytes]:
        """List tasks."""
        return await _do(hermes, Caller(who, agent), request, "ListTasks", dict(query), strict=False)

    @get("/tasks/{task:str}", opt=CALL)
    async def one(
        self,
        hermes: Hermes,
        who: Who,
        request: AnyRequest,
        agent: FromPath[str],
        task: FromPath[str],
        query: QueryParams,
    ) -> Response[bytes] | Stream:
        """Read a task, or with `:subscribe` follow it."""
        name, _, action = task.partition(":")
        if action:
            return await _subscribe(hermes, Caller(who, agent), request, name, action)
        return await _do(hermes, Caller(who, agent), request, "GetTask", {**query, "id": task}, strict=False)

    @post("/tasks/{task:str}", status_code=200, opt=CALL)
    async def act(
        self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str], task: FromPath[str]
    ) -> Response[bytes] | Stream:
        """Cancel a task, or follow it."""
        name, _, action = task.partition(":")
        if action == "cancel":
            return await _do(hermes, Caller(who, agent), request, "CancelTask", {"id": name})
        return await _subscribe(hermes, Caller(who, agent), request, name, action)

    @get("/extendedAgentCard", opt=CALL)
    async def card(self, hermes: Hermes, who: Who, request: AnyRequest, agent: FromPath[str]) -> Response[bytes]:
        """The card, for those with a key."""
        try:
            return http_answer(await operations_of(hermes, Caller(who, agent), request).card())
        except AppError as error:
            return http_refusal(error)


class AgentPushHttp(Controller):
    """Push configurations over HTTP+JSON."""

    path = "/a2a/{agent:str}/tasks/{task:str}/pushNotificationConfigs"
    include_in_schema = False

    @post("/", status_code=200, opt=CALL)
    async def put(
        self,
        hermes: Hermes,
        who: Who,
        request: AnyRequest,
        agent: FromPath[str],
        task: FromPath[str],
        data: JSONBody[dict[str, Any]],
    ) -> Response[bytes]:
        """Set where to push."""
        wish = {**data, "taskId": task}
        return await _do(hermes, Caller(who, agent), request, "CreateTaskPushNotificationConfig", wish)

    @get("/", opt=CALL)
    async def all(
        self,
        hermes: Hermes,
        who: Who,
        request: AnyRequest,
        agent: FromPath[str],
        task: FromPath[str],
        query: QueryParams,
    ) -> Response[bytes]:
        """List them."""
        return await _do(hermes, Caller(who, agent), request, "ListTaskPushNotificationConfigs", {"taskId": task})

    @get("/{config:str}", opt=CALL)
    async def one(
        self,
        hermes: Hermes,
        who: Who,
        request: AnyRequest,
        agent: FromPath[str],
        task: FromPath[str],
        config: FromPath[str],
    ) -> Response[bytes]:
        """Read one."""
        wish = {"taskId": task, "id": config}
        return await _do(hermes, Caller(who, agent), request, "GetTaskPushNotificationConfig", wish)

    @delete("/{config:str}", status_code=200, opt=CALL)
    async def remove(
        self,
        hermes: Hermes,
        who: Who,
        request: AnyRequest,
        agent: FromPath[str],
        task: FromPath[str],
        config: FromPath[str],
    ) -> Response[bytes]:
        """Push there no more."""
        wish = {"taskId": task, "id": config}
        return await _do(hermes, Caller(who, agent), request, "DeleteTaskPushNotificationConfig", wish)


async def _do(
    hermes: HermesService, caller: Caller, request: AnyRequest, name: str, params: Any, *, strict: bool = True
) -> Response[bytes]:
    kind, method = METHODS[name]
    try:
        require_version(request)
        operations = operations_of(hermes, caller, request)
        return http_answer(await method(operations, read(params, kind, strict=strict)))
    except AppError as error:
        return http_refusal(error)


async def _subscribe(
    hermes: HermesService, caller: Caller, request: AnyRequest, task: str, action: str
) -> Response[bytes] | Stream:
    try:
        require_version(request)
        if action != "subscribe":
            raise MethodUnknown
        operations = operations_of(hermes, caller, request)
        return http_stream(operations.follow(await operations.find(task)))
    except AppError as error:
        return http_refusal(error)
