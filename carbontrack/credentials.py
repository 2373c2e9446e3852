"""A device's password at the broker. It is worked out when it is needed, so that nothing secret is kept anywhere.

Whoever has ``mqtt.device_key`` and the registry can build every account of a broker that has lost everything. A
password says nothing about the key or about another device's password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from carbontrack.model import Device


def device_password(key: str, device: Device) -> str:
    """43 letters, digits, ``-`` and ``_``; another one after ``carbontrack device password ID --rotate``."""
    return base64.urlsafe_b64encode(_mac(key, "password", device)).rstrip(b"=").decode()


def password_mark(key: str, device: Device) -> str:
    """What tells one password from the next without giving it away: it may be shown and kept at the broker."""
    return _mac(key, "mark", device).hex()[:16]


def bridge_password(key: str, factory: str, generation: int) -> str:
    """The password by which a site's bridge speaks for the devices of a factory, which is named as in addresses."""
    return base64.urlsafe_b64encode(_bridge_mac(key, "password", factory, generation)).rstrip(b"=").decode()


def bridge_mark(key: str, factory: str, generation: int) -> str:
    """As :func:`password_mark`."""
    return _bridge_mac(key, "mark", factory, generation).hex()[:16]


def _bridge_mac(key: str, purpose: str, factory: str, generation: int) -> bytes:
    text = f"carbontrack mqtt bridge {purpose}\n{generation}\n{factory}"
    return hmac.digest(key.encode(), text.encode(), hashlib.sha256)


def _mac(key: str, purpose: str, device: Device) -> bytes:
    text = f"carbontrack mqtt {purpose}\n{device.password_generation}\n{device.device_id}"
    return hmac.digest(key.encode(), text.encode(), hashlib.sha256)
