"""The facts of a migration, from the capabilities of two engine hosts."""

from dataclasses import replace

from sllmcore.migration_strategy import MigrationFacts
from sllmreal.engine.protocol import Capabilities
from sllmreal.router.strategy import migration_facts

KV_BYTES = 100_000
MODEL = Capabilities("weights", 32768, 8, 32000, True, KV_BYTES, "bfloat16, 25 layers")


def test_a_cache_of_the_same_layout_can_be_copied() -> None:
    facts = migration_facts(1000, MODEL, MODEL, "a", "b")

    assert facts == MigrationFacts("weights", KV_BYTES, 1000, "a", "b")


def test_a_cache_of_another_layout_or_of_an_engine_that_exports_none_cannot_be_copied() -> None:
    other = replace(MODEL, kv_bytes_per_token=2 * KV_BYTES, kv_layout="float32, 25 layers")
    opaque = replace(MODEL, exports_kv=False, kv_bytes_per_token=0)

    for source, destination in ((MODEL, other), (MODEL, opaque), (opaque, MODEL)):
        facts = migration_facts(1000, source, destination, "a", "b")
        assert facts.kv_bytes_per_token == 0
