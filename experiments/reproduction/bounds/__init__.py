"""Lower bounds on what any policy can reach, and how far each policy is from them.

**The cost** of a request is its *delay*: last token minus arrival minus the time that its inference
takes alone. It is the startup latency plus whatever the request lost to being moved or stopped; for
a request that is neither it *is* the startup latency. A request that times out costs the time it
had waited. (Startup latency itself, which ends at the *first* start, has no useful bound for
policies that stop inferences: they could start everybody for an instant. For policies that stop
nobody the bounds `chains` and `pooled` hold for startup latency too.)

**The class of policies**: all that `sllmcore.Controller` can carry out on `sllmsim` with whole
models in the tiers (`partial: false`), no faults, no impatient clients and one slot per instance.
In particular an instance is launched only for a request that waits, which is then the first one
to run on it, or for an inference that moves, whose old instance then goes: nothing is loaded ahead
of demand. A load takes at least the checkpoint's size over the fastest path from its tier to the
GPUs of one server; phases that move no bytes count as zero.

Policies with further *powers* (`oracle.Powers`) are bounded within a larger class: those that
launch ahead of demand (WarmServe), where a load may be over when its request arrives, and those
that split loads (HydraServe), where one takes the bytes over the networks of so many servers
together. Their bounds are lower: regrets compare policies of one class, costs all of them.

*Lineage*: an instance launched for a waiting request, and those that its inferences moved to. It
has at least one instance's GPUs from its launch to its end, it runs one model, and one request at a
time. If r is arrival, p service, S = completion - p: delay = S - r, and within [S, S + p) the
request runs on one lineage or waits for it.

Bounds for large traces:

- `chains`: GPUs of all servers in one pool, migration free, DRAM infinite and equally near to every
  GPU. Lineages are intervals of which at most G overlap, so they can be coloured into G sequences;
  along each, a request follows its predecessor i at once if both have the same model (S_j >=
  S_i + p_i), and otherwise loads after it (S_j >= max(r_j, S_i + p_i) + load_j). With S_i >= its
  earliest start, each request's cost depends on its predecessor alone; every request has a
  different one. The cheapest such assignment costs no more than any policy.
- `pooled`: the pool as one machine G times as fast that may interrupt, no loads at all. Serving the
  shortest first minimises the sum of mean busy times there, and without interruption the mean
  busy time of a request is S + p / 2. Says something in overload only.

For small instances `program` is an integer program over a time grid, whose docstring states it. It
keeps servers, GPUs, load order per I/O path, DRAM capacity; it relaxes the cost of a migration.

Relaxed and tightened hardware (`relaxed`): the policy itself, simulated with every model in every
DRAM, and with none in any cache. These are not bounds but what caching can win for this policy.

Everything that looks into the future takes an `Oracle`, which only a driver can make.
"""
