"""The part of SandboxClient for Meta: its customers, numbers and templates, and the rate limits of all senders."""

from collections.abc import Mapping
from typing import Literal

from pydantic import TypeAdapter

from ops.sandbox.client_session import ControlSession
from ops.sandbox.observations import CustomerAnswer, QualityAnswer, SeenLimit, SeenRead

_CUSTOMER = TypeAdapter(CustomerAnswer)
_READS = TypeAdapter(tuple[SeenRead, ...])
_LIMITS = TypeAdapter(tuple[SeenLimit, ...])


class MetaControls(ControlSession):
    """Every method may raise SandboxError."""

    async def meta_customer(
        self,
        *,
        sender: str,
        webhook_url: str,
        phone_number_id: str | None = None,
        text: str = "",
        profile_name: str | None = None,
        message_id: str | None = None,
        times: int = 1,
        message: Mapping[str, object] | None = None,
    ) -> CustomerAnswer:
        """Let a customer write to a number of Meta's: a signed webhook to `webhook_url`, where statuses then go too.

        `message` changes fields of the message. Returns once every webhook was answered or given up (15 s).
        """
        said: dict[str, object] = {
            "from": sender,
            "text": text,
            "webhook_url": webhook_url,
            "profile_name": profile_name,
            "message_id": message_id,
            "times": times,
            "message": message or {},
        }
        if phone_number_id is not None:
            said["phone_number_id"] = phone_number_id
        return _CUSTOMER.validate_json(await self._call("POST", "meta/customer", body=said))

    async def meta_number(self, phone_number_id: str, **fields: object) -> None:
        """Add a phone number of Meta's, or change it; fields of `ops.sandbox.meta_numbers.Number`."""
        await self._call("POST", "meta/numbers", body={"phone_number_id": phone_number_id, **fields})

    async def templates(self, provider: str, account: str, *templates: Mapping[str, object]) -> None:
        """Set the message templates of an account, each as the provider's own list has it."""
        await self._call("POST", "templates", body={"provider": provider, "account": account, "templates": templates})

    async def meta_reads(self) -> tuple[SeenRead, ...]:
        """Read receipts of all of Meta's numbers in order of arrival, refused ones too."""
        return _READS.validate_json(await self._call("GET", "meta/reads"))

    async def quality(
        self, template: str, action: Literal["hold", "release", "pause", "disable", "approve"], **more: object
    ) -> QualityAnswer:
        """Let Meta hold the messages of a template, release them, or pause, disable or approve it.

        `more` are fields of `ops.sandbox.meta_quality.Quality`.
        """
        asked = {"template": template, "action": action, **more}
        return QualityAnswer.model_validate_json(await self._call("POST", "meta/quality", body=asked))

    async def limits(self, *limits: Mapping[str, object]) -> None:
        """Set the rate limits of senders; each is one of `ops.sandbox.limits.Limit`."""
        await self._call("POST", "limits", body=limits)

    async def standing_limits(self) -> tuple[SeenLimit, ...]:
        """The limits, with how many calls each has refused."""
        return _LIMITS.validate_json(await self._call("GET", "limits"))

    async def clear_limits(self) -> None:
        await self._call("DELETE", "limits")
