"""Providers: who makes pictures here, with which models, and who could."""

from datetime import UTC, datetime, time
from decimal import Decimal

import strawberry

from generation.catalogue import Catalogue, warning_of
from generation.plugins import Absent
from generation.provider import ImageProvider, ModelInfo, Quality
from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info


@strawberry.type(description="One model of a provider, and what it can do.")
class ProviderModel:
    name: str = strawberry.field(description="Give it as `model`.")
    is_default: bool = strawberry.field(description="Whether it is asked when nobody says.")
    sizes: list[str] = strawberry.field(
        description="Sizes that it makes, as in `1088x1360`, the usual ones first."
    )
    min_side: int = strawberry.field(description="The shortest side, in pixels.")
    max_side: int = strawberry.field(description="The longest side, in pixels.")
    max_count: int = strawberry.field(description="The most pictures of one generation.")
    qualities: list[Quality] = strawberry.field(description="What `quality` can be.")
    styles: list[str] = strawberry.field(description="What `style` can be.")
    max_references: int = strawberry.field(description="The most images to make one from.")
    streams_previews: bool = strawberry.field(description="Whether it can be watched.")
    supports_references: bool = strawberry.field(description="Whether it changes pictures.")
    supports_mask: bool = strawberry.field(description="Whether it changes a part of them.")
    supports_seed: bool = strawberry.field(description="Whether it takes a `seed`.")
    supports_negative_prompt: bool = strawberry.field(
        description="Whether it takes a `negativePrompt`."
    )
    supports_transparency: bool = strawberry.field(
        description="Whether its `background` can be transparent."
    )
    price_per_image: Decimal | None = strawberry.field(
        description="US dollars for one of its first size; null where nobody knows."
    )
    shutdown_date: datetime | None = strawberry.field(
        description="When its maker ends it, where that is known: the day begins."
    )
    replaced_by: str | None = strawberry.field(description="What its maker offers instead.")
    warning: str | None = strawberry.field(
        description="That it ends within 30 days or has ended, or that its provider does not list "
        "it, for people."
    )

    @classmethod
    def of(cls, model: ModelInfo, *, is_default: bool) -> "ProviderModel":
        return cls(
            name=model.name,
            is_default=is_default,
            sizes=[f"{width}x{height}" for width, height in model.sizes],
            min_side=model.min_side,
            max_side=model.max_side,
            max_count=model.max_count,
            qualities=list(model.qualities),
            styles=list(model.styles),
            max_references=model.max_references,
            streams_previews=model.streams_previews,
            supports_references=model.max_references > 0,
            supports_mask=model.supports_mask,
            supports_seed=model.supports_seed,
            supports_negative_prompt=model.supports_negative_prompt,
            supports_transparency=model.supports_transparency,
            price_per_image=model.price,
            shutdown_date=(
                datetime.combine(model.shutdown_date, time(), UTC) if model.shutdown_date else None
            ),
            replaced_by=model.replaced_by,
            warning=warning_of(model),
        )


@strawberry.type(description="Somebody who makes pictures.")
class Provider:
    name: str = strawberry.field(description="Give it as `provider`.")
    available: bool = strawberry.field(
        description="Whether it can be asked here: it is set up, and when it was last looked "
        "after, it refused neither our key nor our account."
    )
    unavailable_reason: str | None = strawberry.field(
        description="What the operator has to do so that it can be asked."
    )
    is_default: bool = strawberry.field(description="Whether it is asked when nobody says.")
    makes_ai_images: bool = strawberry.field(
        description="Whether its pictures come from an AI model, and are marked so. "
        "`card` is none: it sets words as a designed picture."
    )
    models: list[ProviderModel] = strawberry.field(
        description="Its models, the default first; none while it is not set up."
    )

    @classmethod
    def of(cls, provider: ImageProvider, catalogue: Catalogue) -> "Provider":
        reason = catalogue.unavailable_reason(provider.name)
        return cls(
            name=provider.name,
            available=reason is None,
            unavailable_reason=reason,
            is_default=provider.name == catalogue.default,
            makes_ai_images=provider.makes_ai_images,
            models=[
                ProviderModel.of(model, is_default=index == 0)
                for index, model in enumerate(provider.models)
            ],
        )

    @classmethod
    def of_absent(cls, absent: Absent) -> "Provider":
        return cls(
            name=absent.name,
            available=False,
            unavailable_reason=absent.reason,
            is_default=False,
            makes_ai_images=True,
            models=[],
        )


@strawberry.type
class ProviderQueries:
    @strawberry.field(
        description="Who can make pictures here, the default first; and who could, once set up."
    )
    def providers(self, info: Info) -> list[Provider]:
        catalogue = info.context.studio.catalogue
        by_rank = sorted(
            catalogue.providers.values(), key=lambda p: (p.name != catalogue.default, p.name)
        )
        set_up = [Provider.of(each, catalogue) for each in by_rank]
        return set_up + [Provider.of_absent(each) for each in catalogue.absent]
