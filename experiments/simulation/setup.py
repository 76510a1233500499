"""The conversion of a run's config to a simulator's setup: servers, models, faults."""

from collections.abc import Mapping
from dataclasses import replace

from experiments.config.models import Deployment, PlacementRule
from experiments.config.run_config import RunConfig
from experiments.simulation.calibrated import calibrated_timing
from experiments.simulation.placement import TierCapacity, placed
from sllmcore.build import PolicySettings
from sllmcore.migration_predictor import MigrationProfile
from sllmcore.types import Checkpoint, StorageTier
from sllmsim.catalog import dtype_named, model_named
from sllmsim.faults import Fault, draw_faults
from sllmsim.setup import ServerHardware, SimModel, SimServerSetup, SimSetup
from sllmsim.timing import DEFAULT_EFFICIENCY, EngineEfficiency, InferenceTiming, roofline, step_s
from traces.popularity import shares

PROFILED_TOKENS = 1000  # length at which the paper compares recomputing with generating


def sim_setup(config: RunConfig) -> SimSetup:
    """Return the inputs of a simulation other than the policy and the requests."""
    driver = config.driver
    models = _models(config)
    servers = _servers(config, {m.checkpoint.model: m.checkpoint.size_bytes for m in models})
    return SimSetup(
        servers=servers,
        models=models,
        storage_bytes_per_s=driver.storage_bytes_per_s,
        phases=driver.phase_model,
        loader=driver.loader_profile,
        migration=driver.migration,
        recovers_tokens=driver.recovers_tokens,
        faults=_faults(config, servers),
        seed=config.seed,
    )


def policy_settings(config: RunConfig, setup: SimSetup) -> PolicySettings:
    """Return the settings of the policy, with a migration profile of each model if configured."""
    if not config.driver.profiled_migration:
        return config.policy
    profiles: dict[str, MigrationProfile] = {}
    by_timing: dict[InferenceTiming, MigrationProfile] = {}
    for model in setup.models:
        if model.timing not in by_timing:
            by_timing[model.timing] = _migration_profile(model.timing)
        profiles[model.checkpoint.model] = by_timing[model.timing]
    return replace(
        config.policy, migration_by_model={**profiles, **config.policy.migration_by_model}
    )


def _migration_profile(timing: InferenceTiming) -> MigrationProfile:
    """Return the profile that a benchmark would measure on an idle GPU.

    The benchmark has two prefills, and a decode step at half of `PROFILED_TOKENS`.
    """
    short_s, long_s = timing.prefill_s(1), timing.prefill_s(PROFILED_TOKENS)
    per_token_s = (long_s - short_s) / (PROFILED_TOKENS - 1)
    return MigrationProfile(
        per_token_s=per_token_s,
        fixed_s=short_s - per_token_s if short_s > per_token_s else 0.0,
        output_token_s=step_s(timing, 1, PROFILED_TOKENS // 2),
    )


def _models(config: RunConfig) -> tuple[SimModel, ...]:
    real = config.driver.real
    given_bytes = None if real is None else real.calibration.checkpoint_bytes
    models: list[SimModel] = []
    for name, deployment in config.models.deployments.items():
        num_gpus = deployment.gpus_per_instance(config.cluster.gpu)
        num_slots = deployment.slots_per_instance(config.cluster.gpu)
        timing: InferenceTiming = roofline_timing(config, deployment)
        if real is not None:
            timing = calibrated_timing(timing, real)
        size_bytes = deployment.size_bytes if given_bytes is None else given_bytes
        models += [
            SimModel(
                Checkpoint(f"{name}-{index}", size_bytes, num_gpus),
                timing,
                num_slots,
                model_named(deployment.model).kv_bytes_per_token(DEFAULT_EFFICIENCY.kv_dtype),
            )
            for index in range(deployment.replicas)
        ]
    return tuple(models)


def roofline_timing(config: RunConfig, deployment: Deployment) -> InferenceTiming:
    """Return the timing of an instance of a deployment on the config's GPUs."""
    num_gpus = deployment.gpus_per_instance(config.cluster.gpu)
    num_slots = deployment.slots_per_instance(config.cluster.gpu)
    efficiency = EngineEfficiency(expert_batch=max(2, num_slots))
    model, dtype = model_named(deployment.model), dtype_named(deployment.dtype)
    return roofline(
        model=model, dtype=dtype, gpu=config.cluster.gpu, num_gpus=num_gpus, efficiency=efficiency
    )


def _servers(config: RunConfig, size_bytes: Mapping[str, int]) -> tuple[SimServerSetup, ...]:
    hardware: dict[str, ServerHardware] = {}
    for name, group in config.cluster.servers.items():
        hardware |= dict.fromkeys((f"{name}-{i}" for i in range(group.count)), group.hardware())
    ranked = _most_popular_first(config, size_bytes)
    rules: tuple[tuple[StorageTier, PlacementRule], ...] = (
        (StorageTier.SSD, config.models.ssd),
        (StorageTier.DRAM, config.models.dram),
    )
    resident = [
        placed(
            rule,
            tier,
            ranked,
            [
                TierCapacity(
                    name, each.ssd_bytes if tier is StorageTier.SSD else each.dram_pool_bytes
                )
                for name, each in hardware.items()
            ],
        )
        for tier, rule in rules
    ]
    return tuple(
        SimServerSetup(name, each, resident[0][name] + resident[1][name])
        for name, each in hardware.items()
    )


def _most_popular_first(config: RunConfig, size_bytes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of the models, the most popular first.

    For a trace that names its functions the popularity is unknown before the run; then the order
    is that of the deployments.
    """
    weights = shares(config.workload.popularity, len(size_bytes), config.seed)
    names = list(size_bytes)
    order = sorted(range(len(names)), key=lambda index: -weights[index])
    return {names[index]: size_bytes[names[index]] for index in order}


def _faults(config: RunConfig, servers: tuple[SimServerSetup, ...]) -> tuple[Fault, ...]:
    horizon_s = config.driver.fault_horizon_s
    if horizon_s is None:
        return ()
    ids = [server.id for server in servers]
    return draw_faults(config.driver.faults, ids, horizon_s, config.seed)
