import pytest

from sp_proxy.backend.clickhouse.schema import Place, statements, version_statements
from tests.backend.clickhouse.engine import client

CLUSTER = Place("traffic", "shop")
ALONE = Place("traffic")


def test_names():
    assert (ALONE.table("spans"), ALONE.stored("spans"), ALONE.everywhere) == ("traffic.spans", "traffic.spans", "")
    assert (CLUSTER.table("spans"), CLUSTER.stored("spans")) == ("traffic.spans", "traffic.spans_local")
    assert CLUSTER.everywhere == " ON CLUSTER 'shop'"


@pytest.mark.parametrize("place", [ALONE, CLUSTER])
def test_the_engine_understands_every_statement(place):
    for statement in [*version_statements(place), *statements(place)]:
        assert client().query(f"EXPLAIN AST {statement}").result_rows


def test_of_a_cluster_each_table_is_replicated_and_distributed():
    made = list(statements(CLUSTER))
    assert [sum(f"Replicated{engine}" in one for one in made) for engine in ("ReplacingMergeTree", "MergeTree(")] == [
        1,
        1,
    ]
    assert sum("ENGINE = Distributed('shop', 'traffic', " in one for one in made) == 3
    assert all(" ON CLUSTER 'shop'" in one for one in made)


def test_the_columns_are_the_same_with_and_without_a_cluster():
    alone, cluster = (next(one for one in statements(place) if "spans" in one) for place in (ALONE, CLUSTER))
    assert alone.partition("(")[2].partition("ENGINE")[0] == cluster.partition("(")[2].partition("ENGINE")[0]
    assert "TTL expires DELETE" in alone
    assert "TTL expires DELETE" in cluster
