"""palomar channels: the numbers you write from: add them, list them, change them, try their credentials."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import orjson
import typer

from ops import connections, onboarding, terminal
from ops.errors import Problem
from ops.onboarding import channel_views
from ops.onboarding import channels as numbers
from ops.onboarding.base import KINDS, Given
from ops.onboarding.prompts import asked
from shared.actions import channels as actions
from shared.actions.channels import Account
from shared.settings import settings
from shared.store import channels as store
from shared.store.channels import Listed

app = typer.Typer(no_args_is_help=True)

Id = Annotated[
    str, typer.Argument(help=f"the channel's id, or its first {numbers.SHORT_ID} characters or more", metavar="ID")
]
SmtpHost = Annotated[str | None, typer.Option(help="e-mail: the server that sends, such as smtp.sendgrid.net")]
SmtpPort = Annotated[int | None, typer.Option(help="e-mail: 587 with starttls, 465 with tls, unless said")]
SmtpTls = Annotated[str, typer.Option(help="e-mail: starttls, tls (from the first byte), or none")]
SmtpUser = Annotated[str | None, typer.Option(help="e-mail: the user name of the login there")]
FromAddress = Annotated[str, typer.Option(help="e-mail: the From, where it is not the channel's address")]
FromName = Annotated[str, typer.Option(help="e-mail: the name beside it")]


@app.command()
def add(
    provider: Annotated[str, typer.Option(help=f"one of: {', '.join(onboarding.SETUPS)}")] = "twilio",
    kind: Annotated[str | None, typer.Option(help=f"one of: {', '.join(KINDS)}")] = None,
    tenant: Annotated[str | None, typer.Option(help="whose it is: a tenant's name or id")] = None,
    new_tenant: Annotated[bool, typer.Option("--new-tenant", help="make a tenant of that name")] = False,
    address: Annotated[
        str | None, typer.Option(help="the number, in international form; or the e-mail address")
    ] = None,
    messaging_service: Annotated[
        str | None, typer.Option(help="MG…, where a messaging service of Twilio's sends instead of one number")
    ] = None,
    account_sid: Annotated[str | None, typer.Option(help="AC…, on the first page of Twilio's console")] = None,
    phone_number_id: Annotated[str | None, typer.Option(help="Meta's id of the number: WhatsApp → API Setup")] = None,
    account_id: Annotated[
        str | None,
        typer.Option(
            help="Meta's id of the WhatsApp Business Account (WhatsApp → API Setup), or Kommo's of the account in the "
            "Chats API (amojo_id)"
        ),
    ] = None,
    kommo_channel_id: Annotated[str | None, typer.Option("--channel-id", help="Kommo's id of the chat channel")] = None,
    bot_id: Annotated[str | None, typer.Option(help="Kommo's id of the channel's bot, in whose name we write")] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="JSON; what it leaves out has a default", dir_okay=False)
    ] = None,
    name: Annotated[str, typer.Option(help="for people")] = "",
    smtp_host: SmtpHost = None,
    smtp_port: SmtpPort = None,
    smtp_tls: SmtpTls = "starttls",
    smtp_user: SmtpUser = None,
    from_address: FromAddress = "",
    from_name: FromName = "",
) -> None:
    """Add a channel, and print what is to be entered at the provider.

    What is missing is asked for. Secrets are never arguments, which others could read in the list of processes: they
    are asked for, or come from the variables TWILIO_AUTH_TOKEN, or META_ACCESS_TOKEN, META_APP_SECRET and
    META_VERIFY_TOKEN (we make one where it is left out), or KOMMO_CHANNEL_SECRET, or SMTP_PASSWORD. They are stored
    sealed.
    """
    setup = onboarding.setup(provider)
    checked_kind = onboarding.kind_of(provider, kind)
    given = Given(
        address=address,
        messaging_service=messaging_service,
        account_sid=account_sid,
        phone_number_id=phone_number_id,
        account_id=account_id,
        channel_id=kommo_channel_id,
        bot_id=bot_id,
        smtp_host=smtp_host,
        smtp_port=smtp_port,
        smtp_tls=smtp_tls,
        smtp_user=smtp_user,
        from_address=from_address,
        from_name=from_name,
    )
    sender = setup.address(given, checked_kind)
    chosen = {} if settings_file is None else numbers.checked(_read(settings_file), str(settings_file))
    whose = asked("--tenant", tenant, "Tenant").strip()
    account = setup.account(given)
    new = numbers.NewChannel(
        provider=provider,
        kind=checked_kind,
        tenant=whose,
        new_tenant=new_tenant,
        address=sender,
        name=name,
        account=account,
        settings=actions.merged(chosen, account.channel_settings),
    )
    keys = numbers.keyring(settings())

    async def session() -> tuple[Listed, tuple[str, str]]:
        async with (
            connections.database(settings(), "channels") as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            channel = await numbers.add(connection, keys, new)
            return channel, await actions.secrets_in_urls(connection, keys, channel)

    channel, (ending, verify_token) = connections.run(session())
    assert channel.endpoint_id is not None, "add gives every channel an endpoint"
    urls = actions.urls(settings(), provider, channel.endpoint_id, ending)
    channel_views.explain(channel, setup.entered(channel, urls, verify_token), setup.CALLER)


def _read(file: Path) -> dict[str, object]:
    try:
        return numbers.settings_of(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} can't be read: {error}.", "Name a JSON file with settings.") from error


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False) -> None:
    """Every channel, how it answers, whether it sends, and its webhook URLs."""

    async def session() -> tuple[list[Listed], dict[UUID, str]]:
        async with connections.database(settings(), "channels") as pool, pool.acquire() as connection:
            every = await store.listed(connection)
            found: dict[UUID, str] = {}
            for one in every:
                if one.endpoint_id is not None and actions.onboarding(one.provider).url_holds_secret:
                    keys = numbers.keyring(settings())
                    found[one.endpoint_id], _ = await actions.secrets_in_urls(connection, keys, one)
            return every, found

    every, secrets = connections.run(session())
    if as_json:
        typer.echo(
            orjson.dumps([channel_views.as_json(channel, secrets) for channel in every], option=orjson.OPT_INDENT_2)
        )
        return
    console = terminal.console()
    if not every:
        console.print("There is no channel yet. Add one: ./palomar channels add")
        return
    console.print(channel_views.table(every))
    for endpoint_id in dict.fromkeys(channel.endpoint_id for channel in every):
        of_endpoint = [channel for channel in every if channel.endpoint_id == endpoint_id]
        addresses = ", ".join(channel.address for channel in of_endpoint)
        if endpoint_id is None:
            console.print(f"\n{addresses}: no endpoint, so nothing comes in.")
            continue
        urls = actions.urls(settings(), of_endpoint[0].provider, endpoint_id, secrets.get(endpoint_id, ""))
        console.print(f"\nWebhooks of {addresses}, to be entered at {of_endpoint[0].provider}:")
        console.print(f"  messages  {urls.messages}", soft_wrap=True)
        if urls.receipts:
            console.print(f"  receipts  {urls.receipts}", soft_wrap=True)
        if urls.chats:
            console.print(f"  Chats API {urls.chats}", soft_wrap=True)


@app.command("set")
def set_(
    channel_id: Id,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="JSON laid over the channel's settings: objects are merged, lists and values replaced, "
            "null takes a setting back to its default",
            dir_okay=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="the file is all of the settings")] = False,
    credentials: Annotated[
        bool, typer.Option("--credentials", help="enter the account and its secrets again, after a rotation")
    ] = False,
    account_sid: Annotated[str | None, typer.Option(help="of Twilio; with --credentials")] = None,
    account_id: Annotated[str | None, typer.Option(help="of Meta; with --credentials")] = None,
    bot_id: Annotated[str | None, typer.Option(help="of Kommo; with --credentials")] = None,
    new_url: Annotated[
        bool,
        typer.Option("--new-url", help="e-mail, Kommo: another secret in the webhook URL; the one before stays good"),
    ] = False,
    smtp_host: SmtpHost = None,
    smtp_port: SmtpPort = None,
    smtp_tls: SmtpTls = "starttls",
    smtp_user: SmtpUser = None,
    from_address: FromAddress = "",
    from_name: FromName = "",
) -> None:
    """Change a channel's settings or credentials. It takes effect with the next message."""
    if settings_file is None and not credentials and not new_url:
        raise Problem("Say what to change.", "Give --settings FILE.json, --credentials, or --new-url.")
    changes = None if settings_file is None else _read(settings_file)
    keys = numbers.keyring(settings())

    async def there() -> Listed:
        async with connections.database(settings(), "channels") as pool:
            return await numbers.find(pool, channel_id)

    channel = connections.run(there())
    if new_url and not actions.onboarding(channel.provider).url_holds_secret:
        raise Problem("--new-url: this channel's URL holds no secret.", "Webhooks of its provider are signed.")
    account: Account | None = None
    if credentials:
        given = Given(
            account_sid=account_sid,
            account_id=account_id,
            bot_id=bot_id,
            smtp_host=smtp_host,
            smtp_port=smtp_port,
            smtp_tls=smtp_tls,
            smtp_user=smtp_user,
            from_address=from_address,
            from_name=from_name,
        )
        account = onboarding.setup(channel.provider).account(given)

    async def session() -> Listed:
        async with connections.database(settings(), "channels") as pool:
            channel = await numbers.find(pool, channel_id)
            async with pool.acquire() as connection, connection.transaction():
                if changes is not None:
                    whole = changes if replace else actions.merged(channel.settings, changes)
                    valid = numbers.checked(whole, str(settings_file))
                    await store.set_settings(connection, channel.tenant_id, channel.id, valid)
                if account is not None:
                    now = await numbers.find(connection, str(channel.id))
                    await actions.enter_account(connection, keys, now, account, by_operator=True)
                if new_url and channel.endpoint_id is not None:
                    await numbers.change_url(connection, keys, channel)
            return await numbers.find(pool, str(channel.id))

    terminal.console().print(channel_views.table([connections.run(session())]))
    if new_url:
        typer.echo("Its new URL: ./palomar channels list. The one before stays good until the next --new-url.")


@app.command()
def test(channel_id: Id) -> None:
    """Try a channel's credentials at its provider; one that was stopped and works again is resumed.

    An address that came by SQL is thereby proven, where the webhook URL is shared by several tenants.
    """
    keys = numbers.keyring(settings())

    async def session() -> tuple[Listed, str | None, bool]:
        async with connections.database(settings(), "channels") as pool:
            channel = await numbers.find(pool, channel_id)
            problem = await actions.problem(settings(), keys, channel)
            if problem is None:
                async with pool.acquire() as connection:
                    await numbers.prove(connection, channel)
            resumed = problem is None and await store.resume(pool, channel.tenant_id, channel.id)
            return channel, problem, resumed

    channel, problem, resumed = connections.run(session())
    who = terminal.printable(f"{channel.kind} {channel.address} of {channel.tenant}")
    if problem is not None:
        raise Problem(
            f"{who}: {terminal.printable(problem)}.",
            f"If they changed, enter them: ./palomar channels set {channel.id} --credentials",
        )
    typer.echo(f"{who}: {channel.provider} takes the credentials.")
    if resumed:
        typer.echo(terminal.printable(f"It was stopped ({channel.status_reason}) and sends again from now on."))


@app.command()
def reseal() -> None:
    """Seal all secrets anew with the first of PALOMAR_SECRET_KEYS; then the older keys may go."""
    keys = numbers.keyring(settings())

    async def session() -> tuple[int, int]:
        async with (
            connections.database(settings(), "channels") as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            return await numbers.reseal(connection, keys)

    changed, same = connections.run(session())
    typer.echo(f"{changed} sealed anew with key {keys.sealing_id!r}, {same} had it already.")
