"""Which words of a post are set, and how large. This font draws what is not beyond U+2FFF."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.cards.lettering import glyph_finder
from generation.cards.wording import Wording, read_post


def can_draw(character: str) -> bool:
    return character < "\u3000"


def read(post: str) -> Wording:
    return read_post(post, can_draw)


def test_a_short_post_is_all_statement() -> None:
    assert read("Slow mornings.") == Wording("Slow mornings.")


def test_hashtags_at_the_end_are_set_apart() -> None:
    wording = read("Late jazz on Friday\n\n#jazz #berlin, #jazz")

    assert wording == Wording("Late jazz on Friday", tags=("#jazz", "#berlin"))


def test_a_hashtag_in_a_sentence_is_a_word_of_it() -> None:
    assert read("Our #summer sale is #1").statement == "Our summer sale is #1"


def test_a_post_of_nothing_but_hashtags_is_made_of_them() -> None:
    assert read("#sunset #beach") == Wording("#sunset #beach")


def test_whoever_is_mentioned_last_stays_in_the_sentence() -> None:
    assert read("Photo by @anna #sunset") == Wording("Photo by @anna", tags=("#sunset",))


@pytest.mark.parametrize(
    ("post", "statement"),
    [
        ("Come by https://example.com/a?b=c#d", "Come by"),
        ("Tickets: https://example.com", "Tickets"),
        ("We open. Read more: www.example.com", "We open."),
        ("See (https://example.com) and come", "See and come"),
        ("https://example.com", ""),
        ("Write to me@example.com", "Write to me@example.com"),
    ],
)
def test_addresses_of_pages_are_dropped_with_what_only_points_at_them(
    post: str, statement: str
) -> None:
    assert read(post).statement == statement


@pytest.mark.parametrize(
    ("post", "statement"),
    [
        ("Hello 🎉 world 👩🏽\u200d🍳!", "Hello world !"),
        ("a\u200bb\u202ec\x00d", "abcd"),
        ("𝗯𝗼𝗹𝗱 words", "bold words"),
        ("don't  stop...", "don’t stop…"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("one\n🎉\n\n\ntwo", "one\ntwo"),
    ],
)
def test_what_the_font_cannot_draw_is_left_out(post: str, statement: str) -> None:
    assert read(post).statement == statement


@pytest.mark.parametrize("post", ["🎉🎉", "新しいスタジオ 2024", "", " \n ", "—…!", "\ud800"])
def test_nothing_is_said_where_little_could_be_drawn(post: str) -> None:
    assert read(post) == Wording("")


def test_a_long_post_starts_with_its_first_sentences() -> None:
    first, rest = "Big news: we open on Mr. Smith’s day.", "There will be coffee and cake. " * 6

    wording = read(f"{first} {rest}")

    assert (
        wording.statement
        == f"{first} There will be coffee and cake. There will be coffee and cake."
    )
    assert wording.body == ("There will be coffee and cake. " * 4).strip()


def test_a_long_post_with_a_headline_keeps_it() -> None:
    wording = read("Now open\n" + "There will be coffee and cake. " * 6)

    assert wording.statement == "Now open"


def test_a_long_sentence_goes_on_in_the_body() -> None:
    wording = read("This is one of those sentences that do not know where to end, and so " * 5)

    assert wording.statement == "This is one of those sentences that do not know where to end…"
    assert wording.body.startswith("and so This is")


def test_whoever_said_it_is_named_in_small() -> None:
    wording = read("“Good design is as little design as possible.”\n– Dieter Rams")

    assert wording.body == "– Dieter Rams"


@pytest.mark.parametrize(
    ("post", "expected"),
    [("שלום world", True), ("12 مرحبا", True), ("hello שלום", False), ("1", False)],
)
def test_the_first_letter_tells_the_direction(post: str, expected: bool) -> None:
    assert read(post).right_to_left is expected


@given(post=st.text(st.characters(max_codepoint=0x17F), max_size=400))
def test_words_come_in_the_order_of_the_post(post: str) -> None:
    wording = read(post)

    said = iter(f"{wording.statement}{wording.body}".replace("…", "").replace("’", "'"))
    source = iter(post)
    assert all(letter in source for letter in said if letter.isascii() and letter.isalnum())


def test_the_font_has_the_scripts_it_is_chosen_for_and_no_emoji() -> None:
    has_glyph = glyph_finder()

    found = "".join(letter for letter in "aßñΩЖשمनไგ→🎉漢あ★" if has_glyph(letter))

    assert found == "aßñΩЖשمनไგ→"
