"""How channels are set up: at every provider, and of no other kind than it has."""

import pytest

from ops import onboarding
from ops.errors import Problem
from ops.onboarding.base import Setup
from shared import providers


def test_a_channel_can_be_set_up_at_every_provider() -> None:
    assert tuple(onboarding.SETUPS) == providers.names()
    for setup in onboarding.SETUPS.values():
        assert isinstance(setup, Setup)


@pytest.mark.parametrize(
    ("provider", "given", "kind"),
    [
        ("twilio", "whatsapp", "whatsapp"),
        ("twilio", "sms", "sms"),
        ("meta", None, "whatsapp"),
        ("meta", "whatsapp", "whatsapp"),
        ("kommo", None, "whatsapp"),
        ("email", None, "email"),
        ("email", "email", "email"),
    ],
)
def test_a_kind_need_not_be_named_where_a_provider_has_one(provider: str, given: str | None, kind: str) -> None:
    assert onboarding.kind_of(provider, given) == kind


@pytest.mark.parametrize(
    ("provider", "given", "complaint", "remedy"),
    [
        ("twilio", "fax", "--kind: 'fax' is none.", "Name one of: whatsapp, sms, email."),
        ("meta", "fax", "--kind: 'fax' is none.", "Name one of: whatsapp, sms, email."),
        ("meta", "sms", "--kind: Meta's channels are whatsapp, not sms.", "Leave --kind out."),
        ("email", "sms", "--kind: Email's channels are email, not sms.", "Leave --kind out."),
        ("twilio", "email", "--kind: Twilio has no channels of e-mail.", "Use --provider email."),
        ("fax", "sms", "There is no provider 'fax'.", "Name one of: email, kommo, meta, twilio."),
    ],
)
def test_a_kind_that_a_provider_has_not(provider: str, given: str, complaint: str, remedy: str) -> None:
    with pytest.raises(Problem) as refused:
        onboarding.kind_of(provider, given)
    assert (refused.value.message, refused.value.remedy) == (complaint, remedy)
