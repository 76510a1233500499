"""`sllm deploy --engine vllm` refuses bad input in one line, and deploys nothing."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sllmreal.cli.main import main
from sllmreal.engine.samples import write_sample
from sllmreal.engine.vllm.interpreter import VARIABLE
from tests.vllm_cluster.serving import ServedCluster, served

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("m") / "m", "llama-mini", with_tokenizer=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ServedCluster]:
    with tempfile.TemporaryDirectory() as home, served(Path(home), 0.1) as running:
        yield running


def refusal(
    cluster: ServedCluster, source: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """Return the line with which a deployment is refused."""
    command = ["deploy", str(source), "--home", str(cluster.home), "--engine", "vllm"]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert cluster.models() == []
    return error


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--set", "quantization=nonsense"], "Unknown quantization method: nonsense"),
        (["--set", "quantization=awq"], "Cannot find the config file for awq"),
        (["--set", "tensor_parallel_size=2"], "tensor_parallel_size is 2, the number of GPUs is 1"),
        (["--gpus", "3"], "attention heads (4) must be divisible by tensor parallel size (3)"),
        (["--set", "dtype=float99"], "Input should be 'auto'"),
        (["--set", "max_model_len=100000"], "is greater than the derived max_model_len"),
        (["--set", "max_model_len=0"], "max_model_len must be at least 1"),
        (["--set", "temperature=3"], "there is no setting 'temperature'"),
    ],
)
def test_bad_settings_are_refused(
    cluster: ServedCluster,
    sample: Path,
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complaint in refusal(cluster, sample, options, capsys)


def test_an_unknown_architecture_is_refused(
    cluster: ServedCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_sample(tmp_path / "other", "llama-mini", with_tokenizer=True)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["OtherModel"]}))

    error = refusal(cluster, source, [], capsys)

    assert "vLLM has no implementation of the architectures ['OtherModel']" in error


def test_a_deployment_is_refused_where_vllm_is_not_set_up(
    cluster: ServedCluster,
    sample: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/python")

    error = refusal(cluster, sample, [], capsys)

    assert f"{VARIABLE} names /nowhere/python, which is not a file" in error
