"""What a text is found by, on the way to the databases: its words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.words import MAX_INDEXED, MAX_WORD, SCOPE, UNSEEN, fold, words_of

Unseen = st.sampled_from(
    [chr(code) for first, last in UNSEEN for code in {first, (first + last) // 2, last}]
)
Texts = st.text(max_size=30) | st.text("aé ☀🏖ß한ไမស字می1\n", max_size=30)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("🏖\ufe0fSummer", ["🏖", "summer"], id="a variation selector"),
        pytest.param("☀\ufe0e ☀\ufe0f", ["☀", "☀"], id="as text and as emoji"),
        pytest.param("1\ufe0f\u20e3 first", ["1", "first"], id="a keycap"),
        pytest.param("co\u00adoperate", ["cooperate"], id="a soft hyphen"),
        pytest.param("snow\u2060man", ["snowman"], id="a word joiner"),
        pytest.param("snow\u200bman", ["snowman"], id="a zero-width space"),
        pytest.param("葛\U000e0100", ["葛"], id="a variant of a Han sign"),
        pytest.param("👩\u200d👧", ["👩", "👧"], id="joined emoji"),
        pytest.param("می\u200cخواهم", ["میخواهم"], id="a Persian non-joiner"),
        pytest.param("ක්\u200dරම", ["කරම"], id="a Sinhala joiner"),
        pytest.param("\u202babc\u202c\u200f1", ["abc1"], id="marks of direction"),
        pytest.param("\u3164", [], id="a letter that is empty"),
    ],
)
def test_signs_that_nobody_sees_neither_divide_a_word_nor_hide_one(
    text: str, words: list[str]
) -> None:
    assert words_of(text) == words


@given(text=Texts, unseen=Unseen, place=st.integers(0, 30))
def test_a_sign_that_nobody_sees_changes_no_word_wherever_it_stands(
    text: str, unseen: str, place: int
) -> None:
    changed = text[:place] + unseen + text[place:]

    assert words_of(changed) == words_of(text)
    assert fold(changed) == fold(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("東京", id="Han"),
        pytest.param("さくら", id="kana"),
        pytest.param("ทะเล", id="Thai"),
        pytest.param("ທະເລ", id="Lao"),
        pytest.param("ភាសា", id="Khmer"),
        pytest.param("ဘာသာ", id="Burmese"),
        pytest.param("ᦟᦹᧉ", id="New Tai Lue"),
    ],
)
def test_scripts_without_spaces_are_found_sign_by_sign(text: str) -> None:
    assert words_of(text) == list(text)


def test_tibetan_is_found_by_the_syllables_that_it_divides() -> None:
    assert words_of("བད་ཡག") == ["བད", "ཡག"]


@given(text=Texts)
def test_no_word_has_an_accent_or_a_sign_that_nobody_sees(text: str) -> None:
    signs = {sign for word in words_of(text) for sign in word}

    assert not any(unicodedata.combining(sign) for sign in signs)
    assert not any(first <= ord(sign) <= last for sign in signs for first, last in UNSEEN)


# ---- how many there are --------------------------------------------------------------------------


def taken(words: list[str]) -> int:
    """Bytes of an index."""
    return sum(SCOPE + len(word.encode()) for word in set(words))


def test_a_text_has_as_many_words_as_an_index_takes() -> None:
    signs = [chr(code) for code in range(0x4E00, 0x9FF0)]

    words = words_of("".join(signs))

    assert words == signs[: MAX_INDEXED // (SCOPE + 3)]


def test_a_word_that_occurs_again_takes_no_more_of_an_index() -> None:
    words = words_of("sea " * 30_000)

    assert words == ["sea"] * 30_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("".join(map(chr, range(0x20000, 0x27D00))), id="Han signs of four bytes"),
        pytest.param(" ".join(f"{n:05}" for n in range(20_000)), id="short words"),
        pytest.param(
            " ".join("\U00010400" * 63 + chr(n) for n in range(500, 9_000)), id="long ones"
        ),
        pytest.param("".join(f"{n}\ufdfa" for n in range(12_000)), id="signs that are phrases"),
    ],
)
def test_no_text_takes_more_of_an_index_than_there_is(text: str) -> None:
    words = words_of(text)

    assert MAX_INDEXED - SCOPE - 4 * MAX_WORD < taken(words) <= MAX_INDEXED
