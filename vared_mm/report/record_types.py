"""What the parts of a record are checked as where it is made or read."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AllowInfNan, ConfigDict, GetPydanticSchema, InstanceOf, Strict, with_config
from typing_extensions import NotRequired, TypedDict

# A bare `float` would take texts and booleans too.
Number = Annotated[float, Strict(), AllowInfNan(False)]
Count = Annotated[int, Strict()]
# Names of files may hold bytes that are no UTF-8, which pydantic's own strings refuse.
AnyText = InstanceOf[str]


def finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def checked_as(kind: Any) -> Any:
    """A mapping that is checked as `kind` where a record is made."""
    return GetPydanticSchema(lambda _, schema_of: schema_of(kind))


class Spread(TypedDict):
    avg: Number
    min: Number
    max: Number


@with_config(ConfigDict(extra="allow"))
class LayerCost(TypedDict):
    name: AnyText


@with_config(ConfigDict(extra="allow"))
class Cost(TypedDict):
    """As `cost_metric.summarise` makes it."""

    dense_gmacs: Number
    paper_gmacs: Spread
    full_gmacs: Spread
    share: Spread
    full_gmacs_per_megapixel: NotRequired[Spread]
    zero_gmacs: NotRequired[Number]
    layers: list[LayerCost]


class Rates(TypedDict):
    """Clips or images per second, with quartiles."""

    median: Number
    low: Number
    high: Number


class Speeds(TypedDict):
    static: NotRequired[Rates | None]
    dynamic: NotRequired[Rates | None]
    conditions: NotRequired[dict[str, Any]]
