"""Tests of vLLM behind the cluster: they run in the main environment and need `make vllm` too."""

import pytest

from sllmcore.errors import UsageError
from sllmreal.engine.vllm.interpreter import vllm_python


@pytest.fixture(scope="session", autouse=True)
def vllm() -> None:
    """Skip where vLLM is not set up."""
    try:
        vllm_python()
    except UsageError as error:
        pytest.skip(str(error))
