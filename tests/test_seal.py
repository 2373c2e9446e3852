"""A sealed file is genuine only as it was sealed: whatever is changed in it, and whoever else's seal it has."""

from __future__ import annotations

import base64
import io
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.compliance import ComplianceReport
from carbontrack.plugins.reports import compliance_csv, compliance_json, compliance_pdf, compliance_xlsx
from carbontrack.seal import (
    EMPTY,
    Checked,
    SealError,
    Verdict,
    check,
    key_at,
    key_id,
    place,
    public_key,
    public_pem,
    sealed,
)
from carbontrack.testing import compliance_report

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
RENDERS: dict[str, Callable[[ComplianceReport], bytes]] = {
    "csv": compliance_csv.render,
    "json": compliance_json.render,
    "pdf": compliance_pdf.render,
    "xlsx": compliance_xlsx.render,
    "operator-template": compliance_xlsx.render_template,
}
FORMATS = sorted(RENDERS)


def made(name: str, key: Ed25519PrivateKey = KEY, **changed: object) -> bytes:
    report = compliance_report(seal="none", **changed)
    at = place(report.reference, report.sha256, key.public_key())
    return sealed(RENDERS[name](replace(report, seal=at)), at, key)


@dataclass(frozen=True)
class File:
    name: str
    body: bytes


@pytest.fixture(scope="module", params=FORMATS)
def file(request: pytest.FixtureRequest) -> File:
    return File(request.param, made(request.param))


def verdict(body: bytes, *keys: Ed25519PrivateKey) -> Verdict:
    return check(body, [key.public_key() for key in keys or (KEY,)]).verdict


# --- what a check says


def test_a_file_as_it_was_sealed_is_genuine_and_says_what_it_is(file: File) -> None:
    report = compliance_report()

    found = check(file.body, [OTHER.public_key(), KEY.public_key()])

    assert found == Checked(Verdict.GENUINE, "CT-7-v2", report.sha256, key_id(KEY.public_key()))


@given(place=st.integers(0), change=st.integers(1, 255))
def test_no_byte_of_a_file_can_be_changed(file: File, place: int, change: int) -> None:
    body = bytearray(file.body)
    body[place % len(body)] ^= change

    assert verdict(bytes(body)) is not Verdict.GENUINE


def test_no_byte_of_the_seal_can_be_changed(file: File) -> None:
    found = re.search(rb"CARBONTRACK-SEAL-1:[\w:.-]+", file.body)
    assert found is not None
    for at in range(*found.span()):
        for change in (1, 2, 4, 32):
            body = bytearray(file.body)
            body[at] ^= change
            assert verdict(bytes(body)) is not Verdict.GENUINE, (at, change)


def test_the_last_character_of_a_signature_is_the_only_one_that_may_stand_there(file: File) -> None:
    """Four of its six bits say nothing, and a lenient reader takes sixteen characters for the same."""
    found = re.search(rb"CARBONTRACK-SEAL-1:[\w:.-]+", file.body)
    assert found is not None
    seal = found[0]
    for letter in set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") - {seal[-1]}:
        assert verdict(file.body.replace(seal, seal[:-1] + bytes([letter]))) is Verdict.ALTERED


@given(extra=st.binary(min_size=1, max_size=300), at=st.integers(0))
def test_nothing_can_be_put_into_a_file(file: File, extra: bytes, at: int) -> None:
    cut = at % (len(file.body) + 1)

    assert verdict(file.body[:cut] + extra + file.body[cut:]) is not Verdict.GENUINE


def test_nothing_can_be_put_behind_a_file_or_taken_from_its_end(file: File) -> None:
    assert verdict(file.body + b"\n") is Verdict.ALTERED
    assert verdict(file.body[:-1]) is not Verdict.GENUINE


def test_the_seal_of_another_file_of_the_same_report_does_not_fit(file: File) -> None:
    another = made(next(name for name in FORMATS if name != file.name))
    seal = re.compile(rb"CARBONTRACK-SEAL-1:[\w.-]+:[0-9a-f]{64}:[0-9a-f]{16}:[\w-]{86}")
    taken = seal.search(another)
    assert taken is not None

    assert verdict(seal.sub(taken[0], file.body)) is Verdict.ALTERED


def test_two_seals_are_one_too_many(file: File) -> None:
    other = made(file.name, OTHER)

    assert verdict(file.body + other, KEY, OTHER) is Verdict.ALTERED
    assert verdict(file.body + file.body) is Verdict.ALTERED


def test_of_a_key_that_is_not_known_nothing_is_said(file: File) -> None:
    assert verdict(file.body, OTHER) is Verdict.UNKNOWN_KEY
    assert check(file.body, []).verdict is Verdict.UNKNOWN_KEY


def test_who_calls_another_key_by_the_name_of_a_known_one_is_found_out(file: File) -> None:
    forged = made(file.name, OTHER).replace(key_id(OTHER.public_key()).encode(), key_id(KEY.public_key()).encode())

    assert verdict(forged) is Verdict.ALTERED


def test_what_has_no_seal_is_not_sealed() -> None:
    assert check(b"a letter", [KEY.public_key()]) == Checked(Verdict.NOT_SEALED)
    assert verdict(b"") is Verdict.NOT_SEALED


def test_a_place_without_a_signature_is_no_seal(file: File) -> None:
    report = compliance_report(seal="none")
    at = place(report.reference, report.sha256, KEY.public_key())
    unsigned = RENDERS[file.name](replace(report, seal=at))

    assert EMPTY.encode() in unsigned
    assert verdict(unsigned) is not Verdict.GENUINE


# --- a number that somebody improves


def test_a_number_that_is_changed_in_the_json_file_is_found() -> None:
    body = made("json")

    assert verdict(body.replace(b"312450.25", b"212450.25")) is Verdict.ALTERED


@pytest.mark.parametrize(("name", "part"), [("csv", "results.csv"), ("xlsx", "xl/worksheets/sheet3.xml")])
def test_a_number_that_is_changed_in_an_archive_is_found_even_with_the_seal_kept(name: str, part: str) -> None:
    """As an office program would write it anew, with the archive's comment in its place."""
    body, written = made(name), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new:
        new.comment = old.comment
        for info in old.infolist():
            content = old.read(info)
            if info.filename == part:
                assert b"312450.25" in content
                content = content.replace(b"312450.25", b"212450.25")
            new.writestr(info, content)

    assert verdict(written.getvalue()) is Verdict.ALTERED


def test_a_pdf_that_is_written_again_is_found() -> None:
    """An editor appends what it changes to a PDF, and leaves the rest."""
    body = made("pdf")

    assert verdict(body + b"\n1 0 obj\n<< >>\nendobj\nstartxref\n0\n%%EOF\n") is Verdict.ALTERED


# --- sealing


def test_a_file_without_the_place_cannot_be_sealed() -> None:
    at = place("CT-1-v1", "0" * 64, KEY.public_key())

    with pytest.raises(SealError, match="left out the place of the seal"):
        sealed(b"a file", at, KEY)


@pytest.mark.parametrize("reference", ["", "CT 1", "CT:1", "x" * 61, "CT-1\n"])
def test_a_reference_that_a_seal_cannot_carry_is_refused(reference: str) -> None:
    with pytest.raises(SealError, match="a reference is letters"):
        place(reference, "0" * 64, KEY.public_key())


def test_the_same_file_gets_the_same_seal() -> None:
    assert made("csv") == made("csv")


# --- keys


def test_a_key_is_made_once_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "signing.pem"

    first = key_at(file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key_at(file).private_bytes_raw() == first.private_bytes_raw()


def test_the_public_key_goes_round_as_pem() -> None:
    pem = public_pem(KEY.public_key())

    assert public_key(pem.encode()).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    assert base64.b64decode(pem.splitlines()[1])[-32:] == KEY.public_key().public_bytes_raw()


def test_a_key_of_another_kind_or_with_a_password_is_refused(tmp_path: Path) -> None:
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other = X25519PrivateKey.generate()
    file = tmp_path / "key.pem"
    for content, says in (
        (other.private_bytes(pem, form, serialization.NoEncryption()), "another kind"),
        (KEY.private_bytes(pem, form, serialization.BestAvailableEncryption(b"secret")), "without a password"),
        (b"no key", "no private key in PEM"),
    ):
        file.write_bytes(content)
        with pytest.raises(SealError, match=says):
            key_at(file)
    public = other.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SealError, match="another kind"):
        public_key(public)
    with pytest.raises(SealError, match="no public key in PEM"):
        public_key(b"no key")
