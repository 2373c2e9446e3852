"""A certificate authority of one's own, and a broker's certificate by it: for brokers that no public authority knows.

Elliptic curve keys: an ESP32 checks them in a tenth of the time of RSA's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
AUTHORITY_DAYS = 7300
SERVER_DAYS = 1825
"""A node cannot be visited every year. Its store bridges some days, so a new certificate can also come late."""


class CertificateError(ValueError):
    """A certificate cannot be made or used; the message says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes

    @property
    def ends(self) -> datetime:
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


def new_authority(name: str) -> Pair:
    """A certificate authority that signs servers' certificates and no further authorities'."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return _pair(certificate, key)


def new_server(authority: Pair, hosts: Sequence[str]) -> Pair:
    """A server's certificate for the names and addresses under which it is reached."""
    try:
        issuer = x509.load_pem_x509_certificate(authority.certificate)
        issuer_key = load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the certificate authority cannot be read: {error}") from error
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey) or issuer_key.public_key() != issuer.public_key():
        raise CertificateError("the certificate authority's key is not that of its certificate")
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    key = ec.generate_private_key(ec.SECP256R1())
    # From 3.13 on Python verifies strictly: the certificate must name the authority's key.
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(_name(hosts[0][:64]), issuer.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key_id, critical=False)
        .sign(issuer_key, SHA256())
    )
    return _pair(certificate, key)


def _alternative(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ip_address(host))
    if not HOST_NAME.fullmatch(host):
        raise CertificateError(f"{host!r} is no host name and no address")
    return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(hours=1),
        not_valid_after=now + timedelta(days=days),
    )


def _key_usage(*uses: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in uses for use in every})


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(certificate.public_bytes(Encoding.PEM), private)
