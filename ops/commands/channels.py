"""palomar channels: the numbers you write from: add them, list them, change them, try their credentials."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import typer
from rich.table import Table

from ops import accounts, errands, mailboxes, terminal
from ops import channels as numbers
from ops.errors import Problem
from shared import providers
from shared.channels import ChannelSettings, read_settings
from shared.crypto import KeyRing
from shared.settings import settings
from shared.store import channels as store
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

app = typer.Typer(no_args_is_help=True)

# Where in Twilio's console the two URLs are entered: (place, name of the first field, name of the second).
_PLACES = {
    "whatsapp": (
        "Messaging → Senders → WhatsApp senders → this number",
        "Webhook URL for incoming messages",
        "Status callback URL",
    ),
    "sms": (
        "Phone Numbers → Manage → Active numbers → this number → Messaging",
        "A message comes in, Webhook, HTTP POST",
        "(no field for it here: every message we send carries it)",
    ),
    "service": (
        "Messaging → Services → this service → Integration",
        "Send a webhook, Request URL, HTTP Post",
        "Delivery Status Callback",
    ),
}

Id = Annotated[
    str, typer.Argument(help=f"the channel's id, or its first {numbers.SHORT_ID} characters or more", metavar="ID")
]


# Secrets are asked for, or come from these variables: as arguments others could read them in the list of processes.
_TOKEN = ("TWILIO_AUTH_TOKEN", "Auth token")
_ACCESS_TOKEN = ("META_ACCESS_TOKEN", "Access token")
_APP_SECRET = ("META_APP_SECRET", "App secret")
_VERIFY_TOKEN = "META_VERIFY_TOKEN"
_CHANNEL_SECRET = ("KOMMO_CHANNEL_SECRET", "Channel secret")
_SMTP_PASSWORD = ("SMTP_PASSWORD", "SMTP password")

SmtpHost = Annotated[str | None, typer.Option(help="e-mail: the server that sends, such as smtp.sendgrid.net")]
SmtpPort = Annotated[int | None, typer.Option(help="e-mail: 587 with starttls, 465 with tls, unless said")]
SmtpTls = Annotated[str, typer.Option(help="e-mail: starttls, tls (from the first byte), or none")]
SmtpUser = Annotated[str | None, typer.Option(help="e-mail: who logs in there")]
FromAddress = Annotated[str, typer.Option(help="e-mail: the From, where it is not the channel's address")]
FromName = Annotated[str, typer.Option(help="e-mail: the name beside it")]


@app.command()
def add(
    provider: Annotated[str, typer.Option(help=f"one of: {', '.join(providers.names())}")] = "twilio",
    kind: Annotated[str | None, typer.Option(help=f"one of: {', '.join(numbers.KINDS)}")] = None,
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
    if provider not in providers.names():
        raise Problem(f"There is no provider {provider!r}.", f"Name one of: {', '.join(providers.names())}.")
    if provider in _ONLY_KIND and kind is None:
        kind = _ONLY_KIND[provider]
    kind = _asked("--kind", kind, f"Kind ({' or '.join(numbers.KINDS)})")
    if kind not in numbers.KINDS:
        raise Problem(f"--kind: {kind!r} is none.", f"Name one of: {', '.join(numbers.KINDS)}.")
    checked_kind = cast(numbers.Kind, kind)
    if (only := _ONLY_KIND.get(provider)) is not None and kind != only:
        raise Problem(f"--kind: {provider.capitalize()}'s channels are {only}, not {kind}.", "Leave --kind out.")
    if kind == "email" and provider != "email":
        raise Problem(f"--kind: {provider.capitalize()} has no channels of e-mail.", "Use --provider email.")
    if provider == "email":
        sender = mailboxes.mail_address(_asked("--address", address, "E-mail address, such as hello@example.com"))
    elif provider == "kommo":
        sender = numbers.scope_id(
            _asked("--channel-id", kommo_channel_id, "Channel id").strip(),
            _asked("--account-id", account_id, "Chats API account id (amojo_id)").strip(),
        )
    elif provider == "meta":
        sender = numbers.phone_number_id(_asked("--phone-number-id", phone_number_id, "Phone number id").strip())
    else:
        if address and messaging_service:
            raise Problem("A channel has one sender.", "Give --address or --messaging-service, not both.")
        given = messaging_service or _asked("--address", address, "The number, such as +14155238886")
        sender = numbers.messaging_service(given) if messaging_service else numbers.sender_address(checked_kind, given)
    chosen = {} if settings_file is None else numbers.checked(_read(settings_file), str(settings_file))
    mailbox = _Mailbox(smtp_host, smtp_port, smtp_tls, smtp_user, from_address, from_name)
    whose = _asked("--tenant", tenant, "Tenant").strip()
    account = mailbox.account() if provider == "email" else _account(provider, account_sid, account_id, bot_id)
    if isinstance(account, accounts.KommoAccount):
        chosen = numbers.with_bot(chosen, account.bot_id)
    new = numbers.NewChannel(
        provider=provider,
        kind=checked_kind,
        tenant=whose,
        new_tenant=new_tenant,
        address=sender,
        name=name,
        account=account,
        settings=chosen,
    )
    keys = numbers.keyring(settings())

    async def errand() -> tuple[Listed, str]:
        async with (
            errands.database(settings(), "channels") as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            channel = await numbers.add(connection, keys, new)
            rows = {row.id: row for row in await endpoints.live(connection)}
            row = rows.get(channel.endpoint_id) if channel.endpoint_id else None
            return channel, _told_once(keys, row) if row is not None else ""

    channel, told = errands.run(errand())
    match provider:
        case "meta":
            _explain(channel, _entered_at_meta(channel, told))
        case "kommo":
            _explain(channel, _entered_at_kommo(channel, told))
        case "email":
            _explain(channel, mailboxes.entered(_urls(channel, told).messages, channel.address))
        case _:
            _explain(channel, _entered_at_twilio(channel))


_SECRET_URLS = ("email", "kommo")  # whose webhooks are let in by what the URL ends with
_ONLY_KIND: Mapping[str, numbers.Kind] = {"meta": "whatsapp", "kommo": "whatsapp", "email": "email"}


def _told_once(keys: KeyRing, row: EndpointRow) -> str:
    """What is entered at the provider beside what the URL says of itself: Meta's verify token, or a URL's secret."""
    return mailboxes.url_secret(keys, row) if row.provider in _SECRET_URLS else accounts.verify_token(keys, row)


@dataclass(frozen=True, slots=True)
class _Mailbox:
    """The options that say what a mailbox sends through."""

    host: str | None
    port: int | None
    tls: str
    user: str | None
    from_address: str
    from_name: str

    def account(self) -> mailboxes.EmailAccount:
        """What is missing is asked for."""
        host = _asked("--smtp-host", self.host, "SMTP server, such as smtp.sendgrid.net")
        user = _asked("--smtp-user", self.user, "SMTP user").strip()
        password = _secret(*_SMTP_PASSWORD)
        return mailboxes.EmailAccount.checked(
            host, self.port, self.tls, user, password, self.from_address, self.from_name
        )


def _asked(option: str, given: str | None, question: str) -> str:
    """An option's value, asked for where it is missing and somebody is there to answer."""
    if given is not None and given.strip():
        return given
    if not sys.stdin.isatty():
        raise Problem(f"{option} is missing.", f"Add {option}, or run this in a terminal, where it is asked for.")
    return str(typer.prompt(question))


def _account(provider: str, account_sid: str | None, account_id: str | None, bot_id: str | None) -> accounts.Account:
    """The account that is told, with its secrets."""
    if provider == "kommo":
        bot = _asked("--bot-id", bot_id, "Bot id").strip()
        return accounts.KommoAccount.checked(_secret(*_CHANNEL_SECRET), bot)
    if provider == "meta":
        business_id = _asked("--account-id", account_id, "WhatsApp Business Account id").strip()
        access_token, app_secret = _secret(*_ACCESS_TOKEN), _secret(*_APP_SECRET)
        return accounts.MetaAccount.checked(business_id, access_token, app_secret, _verify_token())
    sid = _asked("--account-sid", account_sid, "Account SID").strip()
    return accounts.TwilioAccount.checked(sid, _secret(*_TOKEN))


def _secret(variable: str, name: str) -> str:
    """A secret from its variable, or asked for without showing it."""
    given = os.environ.get(variable, "")
    if not given:
        if not sys.stdin.isatty():
            raise Problem(f"The {name.lower()} is missing.", f"Set {variable}, or run this in a terminal.")
        given = typer.prompt(name, hide_input=True)
    return given.strip()


def _verify_token() -> str:
    """The verify token somebody chose; empty where we are to make one."""
    given = os.environ.get(_VERIFY_TOKEN, "")
    if not given and sys.stdin.isatty():
        given = typer.prompt("Verify token (empty: the one there is, or a new one)", default="", show_default=False)
    return given.strip()


def _read(file: Path) -> dict[str, object]:
    try:
        return numbers.settings_of(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} can't be read: {error}.", "Name a JSON file with settings.") from error


def _explain(channel: Listed, entered: list[str]) -> None:
    """What a person does next."""
    lines = [f"Channel {channel.id} of {channel.tenant}: {channel.kind} {channel.address}.", "", *entered]
    caller = "the mail service" if channel.provider == "email" else channel.provider.capitalize()
    if reachable := _unreachable(settings().public_url, caller):
        lines.append(reachable)
    lines.append(f"Then try the credentials: ./palomar channels test {channel.id}")
    for line in lines:
        typer.echo(terminal.printable(line))


def _entered_at_twilio(channel: Listed) -> list[str]:
    urls = _urls(channel)
    place, first, second = _PLACES["service" if channel.address.startswith("MG") else channel.kind]
    return [
        f"Enter at Twilio, {place}:",
        f"  {first}:",
        f"    {urls.messages}",
        f"  {second}:",
        f"    {urls.receipts}",
        "",
        f"{numbers.RETRIES} belongs to them: it makes Twilio try five times, on any failure.",
    ]


def _entered_at_meta(channel: Listed, verify_token: str) -> list[str]:
    return [
        "Enter at Meta, in the app: WhatsApp → Configuration → Webhook → Edit:",
        "  Callback URL:",
        f"    {_urls(channel).messages}",
        "  Verify token:",
        f"    {verify_token}",
        "",
        "Subscribe there to: messages, user_preferences, account_update, message_template_status_update.",
        "All numbers of the app, of whatever tenant, share this URL.",
    ]


def _entered_at_kommo(channel: Listed, secret: str) -> list[str]:
    urls = _urls(channel, secret)
    return [
        "Enter at Kommo, Settings → Integrations → Web hooks (upper right) → Add webhook:",
        "  URL:",
        f"    {urls.messages}",
        "  with the events about incoming and outgoing messages. Who knows this URL can write as your customers.",
        "",
        "Have Kommo's support set the webhook URL of your chat channel (its webhook_url):",
        f"    {urls.chats}",
        "  :scope_id stands there as it is: Kommo puts the account's in its place.",
    ]


def _urls(channel: Listed, secret: str = "") -> numbers.Urls:
    assert channel.endpoint_id is not None, "add gives every channel an endpoint"
    return numbers.urls(settings(), channel.provider, channel.endpoint_id, secret)


def _unreachable(public_url: str, provider: str) -> str:
    """A warning where a provider could not call this address; empty where it could."""
    host = urlsplit(public_url).hostname or ""
    try:
        private = ip_address(host).is_private
    except ValueError:
        private = host == "localhost"
    if not private:
        return ""
    return (
        f"Only this machine reaches {public_url}: set PALOMAR_PUBLIC_URL to where {provider} finds it, then list again."
    )


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="for a program")] = False) -> None:
    """Every channel, how it answers, whether it sends, and its webhook URLs."""

    async def errand() -> tuple[list[Listed], dict[UUID, str]]:
        async with errands.database(settings(), "channels") as pool, pool.acquire() as connection:
            every = await store.listed(connection)
            if not any(channel.provider in _SECRET_URLS for channel in every):
                return every, {}
            keys = numbers.keyring(settings())
            rows = await endpoints.live(connection)
            return every, {row.id: mailboxes.url_secret(keys, row) for row in rows if row.provider in _SECRET_URLS}

    every, secrets = errands.run(errand())
    if as_json:
        typer.echo(orjson.dumps([_as_json(channel, secrets) for channel in every], option=orjson.OPT_INDENT_2))
        return
    console = terminal.console()
    if not every:
        console.print("There is no channel yet. Add one: ./palomar channels add")
        return
    console.print(_table(every))
    for endpoint_id in dict.fromkeys(channel.endpoint_id for channel in every):
        of_endpoint = [channel for channel in every if channel.endpoint_id == endpoint_id]
        addresses = ", ".join(channel.address for channel in of_endpoint)
        if endpoint_id is None:
            console.print(f"\n{addresses}: no endpoint, so nothing comes in.")
            continue
        urls = numbers.urls(settings(), of_endpoint[0].provider, endpoint_id, secrets.get(endpoint_id, ""))
        console.print(f"\nWebhooks of {addresses}, to be entered at {of_endpoint[0].provider}:")
        console.print(f"  messages  {urls.messages}", soft_wrap=True)
        if urls.receipts:
            console.print(f"  receipts  {urls.receipts}", soft_wrap=True)
        if urls.chats:
            console.print(f"  Chats API {urls.chats}", soft_wrap=True)


def _table(every: list[Listed]) -> Table:
    table = Table()
    for heading in ("tenant", "channel", "kind", "address", "answers", "outside the window", "status"):
        table.add_column(heading, overflow="fold")
    for channel in every:
        read = _settings_of(channel)
        answers, policy = (read.reply.engine, read.window.policy) if isinstance(read, ChannelSettings) else (read, "")
        stopped = channel.status != "active"
        status = f"{channel.status}: {channel.status_reason}" if channel.status_reason else channel.status
        table.add_row(
            terminal.plain(channel.tenant),
            terminal.plain(f"{channel.id}\n{channel.name}".strip()),
            channel.kind,
            terminal.plain(channel.address),
            terminal.plain(answers),
            policy if channel.kind == "whatsapp" else "–",
            terminal.plain(status, "bold red" if stopped else "green"),
        )
    return table


def _settings_of(channel: Listed) -> ChannelSettings | str:
    """A channel's settings, or what is wrong with them."""
    try:
        return read_settings(channel.settings)
    except ValueError as error:
        return str(error)


def _as_json(channel: Listed, secrets: Mapping[UUID, str]) -> dict[str, object]:
    read = _settings_of(channel)
    valid = read if isinstance(read, ChannelSettings) else None
    endpoint_id = channel.endpoint_id
    urls = (
        numbers.urls(settings(), channel.provider, endpoint_id, secrets.get(endpoint_id, "")) if endpoint_id else None
    )
    return {
        "tenant_id": str(channel.tenant_id),
        "tenant": channel.tenant,
        "id": str(channel.id),
        "name": channel.name,
        "provider": channel.provider,
        "kind": channel.kind,
        "address": channel.address,
        "status": channel.status,
        "status_reason": channel.status_reason,
        "engine": valid.reply.engine if valid else None,
        "window_policy": valid.window.policy if valid else None,
        "settings": channel.settings,
        "settings_error": None if valid else read,
        "endpoint_id": str(channel.endpoint_id) if channel.endpoint_id else None,
        "webhook_url": urls.messages if urls else None,
        "status_url": urls.receipts if urls else None,
        "chats_url": urls.chats if urls else None,
    }


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
        bool, typer.Option("--new-url", help="e-mail: another secret in the webhook URL; the one before stays good")
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
        async with errands.database(settings(), "channels") as pool:
            return await numbers.find(pool, channel_id)

    channel = errands.run(there())
    account: accounts.Account | None = None
    if credentials and channel.provider == "email":
        account = _Mailbox(smtp_host, smtp_port, smtp_tls, smtp_user, from_address, from_name).account()
    elif credentials:
        account = _account(channel.provider, account_sid, account_id, bot_id)

    async def errand() -> Listed:
        async with errands.database(settings(), "channels") as pool:
            channel = await numbers.find(pool, channel_id)
            async with pool.acquire() as connection, connection.transaction():
                if changes is not None:
                    whole = changes if replace else numbers.merged(channel.settings, changes)
                    valid = numbers.checked(whole, str(settings_file))
                    await store.set_settings(connection, channel.tenant_id, channel.id, valid)
                if account is not None:
                    await numbers.enter_account(connection, keys, channel, account)
                if isinstance(account, accounts.KommoAccount):
                    now = (await numbers.find(connection, str(channel.id))).settings
                    known = numbers.with_bot(now, account.bot_id)
                    await store.set_settings(connection, channel.tenant_id, channel.id, known)
                if new_url and channel.endpoint_id is not None:
                    await mailboxes.change_url(connection, keys, channel.endpoint_id)
            return await numbers.find(pool, str(channel.id))

    terminal.console().print(_table([errands.run(errand())]))
    if new_url:
        typer.echo("Its new URL: ./palomar channels list. The one before stays good until the next --new-url.")


@app.command()
def test(channel_id: Id) -> None:
    """Try a channel's credentials at its provider; one that was stopped and works again is resumed."""
    keys = numbers.keyring(settings())

    async def errand() -> tuple[Listed, str | None, bool]:
        async with errands.database(settings(), "channels") as pool:
            channel = await numbers.find(pool, channel_id)
            trouble = await numbers.trouble(settings(), keys, channel)
            resumed = trouble is None and await store.resume(pool, channel.tenant_id, channel.id)
            return channel, trouble, resumed

    channel, trouble, resumed = errands.run(errand())
    who = terminal.printable(f"{channel.kind} {channel.address} of {channel.tenant}")
    if trouble is not None:
        raise Problem(
            f"{who}: {terminal.printable(trouble)}.",
            f"If they changed, enter them: ./palomar channels set {channel.id} --credentials",
        )
    typer.echo(f"{who}: {channel.provider} takes the credentials.")
    if resumed:
        typer.echo(terminal.printable(f"It was stopped ({channel.status_reason}) and sends again from now on."))


@app.command()
def reseal() -> None:
    """Seal all secrets anew with the first of PALOMAR_SECRET_KEYS; then the older keys may go."""
    keys = numbers.keyring(settings())

    async def errand() -> tuple[int, int]:
        async with (
            errands.database(settings(), "channels") as pool,
            pool.acquire() as connection,
            connection.transaction(),
        ):
            return await numbers.reseal(connection, keys)

    changed, same = errands.run(errand())
    typer.echo(f"{changed} sealed anew with key {keys.sealing_id!r}, {same} had it already.")
