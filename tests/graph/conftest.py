"""One schema per process: Strawberry's types belong to the first that is made of them."""

import pytest

from graph.operations import Limits, Schema
from graph.schema import create_schema


@pytest.fixture(scope="session")
def schema_of_the_library() -> Schema:
    return create_schema(Limits())


@pytest.fixture(scope="session")
def exported_schema(schema_of_the_library: Schema) -> str:
    return schema_of_the_library.as_str() + "\n"
