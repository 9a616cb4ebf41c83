"""Requests that get no further: why, and with which HTTP status."""

from collections.abc import Mapping
from typing import Final

from graphql import GraphQLError

JSON: Final = "application/json"
GRAPHQL_RESPONSE: Final = "application/graphql-response+json"

RETRY_AFTER: Final = 5
"""Seconds, with a 503: what is away is often back so soon."""

STATUS: Final[Mapping[str, int]] = {
    # The operation ran. Its data may be partly or wholly null.
    "EXECUTED": 200,
    # It did not: syntax, validation, limits, variables. Whoever asked for application/json learns
    # it from the body alone. The draft of 2026-08 prefers 422; the audit suite 1.23 wants these.
    f"NOT_EXECUTED {GRAPHQL_RESPONSE}": 400,
    f"NOT_EXECUTED {JSON}": 200,
    # There was no operation to run.
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "PREFLIGHT_REQUIRED": 403,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "REQUEST_TIMEOUT": 408,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}


class Unauthenticated(Exception):
    """Raised by `context`. Its message is written for the client to read."""

    def __init__(self, message: str = "Sign in first: send a valid bearer token.") -> None:
        super().__init__(message)


class Refusal(Exception):
    """A request that gets no further."""

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.error = GraphQLError(message, extensions={"code": code})
        self.status = STATUS[code]
        self.headers = headers or {}
