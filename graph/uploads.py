"""Files in GraphQL variables, by the GraphQL multipart request specification.

https://github.com/jaydenseric/graphql-multipart-request-spec
"""

from collections.abc import Mapping
from typing import Any, Final, NewType, NoReturn

import strawberry
from graphql import GraphQLError
from starlette.datastructures import FormData, UploadFile
from strawberry.file_uploads import Upload as StrawberryUpload

from graph.refusals import Refusal

Upload = NewType("Upload", UploadFile)


def _uploaded(value: object) -> UploadFile:
    if isinstance(value, UploadFile):
        return value
    raise GraphQLError(
        "An Upload is a file: send it as a part of a multipart request, with null in its place."
    )


def _not_an_output(_: object) -> NoReturn:
    raise TypeError("Upload is an input type")


UploadDefinition: Final = strawberry.scalar(
    name="Upload",
    description="A file, sent by the GraphQL multipart request specification.",
    specified_by_url="https://github.com/jaydenseric/graphql-multipart-request-spec",
    serialize=_not_an_output,
    parse_value=_uploaded,
)

SCALARS: Final[Mapping[object, Any]] = {
    Upload: UploadDefinition,
    StrawberryUpload: UploadDefinition,
}
"""For `StrawberryConfig(scalar_map=SCALARS)`. Strawberry's own Upload takes any JSON value."""


def text_of(form: FormData, name: str) -> str:
    match form.getlist(name):
        case [str() as text]:
            return text
    raise Refusal("BAD_REQUEST", f"The multipart body must have one field {name}, as text.")


def put_files(operation: object, places: object, form: FormData) -> None:
    """Put each file where `map` says a null is waiting for it, one place for each."""
    if not isinstance(places, dict):
        raise Refusal("BAD_REQUEST", 'map must be an object such as {"0": ["variables.file"]}.')
    for name, paths in places.items():
        match paths, form.getlist(name):
            case [str() as path], [UploadFile() as file] if path.startswith("variables."):
                _put_file(operation, path, file)
            case _:
                raise Refusal(
                    "BAD_REQUEST",
                    f"map must give each file one place among the variables; {name!r} has not one "
                    "file and one path.",
                )


def _put_file(operation: object, path: str, file: UploadFile) -> None:
    *parents, last = path.split(".")
    target: Any = operation
    for key in parents:
        target = _entries(target).get(key)
    entries = _entries(target)
    if entries.get(last, ...) is not None:
        raise Refusal("BAD_REQUEST", f"map names {path!r}, where no null is waiting for a file.")
    target[int(last) if isinstance(target, list) else last] = file


def _entries(target: object) -> dict[str, Any]:
    if isinstance(target, list):
        return {str(index): item for index, item in enumerate(target)}
    return target if isinstance(target, dict) else {}
