"""The commands for people who may sign in."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, factory_named, from_here, stop, with_store
from carbontrack.model import Role, User, UserStatus

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

user_app = typer.Typer(help="Add, list and change people who may sign in.", no_args_is_help=True)

EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
EmailArgument = Annotated[str, typer.Argument(help="The address that the person signs in with.")]
FactoryOption = Annotated[str, typer.Option(help="For a factory's people: the factory, for example kangaita.")]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@user_app.command("add")
def user_add(
    email: Annotated[str, typer.Option(help="The address to sign in with.")],
    role: Annotated[Role, typer.Option(help="What the person may see and do.")],
    factory: FactoryOption = "",
    first_name: Annotated[str, typer.Option()] = "",
    last_name: Annotated[str, typer.Option()] = "",
    phone_number: Annotated[str, typer.Option()] = "",
    password_stdin: PasswordOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a person who may sign in.

    Example: carbontrack user add --email chief@example.org --role hq_manager --password-stdin < password.txt
    """
    if not EMAIL.fullmatch(email):
        stop(f"{email!r} is not an e-mail address")
    password_hash = new_password_hash(password_stdin, email, first_name, last_name)

    async def command(store: Store) -> None:
        user = await store.add_user(
            email,
            password_hash,
            role,
            factory_id=(await factory_named(store, factory)).id if factory else None,
            first_name=first_name,
            last_name=last_name,
            phone_number=phone_number,
            by=from_here(),
        )
        typer.echo(f"{user.email} may sign in as {user.role.value}.")

    with_store(config, command)


@user_app.command("list")
def user_list(
    status: Annotated[UserStatus | None, typer.Option(help="Only people of this status.")] = None,
    role: Annotated[Role | None, typer.Option(help="Only people of this role.")] = None,
    factory: Annotated[str, typer.Option(help="Only people of this factory, for example kangaita.")] = "",
    config: ConfigOption = None,
) -> None:
    """List people: address, role, status, factory and name.

    Example: carbontrack user list --status pending
    """

    async def command(store: Store) -> None:
        factories = {found.id: found.slug for found in await store.factories()}
        factory_id = (await factory_named(store, factory)).id if factory else None
        for user in await store.users(status=status, role=role, factory_id=factory_id):
            place = factories[user.factory_id] if user.factory_id is not None else "all factories"
            name = f"{user.first_name} {user.last_name}".strip()
            typer.echo(f"{user.email:32} {user.role:16} {user.status:9} {place:20} {name}".rstrip())

    with_store(config, command)


@user_app.command("change")
def user_change(
    email: EmailArgument,
    role: Annotated[Role | None, typer.Option(help="What the person may see and do.")] = None,
    factory: FactoryOption = "",
    status: Annotated[UserStatus | None, typer.Option(help="Whether the person may sign in.")] = None,
    first_name: Annotated[str | None, typer.Option()] = None,
    last_name: Annotated[str | None, typer.Option()] = None,
    phone_number: Annotated[str | None, typer.Option()] = None,
    locale: Annotated[str | None, typer.Option(help="The language of the pages: en or sw.")] = None,
    config: ConfigOption = None,
) -> None:
    """Change what is given of a person. A role that sees every factory takes the person's factory away.

    Example: carbontrack user change amina@example.org --role factory_manager --factory kangaita
    """

    async def command(store: Store) -> None:
        changed = await store.change_user(
            (await _person(store, email)).id,
            role=role,
            factory_id=(await factory_named(store, factory)).id if factory else None,
            status=status,
            first_name=first_name,
            last_name=last_name,
            phone_number=phone_number,
            locale=locale,
            by=from_here(),
        )
        typer.echo(f"{changed.email} is {changed.role.value}, {changed.status.value}.")

    with_store(config, command)


@user_app.command("approve")
def user_approve(email: EmailArgument, config: ConfigOption = None) -> None:
    """Let a person in who has asked for it.

    Example: carbontrack user approve amina@example.org
    """

    async def command(store: Store) -> None:
        user = await _person(store, email)
        if user.status is not UserStatus.PENDING:
            stop(f"{user.email} is {user.status.value} already. See: carbontrack user change --help")
        await store.change_user(user.id, status=UserStatus.ACTIVE, by=from_here())
        typer.echo(f"{user.email} may sign in as {user.role.value}.")

    with_store(config, command)


@user_app.command("disable")
def user_disable(email: EmailArgument, config: ConfigOption = None) -> None:
    """Shut a person out, at once and everywhere. What the person has done stays on record.

    Example: carbontrack user disable amina@example.org
    """

    async def command(store: Store) -> None:
        user = await _person(store, email)
        await store.change_user(user.id, status=UserStatus.DISABLED, by=from_here())
        typer.echo(f"{user.email} is disabled. To let the person in again: carbontrack user change --status active")

    with_store(config, command)


@user_app.command("password")
def user_password(email: EmailArgument, password_stdin: PasswordOption = False, config: ConfigOption = None) -> None:
    """Give a person another password. All sessions of the person end.

    Example: carbontrack user password amina@example.org --password-stdin < password.txt
    """

    async def command(store: Store) -> None:
        user = await _person(store, email)
        password_hash = new_password_hash(password_stdin, user.email, user.first_name, user.last_name)
        await store.set_password_hash(user.id, password_hash, by=from_here())
        typer.echo(f"{user.email} has another password; open sessions have ended.")

    with_store(config, command)


@user_app.command("code")
def user_code(email: EmailArgument, config: ConfigOption = None) -> None:
    """Print a code with which a person sets another password, once and within an hour: for where there is no mail.

    Example: carbontrack user code amina@example.org
    """
    from carbontrack.passwords import CODE_LASTS, RESET, code_hash, new_code  # noqa: PLC0415  # see run

    async def command(store: Store) -> None:
        user, code = await _person(store, email), new_code()
        if user.status is not UserStatus.ACTIVE:
            stop(f"{user.email} is {user.status.value} and may not sign in.")
        await store.add_code(user.id, RESET, code_hash(code), datetime.now(UTC) + CODE_LASTS, by=from_here())
        typer.echo(code)

    with_store(config, command)


async def _person(store: Store, email: str) -> User:
    found = await store.users(email=email)
    if not found:
        stop(f"There is nobody with the address {email!r}. See: carbontrack user list")
    return found[0]


def new_password_hash(from_stdin: bool, *own: str) -> str:
    """The hash of a password that somebody types; ``own`` is what it must not be made of."""
    from carbontrack.passwords import WeakPassword, check_password, hash_password  # noqa: PLC0415  # see run

    password = sys.stdin.readline().rstrip("\n") if from_stdin else typer.prompt("Password", hide_input=True)
    try:
        check_password(password, own)
    except WeakPassword as error:
        stop(str(error))
    return hash_password(password)
