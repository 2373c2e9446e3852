"""What mosquitto's dynamic security plugin is told: its accounts and rights, as its commands and as its file.

Written for mosquitto 2.0: it puts no user name into a right, so each device has a role of its own (decision 15).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carbontrack.credentials import device_password, password_mark
from carbontrack.model import Device

COMMANDS = "$CONTROL/dynamic-security/v1"
ANSWERS = f"{COMMANDS}/response"
OURS = "Carbon Track device"
"""The text name of the accounts that are ours. Whatever has another one is left alone."""
NOT_THERE = frozenset({"Client not found", "Role not found"})
"""How the plugin answers when what is to be deleted is gone already."""
RIGHTS_VERSION = 1
"""Counted up when the rights of a device change: accounts with another one are made anew."""
CORE_ROLE = "carbontrack core"
ITERATIONS = 101
"""Of PBKDF2, as the plugin itself takes. A device's password has 256 random bits: more would only cost time."""
CORE_ITERATIONS = 20_000
"""A person may have chosen the core's password. Each sign-in of the core costs the broker 10 ms."""

Command = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """A device's account as it should be at the broker."""

    device_id: str
    password: str
    mark: str
    """Two accounts with the same mark have the same password and the same rights."""


def account_of(key: str, device: Device) -> Account:
    mark = f"v{RIGHTS_VERSION} {password_mark(key, device)}"
    return Account(device.device_id, device_password(key, device), mark)


def commands_to_make(account: Account) -> list[Command]:
    """Make an account. One of that name that is there already stays as it is, and the plugin says so."""
    return [
        # What a broker that went down half-way has left behind.
        {"command": "deleteRole", "rolename": _role_name(account.device_id)},
        {"command": "createRole", **_role(account.device_id)},
        {"command": "createClient", **_client(account), "password": account.password},
    ]


def commands_to_remove(device_id: str) -> list[Command]:
    """Remove an account; who is connected with it is thrown out."""
    return [
        {"command": "deleteClient", "username": device_id},
        {"command": "deleteRole", "rolename": _role_name(device_id)},
    ]


def whole_file(username: str, password: str, accounts: Iterable[Account] = ()) -> dict[str, Any]:
    """The plugin's file: the core's own account, those of the given devices, and nobody else."""
    devices = list(accounts)
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
            *(_client(account) | _hashed(account.password, ITERATIONS) for account in devices),
        ],
        "groups": [],
        "roles": [{"rolename": CORE_ROLE, "acls": core_rights}, *(_role(account.device_id) for account in devices)],
    }


def _client(account: Account) -> dict[str, Any]:
    return {
        "username": account.device_id,
        # A device can take over no session but its own: neither the core's nor a neighbour's.
        "clientid": account.device_id,
        "textname": OURS,
        "textdescription": account.mark,
        "roles": [{"rolename": _role_name(account.device_id)}],
    }


def _role(device_id: str) -> dict[str, Any]:
    rights = _rights(write=f"ct/v1/{device_id}/up/#", read=f"ct/v1/{device_id}/dn/#")
    return {"rolename": _role_name(device_id), "acls": rights}


def _role_name(device_id: str) -> str:
    return f"carbontrack device {device_id}"


def _rights(write: str, read: str) -> list[dict[str, Any]]:
    kinds = (("publishClientSend", write), ("publishClientReceive", read), ("subscribePattern", read))
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in kinds]


def _hashed(password: str, iterations: int) -> dict[str, Any]:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return {
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": iterations,
    }
