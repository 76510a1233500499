"""Engine processes killed or stopped while requests move.

    python -m experiments.campaigns.migration.kills

Each trial moves requests between two processes and strikes one of them with SIGKILL, or SIGSTOP
for a while, after some message of the protocol. Then every request must end with exactly the output
that it would have had in peace, and no process that lives may hold anything.
"""

import argparse
import signal
import sys
import threading
import time
from collections import Counter
from random import Random

from experiments.campaigns.migration.processes import Fleet, Request
from experiments.campaigns.migration.samples import unmigrated_output
from sllmreal.engine.protocol import Sampling, SequenceSpec
from sllmreal.streams import messages as wire

MOMENTS = (wire.StreamPrepared, wire.StreamReady, wire.StreamStopped, wire.Tokens)
_DEADLINE_S = 30.0
_NUM_HOSTS = 5  # those that are not needed yet start meanwhile


class Trials:
    """Trials one after another over the same fleet, what was killed being replaced."""

    def __init__(self, fleet: Fleet, seed: int, num_requests: int = 3) -> None:
        self._fleet = fleet
        self._rng = Random(seed)
        self._num_requests = num_requests
        self._num_trials = 0
        self.counts: Counter[str] = Counter()
        self.pauses_s: list[float] = []

    def run_one(self) -> None:
        """Raises AssertionError where a promise was broken."""
        fleet, rng = self._fleet, self._rng
        fleet.run_until(self._enough_hosts, _DEADLINE_S)
        self._num_trials += 1
        source, destination = rng.sample(sorted(fleet.processes.online), 2)
        requests = [fleet.infer(self._spec(number), source) for number in range(self._num_requests)]
        begun = rng.randint(1, 60)
        fleet.run_until(lambda: len(requests[0].received) >= begun, _DEADLINE_S)
        replay_tokens = rng.choice((None, None, 0, 40))
        for request in requests:
            fleet.resume(request, destination, replay_tokens)
        self._arm(rng.choice((source, destination)))
        fleet.run_until(lambda: all(self._over(one) for one in requests), _DEADLINE_S)
        self._check(requests)

    def _enough_hosts(self) -> bool:
        """Two to move between, one to survive them; a late strike may still take one away."""
        while len(self._fleet.processes.names) < _NUM_HOSTS:
            self._fleet.spawn()
        return len(self._fleet.processes.online) >= 3

    def _spec(self, number: int) -> SequenceSpec:
        rng = self._rng
        prompt = tuple(rng.randrange(32000) for _ in range(rng.randint(5, 200)))
        name = f"trial {self._num_trials} request {number}"
        sampling = Sampling(temperature=rng.choice((0.0, 1.0)), seed=self._num_trials)
        return SequenceSpec(name, prompt, rng.randint(80, 250), sampling)

    def _arm(self, victim: str) -> None:
        """Strike after some message, or a little later."""
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

        self._fleet.on_message = strike

    def _strike(self, victim: str, kills: bool) -> None:
        processes = self._fleet.processes
        if kills:
            processes.kill(victim)
            return
        processes.signal(victim, signal.SIGSTOP)
        time.sleep(self._stall_s)
        processes.signal(victim, signal.SIGCONT)

    @property
    def _stall_s(self) -> float:
        return self._rng.choice((0.05, 0.5, 1.0))

    def _over(self, request: Request) -> bool:
        return request.finished and request.owner.settled

    def _check(self, requests: list[Request]) -> None:
        fleet = self._fleet
        fleet.on_message = lambda _name, _message: None
        for request in requests:
            expected = unmigrated_output(request.spec)
            assert tuple(request.received) == expected, f"{request.spec.request_id} differs"
            assert not request.moves, f"never answered: {request.moves}"
            self.counts["moves finished"] += len(request.pauses_s)
            self.counts["requests"] += 1
            self.pauses_s += request.pauses_s
            fleet.forget(request)
        fleet.inspect(_DEADLINE_S)
        online = fleet.processes.online
        for name, report in fleet.reports.items():
            held = report.num_streams + report.statistics.num_sequences
            assert held == 0 or name not in online, f"{name} still holds {report}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="by SIGKILL; SIGSTOPs come besides")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began_s = time.monotonic()
    with Fleet() as fleet:
        trials = Trials(fleet, options.seed)
        try:
            while trials.counts["SIGKILL"] < options.kills:
                trials.run_one()
        finally:
            print(f"{dict(trials.counts)} in {time.monotonic() - began_s:.0f} s")
    pauses_s = sorted(trials.pauses_s)
    print(
        f"pause of finished moves: median {1e3 * pauses_s[len(pauses_s) // 2]:.1f} ms, "
        f"most {1e3 * pauses_s[-1]:.0f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
