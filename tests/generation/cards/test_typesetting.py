"""Breaking words into lines, with letters that are all half an em wide."""

from hypothesis import given
from hypothesis import strategies as st

from generation.cards.typesetting import Area, Block, break_lines, fit

WORD = st.text("abcdefghij", min_size=1, max_size=12)
WORDS = st.lists(WORD, min_size=1, max_size=40)
AREA = st.builds(Area, st.floats(40, 2000), st.floats(20, 2000), st.integers(1, 20))


def measure(text: str) -> float:
    return len(text) * 0.5


def broken(words: list[str], letters: int) -> list[str]:
    return break_lines([f"{word} " for word in words[:-1]] + words[-1:], letters * 0.5, measure)


def set_in(text: str, area: Area, *, largest: float = 200, smallest: float = 10) -> Block:
    return fit(text, area, measure, largest=largest, smallest=smallest, leading=1.2)


def test_lines_are_of_even_length() -> None:
    lines = broken(["one", "two", "three", "four", "five", "six"], 20)

    assert lines == ["one two three", "four five six"]


def test_the_last_word_does_not_stand_alone() -> None:
    lines = broken(["aaaa", "bbbb", "cccc", "dd"], 14)

    assert lines == ["aaaa bbbb", "cccc dd"]


def test_no_line_ends_with_a_dash() -> None:
    lines = broken(["aaa", "bbb", "–", "ccc", "ddd"], 9)

    assert lines == ["aaa bbb", "– ccc ddd"]


@given(words=WORDS, letters=st.integers(12, 60))
def test_no_word_is_lost_and_all_lines_fit(words: list[str], letters: int) -> None:
    lines = broken(words, letters)

    assert " ".join(lines).split() == words
    assert all(len(line) <= letters for line in lines)


@given(words=WORDS, letters=st.integers(12, 60))
def test_there_are_as_few_lines_as_possible(words: list[str], letters: int) -> None:
    lines = broken(words, letters)

    fewest, used = 0, letters + 1
    for word in words:
        used += 1 + len(word)
        if used > letters:
            fewest, used = fewest + 1, len(word)
    assert len(lines) == fewest


@given(words=WORDS, letters=st.integers(12, 60))
def test_a_last_word_stands_alone_only_where_no_other_could_join_it(
    words: list[str], letters: int
) -> None:
    lines = broken(words, letters)

    stands_alone = len(lines) > 1 and " " not in lines[-1]
    assert not stands_alone or len(f"{words[-2]} {words[-1]}") > letters


def test_a_word_wider_than_the_line_has_its_own() -> None:
    lines = broken(["a", "b" * 30, "c"], 10)

    assert lines == ["a", "b" * 30, "c"]


def test_few_words_are_set_as_large_as_they_may_be() -> None:
    block = set_in("Hi", Area(1000, 1000, 5))

    assert (block.size, block.lines, block.is_whole) == (200, ("Hi",), True)


@given(words=WORDS, area=AREA)
def test_set_type_stays_inside_its_area(words: list[str], area: Area) -> None:
    block = set_in(" ".join(words), area)

    assert all(measure(line) * block.size <= area.width + 1e-6 for line in block.lines)
    assert block.height <= area.height
    assert len(block.lines) <= area.max_lines
    assert len(block.baselines) == len(block.lines)


@given(words=WORDS, area=AREA)
def test_what_is_set_is_the_text_or_its_beginning_and_an_ellipsis(
    words: list[str], area: Area
) -> None:
    block = set_in(" ".join(words), area)

    letters = "".join(block.lines).replace(" ", "")
    if block.is_whole:
        assert letters == "".join(words)
    elif block.lines:
        assert letters.endswith("…")
        assert "".join(words).startswith(letters[:-1])


def test_a_long_word_shrinks_before_it_is_broken() -> None:
    block = set_in("a" * 50, Area(500, 500, 5))

    assert block.lines == ("a" * 50,)
    assert 18 < block.size <= 20


def test_a_word_too_long_for_the_smallest_size_is_broken() -> None:
    block = set_in("a" * 150, Area(500, 500, 5))

    assert block.size == 10
    assert block.lines == ("a" * 100, "a" * 50)


def test_a_letter_keeps_its_marks_where_a_word_is_broken() -> None:
    block = set_in("e\u0301" * 30, Area(101, 500, 9))

    assert all(line.startswith("e") for line in block.lines)
    assert all(line.endswith("\u0301") for line in block.lines)


def test_too_many_words_end_in_an_ellipsis() -> None:
    block = set_in("one, two, three, four, five", Area(50, 14, 3))

    assert (block.lines, block.is_whole) == (("one, two…",), False)


def test_no_room_at_all_gives_no_lines() -> None:
    blocks = [set_in("one two", Area(*size, 3)) for size in ((1, 100), (100, 1), (100, -5))]

    assert [block.lines for block in blocks] == [(), (), ()]


def test_a_new_paragraph_starts_a_line_further_down() -> None:
    block = set_in("one two\nthree", Area(1000, 1000, 5), largest=100)

    assert block.lines == ("one two", "three")
    assert block.baselines == (0, 165)


def test_thai_is_broken_where_a_syllable_starts() -> None:
    block = set_in("เปิดตัวร้านใหม่", Area(60, 200, 5), largest=10)

    assert block.lines == ("เปิดตัวร้าน", "ใหม่")


def test_a_flaw_is_avoided_by_a_slightly_smaller_size() -> None:
    block = set_in("aaaaa bbbbb ccccc", Area(500, 1000, 2), largest=91)

    assert " ".join(block.lines) == "aaaaa bbbbb ccccc"
    assert not block.has_flaw or block.size == 91
