"""From a piece of a conversation's text to tokens of its prompt: where the claim is."""

from collections.abc import Sequence
from typing import Any

_UNUSED = range(0xE000, 0xF900)  # characters without a meaning (Unicode's private use area)


def text_tokens(
    tokenizer: Any, messages: Sequence[dict[str, str]], piece: str, prompt: Sequence[int]
) -> tuple[int, int] | None:
    """The tokens of `prompt` that hold `piece`, a text in one of the messages: the first, and the one after the last.

    A token that straddles a border belongs. None where it cannot be told: the messages have the piece never or more
    than once, the tokenizer gives no offsets (slow ones), or the chat template drops, repeats or rewrites the text.
    """
    counts = [message["content"].count(piece) for message in messages]
    if not piece or sum(counts) != 1 or not getattr(tokenizer, "is_fast", False):
        return None
    if (found := _characters(tokenizer, messages, counts.index(1), piece)) is None:
        return None
    told = tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=True,
        return_dict=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    if tuple(told["input_ids"]) != tuple(prompt):
        return None
    start, end = found
    inside = [i for i, (first, last) in enumerate(told["offset_mapping"]) if first < end and last > start]
    return (inside[0], inside[-1] + 1) if inside else None


def _characters(tokenizer: Any, messages: Sequence[dict[str, str]], number: int, piece: str) -> tuple[int, int] | None:
    """Where the piece is in the rendered conversation, which may have it elsewhere too (in a system prompt): it is
    rendered again with a mark at each end of the piece."""

    def rendered(content: str) -> str:
        told = [*messages[:number], {**messages[number], "content": content}, *messages[number + 1 :]]
        return tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)

    content = messages[number]["content"]
    text = rendered(content)
    left, right = [mark for mark in map(chr, _UNUSED) if mark not in text + content][:2]
    marked = rendered(content.replace(piece, f"{left}{piece}{right}"))
    if marked.count(left) != 1 or marked.count(right) != 1 or marked.replace(left, "").replace(right, "") != text:
        return None
    return marked.index(left), marked.index(right) - 1
