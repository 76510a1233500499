"""A tokenizer for sample models, trained here: byte-level BPE on Python's own manual."""

from pathlib import Path
from pydoc_data import topics
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"
_TURN = "<|{{ message['role'] }}|>\n{{ message['content'] }}\n"
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    + _TURN
    + "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def write_tokenizer(directory: str | Path, vocab_size: int) -> None:
    """Write tokenizer.json and its configuration. Any text survives encoding and decoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],  # its id is END_TOKEN of samples.py
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(topics.topics.values()), trainer)
    wrapper: Any = PreTrainedTokenizerFast  # has no annotations
    wrapped = wrapper(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, chat_template=_CHAT_TEMPLATE
    )
    wrapped.save_pretrained(directory)
