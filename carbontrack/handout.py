"""What a device is told when it is set up: one line, as its serial line and ``carbontrack-node --provision`` take it.

What may be in it is what the firmware takes (``firmware/core/ct/app/provision.cpp``); that is checked here, so that
nobody learns of it beside a chimney.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from carbontrack.config import Config
from carbontrack.credentials import device_password
from carbontrack.model import Device
from carbontrack.words import gettext

MOST_PEM_BYTES = 4096
MOST_FIRMWARE_KEY_BYTES = 1024
MOST_LINE_BYTES = 12 * 1024
HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
NO_KEY = "mqtt.device_key"


class HandoutError(ValueError):
    """A device cannot be told that; ``name`` is the field that is wrong, "" for what an operator has to set."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Wifi:
    """The network that a box joins; empty: it keeps what it has. Kept nowhere."""

    ssid: str = ""
    password: str = field(default="", repr=False)


NO_WIFI = Wifi()


@dataclass(frozen=True, slots=True)
class Handouts:
    """What every device of a site is told of its broker, and the key of their passwords."""

    host: str = ""
    port: int = 8883
    ca_file: Path | None = None
    firmware_key_file: Path | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, config: Config) -> Handouts:
        """As a site is configured."""
        mqtt, devices = config.mqtt, config.devices
        own_ca = mqtt.tls.ca_file if mqtt.tls is not None else None
        return cls(
            devices.broker_host or mqtt.host,
            devices.broker_port or (mqtt.port if mqtt.tls is not None else 8883),
            devices.broker_ca_file or own_ca,
            config.firmware.public_key_file,
            mqtt.device_key.get_secret_value() if mqtt.device_key is not None else None,
        )

    @property
    def is_near(self) -> bool:
        """Whether the broker's name is one that means this machine, which no device finds."""
        if self.host.casefold() == "localhost":
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified

    def line(self, device: Device, wifi: Wifi = NO_WIFI) -> str:
        """The line that a device is set up by, with its end. Raises :class:`HandoutError`."""
        line = line_of({**self.told(device), **_wifi(wifi), **self.trusted()})
        if len(line.encode()) > MOST_LINE_BYTES:
            raise HandoutError("", gettext("the certificates are too long for a device"))
        return line

    def told(self, device: Device) -> dict[str, str | int]:
        """Who it is and where its broker is: what is short enough to type. Raises :class:`HandoutError`."""
        if self.key is None:
            raise HandoutError("", gettext("the platform gives devices no passwords: set %(name)s", name=NO_KEY))
        if self.is_near or not HOST.fullmatch(self.host):
            raise HandoutError(
                "",
                gettext(
                    "no device finds a broker by the name %(host)s: set devices.broker_host to the name that they use",
                    host=repr(self.host),
                ),
            )
        if len(device.device_id.encode()) > 64:
            raise HandoutError("", gettext("the name of the device is too long for its firmware: 64 bytes at most"))
        password = device_password(self.key, device)
        return {"id": device.device_id, "password": password, "host": self.host, "port": self.port}

    def trusted(self) -> dict[str, str]:
        """Whose certificates and whose firmware it believes. Raises :class:`HandoutError`."""
        found = {}
        if self.ca_file is not None:
            found["ca"] = _pem(self.ca_file, "devices.broker_ca_file", MOST_PEM_BYTES)
        if self.firmware_key_file is not None:
            found["firmware_key"] = _pem(self.firmware_key_file, "firmware.public_key_file", MOST_FIRMWARE_KEY_BYTES)
        return found


def line_of(told: Mapping[str, str | int]) -> str:
    """These values as a line that a node takes; what it does not name stays in the node as it is."""
    return json.dumps({"provision": told}, ensure_ascii=False, separators=(",", ":")) + "\n"


def _pem(path: Path, setting: str, most: int) -> str:
    """What a PEM file says, without the words that may stand around it."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise HandoutError(
            "", gettext("the file of %(setting)s cannot be read: %(path)s", setting=setting, path=path)
        ) from None
    blocks = re.findall(r"-----BEGIN [A-Z ]+-----\n.*?-----END [A-Z ]+-----\n?", text.replace("\r", ""), re.DOTALL)
    if not blocks or any("PRIVATE" in block for block in blocks):
        raise HandoutError(
            "",
            gettext("the file of %(setting)s has no certificate or public key: %(path)s", setting=setting, path=path),
        )
    found = "".join(blocks)
    if len(found) > most:
        raise HandoutError(
            "",
            gettext(
                "the file of %(setting)s is too long for a device: %(most)s bytes at most. One authority is enough",
                setting=setting,
                most=most,
            ),
        )
    return found


def _wifi(wifi: Wifi) -> dict[str, str]:
    if not wifi.ssid:
        if wifi.password:
            raise HandoutError("wifi_ssid", gettext("Write the name of the network as well."))
        return {}
    if not wifi.ssid.isprintable() or len(wifi.ssid.encode()) > 32:
        raise HandoutError(
            "wifi_ssid", gettext("A network's name has at most 32 bytes, and no signs that nobody sees.")
        )
    if not wifi.password:
        return {"wifi_ssid": wifi.ssid}
    if not wifi.password.isprintable() or not 8 <= len(wifi.password.encode()) <= 64:
        raise HandoutError("wifi_password", gettext("A network's password has 8 to 64 signs."))
    return {"wifi_ssid": wifi.ssid, "wifi_password": wifi.password}
