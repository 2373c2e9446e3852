"""The commands about who is told of alerts: trying a channel, and looking at what waits."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, factory_named, load, opened_store, run, stop, with_store

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from pathlib import Path

    from carbontrack.config import Config
    from carbontrack.hookspecs import Recipient
    from carbontrack.model import OutboxMessage
    from carbontrack.notify import NotifierInstance
    from carbontrack.store import Store

TIME_LIMIT_S = 30.0


class State(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


def alert_test(
    channel: Annotated[str, typer.Option(help="The notification's name in the configuration.")],
    to: Annotated[str, typer.Option(help="Who is told, by e-mail address, where the channel tells people.")] = "",
    config: ConfigOption = None,
) -> None:
    """Send a test message by one channel, and say how it went.

    Example: carbontrack alert test --channel mail --to wanjiru@example.org
    """
    settings = load(config)

    async def main() -> None:
        from carbontrack.app import broker_settings, running_plugins  # noqa: PLC0415  # see run
        from carbontrack.configured import notifier_instances  # noqa: PLC0415  # see run
        from carbontrack.ingest import commands  # noqa: PLC0415  # see run
        from carbontrack.mail import mailer  # noqa: PLC0415  # see run
        from carbontrack.metrics import Metrics  # noqa: PLC0415  # see run
        from carbontrack.outbound import Ways  # noqa: PLC0415  # see run

        metrics, ways = Metrics(), Ways()
        async with running_plugins(settings, metrics, outbound=ways) as plugins, mailer(settings, metrics) as mail:
            ways.by_mail = mail.deliver if mail else None
            ways.by_command = commands(broker_settings(settings))
            instances, left_out = notifier_instances(settings, plugins.contributions)
            instance = next((each for each in instances if each.name == channel), None)
            if instance is None:
                stop(_unknown(channel, settings, left_out))
            await _try(instance, await _recipient(instance, to, config))

    run(main)


async def _try(instance: NotifierInstance, recipient: Recipient | None) -> None:
    from carbontrack.hookspecs import Notification, Undeliverable  # noqa: PLC0415  # see run
    from carbontrack.letters import trial_letter  # noqa: PLC0415  # see run

    told = trial_letter(recipient.language if recipient else "en")
    message = Notification("test", "raised", (), 0, recipient, told.subject, told.text, told.html)
    whom = f" to {recipient.email}" if recipient else ""
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            await instance.notifier.send(instance.options, message)
    except Undeliverable as error:
        stop(f"'{instance.name}' will never deliver it{whom}: {error}")
    except TimeoutError:
        stop(f"'{instance.name}' did not deliver it{whom} within {TIME_LIMIT_S:g} s.")
    except Exception as error:  # noqa: BLE001  # a notifier is a plugin, and its far end may be away
        stop(f"'{instance.name}' did not deliver it{whom}: {type(error).__name__}: {error}")
    typer.echo(f"'{instance.name}' has taken a test message{whom}.")


async def _recipient(instance: NotifierInstance, to: str, config: Path | None) -> Recipient | None:
    """Who is told, with the phone number and the language of the account."""
    from carbontrack.notify import recipient  # noqa: PLC0415  # see run

    if not instance.notifier.to_people:
        return None
    if not to:
        stop(f"'{instance.name}' tells people: say whom, with --to and an e-mail address.")
    async with opened_store(config) as store:
        people = await store.users(email=to)
    if not people:
        stop(f"Nobody has the address {to}.")
    if instance.notifier.needs == "phone" and not people[0].phone_number:
        stop(f"No phone number of {to} is known.")
    return recipient(people[0])


def _unknown(channel: str, settings: Config, left_out: tuple[str, ...]) -> str:
    known = ", ".join(entry.name for entry in settings.notifications) or "none"
    why = f" {' '.join(left_out)}" if left_out else ""
    return f"There is no notification {channel!r} that can be used. There are: {known}.{why}"


def alert_outbox(
    state: Annotated[State | None, typer.Option(help="waiting, sent or failed; without it, all.")] = None,
    channel: Annotated[str, typer.Option(help="One channel only, by the notification's name.")] = "",
    factory: Annotated[str, typer.Option(help="Only what tells of this factory alone, for example kangaita.")] = "",
    before: Annotated[int | None, typer.Option(min=1, help="Older than this one: the last number of a list.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigOption = None,
) -> None:
    """List what people are told of alerts, and were, newest first.

    Example: carbontrack alert outbox --state failed
    """

    async def command(store: Store) -> None:
        found = await store.messages(
            state=state.value if state else None,
            channel=channel or None,
            factory_id=(await factory_named(store, factory)).id if factory else None,
            before_id=before,
            limit=limit,
        )
        for message in found:
            typer.echo(_line(message))
        if not found:
            typer.echo("There is no message that fits.")

    with_store(config, command)


def _line(message: OutboxMessage) -> str:
    import msgspec  # noqa: PLC0415  # see run

    subject = msgspec.json.decode(message.content)["subject"]
    whom = message.recipient.email if message.recipient else "all"
    error = f"  ({message.attempts} attempts: {message.last_error})" if message.last_error else ""
    return (
        f"{message.id:8}  {message.created_at:%Y-%m-%d %H:%M:%S}Z  {message.state:7}  {message.channel:12}  "
        f"{whom:30}  {subject}{error}"
    )
