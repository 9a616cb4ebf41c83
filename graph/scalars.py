"""The scalars that Strawberry does not have, or describes otherwise."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import strawberry

from graph import uploads


def _written(amount: Decimal) -> str:
    """Without an exponent, and without zeros that say nothing."""
    return f"{amount.normalize():f}"


SCALARS: Final[Mapping[object, Any]] = {
    **uploads.SCALARS,
    Decimal: strawberry.scalar(
        name="Decimal",
        description="An exact number as text, such as `0.0525`: amounts are US dollars.",
        serialize=_written,
        parse_value=Decimal,
    ),
}
"""For `StrawberryConfig(scalar_map=SCALARS)`."""
