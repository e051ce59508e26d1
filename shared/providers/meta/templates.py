"""Lists the message templates of a WhatsApp Business Account, with what Meta says of their approval.

`GET /{version}/{WhatsApp Business Account id}/message_templates`, page by page.
https://developers.facebook.com/docs/graph-api/reference/whats-app-business-account/message_templates
"""

import asyncio
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from shared.domain import template_text
from shared.domain.model import ChannelKind
from shared.providers.base import Throttled
from shared.providers.credentials import read_credentials
from shared.providers.http_outcomes import Answer, remedy_of
from shared.providers.json_fields import Fields, fields_of, items_of, text_of
from shared.providers.meta.client import GraphClient, MetaCredentials, named
from shared.providers.meta.endpoint import api_url
from shared.providers.meta.errors import error_class
from shared.providers.meta.template_updates import LISTED
from shared.providers.templates import LONGEST_LISTING, MOST_TEMPLATES, ListedTemplate, NoTemplateList, listed
from shared.settings import Settings

_PAGE: Final = 100  # templates; some 300 kB
_FIELDS: Final = "id,name,language,status,category,components"
_TOO_MANY_CALLS: Final = "80008"  # to one business account
# By the kind of a button: the kind that its variable's name has (requests.py), where a send has to fill it in.
_BUTTONS: Final = {"COPY_CODE": ".copy_code", "OTP": "", "FLOW": ".flow"}


async def list_templates(
    credentials: str, *, kind: ChannelKind, business_id: str | None, settings: Settings
) -> list[ListedTemplate]:
    """As templates.ListTemplates says."""
    if business_id is None:
        raise NoTemplateList(
            "the channel has no id of a WhatsApp Business Account: enter it with its credentials", passing=False
        )
    url = api_url(settings)
    try:
        opened = read_credentials(MetaCredentials, credentials, "Meta")
    except ValueError as error:
        raise NoTemplateList(f"the channel's credentials can't be used: {error}", passing=False) from None
    graph = GraphClient(opened, timeout=settings.send_timeout, base_url=url, proxy=settings.proxy_for(url))
    try:
        async with asyncio.timeout(LONGEST_LISTING):
            return await _all_pages(graph, business_id, settings.send_timeout)
    except NoTemplateList:
        raise
    except Exception as error:
        raise NoTemplateList(remedy_of(error, "Meta", named), passing=True) from None
    finally:
        await graph.close()


async def _all_pages(graph: GraphClient, business_id: str, within: float) -> list[ListedTemplate]:
    path = f"{quote(business_id, safe='')}/message_templates?fields={_FIELDS}&limit={_PAGE}"
    found: list[ListedTemplate] = []
    after = ""
    while True:
        async with asyncio.timeout(within):
            page = await graph.call("GET", path + (f"&after={quote(after, safe='')}" if after else ""))
        if isinstance(page, Answer):
            raise _refusal(page)
        if not isinstance(page.get("data"), list):
            raise ValueError("no list of templates")  # an empty one would say that all are gone
        found += filter(None, (_template(item) for _, item in items_of(page, "data", "", [])))
        if len(found) > MOST_TEMPLATES:
            raise NoTemplateList(f"the account has more than {MOST_TEMPLATES} templates", passing=False)
        paging = fields_of(page, "paging")
        before, after = after, text_of(fields_of(paging, "cursors"), "after")
        if not text_of(paging, "next") or after in ("", before):
            return found


def _refusal(answer: Answer) -> NoTemplateList:
    code = answer.code or str(answer.status)
    if (answer.code, answer.subcode) == ("100", "33") or answer.status == 404:
        return NoTemplateList(
            "Meta knows no such WhatsApp Business Account, or the access token may not see it: check both",
            passing=False,
        )
    if answer.status in (429, *range(500, 600)) or code == _TOO_MANY_CALLS or error_class(code) is Throttled:
        return NoTemplateList(f"Meta gives no list at the moment ({code}): try again later", passing=True)
    return NoTemplateList(
        f"Meta refuses to list the templates ({code}): the access token needs whatsapp_business_management",
        passing=False,
    )


def _template(item: Fields) -> ListedTemplate | None:
    """The template, but not one that is deleted already."""
    status = text_of(item, "status").upper()
    if status == "DELETED":
        return None
    parts = {text_of(part, "type").upper(): part for _, part in items_of(item, "components", "", [])}
    header, body, footer = (parts.get(name, {}) for name in ("HEADER", "BODY", "FOOTER"))
    # In the header variables are counted anew; a send tells them from the body's by their names.
    title = template_text.prefixed(text_of(header, "text"), "header.")
    content = "\n\n".join(filter(None, (title, text_of(body, "text"), text_of(footer, "text"))))
    return listed(
        external_id=text_of(item, "id"),
        name=text_of(item, "name"),
        language=text_of(item, "language"),
        category=text_of(item, "category"),
        status=LISTED.get(status, "pending"),
        content=content,
        variables=[*_header_media(header), *template_text.variables(content), *_buttons(parts.get("BUTTONS", {}))],
    )


def _header_media(header: Fields) -> Iterator[str]:
    """The variable of a header that is no text: `header.image`, `.video`, `.document` or `.location`."""
    shown = text_of(header, "format").lower()
    if shown not in ("", "text"):
        yield f"header.{shown}"


def _buttons(part: Fields) -> Iterator[str]:
    """The variables of the buttons that have one."""
    for place, (_, button) in enumerate(items_of(part, "buttons", "", [])):
        kind = text_of(button, "type").upper()
        if kind in _BUTTONS:
            yield f"button.{place}{_BUTTONS[kind]}"
        elif kind == "URL" and template_text.variables(text_of(button, "url")):
            yield f"button.{place}"
