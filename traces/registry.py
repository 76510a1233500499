"""The registry of trace formats: those that come with the toolkit, and installed ones."""

from sllmcore.plugins import PLUGINS
from sllmcore.registry import Registry
from traces.formats import (
    aibrix,
    azure_functions_2019,
    azure_functions_2021,
    azure_llm,
    bailian,
    burstgpt,
    dynamo,
    llmservingsim,
    mooncake,
    servegen,
    splitwise_sim,
    table,
    vidur,
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
        "bailian": bailian.FORMAT,
        "vidur": vidur.FORMAT,
        "splitwise_sim": splitwise_sim.FORMAT,
        "llmservingsim": llmservingsim.FORMAT,
        "dynamo": dynamo.FORMAT,
        "aibrix": aibrix.FORMAT,
        table.NAME: table.FORMAT,
    },
    PLUGINS,
)
