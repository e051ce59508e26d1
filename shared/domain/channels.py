"""A channel and its settings: how it replies, what it does outside the 24-hour window, how fast it sends. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from shared.domain import loop_guard, template_text
from shared.domain.consents import DEFAULT_WORDS, Words
from shared.domain.field_errors import field_errors
from shared.domain.model import ChannelKind, Template
from shared.domain.sms_segments import MOST
from shared.domain.window import LENGTH, MARGIN, Policy

LIMIT = 1600  # characters; Twilio's limit of one body
MOST_EXPIRING_MINUTES = (LENGTH - MARGIN) // timedelta(minutes=1)
MOST_PATTERNS = 1000  # of one channel; each is compared with each message


def readable(text: str) -> bool:
    """Whether the text shows anything: blanks, control and zero-width characters alone do not."""
    return any(char.isprintable() and not char.isspace() for char in text)


def _readable(text: str) -> str:
    if not readable(text):
        raise ValueError("has nothing to read in it; write a sentence")
    return text


ShortText = Annotated[str, StringConstraints(min_length=1, max_length=LIMIT), AfterValidator(_readable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Part):
    """A rule of the rules engine: a message that matches any of the patterns gets the answer.

    `*` stands for any text; case, accents and punctuation around the message don't matter. A lone `*` matches what no
    other rule does. There are no regular expressions: a tenant could write one that never ends.
    """

    patterns: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=100)
    ]
    answer: ShortText


class LlmSettings(_Part):
    """Settings of the llm engine. The model's URL and key are the operator's settings, not the tenant's."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "gpt-4o-mini"
    system_prompt: Annotated[str, StringConstraints(max_length=20_000)] = "You answer a customer. Be brief and kind."
    history: int = Field(default=20, ge=1, le=100, description="last messages the model sees")
    max_tokens: int = Field(default=400, ge=1, le=4000)
    timeout: float = Field(default=20.0, gt=0, le=60, description="seconds for one try; there are two")


class ReplySettings(_Part):
    engine: Literal["rules", "llm", "none"] = "rules"
    debounce: float = Field(
        default=0.0, ge=0, le=60, description="seconds of quiet before several messages are answered"
    )
    longest_wait: float = Field(default=15.0, ge=0, le=300, description="the debounce waits no longer than this in all")
    # The first wrong rule is named, and no other: to describe 50,000 wrong patterns takes a second.
    rules: Annotated[tuple[Rule, ...], Field(max_length=500), FailFast()] = ()
    greeting: ShortText = "Hello! Thank you for writing to us."
    menu: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_readable)], ...],
        Field(max_length=20, description="offered with numbers; a line is answered by the rule its own text matches"),
    ] = ("Opening hours", "Prices", "Talk to a person")
    menu_prompt: ShortText = "Please answer with a number:"
    menu_chosen: ShortText = Field(
        default="Thank you. You chose: {choice}. We will answer you shortly.",
        description="for a line that no rule answers; {choice} is that line",
    )
    menu_unknown: ShortText = "Sorry, we did not understand that."
    llm: LlmSettings = LlmSettings()
    read_receipts: bool = Field(
        default=False, description="the customer sees that they were read, and that a model's answer is being typed"
    )
    loop_limit: int | None = Field(
        default=None,
        ge=loop_guard.FEWEST,
        le=1_000_000,
        description="answers to a customer, or repeats of their sentence, in an hour that tell of a machine; "
        "None: 10 answers by mail, 60 elsewhere, 10 repeats",
    )
    sms_segments: int = Field(default=MOST, ge=1, le=MOST, description="an answer by SMS is cut to so many")
    fallback: ShortText = "Thank you for your message. We will answer you shortly."

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        patterns = sum(len(rule.patterns) for rule in self.rules)
        if patterns > MOST_PATTERNS:
            raise ValueError(f"rules hold {patterns} patterns; at most {MOST_PATTERNS}, so merge some with `*`")
        for name in ("greeting", "menu_unknown"):
            length = len(self.with_menu(getattr(self, name)))
            if length > LIMIT:
                raise ValueError(f"{name} with menu_prompt and menu is {length} characters; shorten them to {LIMIT}")
        return self

    def with_menu(self, opening: str) -> str:
        """`opening`, then the menu as numbered lines; `opening` alone where there is no menu."""
        if not self.menu:
            return opening
        lines = (f"{number}. {line}" for number, line in enumerate(self.menu, start=1))
        return "\n".join((opening, "", self.menu_prompt, *lines))


_PLACEHOLDER = re.compile(r"\{contact_name\}|\{text\}")


class TemplateSettings(_Part):
    """An approved template. Values of variables may hold {contact_name} and {text}."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    variables: Mapping[str, Annotated[str, StringConstraints(max_length=1024)]] = Field(
        default_factory=dict, max_length=100
    )
    language: str | None = None

    def filled(self, *, contact_name: str | None, text: str) -> Template:
        """The template with its variables filled. Unknown placeholders stay as they are."""
        facts = {"{contact_name}": contact_name or "", "{text}": text}
        variables: dict[str, str] = {}
        for name, given in self.variables.items():
            # In one pass: a contact may be called `{text}`.
            value = _PLACEHOLDER.sub(lambda found: facts[found[0]], given)
            variables[name] = template_text.as_value(value)
        return Template(self.name, variables, self.language)


class WindowSettings(_Part):
    policy: Policy = "hold"
    template: TemplateSettings | None = None
    hold_for: float = Field(default=72 * 3600, gt=0, le=90 * 86400, description="seconds until a held message expires")
    expiring_minutes: int = Field(
        default=60, ge=0, le=MOST_EXPIRING_MINUTES, description="before a window closes, an event says so; 0: none does"
    )


class AgentSettings(_Part):
    """What follows where an agent of the tenant writes to a customer in the provider's own interface: Kommo, or the
    WhatsApp Business app beside Meta's Cloud API."""

    escalate: bool = Field(default=True, description="the conversation is theirs then: nothing answers it by itself")
    report: bool = Field(
        default=True, description="what they wrote in our own channel is reported to them: delivered, or why not"
    )
    own_bot: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="", description="the author in whose name we write there; `palomar channels add` enters it"
    )
    bots: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...],
        Field(max_length=50, description="authors who are no persons either: other integrations' bots"),
    ] = ()


class MetaSettings(_Part):
    """What concerns a WhatsApp number at Meta alone."""

    messaging_limit: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="people whom all numbers of the portfolio may write to outside the window in any 24 hours, by "
        "Meta's messaging limit; campaigns wait where it is used up; null: no limit",
    )
    portfolio: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="a name for the numbers that share `messaging_limit`; null: those of one account"
    )


# The policy for a send of unknown outcome: fail it, leave it to a person, or send it again where the provider's list
# does not have it.
Unknown = Literal["give_up", "ask", "resend_if_absent"]


class ChannelSettings(_Part):
    """All of a channel's settings; everything has a default."""

    reply: ReplySettings = ReplySettings()
    window: WindowSettings = WindowSettings()
    manager: AgentSettings = AgentSettings()
    meta: MetaSettings = MetaSettings()
    unknown: Unknown | None = Field(default=None, description="null: the provider's own")
    rate: float | None = Field(
        default=None, ge=0.001, le=1000, description="messages per second, shared by all senders; null: the provider's"
    )


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the workers need it."""

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID | None
    provider: str
    kind: ChannelKind
    address: str
    status: Literal["active", "stopped"]
    settings: ChannelSettings
    updated_at: datetime
    business_id: str | None = None  # Meta's, of the account that the number belongs to
    words: Words = DEFAULT_WORDS  # the tenant's, as of_endpoints reads them
    unread: frozenset[str] = frozenset()  # parts of the settings that could not be read; see stored_settings


def read_settings(raw: Mapping[str, Any]) -> ChannelSettings:
    """Settings as entered. Raises ValueError that names each wrong field and what it accepts."""
    try:
        return ChannelSettings.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"channel settings: {field_errors(error)}") from error


QUIET: Final = ChannelSettings(reply=ReplySettings(engine="none"), window=WindowSettings(policy="hold"))


def stored_settings(raw: Mapping[str, Any]) -> tuple[ChannelSettings, Mapping[str, str]]:
    """Settings as stored, and part (`reply`, `window`) → wrong field, of the parts that can't be read.

    Fields of a newer version are ignored: old and new processes run side by side during a deploy. A part that can't be
    read is replaced by QUIET's, so that it does not fail the other rows of a batch; what it would decide waits for a
    process that can read it.
    """
    try:
        return ChannelSettings.model_validate(raw, extra="ignore"), {}
    except ValidationError as error:
        wrong = {str(part["loc"][0]): ".".join(map(str, part["loc"])) for part in error.errors() if part["loc"]}
    if not wrong:  # not a JSON object
        return QUIET, dict.fromkeys(ChannelSettings.model_fields, "settings")
    readable = ChannelSettings.model_validate(
        {name: value for name, value in raw.items() if name not in wrong}, extra="ignore"
    )
    return readable.model_copy(update={name: getattr(QUIET, name) for name in wrong}), wrong


# After this, a row is tried again whose handling needs settings that this process can't read.
UNREAD_WAIT: Final = timedelta(minutes=1)
