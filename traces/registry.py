"""The registry of trace formats: those that come with the toolkit, and installed ones."""

from sllmcore.plugins import PLUGINS
from sllmcore.registry import Registry
from traces.formats import (
    azure_functions_2019,
    azure_functions_2021,
    azure_llm,
    burstgpt,
    mooncake,
    servegen,
)
from traces.trace_format import TraceFormat

FORMATS = Registry(
    "trace format",
    "sllm.traces",
    TraceFormat,
    {
        "azure_llm": azure_llm.FORMAT,
        "azure_functions_2019": azure_functions_2019.FORMAT,
        "azure_functions_2021": azure_functions_2021.FORMAT,
        "burstgpt": burstgpt.FORMAT,
        "mooncake": mooncake.FORMAT,
        "servegen": servegen.FORMAT,
    },
    PLUGINS,
)
