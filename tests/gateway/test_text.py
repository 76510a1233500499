"""Laws of text that comes in pieces: incremental decoding and stop strings."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from experiments.campaigns.gateway import tiny
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.answers import Delta
from sllmreal.gateway.backend import Generated, GenerationRequest
from sllmreal.gateway.generation import ChoiceText, Plan
from sllmreal.gateway.incremental import MAX_PENDING, IncrementalDecoder
from sllmreal.gateway.stopping import StopStrings


def sentencepiece_like() -> Tokenizer:
    """Words with their space in front, and bytes for what is in no word, as Llama 2 has it."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁Hello", "▁world", "ly", "▁"]
    tokenizer = Tokenizer(
        models.BPE({word: place for place, word in enumerate(words)}, [], byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def pieces(decoder: IncrementalDecoder, tokens: Sequence[int]) -> list[str]:
    return [*(decoder.push(token) for token in tokens), decoder.flush()]


@given(st.text(max_size=40))
def test_pieces_make_up_the_text_and_none_ends_in_half_a_character(text: str) -> None:
    """Fails when the text of each token is decoded by itself."""
    tokenizer = tiny.tokenizer()
    tokens = tokenizer.encode(text, special=False)

    given_pieces = pieces(tokenizer.decoder(()), tokens)

    assert "".join(given_pieces) == text
    assert "\N{REPLACEMENT CHARACTER}" in text or not any(
        "\N{REPLACEMENT CHARACTER}" in piece for piece in given_pieces
    )


@given(st.lists(st.integers(0, 300), max_size=60))
def test_any_tokens_at_all_are_held_back_for_a_bounded_time(tokens: list[int]) -> None:
    """Fails without the bound on what is pending."""
    tokenizer = tiny.tokenizer()
    decoder = tokenizer.decoder(())

    given_text = ""
    for count, token in enumerate(tokens, 1):
        given_text += decoder.push(token)
        start = max(0, count - MAX_PENDING - 1)
        certain = tokenizer.decode(tokens[:start]).rstrip("\N{REPLACEMENT CHARACTER}")
        assert len(given_text) >= len(certain) - 4
    whole = tokenizer.decode(tokens)
    if "\N{REPLACEMENT CHARACTER}" not in whole:
        assert given_text + decoder.flush() == whole


def test_garbage_does_not_wait_for_sense_for_ever() -> None:
    tokenizer = sentencepiece_like()
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), ())

    given_text = "".join(decoder.push(1 + 0xFF) for _ in range(100))

    assert len(given_text) >= 100 - MAX_PENDING - 1


def test_a_space_between_prompt_and_answer_is_kept() -> None:
    """Fails without the prompt as context: that decoder drops the first space of a text."""
    tokenizer = sentencepiece_like()
    ids = tokenizer.get_vocab()
    hello, world, ly = ids["▁Hello"], ids["▁world"], ids["ly"]
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), [hello])

    assert pieces(decoder, [world, ly, world]) == [" world", "ly", " world", ""]


def test_bytes_of_a_character_come_together() -> None:
    tokenizer = sentencepiece_like()
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), ())
    tokens = [1 + byte for byte in "é€😀".encode()]

    assert pieces(decoder, tokens) == ["", "é", "", "", "€", "", "", "", "😀", ""]


def cut(text: str, stops: Sequence[str]) -> str:
    """What should remain, naively: the match that ends first counts, the longest of those."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=5), max_size=4),
    st.randoms(use_true_random=False),
)
def test_stop_strings_cut_the_same_however_the_text_is_cut(
    text: str, stops: list[str], random: object
) -> None:
    """Fails when nothing is held back, or the match that begins first wins."""
    watcher, given_text, rest = StopStrings(stops), "", text
    while rest:
        size = random.randint(1, len(rest))  # type: ignore[attr-defined]
        given_text += watcher.push(rest[:size])
        rest = rest[size:]
        assert cut(text, stops).startswith(given_text)
    given_text += watcher.flush()

    assert given_text == cut(text, stops)
    assert watcher.matched == (cut(text, stops) != text)


def test_only_what_could_become_a_stop_string_is_held_back() -> None:
    watcher = StopStrings(["\n\nUser:"])

    given_text = [watcher.push(piece) for piece in ("Hello", "\n", "you", "\n\nUs", "ed", " it")]

    assert given_text == ["Hello", "", "\nyou", "", "\n\nUsed", " it"]


def test_a_stop_token_is_counted_and_is_no_text_even_where_it_is_a_word() -> None:
    tokenizer = tiny.tokenizer()
    hello, end = tokenizer.encode("Hello", special=False), tokenizer.encode(".", special=False)
    submission = GenerationRequest("r", "m", "", (5,), 9, stop_tokens=frozenset(end))
    text = ChoiceText(0, submission, Plan((submission,), tokenizer, (), 1))

    delta = text.push(Generated((*hello, *end), FinishReason.STOP))

    assert delta == Delta(0, "Hello", (*hello, *end), "stop")
    assert text.num_used == len(hello) + 1


def test_a_stop_token_that_did_not_stop_is_text() -> None:
    tokenizer = tiny.tokenizer()
    end = tokenizer.encode(".", special=False)
    submission = GenerationRequest("r", "m", "", (5,), 9, stop_tokens=frozenset(end))
    text = ChoiceText(0, submission, Plan((submission,), tokenizer, (), 1))

    assert text.push(Generated(tuple(end), FinishReason.LENGTH)).text == "."
