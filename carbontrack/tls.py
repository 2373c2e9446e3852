"""The certificate of our own https: checked and loaded at the start, and read anew by a reload."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbontrack.config import Config, ConfigError, HttpTls, Problem

if TYPE_CHECKING:  # slow to import, and few commands and sites need it
    from cryptography import x509

ENDS_SOON = timedelta(days=14)
"""A certificate that ends within this time has not been renewed as it should have been."""


class ServerCertificate:
    """What browsers are shown. ``context`` is that of the running server; renewed files count for new connections.

    ``fingerprint`` is the SHA-256 of the certificate, ``ends`` when it expires. Raises
    :class:`~carbontrack.config.ConfigError` with file, line and key for files that cannot be used.
    """

    def __init__(self, config: Config, tls: HttpTls) -> None:
        self._config = config
        self._tls = tls
        self._refused = ""
        self.context = _context()
        self.fingerprint = b""
        self.ends = datetime.max.replace(tzinfo=UTC)
        self._load()

    def renew(self) -> tuple[str, ...]:
        """Read the files again; why they cannot be used, and then what was there serves on."""
        try:
            self._load()
        except ConfigError as error:
            self._refused = str(error)
            return (self._refused,)
        self._refused = ""
        return ()

    def end_timestamp_s(self) -> float:
        return self.ends.timestamp()

    def problems(self, now: datetime) -> tuple[str, ...]:
        """What somebody must look after."""
        ends_soon = now > self.ends - ENDS_SOON
        told = f"The certificate {self._tls.cert_file} ends on {self.ends:%d %b %Y}. Renew it." if ends_soon else ""
        return tuple(text for text in (self._refused, told) if text)

    def _load(self) -> None:
        files = self._tls.cert_file, self._tls.key_file
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415  # as above

        certificate = _checked(self._config, *files)
        self.context.load_cert_chain(*files)
        self.fingerprint = certificate.fingerprint(SHA256())
        self.ends = certificate.not_valid_after_utc


def problems_of(config: Config) -> list[str]:
    """Why the files of ``http.tls`` cannot be used, if they cannot."""
    tls = config.http.tls
    try:
        if tls is not None:
            _checked(config, tls.cert_file, tls.key_file)
    except ConfigError as error:
        return [str(error)]
    return []


def _checked(config: Config, cert_file: Path, key_file: Path) -> x509.Certificate:
    """The certificate, after a trial beside the running server: a bad pair would leave half of it there."""
    from cryptography import x509  # noqa: PLC0415  # as above
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  # as above

    try:
        certificate = x509.load_pem_x509_certificates(_read(config, "cert_file", cert_file))[0]
    except ValueError:
        raise _problem(config, "cert_file", f"there is no certificate in PEM in {cert_file}") from None
    try:
        key = load_pem_private_key(_read(config, "key_file", key_file), None)
    except TypeError:
        text = f"the key in {key_file} needs a password, which the core does not have; take it away (openssl pkey)"
        raise _problem(config, "key_file", text) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _problem(config, "key_file", f"there is no private key in PEM in {key_file}") from None
    if key.public_key() != certificate.public_key():
        raise _problem(config, "key_file", f"the key in {key_file} is not that of the certificate in {cert_file}")
    try:
        _context().load_cert_chain(cert_file, key_file)
    except ssl.SSLError as error:
        text = f"{cert_file} and {key_file} cannot be used: {error.reason or error}"
        raise _problem(config, "cert_file", text) from None
    return certificate


def _read(config: Config, key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _problem(config, key, f"cannot read {path}: {error.strerror}") from None


def _problem(config: Config, key: str, text: str) -> ConfigError:
    where = ("http", "tls", key)
    return ConfigError([Problem(config.place(where), where, text)])


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
