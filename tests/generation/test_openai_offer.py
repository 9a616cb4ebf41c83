"""Which models may be asked for: the configured one first, and what is known of it."""

import logging
from datetime import date

import pytest

from generation.providers.openai_models import CURRENT, FORMER
from generation.providers.openai_offer import Offer
from storage.errors import Rejected

LATER = "gpt-image-2.7-flare"


def names(offer: Offer) -> list[str]:
    return [model.name for model in offer.models]


@pytest.mark.parametrize(("width", "height", "field"), [(0, 9, "width"), (9, 3841, "height")])
def test_a_side_that_no_picture_has_is_rejected(width: int, height: int, field: str) -> None:
    offer = Offer("gpt-image-2", is_compatible=False)

    with pytest.raises(Rejected) as refusal:
        offer.size_for(offer.models[0], width, height)

    assert refusal.value.field == field


def test_an_unknown_model_is_asked_for_a_standard_size_and_a_later_one_for_a_native_size() -> None:
    offer = Offer("somebody-elses", is_compatible=False)
    unknown = offer.models[0]

    assert offer.size_for(unknown, 1080, 1080) == (1024, 1024)
    assert offer.size_for(unknown, 1080, 1350) == (1024, 1536)
    assert offer.size_for(unknown, 1080, 1920) == (1024, 1536)
    assert offer.size_for(unknown, 1200, 630) == (1536, 1024)
    assert offer.size_for(offer.described(LATER), 1080, 1350) == (1088, 1360)


def test_the_configured_model_comes_first_and_the_current_ones_after_it() -> None:
    offer = Offer("gpt-image-2", is_compatible=False)

    assert names(offer) == ["gpt-image-2", *(name for name in CURRENT if name != "gpt-image-2")]
    assert not set(names(offer)) & set(FORMER)
    assert offer.models[0].warning is None


def test_models_that_have_ended_or_are_not_listed_disappear_but_not_the_configured_one() -> None:
    offer = Offer("gpt-image-2", is_compatible=False)

    offer.learn(
        {
            "gpt-image-2.5-flare": "2026-01-01",
            "gpt-image-2.5-sunburst": "2999-01-01",
            "gpt-image-2.6-flare": "soon",
            "gpt-6-luna": None,
        }
    )

    assert [(model.name, model.shutdown_date) for model in offer.models] == [
        ("gpt-image-2", None),
        ("gpt-image-2.6-flare", None),
        ("gpt-image-2.5-sunburst", date(2999, 1, 1)),
    ]


def test_models_that_we_have_not_heard_of_yet_are_offered_as_soon_as_they_are_listed() -> None:
    offer = Offer("gpt-image-2.6-flare", is_compatible=False)
    snapshot = "gpt-image-2.6-flare-2026-11-04"

    offer.learn(dict.fromkeys((snapshot, "gpt-image-2.6-flare", "gpt-image-3", LATER, "dall-e-3")))

    assert names(offer) == ["gpt-image-2.6-flare", "gpt-image-3", LATER, snapshot]
    assert all(model.max_count == 10 for model in offer.models)


def test_a_configured_model_that_is_not_listed_is_warned_of_until_it_is() -> None:
    offer = Offer(LATER, is_compatible=False)
    before = offer.models[0].warning

    offer.learn(dict.fromkeys(CURRENT))
    missing = offer.models[0].warning
    offer.learn(dict.fromkeys((*CURRENT, LATER)))

    assert missing == f"OpenAI does not list {LATER} among its models, and may refuse it."
    assert before is offer.models[0].warning is None


def test_in_the_place_of_a_retired_model_its_replacement_is_the_default_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)

    offer = Offer("dall-e-3", is_compatible=False)

    assert names(offer)[:2] == ["gpt-image-2.6-flare", "gpt-image-2.6-sunburst"]
    assert offer.models[0].warning == (
        "DARKROOM_OPENAI_MODEL is dall-e-3, which is no more: gpt-image-2.6-flare answers in its "
        "place."
    )
    assert caplog.messages == [
        "model.replaced configured=dall-e-3 model=gpt-image-2.6-flare",
    ]
    assert offer.former == dict.fromkeys(FORMER, "gpt-image-2.6-flare")


# ---- servers of one's own ------------------------------------------------------------------------


def test_while_no_name_is_known_the_default_is_asked_for_and_afterwards_what_is_listed() -> None:
    offer = Offer(None, is_compatible=True)
    before = names(offer), offer.named("default")

    offer.learn(dict.fromkeys(("flux-dev", "z-image")))

    assert before == (["default"], "default")
    assert names(offer) == ["flux-dev", "z-image"]
    assert (offer.named("default"), offer.named("z-image")) == ("flux-dev", "z-image")
    assert offer.former["default"] == "flux-dev"
    assert offer.models[0].warning is None


@pytest.mark.parametrize(
    ("listed", "default"),
    [
        (["llama-4-8b", "stablediffusion", "whisper-1"], "stablediffusion"),
        (["qwen-4", "Qwen/Qwen-Image-2"], "Qwen/Qwen-Image-2"),
        (["gpt-4o", "sdxl-turbo"], "sdxl-turbo"),
        (["mine", "yours"], "mine"),
        ([], "default"),
    ],
)
def test_the_first_that_draws_by_its_name_is_the_default_or_else_the_first(
    listed: list[str], default: str
) -> None:
    offer = Offer(None, is_compatible=True)

    offer.learn(dict.fromkeys(listed))

    assert offer.default == default


def test_a_configured_name_is_kept_and_warned_of_where_the_server_lists_others() -> None:
    offer = Offer("default", is_compatible=True)

    offer.learn({})
    silent = offer.models[0].warning
    offer.learn(dict.fromkeys(["flux-dev"]))

    assert silent is None
    assert names(offer) == ["default", "flux-dev"]
    assert offer.named("default") == "default"
    assert offer.models[0].warning == (
        "The image server does not list default among its models, and may refuse it."
    )


def test_an_old_name_that_a_server_of_ones_own_is_configured_with_stays_its_own() -> None:
    offer = Offer("dall-e-3", is_compatible=True)

    assert names(offer) == ["dall-e-3"]
    assert offer.models[0].warning is None
