"""Lower bounds on the cost that any policy can reach, and the regret of each policy.

**The cost** of a request is its *delay*: (time of the last token) - (arrival) - (time that its
inference takes alone). The delay is the startup latency plus the time that the request lost to
migrations and preemptions; without these it equals the startup latency. A request that times out
costs its waiting time. (The startup latency itself has no useful bound for policies that preempt,
because it ends at the *first* start: such a policy could start each request for an instant. For
policies that never preempt, the bounds `chains` and `pooled` hold for startup latency too.)

**The class of policies** contains all that `sllmcore.Controller` can carry out on `sllmsim` with
whole models in the tiers (`partial: false`), no faults, clients that never cancel, and one slot per
instance. In particular there is no prewarming: an instance is launched only for a waiting request,
which is then the first to run on it, or as the destination of a migration, after which the source
instance stops. A load takes at least the checkpoint's size over the fastest path from its tier to
the GPUs of one server. Phases that transfer no bytes count as zero.

Policies with additional *powers* (`oracle.Powers`) are bounded in a larger class: policies that
prewarm (WarmServe), where a load may be over when its request arrives, and policies that split
loads (HydraServe), where a load uses the networks of several servers together. Bounds of a larger
class are lower. So regrets are comparable within a class only, costs between all policies.

*Lineage*: an instance that is launched for a waiting request, together with the destinations that
its inferences migrate to. A lineage holds at least one instance's GPUs from its launch to its end,
runs one model, and serves one request at a time. With r the arrival, p the service time and
S = completion - p: delay = S - r, and within [S, S + p) the request runs on a lineage or waits for
it.

Bounds for large traces:

- `chains`: the GPUs of all servers form one pool, migration is free, DRAM is infinite and equally
  near to every GPU. Lineages are intervals of which at most G overlap, so they can be coloured into
  G sequences. In a sequence, a request follows its predecessor i at once if both have the same
  model (S_j >= S_i + p_i), and loads after it otherwise (S_j >= max(r_j, S_i + p_i) + load_j).
  With S_i >= the earliest start of i, the cost of a request depends on its predecessor only, and
  all predecessors differ. The cheapest such assignment costs no more than any policy.
- `pooled`: the pool is one machine G times as fast, with preemption and without loads. Shortest
  first minimises the sum of mean busy times there, and without preemption the mean busy time of a
  request is S + p / 2. This bound is useful only under overload.

For small instances, `program` is an integer program over a time grid; its docstring states it. It
keeps servers, GPUs, the order of loads per I/O path and the DRAM capacity, and relaxes the cost of
a migration.

Changed hardware (`relaxed`): the policy itself is simulated with every model in every DRAM, and
with no caches. These results are no bounds; they show what caching can gain for the policy.

Functions that use the future take an `Oracle`, which only a driver can make.
"""
