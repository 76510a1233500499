"""vLLM as an engine: `EngineCore` in the engine's process, driven through our `Engine` protocol.

Everything here runs in vLLM's own environment (`make vllm`), except `settings`. The package uses
private parts of one pinned version of vLLM, without a patch to it:

    engine      sequences as vLLM requests; hold, release, extend, KV export
    loader      a load format that reads the worker's mapped weights
    sampling    our (seed, index) draw as a logits processor
    kv_landing  a KV connector that puts imported KV blocks in place
    build       from a deployment to a ready engine
"""

VLLM_VERSION = "0.32.0"
