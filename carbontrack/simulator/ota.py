"""How a simulated node takes new firmware: offer, download with ranges, hash, restart. I/O only in :func:`fetch`.

It has no key, so it leaves signatures to the platform and to real nodes. An image whose bytes contain one of
:data:`SCENARIOS` behaves as that says, so that one can see what a roll-out does then.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from carbontrack.firmware import is_version, rank

FIRST = "1.4.0"
"""What a simulated node runs at first."""
HARDWARE = "sim-1"
FAILS = b"carbontrack-scenario: fails"
ROLLS_BACK = b"carbontrack-scenario: rolls back"
SCENARIOS = {FAILS: "its hash is taken for wrong", ROLLS_BACK: "it does not start, and the node goes back"}
PIECE = 64 * 1024
TRIES = 5
PAUSE_S = 2.0


class OtaState(msgspec.Struct, frozen=True):
    """What a node keeps over a restart. ``due`` is the report that is to be said after the next birth."""

    version: str = FIRST
    due: dict[str, Any] = {}


class Offer(msgspec.Struct, frozen=True):
    """What a node is offered; ``ver`` None: nothing any more."""

    ver: str | None
    hw: str = ""
    url: str = ""
    size: int = 0
    sha256: str = ""
    jitter_s: int = 0
    min: str = ""
    force: bool = False


_decode_offer = msgspec.json.Decoder(Offer).decode


class Ota:
    """The firmware of one node."""

    def __init__(self, state: OtaState) -> None:
        self.wants_reboot = False
        """Whether the node is to restart into what it has taken."""
        self._state = state

    def state(self) -> OtaState:
        """All that is kept over a restart."""
        return self._state

    @property
    def version(self) -> str:
        return self._state.version

    def take_offer(self, body: bytes) -> tuple[Offer | None, bytes | None]:
        """What to do about a message on ``dn/fw``: what is to be downloaded (None: nothing), and what to say."""
        try:
            offer = _decode_offer(body)
        except (msgspec.MsgspecError, UnicodeError):
            return None, None
        if offer.ver is None or not is_version(offer.ver):
            return None, None
        if offer.ver == self.version and not offer.force:
            return None, report(offer.ver, "confirmed", 100)
        wrong = self._refusal(offer)
        return (None, report(offer.ver, "failed", err=wrong)) if wrong else (offer, report(offer.ver, "waiting"))

    def _refusal(self, offer: Offer) -> str:
        if offer.hw != HARDWARE:
            return "hw"
        if not offer.force and rank(offer.ver) < rank(self.version):
            return "older"
        return "min" if offer.min and rank(self.version) < rank(offer.min) else ""

    def install(self, offer: Offer, content: bytes) -> bytes:
        """Check what was downloaded and take it; what to say. The node restarts if :attr:`wants_reboot` then."""
        assert offer.ver is not None, "an offer of something"
        if FAILS in content or hashlib.sha256(content).hexdigest() != offer.sha256:
            return report(offer.ver, "failed", 100, "hash")
        is_bad = ROLLS_BACK in content
        due = {"ver": offer.ver, "st": "rolled_back" if is_bad else "confirmed", "pct": 0 if is_bad else 100}
        self._state = OtaState(self.version if is_bad else offer.ver, due)
        self.wants_reboot = True
        return report(offer.ver, "rebooting", 100)

    def restarted(self) -> None:
        """The node has begun a new boot."""
        self.wants_reboot = False

    def after_birth(self) -> bytes | None:
        """What is to be said of the image that the node has restarted for."""
        due = self._state.due
        if not due or self.wants_reboot:
            return None
        self._state = msgspec.structs.replace(self._state, due={})
        return report(due["ver"], due["st"], due["pct"])


def report(version: str, state: str, pct: int = 0, err: str = "") -> bytes:
    """A message on ``up/res``."""
    return msgspec.json.encode({"v": 1, "cmd": "ota", "ver": version, "st": state, "pct": pct, "err": err})


async def fetch(offer: Offer, name: str, password: str, progress: Callable[[int], object]) -> bytes:
    """Download an image piece by piece; ``progress`` is told the share in per cent, at every tenth.

    Raises OSError with the protocol's word for what went wrong.
    """
    await asyncio.sleep(random.uniform(0, offer.jitter_s))
    content, told, failed = bytearray(), 0, 0
    sign_in = {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    async with aiohttp.ClientSession(headers=sign_in, trust_env=False) as session:
        while len(content) < offer.size:
            asked = f"bytes={len(content)}-{min(len(content) + PIECE, offer.size) - 1}"
            async with session.get(offer.url, headers={"Range": asked}, allow_redirects=False) as answer:
                if answer.status == 206:  # Partial Content
                    content += await answer.read()
                else:
                    failed += 1
                    if failed >= TRIES:
                        raise OSError(f"http_{answer.status}")
                    await asyncio.sleep(PAUSE_S)
            share = 100 * len(content) // offer.size
            if share // 10 > told:
                told = share // 10
                progress(share)
    return bytes(content)
