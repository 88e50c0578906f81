"""`GateSet`: the gates of a model, and the one dial that turns them."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mechgate.errors import InputError, ModelError, check_choice
from mechgate.gates.gate import GRANULARITIES, INPUTS, Gate, check_strength, n_units, write
from mechgate.model import hooking
from mechgate.model.loading import describe
from mechgate.model.roles import check_where, selected
from mechgate.model.sites import Shape, Site, all_sites, check_gateable, shape_of
from mechgate.seeding import stream_seed

if TYPE_CHECKING:
    from pathlib import Path


class GateSet(nn.Module):
    """Gates on some layers of one model. Use `GateSet.identity(model)`, `load_gates` or `null_gates` to get one.

    `made_for` describes the model it belongs to, `history` how it was trained; both travel in the gate file.
    `scale` multiplies every strength it is attached with: `gates.scaled(2)` and `gates.negated()` are views that
    share the parameters.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        layers: tuple[int, ...],
        granularity: str = "element",
        rank: int | None = None,
        input: str = "linear",
        seed: int = 0,
        made_for: dict[str, Any] | None = None,
    ):
        super().__init__()
        check_choice("granularity", granularity, GRANULARITIES)
        check_choice("input", input, INPUTS)
        limit = min(shape.d_model, n_units(shape, granularity))
        if rank is not None and (input == "static" or type(rank) is not int or not 1 <= rank <= limit):
            raise InputError(
                "rank cannot be used",
                got=f"rank={rank}, input={input}",
                allowed=f"None, or 1 to {limit} with input='linear'",
            )
        self.shape, self.granularity, self.rank, self.input = shape, granularity, rank, input
        self.scale = 1.0
        self.made_for = made_for or {}
        self.history: dict[str, Any] = {}
        generator = torch.Generator().manual_seed(stream_seed(seed, "gates", "low-rank start"))
        units = n_units(shape, granularity)
        self.gates = nn.ModuleDict(
            {str(n): Gate(units, shape.d_model, input=input, rank=rank, generator=generator) for n in layers}
        )

    @classmethod
    def identity(
        cls,
        model: Any,
        granularity: str = "element",
        *,
        rank: int | None = None,
        input: str = "linear",
        layers: list[int] | None = None,
        seed: int = 0,
    ) -> "GateSet":
        """Gates that do nothing yet (g = 1 everywhere), ready to be trained.

        `granularity`: one gate value a z "element" (the paper), "head" or "layer". `input` "linear" reads the
        block's normalised input, "static" reads nothing (as IA3). `rank` makes W low-rank; `seed` then sets its
        random factor. `layers` defaults to all. Raises `InputError` for values that do not fit the model.
        """
        check_gateable(model, allow_post_norm=True)
        chosen = tuple(site.layer for site in all_sites(model, layers))
        gates = cls(
            shape_of(model),
            layers=chosen,
            granularity=granularity,
            rank=rank,
            input=input,
            seed=seed,
            made_for=describe(model),
        )
        return gates.to(next(model.original_model.parameters()).device)

    @property
    def layers(self) -> tuple[int, ...]:
        """The gated layers, in order."""
        return tuple(int(name) for name in self.gates)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it acts."""
        return tuple(Site(layer) for layer in self.layers)

    @property
    def n_parameters(self) -> int:
        """How many numbers it has."""
        return sum(parameter.numel() for parameter in self.parameters())

    def gate(self, layer: int) -> Gate:
        """The gate of one layer; raises `InputError` for a layer without one."""
        if str(layer) not in self.gates:
            raise InputError("the layer has no gate", got=layer, allowed=list(self.layers))
        found = self.gates[str(layer)]
        assert isinstance(found, Gate)
        return found

    def scaled(self, factor: float) -> "GateSet":
        """A view on the same parameters whose strengths are multiplied by `factor`."""
        view = object.__new__(type(self))
        nn.Module.__init__(view)
        view.__dict__.update({k: v for k, v in self.__dict__.items() if not k.startswith("_")})
        view.gates = self.gates
        view.scale = self.scale * check_strength(factor)
        return view

    def negated(self) -> "GateSet":
        """The inversion 2 - g, as a view: attaching it at strength s is attaching the original at -s."""
        return self.scaled(-1.0)

    @contextlib.contextmanager
    def attached(
        self,
        model: Any,
        strength: float = 1.0,
        *,
        where: str | Collection[str] | None = None,
        observe: Callable[[torch.Tensor], None] | None = None,
    ) -> Iterator[hooking.Firings]:
        """Gate `model` inside the block: z is multiplied by 1 + strength * scale * (g - 1).

        +1 is the trained gate, 0 the base model bit for bit, -1 the inversion. Blocks nest (their gates multiply).
        `where` names the roles of the tokens to act on, one or several of "template", "claim", "post-claim" and
        "response" (`mechgate.model.roles`); the others' z stays as it is. None is every token.
        `observe` is called with every layer's g - 1 [batch, pos, units] as it is computed, wherever it acts.
        Raises `ModelError` on a model of another shape, `InputError` for a strength that is not finite, for unknown
        roles and for conversations that do not say where their claim is, `HookError` if the model was not run inside
        the block, or, with `where`, by something that does not know roles (only what scores answers does).
        """
        with hooking.attached(model, dict(self._hooks(model, strength, observe, where))) as firings:
            yield firings

    def fwd_hooks(self, model: Any, strength: float = 1.0) -> list[tuple[str, Callable[..., Any]]]:
        """The same gating as a list for TransformerLens: `model.run_with_hooks(tokens, fwd_hooks=...)`."""
        hooks = self._hooks(model, strength)
        hooking.resolve(model, [name for name, _ in hooks])
        return [(name, lambda value, hook, f=function: f(value)) for name, function in hooks]

    def _hooks(
        self,
        model: Any,
        strength: float,
        observe: Callable[[torch.Tensor], None] | None = None,
        where: str | Collection[str] | None = None,
    ) -> list[tuple[str, hooking.Hook]]:
        self.check_fits(model)
        roles = None if where is None else check_where(where)
        total = check_strength(strength) * self.scale
        hooks: list[tuple[str, hooking.Hook]] = []
        for site in self.sites:
            hooks += _pair(site, self.gate(site.layer), total, observe, roles)
        return hooks

    def check_fits(self, model: Any) -> None:
        """Raise `ModelError` unless the model has the shape these gates were made for."""
        check_gateable(model, allow_post_norm=True)
        if differences := self.shape.differences(shape_of(model)):
            raise ModelError("these gates were made for a model of another shape", got="; ".join(differences))

    def save(self, path: "str | Path") -> "Path":
        """Write everything to one safetensors file; see `mechgate.gates.storage`."""
        from mechgate.gates.storage import save_gates

        return save_gates(self, path)

    def __repr__(self) -> str:
        form = {"linear": "g = 2*sigmoid(Wx + b)", "static": "g = 2*sigmoid(b)"}[self.input]
        rank = f", rank {self.rank}" if self.rank else ""
        where = f"{len(self.layers)} of {self.shape.n_layers} layers"
        trained = self.history.get("config", {}).get("objective")
        return (
            f"GateSet({form}{rank}; one value a {self.granularity}; {where}, {self.shape.n_heads} heads x "
            f"{self.shape.d_head}; {self.n_parameters:,} parameters; scale {self.scale:+g}; "
            f"{'trained: ' + trained if trained else self.history.get('null', 'untrained')}; "
            f"for {self.made_for.get('name', 'an unknown model')})"
        )


def _pair(
    site: Site,
    gate: Gate,
    strength: float,
    observe: Callable[[torch.Tensor], None] | None,
    roles: frozenset[str] | None,
) -> list[tuple[str, hooking.Hook]]:
    """The hook that takes the gate's input and the hook that writes z."""
    kept: list[torch.Tensor] = []

    def read(x: torch.Tensor) -> None:
        kept.append(x)

    def scale(z: torch.Tensor) -> torch.Tensor:
        x = kept.pop()  # pop, so that a block that did not run fails here rather than gating with an old input
        delta = gate.delta(x)
        if observe is not None:
            observe(delta)
        if roles is not None:
            delta = delta * selected(roles, z.shape[:2])[..., None]
        return write(z, delta, strength)

    return [(site.read, read), (site.write, scale)]
