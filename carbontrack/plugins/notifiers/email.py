"""Notifier "email": a mail to each person who is on duty, by the server of the section `mail`.

    notifications:
      - name: mail
        notifier: email
        min_severity: warning

The mail is in the person's language, as text and as HTML. The outbox learns the server's answer: what the server will
never take is not tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from carbontrack import (
    Kind,
    Manifest,
    Notification,
    Notifier,
    Outbound,
    Plugin,
    Tier,
    Undeliverable,
    __version__,
    hookimpl,
)

MANIFEST = Manifest(
    name="email",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="Mails to people on duty",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)


class EmailOptions(BaseModel):
    """There is nothing to choose: the server is set in the section `mail`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def notifier(outbound: Outbound) -> Notifier:
    """The notifier, with the way that its mails go."""

    async def send(options: EmailOptions, notification: Notification) -> None:  # noqa: ARG001  # as above
        to = notification.recipient
        if to is None:
            raise Undeliverable("a mail needs somebody to go to")
        await outbound.mail(to.email, notification.subject, notification.text, notification.html)

    return Notifier(
        name="email", title=MANIFEST.title, options_model=EmailOptions, send=send, to_people=True, needs="email"
    )


@hookimpl
def register_notifiers(plugin: Plugin) -> Sequence[Notifier]:
    return (notifier(plugin.outbound),)
