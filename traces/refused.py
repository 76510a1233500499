"""Public files that are no traces of requests, by their columns or fields: refused by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from traces.tables import folded

_AS_LENGTHS = "has no times; give it as lengths: workload=poisson workload.lengths=FILE"
_FOLLOW_UPS = (
    "has follow-ups, which arrive after the answer before them; the times of a workload are fixed "
    "before the run"
)


@dataclass(frozen=True, slots=True)
class _Refused:
    what: str
    fields: tuple[str, ...]
    why: str


_REFUSED = (
    _Refused("a ShareGPT collection", ("conversations",), _AS_LENGTHS),
    _Refused("an LMSYS collection of chats", ("conversation",), "has texts and no times"),
    _Refused("an OpenAI batch", ("custom_id", "url"), "has texts and no times"),
    _Refused("a list of chats", ("messages",), "has texts and no times"),
    _Refused("AIPerf's list of prompts", ("text_input",), "has texts in place of lengths"),
    _Refused("a file of LLMServingSim's sessions", ("sub_requests",), _FOLLOW_UPS),
    _Refused("a table of durations (Functions 2019)", ("HashFunction", "Average"), "has no times"),
    _Refused("a table of memory (Functions 2019)", ("HashApp", "SampleCount"), "has no times"),
    _Refused("a table of Huawei's counts", ("day", "time", "0"), "is not supported"),
    _Refused("vLLM's custom data set", ("prompt", "output_tokens"), _AS_LENGTHS),
    _Refused("a list of prompts", ("prompt",), "has texts in place of lengths"),
    _Refused("a session's follow-up", ("delay",), _FOLLOW_UPS),
    _Refused("a session's follow-up", ("delay_ms",), _FOLLOW_UPS),
)


def refusal(names: Iterable[str]) -> str | None:
    """Return what a file is and why it is no trace; None for an unknown file."""
    found = set(map(folded, names))
    for each in _REFUSED:
        if found.issuperset(map(folded, each.fields)):
            return f"this is {each.what}, which {each.why}"
    return None
