"""The files of a site's bridge to headquarters: the configuration of a mosquitto of its own, with its only account.

It is apart from the site's broker, because mosquitto lets a bridge do anything at the broker that it is part of:
whatever headquarters' broker sends, to whichever topic, goes there. Here nothing listens but the relay, to receipts.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from carbontrack.dynamic_security import BRIDGED, bridge_name

FOLDER = "/etc/carbontrack-bridge"
STATE = "/var/lib/carbontrack-bridge"
PORT = 1884
RELAY = "relay"
"""The name that the site's core signs in with."""
ITERATIONS = 101
"""Of PBKDF2, as mosquitto itself takes. The password has 256 random bits."""

ACL = f"""\
user {RELAY}
topic write hq/+/up/#
topic read hq/+/dn/ack
topic read hq/bridge
"""

CONFIGURATION = """\
# The bridge of the site {factory} to headquarters: a mosquitto of its own, of which the site's broker knows nothing.
# Made by `carbontrack broker bridge`; docs/deploy/resilient-site.md says how to put it in place.
# It has a password in it: for the user mosquitto alone, mode 600.

# --- the only way in: the site's core, from this machine
listener {port} 127.0.0.1
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
max_connections 10
# As at the site's broker.
message_size_limit 262144
max_packet_size 300000

# --- what waits while headquarters is away: little, since the site's database has it all
max_queued_messages 0
max_queued_bytes 16777216
persistence true
persistence_location {state}/
autosave_interval 60

# --- the way to headquarters
connection headquarters
address {host}:{remote_port}
bridge_protocol_version mqttv311
bridge_tls_version tlsv1.2
bridge_insecure false
{authority}
remote_clientid {name}
remote_username {name}
remote_password {password}
cleansession false
local_clientid bridge
# Both would be other topics at headquarters than those that its account has.
try_private false
notifications_local_only true
notification_topic hq/bridge
keepalive_interval 60
# Tries again after 5 s at first, and after a minute at the latest.
restart_timeout 5 60
# Up goes what the core hands on, down come receipts. Nothing else goes either way.
{topics}
topic +/dn/ack in 0 hq/ ct/v1/

log_dest stderr
log_type error
log_type warning
log_type notice
"""


@dataclass(frozen=True, slots=True)
class Headquarters:
    """Headquarters' broker, as a site reaches it. ``authority`` is the certificate (PEM) that signed its own.

    Without one the system's authorities are trusted.
    """

    host: str
    port: int
    authority: bytes | None


def bridge_files(factory: str, password: str, headquarters: Headquarters) -> Mapping[str, bytes]:
    """What the site of a factory puts in place, by file name. ``password`` is that of its account at headquarters."""
    relay_password = secrets.token_urlsafe(32)
    topics = "\n".join(f"topic +/up/{channel} out 1 hq/ ct/v1/" for channel in BRIDGED)
    authority = f"bridge_cafile {FOLDER}/ca.crt" if headquarters.authority else "bridge_capath /etc/ssl/certs"
    text = CONFIGURATION.format(
        factory=factory,
        port=PORT,
        folder=FOLDER,
        state=STATE,
        host=headquarters.host,
        remote_port=headquarters.port,
        authority=authority,
        name=bridge_name(factory),
        password=password,
        topics=topics,
    )
    files = {
        "mosquitto.conf": text.encode(),
        "acl": ACL.encode(),
        "passwords": f"{RELAY}:{_hashed(relay_password)}\n".encode(),
        "secrets.yaml": f"relay_password: {relay_password}\n".encode(),
    }
    return files | ({"ca.crt": headquarters.authority} if headquarters.authority else {})


def _hashed(password: str) -> str:
    """As ``mosquitto_passwd`` of mosquitto 2.0 writes it."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
