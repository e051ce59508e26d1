"""The reasons why a request is refused, each with its status and the sentence for its sender."""

from collections.abc import Mapping
from typing import NamedTuple

RETRY_AFTER = "5"  # seconds; the header Retry-After of a 503


class Refusal(NamedTuple):
    status: int
    text: str


REFUSALS: Mapping[str, Refusal] = {
    "unknown_path": Refusal(404, "Nothing is here. Webhook URLs are printed by `palomar channels list`."),
    "unknown_endpoint": Refusal(
        404, "No endpoint of this provider has this id. Compare the URL with `palomar channels list`."
    ),
    "method": Refusal(405, "Webhooks come by POST. Choose HTTP POST where this URL is entered at the provider."),
    "verify_token": Refusal(
        403, "This verifies no webhook URL. Enter the verify token that `palomar channels add` printed for this URL."
    ),
    "content_type": Refusal(415, "This provider's webhooks are {accepted_types}."),
    "compressed": Refusal(415, "Webhooks come uncompressed. Send the body without Content-Encoding."),
    "too_large": Refusal(413, "The body is larger than {limit} bytes."),
    "stalled": Refusal(408, "The body did not arrive within {seconds:g} seconds."),
    "broken_body": Refusal(400, "The body does not arrive as its headers announce it."),
    "signature": Refusal(403, "The signature is not right: {signature_hint}."),
    "secrets": Refusal(
        503, "The secrets of this endpoint can't be opened. Check PALOMAR_SECRET_KEYS, or enter them again."
    ),
    "crowded": Refusal(503, "Too much is arriving at the moment. Send it again in a little while."),
    "slow": Refusal(503, "The body arrived so slowly that its place went to another one. Send it again."),
    "no_directory": Refusal(503, "No endpoint can be looked up yet: the database does not answer."),
    "not_kept": Refusal(503, "Neither the broker nor the disk takes webhooks at the moment."),
    "error": Refusal(500, "Something went wrong here. The log says what."),
}
