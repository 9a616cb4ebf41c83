"""One schema per process: Strawberry's types belong to the first that is made of them."""

import pytest

from graph.operations import Limits
from graph.schema import create_schema


@pytest.fixture(scope="session")
def exported_schema() -> str:
    return create_schema(Limits()).as_str() + "\n"
