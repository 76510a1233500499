"""Parameters and endpoints of OpenAI's API and of vLLM's server that this gateway does not serve.

A parameter is accepted with values that have no effect, because clients send defaults; null is one
for every parameter. With any other value it is refused, with the reason. Parameters that only
inform a server about a request are accepted with any value.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unserved:
    """A parameter that is refused for `reason`, unless its value is in `neutral` or null."""

    reason: str
    neutral: tuple[object, ...] = ()

    def accepts(self, value: object) -> bool:
        """Return True for a value that has no effect."""
        return value is None or any(
            value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
            for neutral in self.neutral
        )


_GRAMMAR = "output cannot be constrained to a format"
_TOOLS = "calls of tools are not parsed"
_BEAMS = "there is no beam search"
_CODE = "clients cannot choose code that runs in the server"
_MEDIA = "models take text only"
_TRANSFER = "the cluster transfers caches by itself"
_RAW = "special tokens are never part of the text"
_ROUTING = "the engines do not return the routing of experts"

UNSERVED_BY_BOTH: Mapping[str, Unserved] = {
    "allowed_token_ids": Unserved("only logit_bias restricts tokens", ([],)),
    "bad_words": Unserved("only logit_bias restricts tokens", ([],)),
    "data_parallel_rank": Unserved("the cluster chooses the instance"),
    "ec_transfer_params": Unserved(_TRANSFER),
    "guided_choice": Unserved(_GRAMMAR),
    "guided_grammar": Unserved(_GRAMMAR),
    "guided_json": Unserved(_GRAMMAR),
    "guided_regex": Unserved(_GRAMMAR),
    "kv_transfer_params": Unserved(_TRANSFER),
    "length_penalty": Unserved(_BEAMS, (1,)),
    "logits_processors": Unserved(_CODE, ([],)),
    "logprob_token_ids": Unserved("logprobs reports the likeliest tokens only"),
    "priority": Unserved("requests are served in their order of arrival", (0,)),
    "prompt_logprobs": Unserved("use logprobs with echo in /v1/completions"),
    "repetition_detection": Unserved("repeated output does not end an answer"),
    "response_format": Unserved(_GRAMMAR, ({"type": "text"},)),
    "return_tokens_as_token_ids": Unserved("use return_token_ids", (False,)),
    "routed_experts_prompt_start": Unserved(_ROUTING, (0,)),
    "skip_special_tokens": Unserved(_RAW, (True,)),
    "spaces_between_special_tokens": Unserved(_RAW, (True,)),
    "stream_interval": Unserved("tokens are sent as they are generated", (1,)),
    "structured_outputs": Unserved(_GRAMMAR),
    "thinking_token_budget": Unserved("thinking has no limit of its own", (-1,)),
    "truncate_prompt_tokens": Unserved("a prompt is never shortened"),
    "truncation_side": Unserved("a prompt is never shortened"),
    "use_beam_search": Unserved(_BEAMS, (False,)),
    "vllm_xargs": Unserved(_CODE, ({},)),
    "watermarking": Unserved("output is not watermarked", (False,)),
}
UNSERVED_BY_COMPLETIONS: Mapping[str, Unserved] = {
    **UNSERVED_BY_BOTH,
    "best_of": Unserved("choose among the choices of n by their logprobs", (1,)),
    "prompt_embeds": Unserved("prompts are text or token ids"),
    "suffix": Unserved("models complete at the end only", ("",)),
}
UNSERVED_BY_CHAT: Mapping[str, Unserved] = {
    **UNSERVED_BY_BOTH,
    "audio": Unserved(_MEDIA),
    "chat_template": Unserved(_CODE),
    "documents": Unserved("send documents as text in messages", ([],)),
    "echo": Unserved("chat answers do not repeat messages", (False,)),
    "function_call": Unserved(_TOOLS, ("none", "auto")),
    "functions": Unserved(_TOOLS, ([],)),
    "include_reasoning": Unserved("reasoning is not separated from the answer", (True,)),
    "media_io_kwargs": Unserved(_MEDIA, ({},)),
    "mm_processor_kwargs": Unserved(_MEDIA, ({},)),
    "modalities": Unserved(_MEDIA, (["text"],)),
    "moderation": Unserved("messages are not moderated"),
    "parallel_tool_calls": Unserved(_TOOLS, (True, False)),
    "prediction": Unserved("there is no predicted output"),
    "verbosity": Unserved("models have no setting of verbosity", ("medium",)),
    "web_search_options": Unserved("the cluster does not search the web"),
}
# Parameters that inform about a request and have no effect on its answer.
INFORMING = frozenset(
    {
        "cache_salt",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "service_tier",
        "session_id",
        "store",
        "user",
    }
)
UNSERVED_ENDPOINTS: Mapping[str, str] = {
    "/v1/audio/speech": _MEDIA,
    "/v1/audio/transcriptions": _MEDIA,
    "/v1/audio/translations": _MEDIA,
    "/v1/batches": "send many prompts to /v1/completions",
    "/v1/embeddings": "the engines generate text and return no embeddings",
    "/v1/files": "files are not stored",
    "/v1/images/generations": _MEDIA,
    "/v1/messages": "this is OpenAI's API; use /v1/chat/completions",
    "/v1/moderations": "messages are not moderated",
    "/v1/rerank": "the engines generate text and return no scores",
    "/v1/responses": "conversations are not stored; use /v1/chat/completions",
    "/v1/score": "the engines generate text and return no scores",
    "/classify": "the engines generate text and return no classes",
    "/pooling": "the engines generate text and return no embeddings",
}
