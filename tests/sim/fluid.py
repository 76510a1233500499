"""Max-min fair sharing by brute force: all rates are recomputed at every change."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Flow:
    """A transfer over (link index, weight) pairs."""

    num_bytes: float
    hops: dict[int, float]
    limit: float
    begins_at_s: float
    moved: float = 0.0
    done_at_s: float | None = None


@dataclass(slots=True)
class Fluid:
    """Links and flows; `changes` are (time, link, bytes per second), in order of time."""

    links: list[float]
    flows: list[Flow]
    changes: list[tuple[float, int, float]] = field(default_factory=list)

    def run(self, until_s: float = 1e6) -> None:
        """Advance from change to change until all flows have ended."""
        now_s = 0.0
        changes = sorted(self.changes, key=lambda change: change[0])
        while now_s < until_s:
            while changes and changes[0][0] <= now_s:
                _, link, rate = changes.pop(0)
                self.links[link] = rate
            active = [f for f in self.flows if f.begins_at_s <= now_s and f.done_at_s is None]
            rates = fair_rates(self.links, active)
            ends = [
                now_s + (flow.num_bytes - flow.moved) / rate
                for flow, rate in zip(active, rates, strict=True)
                if rate > 0
            ]
            starts = [f.begins_at_s for f in self.flows if f.begins_at_s > now_s]
            next_s = min([*ends, *starts, *(change[0] for change in changes)], default=None)
            if next_s is None:
                return
            for flow, rate in zip(active, rates, strict=True):
                flow.moved += rate * (next_s - now_s)
                if flow.num_bytes - flow.moved <= 1e-9 * flow.num_bytes:
                    flow.moved, flow.done_at_s = flow.num_bytes, next_s
            now_s = next_s


def fair_rates(links: list[float], flows: list[Flow]) -> list[float]:
    """Return fair rates: raise all together, freeze those at their limit or at a full link."""
    rates = [0.0] * len(flows)
    frozen = [False] * len(flows)
    while not all(frozen):
        grow = min(f.limit - r for f, r, z in zip(flows, rates, frozen, strict=True) if not z)
        for link, capacity in enumerate(links):
            used = sum(f.hops.get(link, 0.0) * r for f, r in zip(flows, rates, strict=True))
            pull = sum(f.hops.get(link, 0.0) for f, z in zip(flows, frozen, strict=True) if not z)
            if pull:
                grow = min(grow, max(0.0, capacity - used) / pull)
        rates = [r if z else r + grow for r, z in zip(rates, frozen, strict=True)]
        full = {
            link
            for link, capacity in enumerate(links)
            if sum(f.hops.get(link, 0.0) * r for f, r in zip(flows, rates, strict=True))
            >= capacity * (1 - 1e-12)
        }
        for i, flow in enumerate(flows):
            if rates[i] >= flow.limit * (1 - 1e-12) or full & flow.hops.keys():
                frozen[i] = True
    return rates
