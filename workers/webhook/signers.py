"""What signs the deliveries of the webhooks of one process: opened and parsed once, for as long as it is stored so."""

from datetime import datetime
from typing import Final

from shared.actions.webhook_keys import opened
from shared.crypto import KeyRing
from shared.domain.webhooks.signatures import Signer
from shared.store.webhook_deliveries.facts import Key
from shared.store.webhook_keys import SealedKeys

REMEMBERED: Final = 10_000  # webhooks


class Signers:
    """Of one process."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._known: dict[Key, tuple[SealedKeys, bool, Signer]] = {}

    def of(self, sealed: SealedKeys, now: datetime) -> Signer:
        """What signs a webhook's deliveries at this time. Raises CryptoError for what opens with no key."""
        key = (sealed.tenant_id, sealed.webhook_id)
        with_previous = sealed.previous_until is not None and sealed.previous_until > now
        known = self._known.pop(key, None)
        if known is None or known[:2] != (sealed, with_previous):
            signing = opened(self._keys, sealed, now)
            known = sealed, with_previous, Signer.of(signing.secrets, signing.private_keys)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
        self._known[key] = known
        return known[2]
