"""Commands that run, compare and replay experiments, and benchmarks. Each has `--help`.

    python -m experiments.run        one simulation, or one run on a real cluster
    python -m experiments.compare    several policies on the same requests
    python -m experiments.replay     the commands of a journal, checked
    python -m experiments.figures    the runs behind the paper's figures
    python -m experiments.bounds     the regret of policies against lower bounds
    python -m experiments.speed      the speed of the simulator

The modules loading, engine, migration, gateway, store and control are benchmarks of the real
cluster's parts. A program runs a config with `composing.composed_run` and `execution.execute`:

    config = composed_run(["experiment=demo", "policy=shepherd"])
    summary = execute(Path("outputs/shepherd"), config)

Nothing is exported here: each process of a comparison imports this package, and must start quickly.
"""
