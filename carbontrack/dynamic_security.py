"""What mosquitto's dynamic security plugin is told: its accounts and rights, as its commands and as its file.

Written for mosquitto 2.0: it puts no user name into a right, so each device has a role of its own (decision 15).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carbontrack.credentials import bridge_mark, bridge_password, device_password, password_mark
from carbontrack.model import Device, DeviceStatus, Site

COMMANDS = "$CONTROL/dynamic-security/v1"
ANSWERS = f"{COMMANDS}/response"
OURS = "Carbon Track device"
"""The text name of the accounts that are ours, bridges' as well. Whatever has another one is left alone."""
NOT_THERE = frozenset({"Client not found", "Role not found"})
"""How the plugin answers when what is to be deleted is gone already."""
RIGHTS_VERSION = 1
"""Counted up when the rights of a device change: accounts with another one are made anew."""
CORE_ROLE = "carbontrack core"
ITERATIONS = 101
"""Of PBKDF2, as the plugin itself takes. A device's password has 256 random bits: more would only cost time."""
CORE_ITERATIONS = 20_000
"""A person may have chosen the core's password. Each sign-in of the core costs the broker 10 ms."""

BRIDGED = ("data", "backlog", "state")
"""The channels that a bridge may write."""
BRIDGED_SENSOR = "ct_v1"
"""The format of what a site hands on, whatever its devices have there."""

Command = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it should be at the broker: a device's, or that of the bridge of a factory's own site."""

    name: str
    password: str
    mark: str
    """Two accounts with the same mark have the same password and the same rights."""
    rights: tuple[Command, ...]


def account_of(key: str, device: Device) -> Account:
    """A device's own: it speaks for itself alone, and reads what is for itself."""
    name = device.device_id
    rights = _rights(write=f"ct/v1/{name}/up/#", read=f"ct/v1/{name}/dn/#")
    return Account(name, device_password(key, device), f"v{RIGHTS_VERSION} {password_mark(key, device)}", tuple(rights))


def bridge_name(factory: str) -> str:
    """User name and client id of the bridge of a factory's site. No device has such a name."""
    return f"bridge/{factory}"


def bridge_account(key: str, factory: str, generation: int, device_ids: Iterable[str]) -> Account:
    """That of a site's bridge: it hands on what the factory's devices measure, and hears what has arrived.

    It asks for every receipt, because the devices' names are in its messages and not in its configuration; the broker
    gives it those of its own devices alone.
    """
    devices = sorted(device_ids)
    rights = [_right("subscribeLiteral", "ct/v1/+/dn/ack")]
    for device_id in devices:
        rights += [_right("publishClientSend", f"ct/v1/{device_id}/up/{channel}") for channel in BRIDGED]
        rights.append(_right("publishClientReceive", f"ct/v1/{device_id}/dn/ack"))
    devices_mark = hashlib.sha256("\n".join(devices).encode()).hexdigest()[:16]
    mark = f"v{RIGHTS_VERSION} {bridge_mark(key, factory, generation)} {devices_mark}"
    return Account(bridge_name(factory), bridge_password(key, factory, generation), mark, tuple(rights))


def accounts_of(key: str, sites: Iterable[Site], bridges: Mapping[str, int]) -> list[Account]:
    """Those of all active devices: one each, and one for all of a factory that ``bridges`` names.

    The number is that of the bridge's password. Who speaks by a bridge cannot speak by itself. It speaks for devices of
    the format that it brings alone: any other driver would put it into quarantine.
    """
    active = [site for site in sites if site.device.status is DeviceStatus.ACTIVE]
    own = [account_of(key, site.device) for site in active if site.factory.slug not in bridges]
    return own + [
        bridge_account(
            key,
            factory,
            generation,
            [it.device.device_id for it in active if it.factory.slug == factory and it.device.sensor == BRIDGED_SENSOR],
        )
        for factory, generation in bridges.items()
    ]


def commands_to_make(account: Account) -> list[Command]:
    """Make an account. One of that name that is there already stays as it is, and the plugin says so."""
    return [
        # What a broker that went down half-way has left behind.
        {"command": "deleteRole", "rolename": _role_name(account.name)},
        {"command": "createRole", **_role(account)},
        {"command": "createClient", **_client(account), "password": account.password},
    ]


def commands_to_remove(name: str) -> list[Command]:
    """Remove an account; who is connected with it is thrown out."""
    return [
        {"command": "deleteClient", "username": name},
        {"command": "deleteRole", "rolename": _role_name(name)},
    ]


def whole_file(username: str, password: str, accounts: Iterable[Account] = ()) -> dict[str, Any]:
    """The plugin's file: the core's own account, the given ones, and nobody else."""
    others = list(accounts)
    core_rights = [
        *_rights("ct/v1/#", "ct/v1/#"),
        *_rights("$CONTROL/dynamic-security/#", "$CONTROL/dynamic-security/#"),
    ]
    core = {"username": username, "textname": "Carbon Track core", "roles": [{"rolename": CORE_ROLE}]}
    return {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": False,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [
            core | _hashed(password, CORE_ITERATIONS),
            *(_client(account) | _hashed(account.password, ITERATIONS) for account in others),
        ],
        "groups": [],
        "roles": [{"rolename": CORE_ROLE, "acls": core_rights}, *(_role(account) for account in others)],
    }


def _client(account: Account) -> dict[str, Any]:
    return {
        "username": account.name,
        # Nobody can take over a session but its own: neither the core's nor a neighbour's.
        "clientid": account.name,
        "textname": OURS,
        "textdescription": account.mark,
        "roles": [{"rolename": _role_name(account.name)}],
    }


def _role(account: Account) -> dict[str, Any]:
    return {"rolename": _role_name(account.name), "acls": list(account.rights)}


def _role_name(name: str) -> str:
    return f"carbontrack device {name}"


def _rights(write: str, read: str) -> list[dict[str, Any]]:
    kinds = (("publishClientSend", write), ("publishClientReceive", read), ("subscribePattern", read))
    return [_right(kind, topic) for kind, topic in kinds]


def _right(kind: str, topic: str) -> Command:
    return {"acltype": kind, "topic": topic, "priority": 0, "allow": True}


def _hashed(password: str, iterations: int) -> dict[str, Any]:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return {
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": iterations,
    }
