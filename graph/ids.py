"""Relay's global ids: base64 of `Type:uuid`. To clients they are opaque."""

import binascii
from base64 import b64decode
from uuid import UUID

import strawberry
from strawberry.relay import to_base64

from storage.errors import NotFound


def id_of(type_name: str, id: UUID | str) -> strawberry.ID:
    return strawberry.ID(to_base64(type_name, str(id)))


def parse_id(id: str) -> tuple[str, UUID] | None:
    """The type's name and the row's id; None for what is no id of ours."""
    try:
        type_name, _, raw = b64decode(id, validate=True).decode().partition(":")
        return type_name, UUID(hex=raw)
    except (binascii.Error, ValueError):
        return None


def uuid_of(id: str, type_name: str) -> UUID:
    """Raises NotFound for what is no id, or another type's: there is no such thing, either."""
    parsed = parse_id(id)
    if parsed is None or parsed[0] != type_name:
        raise NotFound(type_name.lower())
    return parsed[1]
