"""Our decode loop gives the output of transformers' `generate`."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from experiments.campaigns.engine.driving import drained, whole_output
from experiments.campaigns.engine.makers import VOCABULARY, TransformersMaker
from sllmcore.errors import UsageError
from sllmreal.engine.build import EngineOptions, build_engine, weights_identity
from sllmreal.engine.protocol import Engine, Sampling, SequenceSpec
from sllmreal.engine.samples import FAMILIES, SIZES, sample_config, write_sample
from sllmreal.engine.transformers_model import ModelOptions, TransformersModel
from sllmreal.loader import load_checkpoint

AutoModelForCausalLM: Any = transformers.AutoModelForCausalLM  # its methods are untyped
NUM_OUTPUT = 24


def prompts(*lengths: int) -> list[tuple[int, ...]]:
    rng = random.Random(3)
    return [tuple(rng.randrange(VOCABULARY) for _ in range(length)) for length in lengths]


def generated(model: Any, prompt: tuple[int, ...]) -> tuple[int, ...]:
    tokens = torch.tensor([prompt])
    output = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        min_new_tokens=NUM_OUTPUT,
        max_new_tokens=NUM_OUTPUT,
        pad_token_id=0,
    )
    return tuple(output[0, len(prompt) :].tolist())


@pytest.fixture(params=FAMILIES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_sample(tmp_path / "model", f"{request.param}-tiny")


def test_a_mixed_batch_gives_what_generate_gives_one_by_one(sample: Path) -> None:
    """Seeded: a mask that hides one position too few; rows of a batch in the wrong order."""
    reference = AutoModelForCausalLM.from_pretrained(sample, dtype="auto")
    reference.generation_config.eos_token_id = None
    asked = prompts(1, 2, 40, 17, 17)
    engine = build_engine(sample, options=EngineOptions(prefill_chunk_tokens=16)).engine

    for number, prompt in enumerate(asked):
        engine.start(SequenceSpec(str(number), prompt, NUM_OUTPUT))
    drained(engine)

    for number, prompt in enumerate(asked):
        assert engine.output(str(number)) == generated(reference, prompt)


def test_a_built_model_shares_the_loaded_memory_and_has_its_phases(sample: Path) -> None:
    built = build_engine(sample)

    phases = built.cold_start
    slowest = max(phases.import_s + phases.model_object_s, phases.weights_s)
    assert slowest + phases.assign_s + phases.warm_up_s <= phases.total_s
    assert built.engine.capabilities.model == weights_identity(sample)
    assert built.engine.capabilities.context_tokens == SIZES["tiny"].context_tokens


def test_the_identity_is_that_of_the_weights(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "first", "opt-tiny", seed=1)
    same = write_sample(tmp_path / "same", "opt-tiny", seed=1)
    other = write_sample(tmp_path / "other", "opt-tiny", seed=2)

    assert {name: tensor.sum() for name, tensor in load_checkpoint(first).items()} == {
        name: tensor.sum() for name, tensor in load_checkpoint(same).items()
    }
    assert weights_identity(first) != weights_identity(other)


def test_greedy_choices_of_the_samples_are_far_from_ties(models: Path) -> None:
    """A near-tie would let a rounding error decide; float32 rounds at 1e-6 of these logits."""
    for family in FAMILIES:
        model: Any = TransformersMaker(models, f"{family}-tiny").model
        with torch.inference_mode():
            logits = model(torch.tensor(prompts(200))).logits[0]
        best, second = logits.topk(2).values.T
        assert float((best - second).min()) > 1e-4
        assert 1 < float(logits.std()) < 20
        assert len(set(logits.argmax(-1).tolist())) > 50


def test_a_seed_gives_the_same_tokens_alone_and_in_company(models: Path) -> None:
    make = TransformersMaker(models, "llama-tiny")
    specs = [
        SequenceSpec(str(number), prompt, 20, Sampling(1.0, top_p=0.9, seed=number))
        for number, prompt in enumerate(prompts(5, 30, 12))
    ]
    alone = [whole_output(make(), spec) for spec in specs]

    engine: Engine = make()
    for spec in specs:
        engine.start(spec)
    drained(engine)

    assert [engine.output(spec.request_id) for spec in specs] == alone


def test_models_that_the_cache_cannot_hold_are_refused() -> None:
    config: Any = sample_config("falcon", SIZES["tiny"], torch.float32)
    config.alibi = True
    with pytest.raises(UsageError, match="ALiBi"):
        TransformersModel(AutoModelForCausalLM.from_config(config), ModelOptions("x"))

    config = sample_config("qwen", SIZES["tiny"], torch.float32)
    config.layer_types = ["full_attention", "sliding_attention"]
    config.sliding_window = 8
    with pytest.raises(UsageError, match="sliding"):
        TransformersModel(AutoModelForCausalLM.from_config(config), ModelOptions("x"))


def test_a_context_longer_than_the_model_is_refused(models: Path) -> None:
    with pytest.raises(UsageError, match="context_tokens"):
        TransformersMaker(models, "opt-tiny")(context_tokens=513)


def test_a_sample_with_a_tokenizer_encodes_any_text(tmp_path: Path) -> None:
    automatic: Any = transformers.AutoTokenizer
    path = write_sample(tmp_path / "model", "llama-tiny", with_tokenizer=True)
    tokenizer = automatic.from_pretrained(path)
    text = "Import the module — naïve? 模型 \n\t"

    tokens = tokenizer.encode(text)

    assert tokenizer.decode(tokens) == text
    assert max(tokens) < len(tokenizer) <= SIZES["tiny"].vocab_size
    assert tokenizer.eos_token_id == 0
    chat = [{"role": "user", "content": "hello"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|user|>\nhello\n<|assistant|>\n"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_generates_what_a_cpu_generates_in_float32(models: Path, family: str) -> None:
    asked = prompts(3, 40, 17)
    outputs = []
    for device in ("cpu", "cuda"):
        make = TransformersMaker(models, f"{family}-tiny", device=device)
        engine = make(chunk_tokens=16)
        for number, prompt in enumerate(asked):
            engine.start(SequenceSpec(str(number), prompt, NUM_OUTPUT))
        drained(engine)
        outputs.append([engine.output(str(number)) for number in range(len(asked))])

    assert outputs[0] == outputs[1]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_copied_cache_continues_on_a_gpu_as_on_the_source(
    models: Path, dtype: torch.dtype
) -> None:
    from experiments.campaigns.engine.driving import (
        CacheTransfer,
        MigrationCase,
        migrated_output,
    )

    make = TransformersMaker(models, "llama-tiny", dtype, "cuda")
    spec = SequenceSpec("r", prompts(21)[0], NUM_OUTPUT)
    expected = whole_output(make(), spec)

    moved = migrated_output(make(), make(), MigrationCase(spec, CacheTransfer.COPY, 2, 9))

    assert moved == expected
