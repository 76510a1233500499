from typing import Any

import msgspec
import pytest

from sllmcore.errors import UsageError
from traces.popularity import Popularity
from traces.spec import WorkloadSpec
from traces.spec_dict import spec_from_dict


def test_a_spec_is_read_from_a_plain_dict() -> None:
    plain = {
        "kind": "azure_functions_2019",
        "path": ["d01.csv", "d02.csv"],
        "target_rps": 2,
        "cv_reading": "absolute",
        "popularity": {"kind": "power_law", "alpha": 0.5},
        "context_limit_tokens": 2048,
    }

    spec = msgspec.convert(plain, WorkloadSpec)

    assert spec == WorkloadSpec(
        kind="azure_functions_2019",
        path=("d01.csv", "d02.csv"),
        target_rps=2.0,
        cv_reading="absolute",
        popularity=Popularity("power_law", alpha=0.5),
        context_limit_tokens=2048,
    )
    assert spec.paths == ("d01.csv", "d02.csv")


def test_one_path_is_enough() -> None:
    spec = msgspec.convert({"kind": "azure_llm", "path": "code.csv"}, WorkloadSpec)

    assert spec.paths == ("code.csv",)


GENERATE: dict[str, Any] = {"kind": "azure_like", "target_rps": 1.0, "duration_s": 60.0}
READ: dict[str, Any] = {"kind": "azure_functions_2021", "path": "x.txt"}


@pytest.mark.parametrize(
    ("base", "fields", "problem"),
    [
        (GENERATE, {"target_rps": None}, "needs target_rps"),
        (GENERATE, {"target_rps": 0.0}, "target_rps must be positive, got 0"),
        (GENERATE, {"target_rps": float("nan")}, "target_rps must be positive"),
        (GENERATE, {"duration_s": None}, "never ends"),
        (GENERATE, {"duration_s": float("inf")}, "duration_s must be positive"),
        (GENERATE, {"max_requests": 0}, "max_requests must be positive"),
        (GENERATE, {"path": "x.csv"}, "reads no file"),
        (GENERATE, {"cv": -1.0}, "cv must be from 0 to 1000"),
        (GENERATE, {"cv": (1.0, 2000.0)}, "cv must be from 0 to 1000"),
        (GENERATE, {"cv_reading": "fitted"}, "cv_reading has no meaning"),
        (GENERATE, {"rate_factor": 2.0}, "rate_factor has no meaning"),
        (GENERATE, {"lengths": "none"}, "no length profile 'none'"),
        (GENERATE, {"pattern": "code", "cv": 2.0}, "takes no cv"),
        (GENERATE, {"mapping": "popularity"}, "mapping popularity assigns the rows of a trace"),
        (GENERATE, {"num_functions": 9, "cv": (1.0,)}, "a cv per model excludes num_functions"),
        (GENERATE, {"kind": "gamma", "diurnal": "code"}, "belong to azure_like"),
        (GENERATE, {"kind": "poisson", "cv": 2.0}, "a Poisson process has CV 1"),
        (GENERATE, {"context_limit_tokens": 0}, "a limit of tokens must be at least 1, got 0"),
        (GENERATE, {"patience_s": 0.0}, "patience_s must be positive"),
        (READ, {"path": ()}, "needs the path of a file"),
        (READ, {"target_rps": 1.0, "rate_factor": 1.0}, "exclude each other"),
        (READ, {"start_s": -1.0}, "start_s must be 0 or more"),
        (READ, {"num_functions": 3}, "belong to azure_like"),
        (READ, {"cv": 8.0}, "need a cv_reading"),
        (READ, {"cv_reading": "fitted", "scaling": "time"}, "by rate, not by time"),
        (READ, {"cv_reading": "fitted", "mapping": "popularity"}, "stripe or blocks"),
        (READ, {"cv_reading": "fitted", "cv": (1.0,)}, "for generated kinds"),
        (READ, {"kind": "burstgpt", "cv_reading": "fitted"}, "belongs to the Azure Functions"),
    ],
)
def test_a_contradictory_spec_is_refused_with_the_reason(
    base: dict[str, Any], fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        WorkloadSpec(**{**base, **fields})


@pytest.mark.parametrize(
    "fields",
    [{"kind": "nope"}, {"mapping": "random"}, {"popularity": {"kind": "zipf"}}, {"scaling": 1}],
)
def test_an_unknown_choice_is_refused_by_the_conversion(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**GENERATE, **fields}, WorkloadSpec)


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(
        UsageError, match="no field target_rsp; there are columns, context_limit_tokens"
    ):
        spec_from_dict({**GENERATE, "target_rsp": 2.0})
    with pytest.raises(UsageError, match=r"no field popularity\.exponent"):
        spec_from_dict({**GENERATE, "popularity": {"exponent": 2.0}})
    with pytest.raises(UsageError, match="Expected `float"):
        spec_from_dict({**GENERATE, "target_rps": "2"})


def test_a_plain_dict_and_a_text_give_the_same_spec() -> None:
    text = {"kind": "azure_like", "target_rps": "1", "duration_s": "60"}

    assert spec_from_dict(text, from_text=True) == spec_from_dict(GENERATE)
