"""Plays what Meta does with a template by its quality: it holds messages, releases or drops them, pauses the template.

`POST /sandbox/meta/quality` does it. `hold`: further messages of the template are accepted and held. `release`: the
held ones are sent. `pause` and `disable`: the held ones fail with 132015, further ones are refused with 132015 or
132016, and the app gets `message_template_status_update`. `approve` ends it all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NamedTuple

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ops.sandbox.bodies import bad_request, json_answer, read_json
from ops.sandbox.courier import Courier, RetryPolicy
from ops.sandbox.meta_forms import ACCOUNT, error_message, template_status_body, webhook_headers
from ops.sandbox.meta_numbers import Number
from ops.sandbox.meta_parts import Problem
from ops.sandbox.template_book import TemplateBook

PAUSED: Final = 132015
DISABLED: Final = 132016
_STATES: Final = {"pause": "PAUSED", "disable": "DISABLED"}
_EVENTS: Final = {**_STATES, "approve": "APPROVED"}


class Quality(BaseModel):
    """What Meta does with a template: what `POST /sandbox/meta/quality` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Annotated[str, Field(min_length=1, max_length=512)]
    action: Literal["hold", "release", "pause", "disable", "approve"]
    account: str = ACCOUNT
    after: int = Field(default=0, ge=0, description="of `hold`: so many messages are sent before the first held one")
    language: str = "es_MX"
    title: str = Field(default="FIRST_PAUSE", description="of `pause`, in the webhook's other_info")
    announce: bool = Field(default=True, description="whether the app gets the webhook of a changed state")


_QUALITY = TypeAdapter(Quality)


class Held(NamedTuple):
    """A held message: what sends it, and what makes it fail with a code."""

    release: Callable[[], None]
    drop: Callable[[int], None]


@dataclass(slots=True)
class _Standing:
    """One template. `left`: messages that are still sent before the first one is held; None: none is held."""

    left: int | None = None
    code: int | None = None  # that refuses its messages
    held: list[Held] = field(default_factory=list)

    def empty(self) -> Sequence[Held]:
        """The held messages, which it holds no longer."""
        held, self.held = self.held, []
        return held


class Templates:
    """The templates of all business accounts. `of_account` gives the number whose app gets an account's webhooks."""

    def __init__(self, book: TemplateBook, courier: Courier, of_account: Callable[[str], Number | None]) -> None:
        self._book = book
        self._courier = courier
        self._of_account = of_account
        self._standing: dict[tuple[str, str], _Standing] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/sandbox/meta/quality", self._act)]

    def clear(self) -> None:
        self._standing.clear()

    def problem(self, account: str, template: str | None) -> Problem | None:
        """Why Meta refuses a message with this template; None where it takes it."""
        standing = self._standing.get((account, template or ""))
        if standing is None or standing.code is None:
            return None
        return Problem(400, standing.code, f"(#{standing.code}) {error_message(standing.code)}")

    def holds(self, account: str, template: str | None, held: Held) -> bool:
        """Whether Meta holds this message, which it accepts now."""
        standing = self._standing.get((account, template or ""))
        if standing is None or standing.left is None:
            return False
        if standing.left > 0:
            standing.left -= 1
            return False
        standing.held.append(held)
        return True

    async def _act(self, request: web.Request) -> web.Response:
        asked = await read_json(request, _QUALITY)
        standing = self._standing.setdefault((asked.account, asked.template), _Standing())
        standing.left = asked.after if asked.action == "hold" else None
        standing.code = {"pause": PAUSED, "disable": DISABLED}.get(asked.action)
        concerned = [] if asked.action == "hold" else standing.empty()
        for held in concerned:
            if standing.code is None:
                held.release()
            else:
                held.drop(PAUSED)  # also where the template is disabled
        if asked.action not in _EVENTS:
            return json_answer({"held": len(concerned) or len(standing.held), "webhook": None})
        self._book.set_state(asked.account, asked.template, _STATES.get(asked.action))
        return json_answer({"held": len(concerned), "webhook": await self._announce(asked)})

    async def _announce(self, asked: Quality) -> dict[str, object] | None:
        """Send the app the webhook; returns how it answered."""
        if not asked.announce:
            return None
        number = self._of_account(asked.account)
        if number is None or number.webhook_url is None:
            raise bad_request(("account", "no number of it has a webhook_url; POST it to /sandbox/meta/numbers first"))
        known = self._book.of_meta(asked.account, asked.template) or {}
        body = template_status_body(
            asked.account,
            event=_EVENTS[asked.action],
            template_id=str(known.get("id") or ""),
            name=asked.template,
            language=str(known.get("language") or asked.language),
            title=asked.title if asked.action == "pause" else None,
        )
        headers = webhook_headers(body, number.app_secret)
        return (await self._courier.deliver(number.webhook_url, body, headers, RetryPolicy())).view()
