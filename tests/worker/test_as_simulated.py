"""A law: a worker executes the same commands as the simulator does, with the same times.

Both execute random commands that keep the contract. Their reports, the instants of these, and the
final content of their tiers must agree. Seeded bugs that it has caught: a turn that comes whenever
any load leaves the queue; a partial eviction that drops all; a stopped load that keeps the room
promised to it; bytes that are in two tiers and read from both.
"""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from sllmcore.commands import LaunchInstance
from sllmcore.events import LoadFinished
from sllmcore.types import DRAM, REMOTE, SSD, Checkpoint, LoadEstimate, Residency
from sllmreal.control.deployment import ModelDeployment
from sllmsim.clock import SimClock
from sllmsim.links import Links
from sllmsim.loading import Loading
from sllmsim.server import SimServer
from sllmsim.setup import SimServerSetup
from tests.builders import hardware_of, setup_of, spec_of
from tests.worker.fakes import Stage
from tests.worker.small_controller import (
    Choice,
    Command,
    Evict,
    EvictChoice,
    SmallController,
    Start,
    StartChoice,
    Stop,
    StopChoice,
    WaitChoice,
)
from tests.worker.virtual import run_virtually

NUM_GPUS = 4
SIZES = {"m0": 8, "m1": 16, "m2": 32}
CAPACITY = {DRAM: 40, SSD: 48}
HARDWARE = hardware_of(NUM_GPUS, CAPACITY[DRAM], CAPACITY[SSD])
TimedEvent = tuple[float, LoadFinished | frozenset[Residency]]

nth = st.integers(0, 2)
tiers = st.sampled_from([(DRAM, SSD), (DRAM,), (SSD,), ()])
choices = st.one_of(
    st.builds(StartChoice, nth, tiers),
    st.builds(WaitChoice, st.sampled_from([0.73, 2.19, 13.37])),  # never with a load's end
    st.builds(StopChoice, nth),
    st.builds(StartChoice, nth, tiers),
    st.builds(EvictChoice, nth, st.sampled_from([DRAM, SSD]), st.booleans()),
)


class SimulatedLoads:
    """The simulator's loads on one server; each end is acknowledged at once."""

    def __init__(self) -> None:
        self.clock, self.events = SimClock(), list[TimedEvent]()
        self.controller = SmallController(NUM_GPUS, SIZES, CAPACITY)
        self.checkpoints = {name: Checkpoint(name, size) for name, size in SIZES.items()}
        setup = SimServerSetup("s0", HARDWARE)
        self.server = SimServer(setup)
        truth = setup_of([setup], list(self.checkpoints.values()))
        self.loading = Loading(self.clock, Links(self.clock), truth, self._ready, lambda *_: None)

    def play(self, script: list[Choice]) -> list[TimedEvent]:
        self._play_on(script)
        self.clock.run()
        return self.events

    def _ready(self, event: LoadFinished) -> None:
        self.events.append((self.clock.now, event))
        self.loading.acknowledge_load(event.instance_id)
        self.controller.load_finished(event.instance_id)

    def _play_on(self, script: list[Choice]) -> None:
        for position, choice in enumerate(script, start=1):
            if isinstance(choice, WaitChoice):
                self._play_after(choice.seconds, script[position:])
                return
            command = self.controller.command(choice)
            if command is not None:
                self._execute(command)
        self.clock.call_in(1000, lambda _: self._note_resident())

    def _play_after(self, seconds: float, rest: list[Choice]) -> None:
        self.clock.call_in(seconds, lambda _: self._play_on(rest))

    def _execute(self, command: Command) -> None:
        match command:
            case Start(instance_id, model, gpu, cache_in, after):
                self.server.occupy((gpu,), instance_id)
                estimate = LoadEstimate(REMOTE, 0.0, 0.0, 0.0)
                order = LaunchInstance(
                    1, instance_id, model, "s0", (gpu,), estimate, cache_in, after
                )
                self.loading.begin(order, self.checkpoints[model], self.server)
            case Stop(instance_id, _):
                self.loading.cancel(instance_id)
                self.server.vacate(instance_id)
            case Evict(tier, model, keep_bytes):
                self.server.evict(tier, model, keep_bytes)

    def _note_resident(self) -> None:
        self.events.append((self.clock.now, frozenset(self.server.tiers.resident())))


def real(script: list[Choice]) -> list[TimedEvent]:
    """Return the events of a worker for the same choices."""
    specs = {
        name: ModelDeployment(name, "x", size, 64, 0.0, "timed") for name, size in SIZES.items()
    }
    controller = SmallController(NUM_GPUS, SIZES, CAPACITY)

    async def scenario() -> list[TimedEvent]:
        stage = Stage(spec_of("s0", NUM_GPUS, CAPACITY[DRAM], CAPACITY[SSD]))
        stage.on_report = lambda event: controller.load_finished(event.instance_id)
        for choice in script:
            if isinstance(choice, WaitChoice):
                await asyncio.sleep(choice.seconds)
                continue
            match controller.command(choice):
                case Start(instance_id, model, gpu, cache_in, after):
                    stage.start(instance_id, specs[model], (gpu,), cache_in, after)
                case Stop(instance_id, loaded):
                    stage.stop(instance_id, loaded=loaded)
                case Evict(tier, model, keep_bytes):
                    stage.evict(tier, model, keep_bytes)
        await asyncio.sleep(1000)
        now_s = asyncio.get_running_loop().time()
        resident = frozenset(stage.worker.offer().resident)
        events: list[TimedEvent] = [*stage.finished(), (now_s, resident)]
        await stage.worker.close()
        return events

    return run_virtually(scenario())


def rounded(events: list[TimedEvent]) -> list[tuple[object, ...]]:
    """Round times, and sort loads that end together."""
    rows: list[tuple[object, ...]] = []
    for at_s, what in events:
        if isinstance(what, LoadFinished):
            times = (round(what.transfer_s, 6), round(what.startup_s, 6))
            rows.append((round(at_s, 6), what.instance_id, what.source, what.num_bytes, *times))
        else:
            rows.append((round(at_s, 6), what))
    return sorted(rows[:-1], key=str) + rows[-1:]


@settings(max_examples=50, deadline=None)
@given(st.lists(choices, min_size=25, max_size=60))
def test_a_worker_gives_the_events_of_the_simulator(script: list[Choice]) -> None:
    assert rounded(real(script)) == rounded(SimulatedLoads().play(script))
