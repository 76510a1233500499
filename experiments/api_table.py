"""A table of the API's parameters and endpoints, and of what this gateway does with each.

    python -m experiments.api_table            prints Markdown; results/api.md is its output
    python -m experiments.api_table --write    writes results/api.md

The names are those of OpenAI's API (openai 3.54) and of vLLM's server. What the gateway does with
them is read from its request models, its lists of refusals and its routes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from starlette.routing import BaseRoute, Route

from experiments.campaigns.gateway.fakes import FakeBackend
from sllmreal.engine.protocol import MAX_LOGPROBS
from sllmreal.gateway.app import create_app
from sllmreal.gateway.bodies import ChatRequest, CompletionRequest
from sllmreal.gateway.fields import Strict
from sllmreal.gateway.messages import CONTENT_KINDS, ChatMessage
from sllmreal.gateway.settings import GatewaySettings, Limits
from sllmreal.gateway.unserved import UNSERVED_ENDPOINTS

PAGE = Path(__file__).parents[1] / "results" / "api.md"
_OPENAI_BOTH = """frequency_penalty logit_bias logprobs max_tokens model n presence_penalty seed
    stop stream stream_options temperature top_p user"""
_VLLM_BOTH = """add_special_tokens allowed_token_ids bad_words cache_salt ec_transfer_params
    ignore_eos include_stop_str_in_output kv_transfer_params length_penalty logprob_token_ids min_p
    min_tokens priority prompt_logprobs repetition_detection repetition_penalty request_id
    response_format return_token_ids return_tokens_as_token_ids routed_experts_prompt_start
    session_id skip_special_tokens spaces_between_special_tokens stop_token_ids stream_interval
    structured_outputs thinking_token_budget top_k truncate_prompt_tokens truncation_side
    use_beam_search vllm_xargs watermarking"""
NAMES: Mapping[type[Strict], str] = {
    CompletionRequest: f"{_OPENAI_BOTH} {_VLLM_BOTH} best_of echo prompt suffix prompt_embeds",
    ChatRequest: f"""{_OPENAI_BOTH} {_VLLM_BOTH} audio function_call functions
    max_completion_tokens messages metadata modalities moderation parallel_tool_calls prediction
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort safety_identifier
    service_tier store tool_choice tools top_logprobs verbosity web_search_options
    add_generation_prompt chat_template chat_template_kwargs continue_final_message documents echo
    include_reasoning media_io_kwargs mm_processor_kwargs""",
    ChatMessage: """annotations audio content function_call name reasoning reasoning_content refusal
    role tool_call_id tool_calls""",
}
_TITLES: Mapping[type[Strict], str] = {
    CompletionRequest: "Parameters of `/v1/completions`",
    ChatRequest: "Parameters of `/v1/chat/completions`",
    ChatMessage: "Fields of a message",
}
# Where a parameter that is served has a limit which its type does not show.
NOTES: Mapping[str, Callable[[Limits], str]] = {
    "max_tokens": lambda limits: (
        f"at most {limits.output_tokens:,}, and {limits.request_output_tokens:,} for all choices; "
        "default: `max_new_tokens` of generation_config.json, else OpenAI's"
    ),
    "max_completion_tokens": lambda limits: f"at most {limits.output_tokens:,}",
    "prompt": lambda limits: (
        f"prompts times n: {limits.choices:,}; {limits.choices_at_once} choices run at once"
    ),
    "n": lambda limits: f"prompts times n: {limits.choices:,}",
    "stop": lambda limits: f"{limits.stop_chars:,} characters together",
    "temperature": lambda _: "default: generation_config.json's, else 1",
    "top_p": lambda _: "default: generation_config.json's, else 1",
    "top_k": lambda _: "default: generation_config.json's, else all",
    "min_p": lambda _: "default: generation_config.json's, else 0",
    "repetition_penalty": lambda _: "default: generation_config.json's, else 1",
    "tools": lambda _: 'with `tool_choice` "none" only, and not shown to the model',
    "tool_choice": lambda _: '"none"; "auto" without tools',
    "reasoning_effort": lambda _: "given to the chat template",
    "content": lambda _: "text or text parts; refused: " + ", ".join(CONTENT_KINDS),
    "logprobs": lambda _: (
        f"at most {MAX_LOGPROBS} likeliest tokens; of the model's logits, before bias and "
        "penalties; with `echo` also of the prompt, which then takes one step for each token"
    ),
    "top_logprobs": lambda _: f"at most {MAX_LOGPROBS}",
    "echo": lambda _: "of text; also with `max_tokens` 0",
}


def page() -> str:
    """Return the page in Markdown."""
    sections = [_parameters(model) for model in NAMES]
    return "\n\n".join([_HEAD, *sections, _endpoints()]) + "\n"


_HEAD = """# The API: parameters and endpoints

Written by `python -m experiments.api_table --write`. Names are those of OpenAI's API and of vLLM's
server. *informs only*: accepted with any value, without effect on the answer. *refused*: status 400
or 404, with the name, the reason and the remedy; values in parentheses, and null, are accepted.
Names that are not in the table are refused as unknown."""


def _parameters(model: type[Strict]) -> str:
    names = sorted({*NAMES[model].split(), *model.model_fields, *model.unserved, *model.informing})
    rows = [f"| `{name}` | {_treatment(model, name)} |" for name in names]
    return "\n".join(
        [f"## {_TITLES[model]}", "", "| parameter | this server |", "|---|---|", *rows]
    )


def _treatment(model: type[Strict], name: str) -> str:
    if name in model.model_fields:
        note = NOTES[name](Limits()) if name in NOTES else ""
        return f"supported{'; ' if note else ''}{note}"
    if name in model.informing:
        return "informs only"
    if name in model.unserved:
        unserved = model.unserved[name]
        neutral = ", ".join(f"`{json.dumps(value)}`" for value in unserved.neutral)
        return f"refused: {unserved.reason}{f' ({neutral})' if neutral else ''}"
    return "refused as unknown"


def _endpoints() -> str:
    served = dict(_served(create_app(FakeBackend(), GatewaySettings()).routes))
    rows = {path: f"supported: {methods}" for path, methods in served.items()}
    rows |= {path: f"refused: {reason}" for path, reason in UNSERVED_ENDPOINTS.items()}
    lines = [f"| `{path}` | {treatment} |" for path, treatment in sorted(rows.items())]
    return "\n".join(["## Endpoints", "", "| path | this server |", "|---|---|", *lines])


def _served(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Route):
            methods = set(route.methods or ())
            if "GET" in methods:
                methods.add("HEAD")
            yield route.path, ", ".join(sorted(methods))
        inner = getattr(route, "original_router", route)
        yield from _served(getattr(inner, "routes", None) or [])


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m experiments.api_table", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write results/api.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
