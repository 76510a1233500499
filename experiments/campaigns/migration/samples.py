"""A sample request, its expected output, and keys, for tests and campaigns of migration."""

from sllmreal.engine.protocol import SequenceSpec
from sllmreal.engine.timed import TimedOptions, timed_engine

KEY = bytes(range(32))
KV_LAYOUT = timed_engine().capabilities.kv_layout


def sample_spec(num_output: int = 40, num_prompt: int = 20, name: str = "r") -> SequenceSpec:
    """Return a request with the prompt 1 .. `num_prompt`."""
    return SequenceSpec(name, tuple(range(1, num_prompt + 1)), num_output)


def unmigrated_output(spec: SequenceSpec, options: TimedOptions | None = None) -> tuple[int, ...]:
    """Return the tokens that the client of `spec` must receive, with or without migrations."""
    engine = timed_engine(options, sleep=lambda _: None)
    engine.start(spec)
    while engine.has_work:
        engine.step()
    return engine.output(spec.request_id)
