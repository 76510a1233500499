"""Transcripts: short runs in the simulator as text, so that a changed decision is a changed line.

    python -m tests.golden.transcripts              lists the files that differ
    python -m tests.golden.transcripts --rewrite    rewrites transcripts/*.txt

A rewrite belongs in a commit of its own. The servers load 4 bytes/s from remote storage, 8 from SSD
and 16 from DRAM. A request takes 0.5 s for its first token and 0.25 s for each further one.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from sllmcore.build import PolicySettings
from sllmcore.commands import (
    AbortMigration,
    Command,
    EvictCopy,
    LaunchInstance,
    RejectRequest,
    StartMigration,
    StartRequest,
    StopInstance,
    StopRequest,
    TimeOutRequest,
)
from sllmcore.events import (
    Event,
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    MigrationFinished,
    ModelDeleted,
    ModelDeployed,
    RequestArrived,
    RequestCancelled,
    ServerDraining,
    ServerJoined,
    ServerLost,
    WakeUp,
)
from sllmcore.types import Checkpoint, Residency, StorageTier
from sllmcore.workload import WorkloadRequest
from sllmsim.faults import Fault, ServerCrash
from sllmsim.setup import SimModel, SimServerSetup, SimSetup
from tests.builders import TIMING, hardware_of, in_dram, job_of, on_ssd, sim_of

FOLDER = Path(__file__).parent / "transcripts"

A, B, WIDE = Checkpoint("a", 16), Checkpoint("b", 32), Checkpoint("wide", 64, 2)


@dataclass(frozen=True, slots=True)
class TranscriptScenario:
    """A run with a story.

    Args:
        name: Name of the transcript's file without its suffix.
        story: First line of the transcript.
    """

    name: str
    story: str
    servers: tuple[SimServerSetup, ...]
    models: tuple[Checkpoint, ...]
    requests: tuple[WorkloadRequest, ...]
    policy: str = "serverlessllm"
    faults: tuple[Fault, ...] = ()


def server(server_id: str, num_gpus: int, dram_bytes: int, *resident: Residency) -> SimServerSetup:
    return SimServerSetup(server_id, hardware_of(num_gpus, dram_bytes), resident)


# A runs on s1. B is in the DRAM of s1, so its request needs the GPU of s1. A is on the SSD of s2.
CONTENDED = (
    server("s1", 1, 64, in_dram("a", 16), in_dram("b", 32)),
    server("s2", 1, 0, on_ssd("a", 16)),
)

SCENARIOS = (
    TranscriptScenario(
        name="warm_hit",
        story=(
            "The second request for a model starts at once on the instance that "
            "the first left idle."
        ),
        servers=(server("s1", 1, 64, on_ssd("a", 16)),),
        models=(A,),
        requests=(job_of(1, "a", 1.0), job_of(2, "a", 10.0)),
    ),
    TranscriptScenario(
        name="cold_start_with_eviction",
        story=(
            "A cold start stops an idle instance and evicts its model from DRAM, "
            "which holds only one."
        ),
        servers=(server("s1", 2, 64, on_ssd("a", 16), on_ssd("wide", 64)),),
        models=(A, WIDE),
        requests=(job_of(1, "a", 1.0), job_of(2, "wide", 10.0)),
    ),
    TranscriptScenario(
        name="migration_frees_gpu",
        story="A running request migrates to s2, because b is in the DRAM of s1.",
        servers=CONTENDED,
        models=(A, B),
        requests=(job_of(1, "a", 1.0, output_tokens=63), job_of(2, "b", 5.0)),
    ),
    TranscriptScenario(
        name="preemption",
        story=(
            "The same, with preemption: the request is stopped and restarts on s2 "
            "from its beginning."
        ),
        servers=CONTENDED,
        models=(A, B),
        requests=(job_of(1, "a", 1.0, output_tokens=63), job_of(2, "b", 5.0)),
        policy="shepherd",
    ),
    TranscriptScenario(
        name="server_lost_during_load",
        story=(
            "The server of a load is lost; the request starts on the other server, "
            "and s1 comes back."
        ),
        servers=(server("s1", 1, 64, on_ssd("a", 16)), server("s2", 1, 64)),
        models=(A,),
        requests=(job_of(1, "a", 1.0),),
        faults=(ServerCrash(2.0, "s1", 3.0),),
    ),
)


def transcript(scenario: TranscriptScenario) -> str:
    """Run a scenario in the simulator and return its story and its entries."""
    lines = [f"# {scenario.story}", ""]

    def sink(now_s: float, event: Event, commands: Sequence[Command]) -> None:
        lines.extend(entry_lines(now_s, event, commands))

    models = tuple(SimModel(model, TIMING) for model in scenario.models)
    setup = SimSetup(scenario.servers, models, faults=scenario.faults)
    sim_of(PolicySettings(scenario.policy), setup, scenario.requests, [sink]).run()
    return "\n".join(lines) + "\n"


def entry_lines(now_s: float, event: Event, commands: Iterable[Command]) -> Iterator[str]:
    """Yield a line for an event, then an indented line for each of its commands."""
    yield f"{now_s:8.3f}  {type(event).__name__} {event_text(event)}".rstrip()
    for command in commands:
        yield f"{'':10}  -> {type(command).__name__} {command_text(command)}"


def event_text(event: Event) -> str:
    """Return the fields of an event about a request, else `membership_text`."""
    match event:
        case RequestArrived(request):
            text = f"{request.id} model={request.model} input_tokens={request.input_tokens}"
        case RequestCancelled(request_id):
            text = request_id
        case InferenceFinished(request_id, instance_id, output_tokens):
            text = f"{request_id} on {instance_id} output_tokens={output_tokens}"
        case InferenceStopped(request_id, instance_id, lost_tokens):
            text = f"{request_id} on {instance_id} lost_tokens={lost_tokens}"
        case InferenceFailed(request_id, instance_id, reason):
            text = f"{request_id} on {instance_id}: {reason}"
        case MigrationFinished():
            path = f"{event.move_id} {event.request_id} from {event.source_id}"
            text = f"{path} to {event.destination_id} pause={event.pause_s:.3f}s"
        case MigrationFailed(move_id, request_id, destination_id, reason):
            text = f"{move_id} {request_id} to {destination_id}: {reason}"
        case _:
            text = membership_text(event)
    return text


def membership_text(
    event: LoadFinished
    | LoadFailed
    | InstanceLost
    | ServerJoined
    | ServerDraining
    | ServerLost
    | ModelDeployed
    | ModelDeleted
    | WakeUp,
) -> str:
    """Return the fields of an event about a load, an instance, a server or a model."""
    match event:
        case LoadFinished(instance_id, source, num_bytes, transfer_s):
            text = f"{instance_id} bytes={num_bytes} from {tier(source)} in {transfer_s:.3f}s"
        case LoadFailed(instance_id, reason) | InstanceLost(instance_id, reason):
            text = f"{instance_id}: {reason}"
        case ServerJoined(spec, resident):
            copies = [f" {each.model}:{each.num_bytes} in {tier(each.tier)}" for each in resident]
            text = f"{spec.id} gpus={spec.num_gpus}{','.join(copies)}"
        case ServerDraining(server_id) | ServerLost(server_id):
            text = server_id
        case ModelDeployed(model, num_slots):
            text = f"{model.model} bytes={model.size_bytes} gpus={model.num_gpus} slots={num_slots}"
        case ModelDeleted(model_name):
            text = model_name
        case WakeUp():
            text = ""
        case _:
            assert_never(event)
    return text


def command_text(command: Command) -> str:
    """Return the fields of a command."""
    match command:
        case LaunchInstance():
            text = launch_text(command)
        case StopInstance(_, instance_id):
            text = instance_id
        case EvictCopy(server_id=server_id, tier=from_tier, model=model, keep_bytes=keep_bytes):
            text = f"{model} from {tier(from_tier)} of {server_id} keep_bytes={keep_bytes}"
        case StartRequest(_, request_id, instance_id, attempt):
            text = f"{request_id} on {instance_id} attempt={attempt}"
        case StopRequest(_, request_id, instance_id):
            text = f"{request_id} on {instance_id}"
        case StartMigration():
            path = f"{command.request_id} from {command.source_id} to {command.destination_id}"
            text = f"{command.move_id} {path}"
        case AbortMigration(_, move_id, request_id, destination_id):
            text = f"{move_id} {request_id} to {destination_id}"
        case RejectRequest(_, request_id, reason):
            text = f"{request_id}: {reason}"
        case TimeOutRequest(_, request_id):
            text = request_id
        case _:
            assert_never(command)
    return text


def launch_text(launch: LaunchInstance) -> str:
    estimate = launch.estimate
    text = f"{launch.instance_id} model={launch.model} server={launch.server_id}"
    text += f" gpus={','.join(map(str, launch.gpu_indices))}"
    text += f" from {tier(estimate.source)} expected={estimate.total_s:.3f}s"
    if launch.cache_in:
        text += f" cache_in={','.join(map(tier, launch.cache_in))}"
    if launch.after is not None:
        text += f" after={launch.after}"
    if launch.helpers:
        text += f" helpers={','.join(launch.helpers)}"
    return text


def tier(of: StorageTier) -> str:
    return of.name.lower()


def transcript_file(scenario: TranscriptScenario) -> Path:
    return FOLDER / f"{scenario.name}.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare or rewrite the transcripts.")
    parser.add_argument("--rewrite", action="store_true", help="rewrite the files that differ")
    rewrite = parser.parse_args().rewrite
    for scenario in SCENARIOS:
        text, file = transcript(scenario), transcript_file(scenario)
        if file.is_file() and file.read_text() == text:
            continue
        if rewrite:
            FOLDER.mkdir(exist_ok=True)
            file.write_text(text)
        print(f"{'rewrote' if rewrite else 'differs:'} {file.name}")


if __name__ == "__main__":
    main()
