"""People are told of alerts once and in time, and nothing is lost on the way."""

from __future__ import annotations

import pytest

from carbontrack.config import load_config
from carbontrack.hookspecs import Undeliverable
from carbontrack.mail import mailer
from carbontrack.metrics import Metrics
from carbontrack.model import Role
from carbontrack.notify import NotifierInstance
from carbontrack.outbound import Ways
from carbontrack.plugins.notifiers.email import EmailOptions
from carbontrack.plugins.notifiers.email import notifier as email_notifier
from carbontrack.store import Store
from tests.support.smtp import smtp_server
from tests.support.telling import Told, person, telling
from tests.support.world import register

pytest_plugins = ["tests.support.world"]


async def test_an_alert_becomes_a_mail_at_a_real_server_in_the_person_s_language(
    store: Store, metrics: Metrics
) -> None:
    (site,) = await register(store, "dev-001")
    await person(store, "wanjiru", Role.FACTORY_MANAGER, site.factory.id, locale="sw")
    async with smtp_server() as server:
        config = load_config(
            None,
            {
                "CARBONTRACK_MAIL__HOST": "127.0.0.1",
                "CARBONTRACK_MAIL__PORT": str(server.port),
                "CARBONTRACK_MAIL__TLS": "none",
                "CARBONTRACK_MAIL__SENDER": "Carbon Track <carbontrack@example.org>",
            },
        )
        async with mailer(config, metrics) as mail:
            assert mail is not None
            ways = Ways()
            ways.by_mail = mail.deliver
            here = telling(store, metrics, [NotifierInstance("mail", email_notifier(ways), EmailOptions())])
            await here.silent("dev-001")
            await here.round(seconds=59)
            assert not server.mails
            await here.round(seconds=1)
            await here.round(seconds=1)

        (message,) = server.mails
    assert message["To"] == "wanjiru@example.org"
    assert message["Subject"] == "[onyo] Kifaa kiko kimya, Kangaita, Boiler of dev-001"
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    for body in (text.get_content(), html.get_content()):
        assert "kipimo 900 s, kikomo 900 s" in body
        assert "Tangu 2026-03-01 15:00" in body
        assert "Angalia kama taa yake inawaka." in body
        assert "https://carbon.example.org/alerts/1/" in body
