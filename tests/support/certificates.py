"""A certificate authority for one test run, and a server certificate for this machine."""

from __future__ import annotations

from pathlib import Path

from carbontrack.certificates import new_authority, new_server


def write_certificates(folder: Path) -> None:
    """Write ``ca.pem``, ``server.pem`` and ``server.key``."""
    authority = new_authority("Carbon Track test authority")
    server = new_server(authority, ["localhost", "127.0.0.1"])
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "server.pem").write_bytes(server.certificate)
    (folder / "server.key").write_bytes(server.key)
