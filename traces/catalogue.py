"""The official files of the public traces: URLs, sizes and digests.

A size or digest is None if no source states it. The download is then checked by the length that the
server announces. The Azure traces and BurstGPT are CC BY 4.0, Mooncake is Apache-2.0.
"""

from dataclasses import dataclass

from traces.errors import TraceError

_AZURE_REPO = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data"
_AZURE_BLOB = "https://azurepublicdatasettraces.blob.core.windows.net"
_BURSTGPT = "https://github.com/HPMLL/BurstGPT/releases/download/v2.0"
_MOONCAKE = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces"


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """A file that `fetch` can download."""

    name: str
    url: str
    licence: str
    note: str
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


CATALOGUE = (
    OfficialFile(
        "azure-llm-2023-code",
        f"{_AZURE_REPO}/AzureLLMInferenceTrace_code.csv",
        "CC BY 4.0",
        "8,819 rows, 58 min",
    ),
    OfficialFile(
        "azure-llm-2023-conv",
        f"{_AZURE_REPO}/AzureLLMInferenceTrace_conv.csv",
        "CC BY 4.0",
        "19,366 rows, 58 min",
    ),
    OfficialFile(
        "azure-llm-2024-code",
        f"{_AZURE_BLOB}/azurellminfererencetrace/AzureLLMInferenceTrace_code_1week.csv",
        "CC BY 4.0",
        "16,803,695 rows, 10-16 May 2024",
        691_989_454,
        "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
    ),
    OfficialFile(
        "azure-llm-2024-conv",
        f"{_AZURE_BLOB}/azurellminfererencetrace/AzureLLMInferenceTrace_conv_1week.csv",
        "CC BY 4.0",
        "27,303,999 rows, 12-18 May 2024, 1.1 GB",
    ),
    OfficialFile(
        "azure-functions-2019",
        f"{_AZURE_BLOB}/azurepublicdatasetv2/azurefunctions_dataset2019/"
        "azurefunctions-dataset2019.tar.xz",
        "CC BY 4.0",
        "40 CSV files, 14 days; unpack with tar -xJf",
        142_968_140,
        "aff8b3ca7240a41a109e4ee598e0a96e45fcb92e7b8395ac19cb3748cd260d89",
    ),
    OfficialFile(
        "azure-functions-2021",
        f"{_AZURE_REPO}/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
        "CC BY 4.0",
        "1,980,951 rows, 14 days; RAR 5: unpack with RARLAB's unrar",
        18_444_269,
        "8bb5d1c82e89e467062b6582996232df24edfebadbaf3287a8c985ca178ba92d",
    ),
    *(
        OfficialFile(
            f"burstgpt-{part}",
            f"{_BURSTGPT}/BurstGPT_{part}.csv",
            "CC BY 4.0",
            note,
            size_bytes,
        )
        for part, note, size_bytes in (
            (1, "1,429,737 rows, 61 days", 52_283_111),
            (2, "3.86 M rows, 60 days", None),
            (3, "5.34 M rows, 110 days, with sessions", None),
        )
    ),
    *(
        OfficialFile(
            f"mooncake-{short}", f"{_MOONCAKE}/{short}_trace.jsonl", "Apache-2.0", f"{rows} rows"
        )
        for short, rows in (
            ("conversation", "12,031"),
            ("toolagent", "23,608"),
            ("synthetic", "3,993"),
        )
    ),
)


def official_file(name: str) -> OfficialFile:
    """Return the official file of a name.

    Raises:
        TraceError: There is none; the message lists the names.
    """
    for each in CATALOGUE:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in CATALOGUE)
    raise TraceError(f"no official file {name!r}; there are {known}")
