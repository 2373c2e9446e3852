"""Devices that sign in over HTTP: Basic, with the id and the password that they have at the broker."""

from __future__ import annotations

import base64
import hmac

from aiohttp import web

from carbontrack.credentials import device_password
from carbontrack.model import Device
from carbontrack.web.services import Services

LONGEST_ID = 64
_NOBODY = Device(0, "", 0, 0)
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Carbon Track devices", charset="UTF-8"'}


class DeviceAuthenticator:
    """Checks devices' passwords, and limits how often one may be wrong.

    The limit is by device and address together: neither a stranger elsewhere nor a neighbour behind the same router
    who tries wrong passwords keeps a device out.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def sign_in(self, request: web.Request) -> Device:
        """The device that a request comes from. Raises 401 where it is none.

        Raises :class:`~carbontrack.web.attempts.TooManyAttempts` after too many wrong passwords.
        """
        key = self._services.device_key
        if key is None:
            text = "No device can sign in here: the operator has to set mqtt.device_key."
            raise web.HTTPUnauthorized(text=text, headers=_CHALLENGE)
        login, password = _given(request)
        tried = f"{login[:LONGEST_ID]}@{request.remote}"
        await self._services.attempts.check("device", account=tried)
        device = self._services.fleet.device(login)
        # Without a device a password is worked out all the same: the time must not say whether there is one.
        expected = device_password(key, device or _NOBODY)
        if not hmac.compare_digest(password.encode(), expected.encode()) or device is None:
            await self._services.attempts.count("device", account=tried)
            raise web.HTTPUnauthorized(text="Device id and password do not belong together.", headers=_CHALLENGE)
        if await self._speaks_by_a_bridge(device):
            text = "This device speaks to its factory's own platform, which hands on what it measures."
            raise web.HTTPUnauthorized(text=text, headers=_CHALLENGE)
        return device

    async def _speaks_by_a_bridge(self, device: Device) -> bool:
        if not self._services.bridged:
            return False
        factories = await self._services.store.factories()
        return any(it.id == device.factory_id and it.slug in self._services.bridged for it in factories)


def _given(request: web.Request) -> tuple[str, str]:
    """Device id and password of the header (RFC 7617)."""
    encoded = request.headers["Authorization"].partition(" ")[2]
    try:
        login, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        login = colon = password = ""
    if not colon:
        raise web.HTTPUnauthorized(text="The header Authorization cannot be read.", headers=_CHALLENGE)
    return login, password


DEVICES = web.AppKey("devices", DeviceAuthenticator)
