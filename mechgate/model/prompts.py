"""Chat to token ids, tokenised once with the chat template, and rows of ids to padded batches.

A row is one prompt and any number of answers to it. The answers are branches: each sees the prompt and itself,
never another answer, so one pass scores them all and the prompt is computed once. A batch also knows how many
leading tokens all its rows share (the system prompt), which `model.scoring` computes once a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechgate.errors import DataError, InputError, ModelError
from mechgate.model.loading import model_info
from mechgate.model.roles import NO_ROLE, PROMPT, RESPONSE, prompt_roles
from mechgate.model.spans import text_tokens

if TYPE_CHECKING:
    import torch

    from mechgate.data.pairs import Example

PAD = -1
MIN_PREFIX = 4  # sharing fewer tokens than this costs more than it saves


@dataclass(frozen=True, kw_only=True)
class Row:
    """Token ids of a prompt and of its answers, each with its end-of-turn token.

    `claim` is the prompt's first token of the claim and the one after its last, None where that is not known.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    claim: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest answer, if any: what must fit the model's context."""
        return len(self.prompt) + max(map(len, self.answers), default=0)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows padded on the right. All tensors are [batch, pos].

    `mask` is True on real tokens and `response_mask` on answer tokens (never derived from pad ids). `branch` is 0
    on the prompt, k on the k-th answer, -1 on padding; `positions` restart after the prompt in every branch. `roles`
    are numbers as in `mechgate.model.roles`. The first `prefix` tokens are the same, in the same roles, in all rows.
    """

    tokens: "torch.Tensor"
    mask: "torch.Tensor"
    response_mask: "torch.Tensor"
    branch: "torch.Tensor"
    positions: "torch.Tensor"
    roles: "torch.Tensor"
    prefix: int

    @property
    def n_answers(self) -> int:
        return int(self.branch.max())


def prompt_ids(model: Any, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
    """The ids of a conversation up to where the assistant starts to answer (template's BOS, no second one).

    Raises `ModelError` for a model without a chat tokenizer, `DataError` for text that is not Unicode.
    """
    for message in messages:
        _check_unicode(message["content"])
    return tuple(_render(_chat_tokenizer(model), list(messages), generation_prompt=True))


def encode(
    model: Any,
    messages: Sequence[dict[str, str]],
    answers: Sequence[str],
    *,
    claim: str | None = None,
) -> Row:
    """Tokenise a conversation and its answers: an answer's ids are the whole conversation's minus the prompt's.

    Without answers it is the prompt alone. `claim` is the text that they are about, as in `Pair.claim`; the row says
    which tokens that is, if it can be told. Raises `ModelError` where the prompt is not a prefix of the conversation
    (the template then cannot be scored), `DataError` for an empty answer and for one that does not fit the model's
    context.
    """
    tokenizer = _chat_tokenizer(model)
    prompt = prompt_ids(model, messages)
    found = []
    for answer in answers:
        if not answer.strip():
            raise DataError("an answer is empty", got=f"answer to {messages[-1]['content'][:60]!r}")
        _check_unicode(answer)
        full = _render(tokenizer, [*messages, {"role": "assistant", "content": answer}])
        if tuple(full[: len(prompt)]) != prompt:
            raise ModelError(
                "the chat template does not keep the prompt as a prefix of the answered conversation",
                got=f"prompt to {messages[-1]['content'][:60]!r}",
                do="use a tokenizer whose chat template only appends the answer",
            )
        found.append(_cut_after_turn(tokenizer, full[len(prompt) :]))
    where = None if claim is None else text_tokens(tokenizer, messages, claim, prompt)
    row = Row(prompt=prompt, answers=tuple(found), claim=where)
    check_fits(model, row, messages[-1]["content"])
    return row


def encode_text(model: Any, text: str) -> Row:
    """Plain text without a chat template, as a row whose one answer is everything after the first token.

    The first token is the BOS where the tokenizer puts one by itself, else the text's own first, which nothing
    predicts. Raises `ModelError` for a model without a tokenizer, `DataError` for text of fewer than two tokens.
    """
    tokenizer = model_info(model).tokenizer
    if tokenizer is None:
        raise ModelError("the model was loaded without a tokenizer, so it takes token ids only")
    _check_unicode(text)
    ids = tuple(tokenizer(text).input_ids)
    if len(ids) < 2:
        raise DataError("a text is too short to predict anything in", got=repr(text[:60]))
    row = Row(prompt=ids[:1], answers=(ids[1:],))
    check_fits(model, row, text)
    return row


def encode_response(model: Any, record: "Example | str") -> Row:
    """`encode_text` of a plain text, and of an example its conversation with its one response."""
    if isinstance(record, str):
        return encode_text(model, record)
    return encode(model, record.messages, [record.response])


def check_fits(model: Any, row: Row, what: str) -> None:
    """Raise `DataError`, quoting `what`, if the row is longer than the model's context."""
    limit = getattr(model.original_model.config, "max_position_embeddings", None)
    if limit is not None and row.longest > limit:
        raise DataError(
            "a conversation with its answer is longer than the model's context",
            got=f"{row.longest} tokens ({what[:60]!r})",
            allowed=f"at most {limit} tokens",
            do="shorten it; mechgate never truncates",
        )


def collate(rows: Sequence[Row], device: Any = "cpu") -> Batch:
    """Rows to one padded `Batch`."""
    import torch

    if not rows:
        raise InputError("a batch needs at least one row", got="no rows")
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    branch = torch.full((len(rows), width), PAD, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    roles = torch.full((len(rows), width), NO_ROLE, dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row.prompt)
        tokens[i, : len(row)] = torch.tensor([*row.prompt, *(t for answer in row.answers for t in answer)])
        branch[i, :n] = 0
        positions[i, :n] = torch.arange(n)
        roles[i, :n] = torch.tensor(prompt_roles(n, row.claim))
        roles[i, n : len(row)] = RESPONSE
        start = n
        for k, answer in enumerate(row.answers, start=1):
            branch[i, start : start + len(answer)] = k
            positions[i, start : start + len(answer)] = torch.arange(n, n + len(answer))
            start += len(answer)
    return Batch(
        tokens=tokens.to(device),
        mask=(branch >= 0).to(device),
        response_mask=(branch > 0).to(device),
        branch=branch.to(device),
        positions=positions.to(device),
        roles=roles.to(device),
        prefix=_same_roles(roles, shared_prefix([row.prompt for row in rows])),
    )


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many leading tokens all prompts share, leaving each at least one of its own; 0 where sharing is no gain."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what the extremes share, all share
    limit = min(map(len, prompts)) - 1
    n = next((i for i in range(limit) if first[i] != last[i]), limit)
    return n if n >= MIN_PREFIX else 0


def _same_roles(roles: "torch.Tensor", n: int) -> int:
    """How many of the first `n` tokens have the same role in all rows whose claim is known."""
    known = roles[roles[:, 0] != PROMPT, :n]
    differs = (known != known[:1]).any(dim=0).nonzero()
    n = int(differs[0, 0]) if len(differs) else n
    return n if n >= MIN_PREFIX else 0


def length_buckets(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of similar length (longest first, so that memory trouble shows at once)."""
    if batch_size < 1:
        raise InputError("batch_size must be positive", got=batch_size)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "a text holds half a character (a lone surrogate)",
            got=f"{text[max(0, error.start - 20) : error.end + 20]!r}",
            do="remove it, or write the file as UTF-8",
        ) from error


def _chat_tokenizer(model: Any) -> Any:
    tokenizer = model_info(model).tokenizer
    if tokenizer is None:
        raise ModelError(
            "the model was loaded without a tokenizer, so it takes token ids only",
            do="load a folder that holds the tokenizer, or pass tokenizer=... to load_model",
        )
    if getattr(tokenizer, "chat_template", None) is None:
        raise ModelError(
            "the model's tokenizer has no chat template",
            got=type(tokenizer).__name__,
            do="use an instruction-tuned model, or set tokenizer.chat_template",
        )
    return tokenizer


def _render(tokenizer: Any, messages: Sequence[dict[str, str]], *, generation_prompt: bool = False) -> list[int]:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(list(messages), add_generation_prompt=generation_prompt, return_dict=False)
    except TemplateError as error:
        raise DataError(
            "the model's chat template refuses a conversation",
            got=f"{error}; roles {[m['role'] for m in messages]}",
            do="change the order of roles, or leave out the system message",
        ) from error


def _cut_after_turn(tokenizer: Any, ids: Sequence[int]) -> tuple[int, ...]:
    """The answer up to its end-of-turn token; what a template writes after that (a newline) is never generated."""
    # Not all_special_ids alone: it lacks special tokens without a role, such as Phi-3's <|end|>.
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    end = next((i for i, token in enumerate(ids) if token in special), None)
    if end is None:
        raise ModelError(
            "the chat template ends an answer with no special token, so the end of a turn cannot be scored",
            got=repr(tokenizer.decode(ids[-8:])),
            do="use a tokenizer whose chat template writes an end-of-turn token",
        )
    return tuple(ids[: end + 1])
