"""The facts of a migration, from the capabilities of two engine hosts."""

from dataclasses import replace

from sllmcore.migration_strategy import MigrationFacts
from sllmreal.engine.protocol import Capabilities
from sllmreal.router.strategy import migration_facts

KV_BYTES = 100_000
MODEL = Capabilities(
    model="weights",
    context_tokens=32768,
    num_slots=8,
    vocab_size=32000,
    exports_kv=True,
    kv_bytes_per_token=KV_BYTES,
    kv_layout="bfloat16, 25 layers",
)


def test_a_cache_of_the_same_layout_can_be_copied() -> None:
    facts = migration_facts(
        context_tokens=1000,
        source=MODEL,
        destination=MODEL,
        source_address="a",
        destination_address="b",
    )

    assert facts == MigrationFacts(
        model="weights",
        kv_bytes_per_token=KV_BYTES,
        context_tokens=1000,
        source_server="a",
        destination_server="b",
    )


def test_a_cache_of_another_layout_or_of_an_engine_that_exports_none_cannot_be_copied() -> None:
    other = replace(MODEL, kv_bytes_per_token=2 * KV_BYTES, kv_layout="float32, 25 layers")
    opaque = replace(MODEL, exports_kv=False, kv_bytes_per_token=0)

    for source, destination in ((MODEL, other), (MODEL, opaque), (opaque, MODEL)):
        facts = migration_facts(
            context_tokens=1000,
            source=source,
            destination=destination,
            source_address="a",
            destination_address="b",
        )
        assert facts.kv_bytes_per_token == 0
