"""What conversations.send is given: a text, files by their links, and what the customer may tap."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from ingress.api.models import Input, TenantInput
from shared.domain.model import Button, Interactive, Media, Row, Section
from shared.domain.window import Policy

LONGEST_TEXT = 65_536  # characters; of no channel more
MOST_FILES = 10  # of no channel more
MOST_CHOICES = 10  # buttons, rows of a section, sections; of no channel more

# The providers' own bounds are narrower, and named where they are passed.
ChoiceId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class FileToSend(Input):
    """A file, which the provider fetches from its link; for e-mail we fetch and attach it."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="https, and no address of a private network.", examples=["https://shop.example/invoice.pdf"]
    )
    mime_type: (
        Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-zA-Z0-9][a-zA-Z0-9.+_-]*$", max_length=127)] | None
    ) = Field(default=None, description="Left out: by the ending of the name or of the link.", examples=["image/png"])
    filename: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None

    def as_media(self, url: str) -> Media:
        """As the domain has it, with the link as it will be called."""
        return Media(url=url, mime_type=self.mime_type, filename=self.filename)


class ReplyButton(Input):
    id: ChoiceId = Field(description="It comes back when the customer taps.")
    title: Words


class ListRow(Input):
    id: ChoiceId = Field(description="It comes back when the customer taps.")
    title: Words
    description: Words | None = None


class ListSection(Input):
    title: Words | None = None
    rows: list[ListRow] = Field(min_length=1, max_length=MOST_CHOICES)


class Choices(Input):
    """Reply buttons, or a list that `opener` opens. `content` is the text above them."""

    buttons: list[ReplyButton] = Field(default_factory=list, max_length=MOST_CHOICES)
    sections: list[ListSection] = Field(default_factory=list, max_length=MOST_CHOICES)
    opener: Words | None = Field(default=None, description="What the button reads that opens the list.")
    header: Words | None = None
    footer: Words | None = None

    def as_interactive(self) -> Interactive:
        """As the domain has it."""
        return Interactive(
            buttons=tuple(Button(one.id, one.title) for one in self.buttons),
            sections=tuple(
                Section(tuple(Row(row.id, row.title, row.description or "") for row in one.rows), one.title or "")
                for one in self.sections
            ),
            opener=self.opener or "",
            header=self.header or "",
            footer=self.footer or "",
        )


class SendMessage(TenantInput):
    id: UUID
    content: str = Field(
        default="",
        max_length=LONGEST_TEXT,
        description="The text; with a file its caption, which may be left out. Twilio takes 1600 characters, Meta and "
        "Kommo 4096 (Meta 1024 with a file or choices), an SMS ten segments.",
    )
    media: list[FileToSend] = Field(
        default_factory=list,
        max_length=MOST_FILES,
        description="Files. WhatsApp and Kommo take one a message, an SMS or a mail up to ten.",
    )
    interactive: Choices | None = Field(
        default=None, description="What the customer may tap. Of the providers only Meta sends it as such."
    )
    window_policy: Policy | None = Field(
        default=None,
        description="Where WhatsApp's 24-hour window is closed: hold it, send the channel's template, or fail. Left "
        "out: the channel's own policy.",
    )
