"""Passwords that nobody guesses, and codes that can be typed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.passwords import (
    CODE_ALPHABET,
    WeakPassword,
    check_password,
    code_hash,
    hash_password,
    new_code,
    new_token,
    password_fits,
    token_hash,
)

OWN = ("amina.wanjiru@example.org", "Amina", "Wanjiru")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("tea4teapot", None),
        ("wood burns in the morning", None),
        ("wanjiru drinks much tea", None),
        ("ninechars", "at least 10 characters"),
        ("", "at least 10 characters"),
        ("ab cd " * 171, "1024 characters at most"),
        ("abababababab", "same few characters"),
        ("1111111111", "same few characters"),
        ("password123", "Many people"),
        ("Password!2024", "Many people"),
        ("1234567890", "Many people"),
        ("QWERTYUIOP", "Many people"),
        ("!!!dragon???2026", "Many people"),
        ("amina.wanjiru@example.org", "your own name or address"),
        ("AminaWanjiru7", "your own name or address"),
        ("wanjiruamina!", "your own name or address"),
    ],
)
def test_a_password_is_long_and_not_what_others_try_first(password: str, why: str | None) -> None:
    if why is None:
        check_password(password, OWN)
    else:
        with pytest.raises(WeakPassword, match=why):
            check_password(password, OWN)


@given(st.text(min_size=10, max_size=1024), st.lists(st.text(max_size=20), max_size=3))
def test_any_password_is_taken_or_refused(password: str, own: list[str]) -> None:
    with suppress(WeakPassword):  # and nothing else
        check_password(password, own)


def test_a_password_fits_its_own_hash_only() -> None:
    known = hash_password("wood burns in the morning")

    assert password_fits(known, "wood burns in the morning")
    assert not password_fits(known, "wood burns in the evening")
    assert not password_fits("no hash", "wood burns in the morning")


def test_a_code_is_the_same_however_it_is_typed() -> None:
    code = new_code()

    assert set(code) <= set(CODE_ALPHABET) | {"-"}
    for typed in (code.lower(), code.replace("-", ""), f" {code.replace('-', ' ')}\n"):
        assert code_hash(typed) == code_hash(code)
    assert code_hash(new_code()) != code_hash(code)


def test_no_two_tokens_are_the_same_and_their_hash_does_not_give_them_away() -> None:
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert not tokens & {token_hash(token) for token in tokens}
