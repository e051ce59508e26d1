"""Lists the content templates of a Twilio account, with what WhatsApp says of their approval.

`GET https://content.twilio.com/v1/ContentAndApprovals`, page by page, by the vendor's SDK.
https://www.twilio.com/docs/content/content-api-resources
"""

import asyncio
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from twilio.rest import Client
from twilio.rest.content.v1.content_and_approvals import ContentAndApprovalsInstance, ContentAndApprovalsList

from shared.domain.model import ChannelKind
from shared.domain.template_status import Status
from shared.domain.template_text import variables
from shared.providers.credentials import read_credentials
from shared.providers.http_outcomes import Answer, remedy_of
from shared.providers.json_fields import Fields, fields_of, text_of
from shared.providers.templates import LONGEST_LISTING, MOST_TEMPLATES, ListedTemplate, NoTemplateList, listed
from shared.providers.twilio.client import CONNECT_TIMEOUT, Http, TwilioCredentials, UnsuccessfulError, named
from shared.settings import Settings

_PAGE: Final = 100  # templates
# A template that was never submitted, or whose state is new at Twilio, counts as pending: it is not sent.
_STATUSES: Final[dict[str, Status]] = {
    "approved": "approved",
    "rejected": "rejected",
    "paused": "paused",
    "disabled": "disabled",
}


async def list_templates(
    credentials: str, *, kind: ChannelKind, business_id: str | None, settings: Settings
) -> list[ListedTemplate]:
    """As templates.ListTemplates says. Only WhatsApp approves templates: on SMS each one may be sent."""
    try:
        opened = read_credentials(TwilioCredentials, credentials, "Twilio")
    except ValueError as error:
        raise NoTemplateList(f"the channel's credentials can't be used: {error}", passing=False) from None
    url = content_url(settings.twilio_api_url)
    connect_timeout = min(CONNECT_TIMEOUT, settings.send_timeout / 2)
    http = Http(url, connect_timeout=connect_timeout, proxy=settings.proxy_for(url))
    username, password = opened.login()
    client = Client(username, password, opened.account_sid, http_client=http)
    try:
        async with asyncio.timeout(LONGEST_LISTING):
            items = await _all_pages(client.content.v1.content_and_approvals, settings.send_timeout)
        found = [_template(item, kind) for item in items]
    except UnsuccessfulError as unsuccessful:
        raise _refusal(unsuccessful.answer) from None
    except Exception as error:
        raise NoTemplateList(remedy_of(error, "Twilio", named), passing=True) from None
    finally:
        await http.close()
    if len(found) > MOST_TEMPLATES:
        raise NoTemplateList(f"the account has more than {MOST_TEMPLATES} templates", passing=False)
    return [one for one in found if one is not None]


async def _all_pages(resource: ContentAndApprovalsList, within: float) -> list[ContentAndApprovalsInstance]:
    """The account's templates, and no more than one above the bound. Each call is given so many seconds."""
    found: list[ContentAndApprovalsInstance] = []
    async with asyncio.timeout(within):
        page = await resource.page_async(page_size=_PAGE)
    while page is not None and len(found) <= MOST_TEMPLATES:
        found += page
        async with asyncio.timeout(within):
            page = await page.next_page_async()
    return found


def content_url(api_url: str) -> str:
    """The address of the Content API, which has a host of its own at Twilio: `content.` where that of messages is
    `api.`. At another address, such as the sandbox's, both are in one place."""
    parts = urlsplit(api_url)
    if parts.netloc.startswith("api.") and parts.netloc.endswith(".twilio.com"):
        return urlunsplit(parts._replace(netloc=f"content.{parts.netloc.removeprefix('api.')}"))
    return api_url


def _refusal(answer: Answer) -> NoTemplateList:
    code = answer.code or str(answer.status)
    if answer.status in (401, 403, 404):
        return NoTemplateList(
            f"Twilio refuses the credentials ({code}): check account_sid and auth_token (or api_key and api_secret)",
            passing=False,
        )
    passing = answer.status == 429 or answer.status >= 500
    remedy = "try again later" if passing else "look the code up at https://www.twilio.com/docs/api/errors"
    return NoTemplateList(f"Twilio gives no list of templates ({code}): {remedy}", passing=passing)


def _template(item: ContentAndApprovalsInstance, kind: ChannelKind) -> ListedTemplate | None:
    payload: Fields = {
        name: getattr(item, name)
        for name in ("sid", "friendly_name", "language", "types", "variables", "approval_requests")
    }
    approval = fields_of(payload, "approval_requests")
    content = _content(fields_of(payload, "types"))
    return listed(
        external_id=text_of(payload, "sid"),
        name=text_of(payload, "friendly_name") or text_of(approval, "name") or text_of(payload, "sid"),
        language=text_of(payload, "language"),
        category=text_of(approval, "category"),
        status=_STATUSES.get(text_of(approval, "status").lower(), "pending") if kind == "whatsapp" else "approved",
        content=content,
        variables=[*variables(content), *fields_of(payload, "variables")],
    )


def _content(types: Fields) -> str:
    """The words of a template, which has them once for each of its content types."""
    for name in types:
        part = fields_of(types, name)
        words = text_of(part, "body") or text_of(part, "title")
        if words:
            return words
    return ""
