"""A disk that is full to the last byte while the broker is away: what was acknowledged arrives, once, and
/readyz and `palomar status` report it."""

from collections import Counter

from ops.status import look_into_spool, take
from shared.settings import Settings
from tests.support.ingress import FlakyBroker, add_endpoint, health, ingress, metric, post, until, webhooks
from tests.support.small_disk import small_disk

SIZE = 8 * 1024 * 1024


async def test_a_spool_on_a_full_disk_drains_publishes_once_and_says_what_is_wrong(
    settings: Settings, amqp_url: str
) -> None:
    hook = await add_endpoint(settings)
    folder = settings.state_dir / "spool"
    limit = settings.spool_limit
    with small_disk(folder, SIZE) as disk:
        async with FlakyBroker(amqp_url) as broker:
            url = type(settings.amqp_url)(broker.url)
            behind = settings.model_copy(update={"amqp_url": url, "ingress_publish_budget": 0.5})
            async with ingress(behind) as client:
                await broker.cut()
                statuses = [await post(client, hook, {"Body": f"{number}-" + "x" * 30_000}) for number in range(240)]
                assert set(statuses) == {200, 503}  # by itself it leaves a reserve, and refuses
                disk.fill()
                assert str(folder) in str(look_into_spool(folder, limit).trouble)
                assert await post(client, hook, {"Body": "no room"}) == 503

                async def not_ready() -> bool:
                    async with client.get(health(client, "/readyz")) as answer:
                        return answer.status == 503 and "disk" in (await answer.json())["missing"]["durability"]

                await until(not_ready)
                assert any(str(folder) in line for line in (await take(settings)).advice)

                await broker.mend()

                async def drained() -> bool:
                    assert await metric(client, "palomar_spool_webhooks") >= 0
                    return await metric(client, "palomar_spool_webhooks") == 0

                await until(drained)
                assert await post(client, hook, {"Body": "broker is back"}) == 200
                items = await webhooks(amqp_url, statuses.count(200) + 1)
                times = Counter(item["inbound_id"] for item in items)
                assert len(times) == statuses.count(200) + 1
                assert max(times.values()) == 1  # no DELETE had room, and nothing was published again

                async with client.get(health(client, "/readyz")) as answer:
                    report = await answer.json()
                assert (answer.status, report["status"]) == (200, "ready")
                assert "spool" in report["warnings"]

                disk.free()
                await broker.cut()

                async def taken() -> bool:
                    return await post(client, hook, {"Body": "room again"}) == 200

                await until(taken)
                await broker.mend()
                await until(drained)
                assert "Body=room+again" in str(await webhooks(amqp_url, 1))
