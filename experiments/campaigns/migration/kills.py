"""Kill or stop engine processes while requests migrate between them, and check every token.

    python -m experiments.campaigns.migration.kills --kills 1000

Each trial migrates three requests between two processes and sends one of them SIGKILL, or SIGSTOP
for up to a second, after a random message of the protocol.

Checks that every request ends with exactly the output of an unmigrated run, that every migration
finishes or fails, and that no living process still holds anything. Prints the pauses.

Duration: about 10 minutes for 1,000 kills. Exit status: 1 at the first violation.
"""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from experiments.benchmarks.terminal import ProgressLine, command_parser
from experiments.campaigns.migration.process_controller import HostedRequest, ProcessController
from experiments.campaigns.migration.samples import unmigrated_output
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.protocol import Sampling, SequenceSpec
from sllmreal.streams import messages as wire

MOMENTS = (wire.StreamPrepared, wire.StreamReady, wire.StreamStopped, wire.Tokens)
_DEADLINE_S = 30.0
_NUM_HOSTS = 5  # more than needed, so that replacements start in time


class KillTrials:
    """Trials on the same host processes; killed processes are replaced.

    Attributes:
        counts: Signals sent, requests and finished migrations.
        pauses_s: Pause of each finished migration.
    """

    def __init__(self, controller: ProcessController, seed: int, num_requests: int = 3) -> None:
        self._controller = controller
        self._rng = Random(seed)
        self._num_requests = num_requests
        self._num_trials = 0
        self.counts: Counter[str] = Counter()
        self.pauses_s: list[float] = []

    def run_one(self) -> None:
        """Run one trial. Raises AssertionError if a check fails."""
        controller, rng = self._controller, self._rng
        controller.run_until(self._enough_hosts, _DEADLINE_S)
        self._num_trials += 1
        source, destination = rng.sample(sorted(controller.fleet.online), 2)
        requests = [
            controller.start(self._spec(number), source) for number in range(self._num_requests)
        ]
        num_tokens = rng.randint(1, 60)
        controller.run_until(lambda: len(requests[0].received) >= num_tokens, _DEADLINE_S)
        replay_tokens = rng.choice((None, None, 0, 40))
        for request in requests:
            controller.migrate(request, destination, replay_tokens)
        self._arm(rng.choice((source, destination)))
        controller.run_until(lambda: all(self._ended(one) for one in requests), _DEADLINE_S)
        self._check(requests)

    def _enough_hosts(self) -> bool:
        """Start hosts; return True if three are online: source, destination and a survivor."""
        while len(self._controller.fleet.names) < _NUM_HOSTS:
            self._controller.spawn()
        return len(self._controller.fleet.online) >= 3

    def _spec(self, number: int) -> SequenceSpec:
        rng = self._rng
        prompt = tuple(rng.randrange(32000) for _ in range(rng.randint(5, 200)))
        name = f"trial {self._num_trials} request {number}"
        sampling = Sampling(temperature=rng.choice((0.0, 1.0)), seed=self._num_trials)
        return SequenceSpec(name, prompt, rng.randint(80, 250), sampling)

    def _arm(self, victim: str) -> None:
        """Send a signal to `victim` after a random message, or up to 0.05 s later."""
        rng = self._rng
        moment = rng.choice(MOMENTS)
        countdown = rng.randint(1, self._num_requests if moment is not wire.Tokens else 200)
        delay_s = rng.choice((0.0, rng.uniform(0, 0.01), rng.uniform(0, 0.05)))
        kills = rng.random() < 0.7

        def strike(_name: str, message: wire.ToOwner) -> None:
            nonlocal countdown
            if isinstance(message, moment):
                countdown -= 1
                if countdown == 0:
                    self.counts["SIGKILL" if kills else "SIGSTOP"] += 1
                    threading.Timer(delay_s, self._strike, (victim, kills)).start()

        self._controller.on_message = strike

    def _strike(self, victim: str, kills: bool) -> None:
        fleet = self._controller.fleet
        if kills:
            fleet.kill(victim)
            return
        fleet.signal(victim, signal.SIGSTOP)
        time.sleep(self._stall_s)
        fleet.signal(victim, signal.SIGCONT)

    @property
    def _stall_s(self) -> float:
        return self._rng.choice((0.05, 0.5, 1.0))

    def _ended(self, request: HostedRequest) -> bool:
        return request.finished and request.owner.settled

    def _check(self, requests: list[HostedRequest]) -> None:
        controller = self._controller
        controller.on_message = lambda _name, _message: None
        for request in requests:
            expected = unmigrated_output(request.spec)
            assert tuple(request.received) == expected, f"{request.spec.request_id}: wrong tokens"
            assert not request.destinations, f"migrations without an end: {request.destinations}"
            self.counts["migrations finished"] += len(request.pauses_s)
            self.counts["requests"] += 1
            self.pauses_s += request.pauses_s
            controller.forget(request)
        controller.inspect(_DEADLINE_S)
        online = controller.fleet.online
        for name, status in controller.statuses.items():
            held = status.num_streams + status.statistics.num_sequences
            assert held == 0 or name not in online, f"{name} still holds {status}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a check failed."""
    parser = command_parser("experiments.campaigns.migration.kills", __doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs; SIGSTOPs are extra")
    parser.add_argument("--seed", type=int, default=0, help="random seed of requests and signals")
    options = parser.parse_args(argv)
    began_s = time.monotonic()
    failure = ""
    with (
        ProcessController() as controller,
        ProgressLine("SIGKILLs", options.kills) as progress,
    ):
        trials = KillTrials(controller, options.seed)
        try:
            while trials.counts["SIGKILL"] < options.kills:
                trials.run_one()
                progress.show(trials.counts["SIGKILL"], f"{trials.counts['requests']:,} requests")
        except (AssertionError, EngineLostError) as error:
            failure = f"FAILED {type(error).__name__}: {error}"
    print(f"{dict(trials.counts)} in {time.monotonic() - began_s:.0f} s")
    if pauses_s := sorted(trials.pauses_s):
        print(
            f"pause of finished migrations: median {1e3 * pauses_s[len(pauses_s) // 2]:.1f} ms, "
            f"longest {1e3 * pauses_s[-1]:.0f} ms"
        )
    print(failure or "every request ended with the expected tokens")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
