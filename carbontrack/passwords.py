"""Passwords, tokens and one-time codes of people: how they are made, and what is kept of them."""

from __future__ import annotations

import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LONGEST_PASSWORD = 1024
CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I, O, 0 and 1, which look alike."""
CODE_LENGTH = 12
"""60 bits: also whoever has the database cannot find a code by its hash before it ends."""
_hasher = PasswordHasher(memory_cost=19 * 1024, time_cost=3, parallelism=1)
"""argon2id at 19 MiB: docs/security.md says why so much and no more."""


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its salt and cost."""
    return _hasher.hash(password)


def password_fits(password_hash: str, password: str) -> bool:
    """Whether a password is the one that was hashed."""
    try:
        return _hasher.verify(password_hash, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash was made at a lower cost than today's."""
    return _hasher.check_needs_rehash(password_hash)


def new_token() -> str:
    """What a session or a program signs in with: 256 bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token. It needs no salt: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_code() -> str:
    """A one-time code for a person to type, such as ``K7QM-2FXA-9TLB``."""
    signs = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    return "-".join(signs[at : at + 4] for at in range(0, CODE_LENGTH, 4))


def code_hash(code: str) -> str:
    """What is kept of a code, however somebody types it: with small letters, spaces, or without hyphens."""
    return token_hash("".join(sign for sign in code.upper() if sign.isalnum()))


def check_password(password: str, *own: str) -> str:
    """Why somebody should not choose a password; empty if it is good. ``own`` are their address and names."""
    if len(password) < 10:
        return "The password must have at least 10 characters."
    if any(word and len(word) > 3 and word.casefold() in password.casefold() for word in own):
        return "The password must not have your name or your address in it."
    return ""
