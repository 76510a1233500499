"""Readers of public trace formats and seeded generators: both yield `sllmcore.workload.Job`s.

    spec = WorkloadSpec(kind="azure_like", target_rps=2.0, duration_s=600.0)
    for job in build_jobs(spec, models=("opt-6.7b-0", "opt-6.7b-1"), seed=0): ...

Everything is lazy, sorted by arrival and a function of (spec, models, seed) alone. The random
streams are keyed by the name of what they drive, so another model does not disturb the rest.
"""
