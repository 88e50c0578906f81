"""Readers of public formats. A bad record is an error that names file, line and field; nothing is skipped."""

import json
from pathlib import Path
from typing import Any

from mechgate.data.pairs import ROLES, Example
from mechgate.errors import DataError


def read_chat_jsonl(path: str | Path) -> list[Example]:
    """Read chat examples: one JSON object a line, `{"messages": [{"role": ..., "content": ...}, ...]}`.

    The last message is the assistant's and becomes the response; what stands before it, the conversation. This is
    the format of OpenAI fine-tuning files and of the emergent-misalignment data sets. Blank lines are allowed.

    Raises `DataError` for a missing or empty file, and for a malformed record, naming file and line.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source} cannot be read as UTF-8 text", got=getattr(error, "strerror", None) or str(error)
        ) from error
    # Not splitlines(): a JSON string may hold U+2028 and other characters that it takes for the end of a line.
    examples = [_example(line, f"{source}, line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not examples:
        raise DataError(f"{source} holds no examples", do='write one object a line: {"messages": [...]}')
    return examples


def _example(line: str, where: str) -> Example:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON", got=str(error)) from error
    if not isinstance(record, dict) or "messages" not in record:
        raise DataError(
            f"{where} has no key 'messages'",
            got=sorted(record) if isinstance(record, dict) else type(record).__name__,
            allowed="messages",
        )
    messages = record["messages"]
    if not isinstance(messages, list) or len(messages) < 2:
        raise DataError(
            f"{where}, messages: a list of at least a user's and an assistant's message is needed",
            got=repr(messages)[:80],
        )
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            raise DataError(f"{where}, messages[{i}] lacks role or content", got=repr(message)[:80])
        if message["role"] not in ROLES or not isinstance(message["content"], str):
            raise DataError(
                f"{where}, messages[{i}] has an unknown role or content that is no text",
                got=repr(message)[:80],
                allowed=ROLES,
            )
    if messages[-1]["role"] != "assistant":
        raise DataError(f"{where}: the last message must be the assistant's", got=messages[-1]["role"])
    plain = tuple({"role": m["role"], "content": m["content"]} for m in messages[:-1])
    try:
        return Example(messages=plain, response=messages[-1]["content"])
    except DataError as error:
        raise DataError(f"{where}: {error.what}", got=error.got, allowed=error.allowed, do=error.do) from error
