"""Properties of text in pieces: incremental decoding and stop strings."""

from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from experiments.campaigns.gateway import tiny
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import Generated, GenerationRequest
from sllmreal.gateway.generation import ChoiceText, GenerationPlan
from sllmreal.gateway.incremental_decoder import MAX_PENDING, IncrementalDecoder
from sllmreal.gateway.responses import Delta
from sllmreal.gateway.stop_strings import StopStrings


def sentencepiece_like() -> Tokenizer:
    """Return a tokenizer like that of Llama 2: words with a space in front, and single bytes."""
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
def test_pieces_add_up_to_the_text_and_none_ends_within_a_character(text: str) -> None:
    """Fails if each token is decoded by itself."""
    assume("<s>" not in text and "</s>" not in text)  # special tokens decode to nothing
    tokenizer = tiny.tokenizer()
    tokens = tokenizer.encode(text, special=False)

    given_pieces = pieces(tokenizer.decoder(()), tokens)

    assert "".join(given_pieces) == text
    assert "\N{REPLACEMENT CHARACTER}" in text or not any(
        "\N{REPLACEMENT CHARACTER}" in piece for piece in given_pieces
    )


@given(st.lists(st.integers(0, 300), max_size=60))
def test_any_tokens_are_held_back_for_a_bounded_time(tokens: list[int]) -> None:
    """Fails without the limit of pending tokens."""
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


def test_tokens_that_are_no_valid_text_are_held_back_for_a_bounded_time() -> None:
    tokenizer = sentencepiece_like()
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), ())

    given_text = "".join(decoder.push(1 + 0xFF) for _ in range(100))

    assert len(given_text) >= 100 - MAX_PENDING - 1


def test_a_space_between_prompt_and_answer_is_kept() -> None:
    """Fails without the prompt as context, because the decoder drops the first space of a text."""
    tokenizer = sentencepiece_like()
    ids = tokenizer.get_vocab()
    hello, world, ly = ids["▁Hello"], ids["▁world"], ids["ly"]
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), [hello])

    assert pieces(decoder, [world, ly, world]) == [" world", "ly", " world", ""]


def test_the_bytes_of_a_character_are_returned_together() -> None:
    tokenizer = sentencepiece_like()
    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), ())
    tokens = [1 + byte for byte in "é€😀".encode()]

    assert pieces(decoder, tokens) == ["", "é", "", "", "€", "", "", "", "😀", ""]


def cut(text: str, stops: Sequence[str]) -> str:
    """Return the expected text: cut before the match that ends first; ties: the longest."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=5), max_size=12),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_stop_strings_do_not_depend_on_the_pieces_of_the_text(
    text: str, stops: list[str], included: bool, random: object
) -> None:
    """Fails if no text is held back, or if the match that begins first counts."""
    expected, matches = cut(text, stops), any(stop in text for stop in stops)
    if included and matches:
        found = (text[:end] for end in range(len(text) + 1))
        expected = next(part for part in found if any(part.endswith(stop) for stop in stops))
    watcher, given_text, rest = StopStrings(stops, included=included), "", text
    while rest:
        size = random.randint(1, len(rest))  # type: ignore[attr-defined]
        given_text += watcher.push(rest[:size])
        rest = rest[size:]
        assert expected.startswith(given_text)
    given_text += watcher.flush()

    assert given_text == expected
    assert watcher.matched == matches


def test_only_a_possible_stop_string_is_held_back() -> None:
    watcher = StopStrings(["\n\nUser:"])

    given_text = [watcher.push(piece) for piece in ("Hello", "\n", "you", "\n\nUs", "ed", " it")]

    assert given_text == ["Hello", "", "\nyou", "", "\n\nUsed", " it"]


def test_a_stop_token_is_counted_and_is_not_part_of_the_text() -> None:
    tokenizer = tiny.tokenizer()
    hello, end = tokenizer.encode("Hello", special=False), tokenizer.encode(".", special=False)
    request = GenerationRequest(
        request_id="r",
        model="m",
        tenant="",
        prompt=(5,),
        max_output_tokens=9,
        stop_tokens=frozenset(end),
    )
    text = ChoiceText(0, request, GenerationPlan((request,), tokenizer, (), 1))

    delta = text.push(Generated((*hello, *end), FinishReason.STOP))

    assert delta == Delta(0, "Hello", (*hello, *end), "stop")
    assert text.num_used == len(hello) + 1


def test_a_stop_token_that_did_not_stop_is_text() -> None:
    tokenizer = tiny.tokenizer()
    end = tokenizer.encode(".", special=False)
    request = GenerationRequest(
        request_id="r",
        model="m",
        tenant="",
        prompt=(5,),
        max_output_tokens=9,
        stop_tokens=frozenset(end),
    )
    text = ChoiceText(0, request, GenerationPlan((request,), tokenizer, (), 1))

    assert text.push(Generated(tuple(end), FinishReason.LENGTH)).text == "."


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the bytes of a token: `<0x..>` of byte fallback, else GPT-2's characters for bytes."""
    word = tokenizer.id_to_token(token) or ""
    if word.startswith("<0x"):
        return bytes([int(word[3:5], 16)])
    if "▁" in word:
        return word.replace("▁", " ").encode()
    return bytes(BYTE_OF[char] for char in word)


def gpt2_bytes() -> dict[str, int]:
    """Return the byte of each character of a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + place): byte for place, byte in enumerate(hidden)
    }


BYTE_OF = gpt2_bytes()
TEXTS = st.text(st.sampled_from("Helo wrd, é€😀🌶🎉日本"), min_size=1, max_size=24)


def check_every_cut(tokenizer: Tokenizer, tokens: list[int], text: str) -> None:
    """Cut `tokens` into prompt and output everywhere; the output's text completes the prompt's."""

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    whole = decode(tokens)
    dropped = len(text) - len(whole)  # a space at the beginning
    for cut in range(1, len(tokens)):
        read = b"".join(bytes_of(tokenizer, token) for token in tokens[:cut])
        complete = max(0, len(read.decode(errors="ignore")) - dropped)
        given_text = "".join(pieces(IncrementalDecoder(decode, tokens[:cut]), tokens[cut:]))
        assert given_text == whole[complete:], (cut, text)


@given(TEXTS)
def test_a_byte_level_prompt_may_end_inside_a_character(text: str) -> None:
    """Fails if the prompt's last bytes are decoded apart from the output's first."""
    tokenizer = Tokenizer.from_str(tiny.files()["tokenizer.json"].decode())

    check_every_cut(tokenizer, tokenizer.encode(text, add_special_tokens=False).ids, text)


@given(TEXTS)
def test_a_prompt_with_byte_fallback_may_end_inside_a_character(text: str) -> None:
    """Fails too if the prompt's context begins inside a run of bytes."""
    tokenizer = sentencepiece_like()
    vocabulary = tokenizer.get_vocab()
    tokens: list[int] = []
    for char in text:
        one = vocabulary.get(char.replace(" ", "▁"))
        tokens += [1 + byte for byte in char.encode()] if one is None else [one]

    check_every_cut(tokenizer, tokens, text)


def test_a_prompt_that_ends_inside_a_character_which_is_not_completed() -> None:
    tokenizer = sentencepiece_like()
    world = tokenizer.get_vocab()["▁world"]

    decoder = IncrementalDecoder(lambda ids: tokenizer.decode(list(ids)), [world, 1 + 0xF0])

    assert pieces(decoder, [world, 1 + 0xC3, 1 + 0xA9]) == [" world", "", "é", ""]
