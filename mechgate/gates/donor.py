"""Gates computed from another prompt: the values are a learned gate's, but they do not depend on what is read."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import nn

from mechgate.errors import HookError, InputError
from mechgate.gates.gate import Gate
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs
from mechgate.model import hooking


class Positions:
    """The positions of the tokens that the model is running, [batch or 1, pos]; None where nobody said."""

    def __init__(self) -> None:
        self.now: torch.Tensor | None = None

    def of(self, shape: torch.Size) -> torch.Tensor:
        """The positions as integers of this shape; raises `HookError` where they are not known."""
        if self.now is None or self.now.shape[-1:] != shape[-1:]:
            raise HookError(
                "gates from another prompt do not know the positions of the tokens they act on",
                got=f"tokens {tuple(shape)}, positions {'none' if self.now is None else tuple(self.now.shape)}",
                do="attach them with gates.attached(model), and run the whole model, not one block",
            )
        return self.now.expand(shape)


class DonorGate(Gate):
    """One layer's gate whose drive is that of a donor prompt's token at the same position, wrapped at its end.

    `bias` is [donor tokens, units].
    """

    def __init__(self, drive: torch.Tensor, d_model: int, positions: Positions):
        generator = torch.Generator()  # not drawn from: only low-rank gates start at random
        super().__init__(drive.shape[-1], d_model, input="static", rank=None, generator=generator)
        self.bias = nn.Parameter(drive.clone())
        self.positions = positions

    def drive(self, x: torch.Tensor) -> torch.Tensor:
        """The donor's W x + b at these positions: x [..., pos, d_model] -> fp32 [..., pos, units]."""
        where = self.positions.of(x.shape[:-1]).to(self.bias.device)
        return self.bias[where % len(self.bias)].float()


class DonorGateSet(GateSet):
    """Gates with the values that `gates` had on a donor prompt. Position p takes the donor's value at p modulo its length.

    Positions are those that the model itself uses, so padding, batch composition, shared prefixes, answer branches
    and KV caches change nothing. They are seen while the set is attached with `attached`; `fwd_hooks` has no place
    for that and is refused. It belongs to no gate file.
    """

    def __init__(self, gates: GateSet, inputs: NeutralInputs, donor: int):
        super().__init__(
            gates.shape, layers=gates.layers, granularity=gates.granularity, input="static", made_for=gates.made_for
        )
        # Its prompt and first answer: one sequence, with positions 0, 1, 2, ...
        tokens = (inputs.row == donor) & (inputs.branch <= 1)
        if not tokens.any():
            raise InputError("the neutral inputs have no such row", got=donor, allowed=f"0 to {inputs.n_rows - 1}")
        self.scale, self.donor, self.positions = gates.scale, donor, Positions()
        with torch.no_grad():
            for layer in gates.layers:
                drive = gates.gate(layer).drive(inputs.x[layer][tokens])
                self.gates[str(layer)] = DonorGate(drive, gates.shape.d_model, self.positions)

    @contextlib.contextmanager
    def at(self, positions: torch.Tensor | None) -> Iterator[None]:
        """Take these positions [..., pos] as those of the tokens that the gates are asked about, for a block."""
        before, self.positions.now = self.positions.now, positions
        try:
            yield
        finally:
            self.positions.now = before

    @contextlib.contextmanager
    def attached(
        self,
        model: Any,
        strength: float = 1.0,
        *,
        where: str | Collection[str] | None = None,
        observe: Callable[[torch.Tensor], None] | None = None,
    ) -> Iterator[hooking.Firings]:
        """As `GateSet.attached`; also notes the positions of every forward of the model inside the block."""

        def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.positions.now = _positions(args, kwargs)

        with contextlib.ExitStack() as stack:
            stack.enter_context(self.at(None))
            firings = stack.enter_context(super().attached(model, strength, where=where, observe=observe))
            handle = model.original_model.base_model.register_forward_pre_hook(note, with_kwargs=True)
            stack.callback(handle.remove)
            yield firings

    def fwd_hooks(self, model: Any, strength: float = 1.0) -> list[tuple[str, Callable[..., Any]]]:
        """Refused: a list of hooks cannot see positions."""
        raise InputError(
            "gates from another prompt need the tokens' positions, which hooks alone do not see",
            got="fwd_hooks",
            do="use `with gates.attached(model): ...`",
        )

    def __repr__(self) -> str:
        where = f"{len(self.layers)} of {self.shape.n_layers} layers"
        tokens = len(self.gate(self.layers[0]).bias)
        return (
            f"DonorGateSet(values of neutral row {self.donor}, {tokens} tokens; "
            f"one value a {self.granularity}; {where}; scale {self.scale:+g}; {self.history.get('null', 'unmatched')}; "
            f"for {self.made_for.get('name', 'an unknown model')})"
        )


def _positions(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The positions that a Hugging Face base model will use, given what it is called with."""
    if (given := kwargs.get("position_ids")) is not None:
        return given
    tokens = args[0] if args else kwargs.get("input_ids")
    if tokens is None:
        tokens = kwargs.get("inputs_embeds")
    if tokens is None:
        return None
    # As all of them do without position_ids: count on from what the cache holds.
    past = kwargs.get("past_key_values")
    start = 0 if past is None else int(past.get_seq_length())
    return torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
