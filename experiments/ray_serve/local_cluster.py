"""A Ray cluster on this machine, with a node per server and simulated GPUs."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray import serve
from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 80 << 20  # of each node: about the minimum of Ray; no data goes through it


@contextmanager
def ray_cluster(num_gpus: Mapping[str, int]) -> Iterator[dict[str, str]]:
    """Start Ray, and Ray Serve without HTTP; yield the id of each node by its name.

    Args:
        num_gpus: GPUs of each node, by its name.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster()
    try:
        for name, gpus in num_gpus.items():
            cluster.add_node(
                node_name=name,
                num_cpus=1,
                num_gpus=gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
            )
        ray.init(cluster.address, configure_logging=False, log_to_driver=False)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="Disabled")
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        yield {node["NodeName"]: node["NodeID"] for node in nodes}
    finally:
        if ray.is_initialized():
            serve.shutdown()  # type: ignore[no-untyped-call]  # its threads would start Ray again
            ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
