"""How `palomar channels` shows channels: as a table, as JSON, and what is to be entered at the provider."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID

import typer
from rich.table import Table

from ops import terminal
from shared.actions import channels as actions
from shared.domain.channels import ChannelSettings, read_settings
from shared.settings import settings
from shared.store.channels import Listed


def explain(channel: Listed, entered: list[str], caller: str) -> None:
    """Print what a person does next with a channel that was added."""
    lines = [f"Channel {channel.id} of {channel.tenant}: {channel.kind} {channel.address}.", "", *entered]
    if reachable := _unreachable(settings().public_url, caller):
        lines.append(reachable)
    lines.append(f"Then try the credentials: ./palomar channels test {channel.id}")
    for line in lines:
        typer.echo(terminal.printable(line))


def _unreachable(public_url: str, caller: str) -> str:
    """A warning where a provider could not call this address; empty where it could."""
    host = urlsplit(public_url).hostname or ""
    try:
        private = ip_address(host).is_private
    except ValueError:
        private = host == "localhost"
    if not private:
        return ""
    return (
        f"Only this machine reaches {public_url}: set PALOMAR_PUBLIC_URL to where {caller} finds it, then list again."
    )


def table(every: list[Listed]) -> Table:
    """A row for each channel: how it answers, and whether it sends."""
    shown = Table()
    for heading in ("tenant", "channel", "kind", "address", "answers", "outside the window", "status"):
        shown.add_column(heading, overflow="fold")
    for channel in every:
        read = _settings_of(channel)
        answers, policy = (read.reply.engine, read.window.policy) if isinstance(read, ChannelSettings) else (read, "")
        stopped = channel.status != "active"
        status = f"{channel.status}: {channel.status_reason}" if channel.status_reason else channel.status
        shown.add_row(
            terminal.plain(channel.tenant),
            terminal.plain(f"{channel.id}\n{channel.name}".strip()),
            channel.kind,
            terminal.plain(channel.address),
            terminal.plain(answers),
            policy if channel.kind == "whatsapp" else "–",
            terminal.plain(status, "bold red" if stopped else "green"),
        )
    return shown


def _settings_of(channel: Listed) -> ChannelSettings | str:
    """A channel's settings, or what is wrong with them."""
    try:
        return read_settings(channel.settings)
    except ValueError as error:
        return str(error)


def as_json(channel: Listed, secrets: Mapping[UUID, str]) -> dict[str, object]:
    """A channel for a program. `secrets` are those that webhook URLs end with, by endpoint."""
    read = _settings_of(channel)
    valid = read if isinstance(read, ChannelSettings) else None
    endpoint_id = channel.endpoint_id
    urls = (
        actions.urls(settings(), channel.provider, endpoint_id, secrets.get(endpoint_id, "")) if endpoint_id else None
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
