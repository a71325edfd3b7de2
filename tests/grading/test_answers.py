"""Final answers are found where people and models put them."""

import time

import pytest

from ebm_jax.grading.answers import (
    boxed_answer,
    choice_letter,
    final_answer,
    gsm8k_answer,
    last_number,
    maths_answer,
    numbers,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He has 3+4=7.\n#### 7", "7"), ("#### $1,250.50", "1250.5"), ("#### -3%\nQuestion: 5", "-3"),
        ("so \\boxed{42} apples", "42"), ("It costs $18.", "18"), ("from 10-3", "3"), ("no number", None), ("It is 5.0", "5"),
    ],
)  # fmt: skip
def test_word_problems(text, answer):
    assert gsm8k_answer(text) == answer


def test_strict_answers_need_their_marker():
    assert gsm8k_answer("It is 5", strict=True) is None


def test_what_never_ends_takes_no_time():
    began = time.monotonic()
    for text in (r"\boxed{" * 20_000, "1," * 50_000, "$" * 50_000, "answer is " * 10_000, "9" * 100_000):
        gsm8k_answer(text), maths_answer(text), choice_letter(text)
    assert time.monotonic() - began < 10


def test_numbers_have_one_form():
    assert numbers("1,2,3 and 12,34 or 1,234,567") == ["1", "2", "3", "12", "34", "1234567"]
    assert numbers("$1,250.50 and -3% of 007, 2e3 or x2") == ["1250.5", "-3", "7", "2000"]
    assert last_number("a2b") is None


def test_boxes_nest_and_the_last_whole_one_counts():
    assert boxed_answer(r"\boxed{1} then \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert boxed_answer(r"\boxed{1} then \boxed{\frac{1}") == "1"
    assert boxed_answer(r"} { \boxed{a\}b} {") == r"a\}b"
    assert boxed_answer(r"\boxed 7.") == "7"
    assert boxed_answer("nothing") is None
    assert maths_answer("The answer is $x+1$. Done") == "x+1"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7\n#### 8", "8"), (r"7 \boxed{x+1} 9", "x+1"), ("It is 7. The answer is $x^2$.", "x^2"),
        (r"\frac{1}{2}", r"\frac{1}{2}"), ("3 and then 4 apples", "4"), ("no idea", None), (" \n", None),
    ],
)  # fmt: skip
def test_any_mark_of_a_final_answer_counts(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [("The answer is (C).", "C"), ("B", "B"), ("B. because", "B"), (r"\boxed{\text{D}}", "D"), ("the answer is a number", None),
     ("I think (A) is wrong, (B) right", "B"), ("", None)],
)  # fmt: skip
def test_choices(text, letter):
    assert choice_letter(text, "ABCD") == letter
