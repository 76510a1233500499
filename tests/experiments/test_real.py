"""Replays against a real cluster: times of requests, files of a simulation, refused configs."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments import run
from experiments.composing import composed_run
from experiments.real import possible
from experiments.real.execute import run_into
from experiments.real.sending import CLIENTS, Sending, write_sendings
from experiments.real.system import Workload
from experiments.replay import replayed
from experiments.simulation import run_folder as files
from experiments.simulation.parquet_file import write_table
from sllmcore.errors import ControlError, UsageError
from sllmcore.metrics import Recorder, Summary
from sllmcore.metrics.tables import INSTANCE_COLUMNS, REQUEST_COLUMNS
from tests.experiments.commands import called
from tests.experiments.real_runs import SMALL_REAL, real_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_run(tmp_path_factory.mktemp("real") / "run")


def test_a_replay_writes_the_files_of_a_simulation_and_those_of_clients(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    written = {files.CONFIG, files.ENV, files.SUMMARY, files.REQUESTS, files.INSTANCES}
    assert names == {*written, files.JOURNAL, CLIENTS}
    for name, columns in ((files.REQUESTS, REQUEST_COLUMNS), (files.INSTANCES, INSTANCE_COLUMNS)):
        assert pq.read_table(folder / name).column_names == list(columns)


def test_every_request_is_answered_in_full_and_accounted_for(folder: Path) -> None:
    summary = json.loads((folder / files.SUMMARY).read_text())
    clients = pq.read_table(folder / CLIENTS)
    requests = pq.read_table(folder / files.REQUESTS)

    assert summary["completed"] == summary["requests"] == summary["workload"]["jobs"] == 20
    gpu_s = [summary[f"gpu_{part}_s"] for part in ("busy", "loading", "idle")]
    assert sum(gpu_s) == pytest.approx(2 * summary["measured_s"])
    assert clients["problem"].to_pylist() == [""] * 20
    assert clients["output_tokens"].to_pylist() == requests["output_tokens"].to_pylist()


def test_the_controllers_times_agree_with_those_of_the_clients(folder: Path) -> None:
    requests = pq.read_table(folder / files.REQUESTS).to_pylist()
    clients = pq.read_table(folder / CLIENTS).to_pylist()

    for request, client in zip(requests, clients, strict=True):
        assert request["request_id"] == client["request_id"]
        assert client["scheduled_at_s"] <= client["sent_at_s"] <= request["ended_at_s"]
        assert request["arrived_at_s"] == pytest.approx(client["sent_at_s"], abs=0.5)
        assert request["first_token_at_s"] == pytest.approx(client["first_token_at_s"], abs=0.5)
        assert request["arrived_at_s"] <= request["started_at_s"] < request["first_token_at_s"]


def test_the_requests_are_those_of_a_simulation(folder: Path, tmp_path: Path) -> None:
    simulated = tmp_path / "simulated"
    assert called(run.main, *SMALL_REAL, "driver.kind=sim", f"out={simulated}") == 0

    columns = ["request_id", "model", "input_tokens", "output_tokens"]
    met = [pq.read_table(one / files.REQUESTS, columns=columns) for one in (folder, simulated)]
    assert met[0].equals(met[1])
    arrivals = pq.read_table(simulated / files.REQUESTS)["arrived_at_s"]
    assert pq.read_table(folder / CLIENTS)["scheduled_at_s"].equals(arrivals)


@pytest.mark.parametrize("policy", ["serverless", "shepherd"])
def test_the_journal_replays_to_the_same_commands(policy: str, tmp_path: Path) -> None:
    folder = real_run(tmp_path / "run", f"policy={policy}", "workload.max_requests=10")

    assert replayed(folder / files.JOURNAL) == 0


def test_clients_leave_when_their_patience_ends(tmp_path: Path) -> None:
    slow = "cluster.servers.a40.ssd_read_bytes_per_s=1e8"  # 2.5 s a load
    folder = real_run(tmp_path / "run", slow, "workload.patience_s=0.3", "workload.max_requests=5")

    summary = json.loads((folder / files.SUMMARY).read_text())
    assert summary["cancelled"] == summary["requests"] == 5


def test_a_cluster_of_processes_answers_requests(tmp_path: Path) -> None:
    folder = real_run(
        tmp_path / "run",
        "driver.real.placement=children",
        "driver.real.max_send_lag_s=5",
        "cluster.servers.a40.count=1",
        "workload.max_requests=4",
        "workload.target_rps=4",
    )

    summary = json.loads((folder / files.SUMMARY).read_text())
    assert summary["completed"] == 4
    assert summary["loads"]["SSD"] >= 1
    assert replayed(folder / files.JOURNAL) == 0


IMPOSSIBLE = {
    "driver.fault_horizon_s=10": "driver.fault_horizon_s: faults strike in the simulator only",
    "driver.storage_bytes_per_s=1e9": "driver.storage_bytes_per_s",
    "driver.recovers_tokens=false": "driver.recovers_tokens",
    "driver.phases=container": "driver.phases=container",
    "driver.loader.ssd_efficiency=0.5": "driver.loader",
    "policy=hydraserve": "policy=hydraserve: its workers do not split loads",
    "policy.residency.partial=true": "policy.residency.partial",
    "cluster.servers.a40.gpus_per_uplink=2": "gpus_per_uplink",
    "models.deployments.opt_6_7b.num_gpus=2": "models.deployments.opt_6_7b: an instance takes one",
    "driver.real.engine=transformers": "models.ssd and models.dram must be none",
    "driver.real.max_send_lag_s=0": "driver.real: max_send_lag_s must be positive, got 0",
    "driver.real.engine=unheard-of": "driver.real: unknown engine 'unheard-of', known are",
    "workload.total_limit_tokens=null workload.lengths=longbench": "has .* tokens, more than the",
}


@pytest.mark.parametrize(("overrides", "complaint"), IMPOSSIBLE.items())
def test_a_config_that_a_real_cluster_cannot_carry_out_is_refused_in_one_line(
    overrides: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("cluster.servers.a40.num_gpus=2",) if "num_gpus" in overrides else ()

    code = called(run.main, *SMALL_REAL, *more, *overrides.split(), f"out={tmp_path / 'run'}")

    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1
    assert re.search(complaint, captured.err), captured.err
    assert list(tmp_path.iterdir()) == []


def test_ray_serve_is_refused_if_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = composed_run([*SMALL_REAL, "policy=ray_serve"])
    monkeypatch.setattr(possible, "find_spec", lambda _: None)

    with pytest.raises(UsageError, match=r"ray_serve: it is not installed \(pip install"):
        possible.real_settings(config)


class _InstantSystem:
    """A `System` that answers at once and may lose requests."""

    def __init__(self, loses: int = 0) -> None:
        self._loses = loses
        self.workload: Workload | None = None

    def replay(self, workload: Workload, folder: Path) -> Summary:
        self.workload = workload
        answered = workload.jobs[self._loses :]
        write_sendings([Sending(job, job.request.arrived_at_s) for job in answered], folder)
        recorder = Recorder()
        write_table(recorder.requests, folder / files.REQUESTS, [])
        summary = recorder.close(1.0)
        values = {name: getattr(summary, name) for name in Summary.__dataclass_fields__}
        return Summary(**{**values, "requests": len(answered), "completed": len(answered)})


def test_another_system_can_be_measured(tmp_path: Path) -> None:
    system = _InstantSystem()

    summary = run_into(tmp_path / "run", composed_run(SMALL_REAL), system=system)

    assert summary["completed"] == 20
    assert summary["send_lag_s"]["max"] == 0
    assert system.workload is not None
    assert [model.name for model in system.workload.models] == [f"opt_6_7b-{i}" for i in range(3)]


def test_a_lost_request_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="workload has 20, the controller met 19"):
        run_into(tmp_path / "run", composed_run(SMALL_REAL), system=_InstantSystem(loses=1))

    assert list(tmp_path.iterdir()) == []
