"""Published data of GPUs and models, by lower-case ids."""

from sllmsim.catalog.dtypes import Dtype, dtype_named
from sllmsim.catalog.gpus import GPUS, Architecture, GpuSpec, gpu_named
from sllmsim.catalog.model_spec import ModelSpec
from sllmsim.catalog.models import MODELS, USABLE_MEMORY, gpus_needed, model_named

__all__ = [
    "GPUS",
    "MODELS",
    "USABLE_MEMORY",
    "Architecture",
    "Dtype",
    "GpuSpec",
    "ModelSpec",
    "dtype_named",
    "gpu_named",
    "gpus_needed",
    "model_named",
]
