"""What Litestar and our routes work out of a handler's signature, remembered: it is the same for every application of a process.

A test process makes hundreds of applications, a server one.
"""

from typing import Any

from litestar._signature import SignatureModel
from litestar.handlers import BaseRouteHandler
from litestar.utils.helpers import unwrap_partial
from litestar.utils.signature import ParsedSignature

from aitbc.kernel.http import signature
from aitbc.kernel.http.signature import HandlerSignature

_ours: dict[Any, HandlerSignature] = {}
_signatures: dict[Any, ParsedSignature] = {}
_models: dict[Any, type[SignatureModel]] = {}
_kept: list[Any] = []
"""What keys name by its number lives on, so that no other thing gets that number."""
_parse = ParsedSignature.from_fn.__func__  # type: ignore[attr-defined]
_create = SignatureModel.create.__func__  # type: ignore[attr-defined]
_read = signature._read


def remember_signatures() -> None:
    """Begin to remember, in this process."""
    ParsedSignature.from_fn = classmethod(_remembered_signature)  # type: ignore[assignment,method-assign]
    SignatureModel.create = classmethod(_remembered_model)  # type: ignore[assignment,method-assign]
    signature._read = _remembered_contract


def _key(fn: Any) -> Any:
    """What a signature depends on, besides the names; none where that may be the values of a closure."""
    function = getattr(fn, "__func__", fn)
    if "<locals>" not in getattr(function, "__qualname__", "<locals>"):
        return function, function is fn
    code = getattr(function, "__code__", None)
    if code is None or function.__defaults__ or function.__kwdefaults__:
        return None
    return code, function is fn, *((name, id(value)) for name, value in function.__annotations__.items())


def _remembered_signature(cls: type[ParsedSignature], fn: Any, signature_namespace: dict[str, Any]) -> ParsedSignature:
    if (key := _key(fn)) is None:
        return _parse(cls, fn, signature_namespace)  # type: ignore[no-any-return]
    key = (*key, *((name, id(value)) for name, value in signature_namespace.items()))
    if key not in _signatures:
        _signatures[key] = _parse(cls, fn, signature_namespace)
        _kept.append((fn, signature_namespace))
    return _signatures[key]


def _remembered_model(
    cls: type[SignatureModel],
    dependency_name_set: set[str],
    fn: Any,
    parsed_signature: ParsedSignature,
    type_decoders: Any,
    data_dto: Any = None,
) -> type[SignatureModel]:
    if _key(fn) is None:
        return _create(cls, dependency_name_set, fn, parsed_signature, type_decoders, data_dto)  # type: ignore[no-any-return]
    decoders = tuple(part for pair in type_decoders or () for part in pair)
    key = (cls, _key(fn), id(parsed_signature), frozenset(dependency_name_set), decoders, data_dto)
    if key not in _models or _models[key]._fields is not parsed_signature.parameters:
        _models[key] = _create(cls, dependency_name_set, fn, parsed_signature, type_decoders, data_dto)
    return _models[key]


def _remembered_contract(handler: BaseRouteHandler) -> HandlerSignature:
    function = getattr(unwrap_partial(handler.fn), "__func__", None)
    if (key := _key(function)) is None:
        return _read(handler)
    if key not in _ours:
        _ours[key] = _read(handler)
        _kept.append(function)
    return _ours[key]
