"""Keeps the devices' accounts at mosquitto in step with the registry, through its dynamic security plugin.

An active device of the registry has an account; every other device has none. A running core looks at the registry every
few seconds and at the broker when it has connected; what differs is made or removed, one device at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import MappingProxyType

import aiomqtt
import msgspec
import structlog

from carbontrack.dynamic_security import (
    ANSWERS,
    COMMANDS,
    NOT_THERE,
    OURS,
    Account,
    Command,
    accounts_of,
    commands_to_make,
    commands_to_remove,
)
from carbontrack.ingest import BrokerSettings, client_beside
from carbontrack.metrics import Metrics
from carbontrack.store import Store
from carbontrack.tasks import first_of

log = structlog.get_logger(__name__)

ANSWER_S = 30.0
LOOK_AGAIN_S = 600.0
"""So often everything is compared, whatever we believe: somebody may have changed accounts by hand."""
PAGE = 500
"""Accounts that are asked for at once."""
FOREIGN = ""
"""The mark of an account that is not ours."""


ADVICE = "Where the broker is not a mosquitto with its dynamic security plugin, set mqtt.keep_accounts to false"


class AccountsError(ConnectionError):
    """The broker cannot be asked to keep accounts; the message says why."""


class _Client(msgspec.Struct):
    username: str
    textname: str = ""
    textdescription: str = ""


class _Listing(msgspec.Struct):
    clients: list[_Client] = []
    total: int = msgspec.field(name="totalCount", default=0)


class _Answer(msgspec.Struct):
    command: str = ""
    error: str = ""
    number: str = msgspec.field(name="correlationData", default="")
    data: _Listing | None = None


class _Answers(msgspec.Struct):
    responses: list[_Answer] = []


_decode = msgspec.json.Decoder(_Answers).decode


class BrokerAccounts:
    """``problem`` says what is wrong; it is empty while every active device has its account."""

    def __init__(
        self,
        settings: BrokerSettings,
        key: str,
        store: Store,
        metrics: Metrics,
        poll_s: float,
        bridges: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.problem = ""
        self._settings = settings
        self._key = key
        self._store = store
        self._metrics = metrics
        self._poll_s = poll_s
        self._unknown: list[str] = []
        """Names of bridges that are no factory's."""
        self._bridges = bridges
        """Factories whose devices speak by a bridge, with the number of its password."""
        self._failed: dict[str, str] = {}
        """Device id -> why its account could not be made or removed, as the broker says."""
        self._news = asyncio.Event()

    def look_soon(self) -> None:
        """Look at the registry now: whoever is shut out does not stay until the next look."""
        self._news.set()

    async def keep(self) -> None:
        """Follow the registry until cancelled. Raises ConnectionError when the broker does not do its part."""
        try:
            async with self._connected() as control:
                await self._follow(control)
        except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
            self.problem = f"The devices' accounts at the broker are not kept in step with the registry: {error}."
            raise ConnectionError(str(error)) from error

    async def _follow(self, control: _Control) -> None:
        revision, wanted = -1, dict[str, Account]()
        there, listed_at = await control.accounts(), time.monotonic()
        while True:
            self._news.clear()
            newest = await self._store.revision()
            if newest != revision:
                wanted, revision = await self._wanted(), newest
                self._failed.clear()
            if time.monotonic() - listed_at > LOOK_AGAIN_S:
                there, listed_at = await control.accounts(), time.monotonic()
                self._failed.clear()
            done = await self._change(control, wanted, there)
            self._tell(wanted, there)
            # A long way to go is gone in steps: what changes in the registry meanwhile does not wait for its end.
            await first_of(control.wait(self._poll_s if done else 0.0), self._news.wait())

    async def _wanted(self) -> dict[str, Account]:
        sites = await self._store.sites()
        self._unknown = sorted(self._bridges.keys() - {factory.slug for factory in await self._store.factories()})
        return {account.name: account for account in accounts_of(self._key, sites, self._bridges)}

    async def _change(self, control: _Control, wanted: Mapping[str, Account], there: dict[str, str]) -> bool:
        """Bring accounts in step for at most as long as the registry may wait; whether all were."""
        until = time.monotonic() + self._poll_s
        for device_id, commands in self._changes(wanted, there):
            if time.monotonic() > until:
                return False
            began = time.monotonic()
            error = await control.do(commands)
            account = wanted.get(device_id)
            if error:
                self._failed[device_id] = error
                self._metrics.account_failures.inc()
                log.warning("the broker refused a change of an account", device=device_id, error=error)
            elif account is None:
                del there[device_id]
                self._metrics.account_changes.labels("removed").inc()
            else:
                there[device_id] = account.mark
                self._metrics.account_changes.labels("made").inc()
            # The plugin writes its whole file for each command, and the broker does nothing else meanwhile: at most
            # half of its time is ours, so that readings go on.
            await asyncio.sleep(time.monotonic() - began)
        return True

    def _changes(self, wanted: Mapping[str, Account], there: Mapping[str, str]) -> Iterator[tuple[str, list[Command]]]:
        """What is to be done, device by device; first who must not come in any more."""
        gone = [name for name, mark in there.items() if mark != FOREIGN and name not in wanted]
        stale = [
            name for name, account in wanted.items() if there.get(name, account.mark) not in (account.mark, FOREIGN)
        ]
        new = [name for name in wanted if name not in there]
        for device_id in itertools.chain(gone, stale, new):
            if device_id not in self._failed:
                account = wanted.get(device_id)
                old = commands_to_remove(device_id) if device_id in there else []
                yield device_id, old + (commands_to_make(account) if account else [])

    def _tell(self, wanted: Mapping[str, Account], there: Mapping[str, str]) -> None:
        in_step = sum(there.get(name) == account.mark for name, account in wanted.items())
        wrong = {
            name: "an account of that name is there that is not Carbon Track's"
            for name in wanted
            if there.get(name) == FOREIGN
        }
        wrong |= self._failed
        self._metrics.accounts.labels("in_step").set(in_step)
        self._metrics.accounts.labels("failed").set(len(wrong))
        self._metrics.accounts.labels("waiting").set(max(0, len(wanted) - in_step - len(wrong)))
        self.problem = ""
        if self._unknown:
            self.problem = f"mqtt.bridges names {', '.join(self._unknown)}, and no factory is called so in addresses."
        if wrong:
            name, why = next(iter(wrong.items()))
            others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            self.problem = f"The account at the broker of device {name}{others} is not as it should be: {why}."

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Control]:
        async with client_beside(self._settings, "accounts", timeout=ANSWER_S) as client:
            granted = await client.subscribe(ANSWERS, qos=1)
            if any(not isinstance(code, int) and code.is_failure for code in granted):
                raise AccountsError(f"{self._settings.username} may not read {ANSWERS}. {ADVICE}")
            yield _Control(client)


class _Control:
    """Commands to the plugin and its answers. One at a time: whatever else comes is of an earlier one, given up."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._numbers = itertools.count(1)

    async def accounts(self) -> dict[str, str]:
        """Every account that the broker has, with its mark; ``FOREIGN`` for one that is not ours."""
        there: dict[str, str] = {}
        for offset in itertools.count(0, PAGE):
            command = {"command": "listClients", "verbose": True, "count": PAGE, "offset": offset}
            (answer,) = await self._ask([command])
            if answer.data is None:
                raise AccountsError(f"the broker does not list its accounts: {answer.error}")
            for client in answer.data.clients:
                # A mark is never empty: ours without a text would be made anew.
                there[client.username] = client.textdescription or "none" if client.textname == OURS else FOREIGN
            if offset + PAGE >= answer.data.total:
                break
        return there

    async def do(self, commands: Sequence[Command]) -> str:
        """Let the broker do all commands; the first error that matters."""
        answers = await self._ask(commands)
        return next((answer.error for answer in answers if answer.error and answer.error not in NOT_THERE), "")

    async def wait(self, seconds: float) -> None:
        """Wait; a connection that is lost meanwhile ends it with ``MqttError``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await anext(self._client.messages)

    async def _ask(self, commands: Sequence[Command]) -> list[_Answer]:
        number = str(next(self._numbers))
        numbered = [command | {"correlationData": number} for command in commands]
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._client.publish(COMMANDS, msgspec.json.encode({"commands": numbered}), qos=1)
                while True:
                    message = await anext(self._client.messages)
                    answers = _answers(message.payload)
                    if answers and answers[0].number == number:
                        return answers
        except (aiomqtt.MqttError, TimeoutError) as error:
            # A mosquitto without the plugin hangs up; others say nothing.
            raise AccountsError(f"the broker gives no answer on {ANSWERS}. {ADVICE}") from error


def _answers(body: object) -> list[_Answer]:
    try:
        return _decode(body).responses if isinstance(body, bytes) else []
    except msgspec.DecodeError:
        return []  # not an answer to us
