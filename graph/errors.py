"""Expected failures as data: every branch of the tree in `storage.errors` has its GraphQL type.

A mutation's payload carries them in `errors`. Queries have no such place: there the same failures
are GraphQL errors, with the same codes.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from enum import Enum
from functools import singledispatch
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from graph.context import Info
from graph.ids import id_of
from storage.errors import (
    BudgetExceeded,
    Conflict,
    DuplicateImage,
    LibraryError,
    NotFound,
    Rejected,
    Unavailable,
)


@strawberry.enum(description="What went wrong, for a program to decide on.")
class ErrorCode(Enum):
    INVALID = strawberry.enum_value("INVALID", description="A value makes no sense. Change it.")
    TOO_LONG = strawberry.enum_value("TOO_LONG", description="A text is longer than `limit`.")
    TOO_LARGE = strawberry.enum_value("TOO_LARGE", description="A file is over `limit` bytes.")
    TOO_MANY_PIXELS = strawberry.enum_value(
        "TOO_MANY_PIXELS", description="A picture has more than `limit` pixels."
    )
    UNSUPPORTED_MEDIA_TYPE = strawberry.enum_value(
        "UNSUPPORTED_MEDIA_TYPE", description="The bytes are no picture that can be kept."
    )
    CORRUPT_FILE = strawberry.enum_value(
        "CORRUPT_FILE", description="A picture cannot be decoded to its end."
    )
    UNREACHABLE_URL = strawberry.enum_value(
        "UNREACHABLE_URL", description="No picture can be had from a URL."
    )
    NOT_FOUND = strawberry.enum_value(
        "NOT_FOUND", description="There is no such thing, or it is not the viewer's."
    )
    CONFLICT = strawberry.enum_value(
        "CONFLICT", description="The thing changed meanwhile. Read it again."
    )
    IN_USE = strawberry.enum_value("IN_USE", description="The image is attached to a content.")
    IDEMPOTENCY_MISMATCH = strawberry.enum_value(
        "IDEMPOTENCY_MISMATCH", description="The key was used before, with other arguments."
    )
    CONTENT_POLICY = strawberry.enum_value(
        "CONTENT_POLICY", description="The provider will not draw this."
    )
    BUDGET_EXCEEDED = strawberry.enum_value(
        "BUDGET_EXCEEDED", description="It would cost more than is left of this month's budget."
    )
    PROVIDER_AUTH = strawberry.enum_value(
        "PROVIDER_AUTH", description="The provider does not accept the operator's key."
    )
    PROVIDER_QUOTA = strawberry.enum_value(
        "PROVIDER_QUOTA", description="The operator's account at the provider is used up."
    )
    PROVIDER_UNAVAILABLE = strawberry.enum_value(
        "PROVIDER_UNAVAILABLE", description="The provider did not answer, or with a fault."
    )
    RATE_LIMITED = strawberry.enum_value(
        "RATE_LIMITED", description="Too much was asked too fast. Try later."
    )
    UNAVAILABLE = strawberry.enum_value(
        "UNAVAILABLE", description="Something the service depends on failed. Try later."
    )
    OUTCOME_UNKNOWN = strawberry.enum_value(
        "OUTCOME_UNKNOWN",
        description="The provider was called, but a crash hid its answer. It is not called twice.",
    )
    INTERNAL = strawberry.enum_value(
        "INTERNAL", description="Something unexpected went wrong, and was logged."
    )


@strawberry.interface(description="A failure that a client can expect, and act on.")
class UserError:
    message: str = strawberry.field(description="What went wrong and what to do, for people.")
    code: ErrorCode = strawberry.field(description="What went wrong, for programs.")
    path: list[str] | None = strawberry.field(
        default=None, description="The input field at fault, where there is one."
    )


@strawberry.type(description="An input cannot be accepted; the same call will fail again.")
class InvalidInputError(UserError):
    limit: float | None = strawberry.field(
        default=None, description="The bound that was exceeded, in the unit the message names."
    )
    actual: float | None = strawberry.field(
        default=None, description="The value that was given, in the same unit."
    )


@strawberry.type(description="Something does not exist, or belongs to another workspace.")
class NotFoundError(UserError):
    id: strawberry.ID | None = strawberry.field(default=None, description="What was asked for.")


@strawberry.type(description="Things are not as the call supposed. Read them again.")
class ConflictError(UserError):
    pass


@strawberry.type(description="Another image in the library has these very bytes.")
class DuplicateImageError(UserError):
    image_id: strawberry.ID = strawberry.field(description="The image that has them.")


@strawberry.type(description="It would cost more than is left of this month's budget.")
class BudgetExceededError(UserError):
    remaining: Decimal = strawberry.field(description="US dollars that are left.")
    estimated: Decimal = strawberry.field(description="US dollars that it would cost.")


@strawberry.type(
    description="Something the service depends on failed. The same call may work later."
)
class UnavailableError(UserError):
    retry_after_seconds: float | None = strawberry.field(
        default=None, description="When to try again, where that is known."
    )


@singledispatch
def user_error(failure: LibraryError) -> UserError:
    """The GraphQL type of an expected failure. A noun with its own type of error registers it."""
    raise TypeError(f"no GraphQL type for {failure!r}")


@user_error.register
def _(failure: Rejected) -> UserError:
    return InvalidInputError(
        message=failure.message,
        code=ErrorCode[failure.code],
        path=[to_camel_case(failure.field)] if failure.field else None,
        limit=failure.limit,
        actual=failure.actual,
    )


@user_error.register
def _(failure: BudgetExceeded) -> UserError:
    return BudgetExceededError(
        message=failure.message,
        code=ErrorCode[failure.code],
        remaining=failure.remaining,
        estimated=failure.estimated,
    )


@user_error.register
def _(failure: NotFound) -> UserError:
    id = id_of(failure.what.title(), failure.id) if failure.id else None
    return NotFoundError(message=failure.message, code=ErrorCode[failure.code], id=id)


@user_error.register
def _(failure: Conflict) -> UserError:
    return ConflictError(message=failure.message, code=ErrorCode[failure.code])


@user_error.register
def _(failure: DuplicateImage) -> UserError:
    return DuplicateImageError(
        message=failure.message,
        code=ErrorCode[failure.code],
        image_id=id_of("Image", failure.image_id),
    )


@user_error.register
def _(failure: Unavailable) -> UserError:
    return UnavailableError(
        message=failure.message,
        code=ErrorCode[failure.code],
        retry_after_seconds=failure.retry_after,
    )


def told(error: GraphQLError) -> GraphQLError:
    """An error as its client may read it: one that an expected failure caused gets its code."""
    failure = error.original_error
    if not isinstance(failure, LibraryError):
        return error
    extensions: dict[str, Any] = {"code": failure.code}
    if isinstance(failure, Rejected):
        known = {
            "code": "BAD_USER_INPUT",
            "reason": failure.code,
            "argument": to_camel_case(failure.field) if failure.field else None,
            "limit": failure.limit,
            "actual": failure.actual,
        }
        extensions = {name: value for name, value in known.items() if value is not None}
    return GraphQLError(failure.message, error.nodes, path=error.path, extensions=extensions)


class ErrorsAsData(FieldExtension):
    """On a mutation: an expected failure becomes its payload, with `errors` and nothing else."""

    def apply(self, field: StrawberryField) -> None:
        self._field = field

    async def resolve_async(
        self, next_: Callable[..., Awaitable[Any]], source: Any, info: Info, **kwargs: Any
    ) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except LibraryError as failure:
            payload: Any = self._field.type
            return payload(errors=[user_error(failure)])


def mutation(description: str) -> Any:
    """A mutation field whose expected failures are data. Its payload's fields have defaults."""
    return strawberry.mutation(description=description, extensions=[ErrorsAsData()])
