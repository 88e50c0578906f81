"""What each token is there for - template, claim, post-claim or response - and what the running forward's tokens are.

A gate that works on response tokens only cannot be credited with reading the claim, so gates can be told on which
tokens to act (`gates.attached(model, strength, where="response")`). Only who builds the batches knows the roles:
`model.scoring` says them before every forward (`running`), and who acts by role asks for them (`selected`). Forwards
that nobody said them for (`model(tokens)`, generation) are refused, never gated everywhere.
"""

import contextlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mechgate.errors import HookError, InputError

if TYPE_CHECKING:
    import torch

# template: the prompt before the claim (system prompt, chat markup, how the claim is introduced). claim: the asserted
# text, with tokens across its borders. post-claim: the prompt after it (the rest of the wording, later turns, the
# assistant's header). response: the answers. They are numbered in this order, and are all of a row's tokens.
ROLES = ("template", "claim", "post-claim", "response")
PROMPT_ROLES = ROLES[:3]
NO_ROLE = -1  # padding
PROMPT = len(ROLES)  # a prompt token of a row that does not say where its claim is
RESPONSE = ROLES.index("response")

_RUNNING: ContextVar["torch.Tensor | None"] = ContextVar("token roles of the running forward", default=None)


def prompt_roles(length: int, claim: tuple[int, int] | None) -> list[int]:
    """The roles of a prompt's tokens, as numbers, given the claim's first token and the one after its last."""
    if claim is None:
        return [PROMPT] * length
    first, end = claim
    return [0 if i < first else 1 if i < end else 2 for i in range(length)]


def check_where(where: str | Collection[str]) -> frozenset[str]:
    """The roles named by `where`, one or several of `ROLES`; raises `InputError` for others and for none."""
    chosen = {where} if isinstance(where, str) else set(where)
    if not chosen or chosen - set(ROLES):
        raise InputError(
            "where must name roles of tokens",
            got=repr(where),
            allowed=ROLES,
            do="name one or several; leave where out to gate all tokens",
        )
    return frozenset(chosen)


@contextlib.contextmanager
def running(roles: "torch.Tensor") -> Iterator[None]:
    """Say that the forwards inside the block run tokens of these roles [batch, pos], numbered as `ROLES` are."""
    token = _RUNNING.set(roles)
    try:
        yield
    finally:
        _RUNNING.reset(token)


def selected(where: frozenset[str], shape: "torch.Size") -> "torch.Tensor":
    """Which tokens of the running forward have a role of `where`: bool, of `shape` [batch, pos]; False on padding.

    Raises `HookError` where nobody said the roles of this forward, `InputError` where `where` takes apart the prompt of
    a row that does not say where its claim is.
    """
    import torch

    roles = _RUNNING.get()
    if roles is None or roles.shape != shape:
        raise HookError(
            "gates that act by role do not know the roles of the tokens that the model is running",
            got=f"tokens {tuple(shape)}, roles {'none' if roles is None else tuple(roles.shape)}",
            do="measure with margins, stance_margins or mechgate.model.scoring; leave where out for other forwards",
        )
    prompt = [role in where for role in PROMPT_ROLES]
    if any(prompt) and not all(prompt) and bool((roles == PROMPT).any()):
        raise InputError(
            "a conversation does not say which of its tokens are the claim",
            got=f"where={sorted(where)}",
            allowed=f"'response', or all of {', '.join(PROMPT_ROLES)}",
            do="set Pair.claim to a text that the messages have once; slow tokenizers and chat templates that rewrite "
            "messages hide it",
        )
    table = [*(role in where for role in ROLES), all(prompt), False]  # the last is taken by NO_ROLE, -1
    return torch.tensor(table, device=roles.device)[roles]
