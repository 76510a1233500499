"""Extras: the optional dependencies, by the modules that a part of the toolkit imports."""

from sllmcore.errors import UsageError

_EXTRAS = {
    "serve": (
        "aetcd",
        "fastapi",
        "grpc",
        "jinja2",
        "msgspec",
        "prometheus_client",
        "pydantic",
        "rich",
        "starlette",
        "tokenizers",
        "uvicorn",
    ),
    "real": ("numpy", "safetensors", "torch", "transformers", "xxhash"),
    "remote": ("boto3", "botocore"),
    "cluster": ("ray",),
    "gguf": ("accelerate", "gguf"),
}


def missing_extra(error: ModuleNotFoundError) -> UsageError:
    """Return the error that names the extra of a missing module.

    Raises:
        ModuleNotFoundError: No extra has the module: the error itself.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in _EXTRAS.items():
        if module in modules:
            return UsageError(f"{module} is not installed: pip install '.[{extra}]'")
    raise error
