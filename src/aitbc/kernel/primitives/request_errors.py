"""Errors of requests that are refused before they reach a module: parsing, limits, headers."""

from aitbc.kernel.primitives.errors import AppError, Forbidden, Invalid, Malformed, TooLarge, Unavailable


class MalformedPath(Malformed):
    """The path or the query cannot be read: use UTF-8 without control characters."""

    code = "malformed_path"


class MalformedHost(Malformed):
    """A request needs exactly one Host header."""

    code = "malformed_host"


class MalformedHeaders(Malformed):
    """A header that may come once came twice, or headers contradict each other."""

    code = "malformed_headers"


class MalformedJson(Malformed):
    """The body is not JSON: UTF-8 text without a byte order mark, and no NaN or Infinity."""

    code = "malformed_json"


class DuplicateKey(Malformed):
    """An object in the body holds one key twice."""

    code = "duplicate_key"


class TooDeep(Malformed):
    """The body is nested deeper than 32 levels."""

    code = "too_deep"


class InvalidText(Invalid):
    """The text holds characters that cannot be stored."""

    code = "invalid_text"


class OutOfRange(Invalid):
    """A number is larger than can be held: whole numbers have 64 bits, fractions are finite."""

    code = "out_of_range"


class UnknownParameter(Invalid):
    """The query holds a parameter that this operation does not know, or one parameter twice."""

    code = "unknown_parameter"


class BodyTooLarge(TooLarge):
    """The body is larger than this operation takes."""

    code = "body_too_large"


class ForeignOrigin(Forbidden):
    """Pages of other sites may not change anything here."""

    code = "foreign_origin"


class MethodNotAllowed(AppError):
    """This path does not take this method; `Allow` lists those it takes."""

    status, code, exit_code = 405, "method_not_allowed", 2


class BodyTimeout(AppError):
    """The body did not arrive in time."""

    status, code, exit_code = 408, "body_timeout", 6


class UriTooLong(AppError):
    """The path and the query are longer than allowed."""

    status, code, exit_code = 414, "uri_too_long", 2


class UnsupportedMedia(AppError):
    """Send the body as `Content-Type: application/json` in UTF-8, without a Content-Encoding."""

    status, code, exit_code = 415, "unsupported_media_type", 2


class MisdirectedHost(AppError):
    """This server does not answer for the host in the Host header; the setting `server.hosts` lists its hosts."""

    status, code, exit_code = 421, "misdirected_host", 2


class HeadersTooLarge(AppError):
    """There are too many headers, or they are too long."""

    status, code, exit_code = 431, "headers_too_large", 2


class Overloaded(Unavailable):
    """As many requests as this server takes are being answered; try again in a moment."""

    code = "overloaded"
