from dataclasses import replace
from decimal import Decimal

from deployments.planning.filters import Filter, Pool, explain_filters
from deployments.planning.offers import rank_offers
from tests.deployments.planning.candidates import ASK, FULL, GIB, candidate, shape


def pool(flavor: str, *, region: str = "local", family: str = "cpu") -> Pool:
    return Pool(cluster="local", flavor=flavor, region=region, family=family, machine_class="virtual")


def test_every_filter_tells_how_many_pools_it_dropped_and_why() -> None:
    pools = [pool(name) for name in ("good", "tiny", "unsold", "beyond", "full")]
    pools += [pool("ipu-a", family="ipu"), pool("ipu-b", family="ipu"), pool("far", region="mars")]
    offers = rank_offers(
        ASK,
        [
            candidate("good"),
            candidate("tiny", device_bytes=GIB),
            candidate("unsold", per_second=None),
            candidate("beyond", quota_limit=1),
            candidate("full", free=FULL),
            candidate("far", region="mars", per_second=Decimal("0.1")),
        ],
    )
    filters = explain_filters(replace(ASK, region="local"), pools, offers)
    told = [(item.name, item.before, item.left, item.reasons) for item in filters if item.dropped]
    assert told == [
        ("recipe", 8, 6, ("2 × the model has no recipe for ipu",)),
        ("region", 6, 5, ("1 × in mars, not in local",)),
        ("memory", 5, 4, ("1 × 1.7 GiB needed, 1.0 GiB there (tiny)",)),
        ("price", 4, 3, ("1 × no price today",)),
        ("quota", 3, 2, ("1 × beyond your quota: 2 vCPUs of cpu needed, 1 free",)),
        ("capacity", 2, 1, ("1 × 0 of 1 replicas have room now",)),
    ]
    assert [item.name for item in filters if not item.blocking] == ["labels and taints", "capacity"]


def test_a_model_that_may_not_be_deployed_leaves_no_pool() -> None:
    filters = explain_filters(ASK, [pool("good")], rank_offers(ASK, [candidate("good")]), refused="gated")
    assert [item for item in filters if item.dropped] == [
        Filter(name="credentials", before=1, dropped=1, left=0, reasons=("1 × gated",))
    ]


def test_a_pool_is_kept_when_one_of_its_recipes_passes() -> None:
    offers = rank_offers(
        replace(ASK, precision="int8"),
        [candidate("good", recipe="rcp_1"), candidate("good", recipe="rcp_2", shape=shape(precision="int8"))],
    )
    filters = explain_filters(replace(ASK, precision="int8"), [pool("good")], offers)
    assert filters[-1].left == 1
    filters = explain_filters(replace(ASK, precision="int4"), [pool("good")], offers)
    assert filters[1].reasons == ("1 × no recipe in int4, only float32, int8",)
