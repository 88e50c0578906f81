"""From characters of a message to tokens of a prompt: where the claim is."""

from collections.abc import Sequence
from typing import Any

_UNUSED = range(0xE000, 0xF900)  # characters without a meaning (Unicode's private use area)


def span_tokens(
    tokenizer: Any, messages: Sequence[dict[str, str]], span: tuple[int, int, int], prompt: Sequence[int]
) -> tuple[int, int] | None:
    """The tokens of `prompt` that hold some of a message's text: the first, and the one after the last.

    `span` is a message's index and the first and end character in its content. A token that straddles a border
    belongs. None where it cannot be told: the tokenizer gives no offsets (slow ones), or the chat template drops,
    repeats or rewrites the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    if (found := _characters(tokenizer, messages, span, text)) is None:
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


def _characters(
    tokenizer: Any, messages: Sequence[dict[str, str]], span: tuple[int, int, int], text: str
) -> tuple[int, int] | None:
    """Where the span is in the rendered conversation: it is rendered again with a mark at each end of it."""
    number, start, end = span
    content = messages[number]["content"]
    left, right = [mark for mark in map(chr, _UNUSED) if mark not in text + content][:2]
    marked = content[:start] + left + content[start:end] + right + content[end:]
    told = [*messages[:number], {**messages[number], "content": marked}, *messages[number + 1 :]]
    again = tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    if again.replace(left, "").replace(right, "") != text or again.count(left) != 1 or again.count(right) != 1:
        return None
    return again.index(left), again.index(right) - 1
