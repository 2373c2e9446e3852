"""The commands for people and for the audit log, as an operator types them, on a database of their own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction, Origin, Role, User, UserStatus
from carbontrack.passwords import RESET, code_hash, password_fits
from carbontrack.store import Store, chained, open_store
from tests.support.world import execute, factory, give_schema

T = TypeVar("T")
Say = Callable[..., Result]
PASSWORD = "wood burns in the morning"


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A database with a factory, an HQ manager, and somebody who has asked to be let in."""
    address = f"sqlite://{tmp_path / 'people.sqlite3'}"
    await give_schema(address)
    async with open_store(address, Metrics()) as store:
        kangaita = await store.add_factory(factory())
        await store.add_user("hq@example.org", "hash", Role.HQ_MANAGER, first_name="Chief")
        amina = Origin("amina@example.org", "192.0.2.7")
        await store.add_user(
            amina.name, "hash", Role.FACTORY_CLERK, factory_id=kangaita.id, status=UserStatus.PENDING, by=amina
        )
    return address


@pytest.fixture
def say(url: str, tmp_path: Path) -> Say:
    path = tmp_path / "carbontrack.yaml"
    path.write_text(f"database:\n  url: {url}\n")

    def command(*words: str, text: str = "") -> Result:
        return CliRunner().invoke(app, [*words, "--config", str(path)], input=text)

    return command


def look(url: str, question: Callable[[Store], Awaitable[T]]) -> T:
    """What the store says. A command has a loop of its own, so the tests here have none."""

    async def main() -> T:
        async with open_store(url, Metrics()) as store:
            return await question(store)

    return asyncio.run(main())


def person(url: str, email: str) -> tuple[User, str]:
    """Somebody who may sign in, with the hash of the password."""
    found = look(url, lambda store: store.user_by_email(email))
    assert found is not None, f"{email} may not sign in"
    return found


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_people_are_listed_with_what_they_are(say: Say) -> None:
    lines = [line.split() for line in done(say("user", "list")).splitlines()]

    assert lines == [
        ["amina@example.org", "factory_clerk", "pending", "kangaita"],
        ["hq@example.org", "hq_manager", "active", "all", "factories", "Chief"],
    ]
    assert done(say("user", "list", "--status", "pending", "--factory", "kangaita")).startswith("amina@")
    assert not done(say("user", "list", "--role", "auditor"))


def test_whoever_has_asked_to_be_let_in_is_approved_changed_and_disabled(say: Say, url: str) -> None:
    assert "amina@example.org may sign in as factory_clerk" in done(say("user", "approve", "Amina@Example.org"))
    assert "active already" in say("user", "approve", "amina@example.org").output

    changed = say("user", "change", "amina@example.org", "--role", "factory_manager", "--first-name", "Amina")
    assert "is factory_manager, active" in done(changed)
    user, _ = person(url, "amina@example.org")
    assert (user.first_name, user.factory_id) == ("Amina", 1)

    assert "is disabled" in done(say("user", "disable", "amina@example.org"))
    assert "pending" not in done(say("user", "list"))
    assert "active" in done(say("user", "change", "amina@example.org", "--status", "active"))


def test_a_person_is_added_and_given_another_password(say: Say, url: str) -> None:
    words = ("--email", "op@example.org", "--role", "operator", "--password-stdin")
    assert "may sign in as operator" in done(say("user", "add", *words, text=f"{PASSWORD}\n"))
    assert password_fits(person(url, "op@example.org")[1], PASSWORD)

    said = done(say("user", "password", "op@example.org", "--password-stdin", text="quite another one\n"))

    assert "quite another one" not in said
    assert password_fits(person(url, "op@example.org")[1], "quite another one")


def test_a_code_for_another_password_is_good_for_an_hour(say: Say, url: str) -> None:
    done(say("user", "approve", "amina@example.org"))
    code = done(say("user", "code", "amina@example.org")).strip()

    assert re.fullmatch(r"[A-Z2-9]{4}(-[A-Z2-9]{4}){2}", code)
    user, _ = person(url, "amina@example.org")
    now = datetime.now(UTC)
    late, typed = now + timedelta(hours=1), code.lower()
    assert not look(url, lambda store: store.use_code(user.id, RESET, code_hash(code), late))
    assert look(url, lambda store: store.use_code(user.id, RESET, code_hash(typed), now + timedelta(minutes=59)))


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (("user", "add", "--email", "nobody", "--role", "auditor"), "", "is not an e-mail address"),
        (("user", "add", "--email", "a@b", "--role", "auditor", "--password-stdin"), "short\n", "at least 10"),
        (("user", "add", "--email", "a@b", "--role", "auditor", "--password-stdin"), "password123\n", "Many people"),
        (
            ("user", "add", "--email", "a@b", "--role", "auditor", "--factory", "kangaita", "--password-stdin"),
            f"{PASSWORD}\n", "the role auditor sees every factory",
        ),
        (
            ("user", "add", "--email", "a@b", "--role", "factory_clerk", "--password-stdin"), f"{PASSWORD}\n",
            "the role factory_clerk belongs to a factory",
        ),
        (("user", "change", "hq@example.org", "--role", "auditor"), "", "the only one who lets people in"),
        (("user", "change", "hq@example.org", "--locale", "de"), "", "the pages are in en and sw"),
        (("user", "disable", "nobody@example.org"), "", "There is nobody with the address 'nobody@example.org'"),
        (("user", "code", "amina@example.org"), "", "is pending and may not sign in"),
        (("user", "password", "hq@example.org", "--password-stdin"), "hq@example.org\n", "your own name or address"),
        (("audit", "verify", "--head", "12"), "", "--head must be as `carbontrack audit verify` prints it"),
        (("audit", "list", "--action", "device.eaten"), "", "There is no action 'device.eaten'. There are: user.added"),
        (("audit", "list", "--from", "yesterday"), "", "--from must be a time such as"),
        (("audit", "list", "--factory", "nowhere"), "", "There is no factory 'nowhere'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_what_to_do(say: Say, words: tuple[str, ...], text: str, says: str) -> None:
    ended = say(*words, text=text)

    assert ended.exit_code == 2
    assert says in " ".join(ended.output.split())


def test_what_is_done_at_the_command_line_is_in_the_audit_log(say: Say) -> None:
    done(say("factory", "add-stack", "kangaita", "Boiler 1", "--diameter-m", "0.8"))
    done(say("device", "add", "dev-1", "--stack-id", "1"))
    done(say("device", "disable", "dev-1"))
    done(say("device", "remove", "dev-1"))
    done(say("user", "approve", "amina@example.org"))

    lines = done(say("audit", "list", "--limit", "5")).splitlines()

    assert [re.search(r"command line \S+@\S+  (\S+)", line)[1] for line in lines] == [  # type: ignore[index]  # it is there
        "user.approved", "device.removed", "device.changed", "device.added", "stack.added",
    ]  # fmt: skip
    assert 'device.changed device dev-1  status "active" -> "disabled"' in lines[2]
    assert '  user.approved user 2  status "pending" -> "active"' in lines[0]


def test_what_a_stranger_typed_does_not_reach_the_terminal_as_a_command(say: Say, url: str) -> None:
    typed = "\x1b]0;mine\x07\x9b31m\n4711 hq@example.org"
    failed = AuditAction.USER_SIGN_IN_FAILED
    look(url, lambda store: store.note(Origin(typed), failed, "user", typed, after={"email": typed}))

    line = done(say("audit", "list", "--limit", "1"))

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(done(say("audit", "list", "--limit", "1", "--json")))["actor"] == typed


def test_the_audit_log_is_filtered_by_who_what_and_when(say: Say) -> None:
    def ids(*words: str) -> list[int]:
        return [json.loads(line)["id"] for line in done(say("audit", "list", "--json", *words)).splitlines()]

    assert ids() == [3, 2, 1]
    assert ids("--limit", "2") == [3, 2]
    assert ids("--actor", "amina@example.org") == [3]
    assert ids("--subject", "user") == [3, 2]
    assert ids("--subject", "user:1", "--action", "user.added") == [2]
    assert ids("--factory", "kangaita") == [3, 1]
    assert ids("--from", "2026-01-01T00:00", "--to", "2026-01-02") == []
    assert ids("--from", "2000-01-01T00:00+03:00") == [3, 2, 1]


def test_the_whole_log_comes_page_by_page_and_is_one_chain(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbontrack.cli.audit.PAGE", 2)

    events = [json.loads(line) for line in done(say("audit", "list", "--all", "--json")).splitlines()][::-1]

    before = ""
    for event in events:
        told = event.pop("sha256")
        assert chained(before, event) == told
        before = told
    assert done(say("audit", "verify")) == f"3 events, all as they were written. Head: 3:{before}\n"


def test_a_log_that_was_tampered_with_is_told_and_ends_with_1(say: Say, url: str) -> None:
    head = done(say("audit", "verify")).split()[-1]
    assert done(say("audit", "verify", "--head", head))

    asyncio.run(execute(url, "DROP TRIGGER audit_event_no_delete"))
    asyncio.run(execute(url, "DELETE FROM audit_event WHERE id = 3"))
    assert done(say("audit", "verify")).startswith("2 events")
    cut = say("audit", "verify", "--head", head)
    assert cut.exit_code == 1
    assert "Event 3: the log ends before it: there were 3 events." in cut.output

    asyncio.run(execute(url, "DELETE FROM audit_event WHERE id = 1"))
    gap = say("audit", "verify")
    assert gap.exit_code == 1
    assert "not as it was written. Event 1: it is missing" in gap.output
