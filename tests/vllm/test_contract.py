"""The contract of `Engine`, on vLLM."""

from tests.engine.test_contract import *  # noqa: F403 - the same tests with another maker
