"""What gates read and multiply on neutral tokens: collected by one forward without gates, used for many null gates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mechgate.errors import InputError
from mechgate.model import hooking
from mechgate.model.prompts import PAD, Batch
from mechgate.model.scoring import final_hidden
from mechgate.model.sites import Shape, all_sites, check_gateable, output_projection, shape_of


@dataclass(frozen=True, kw_only=True, eq=False)
class NeutralInputs:
    """The attention blocks' inputs and outputs on neutral tokens; pads are left out.

    `x[layer]` [tokens, d_model]: what a gate reads. `z[layer]` [tokens, head, d_head]: what it multiplies. Both in
    the model's dtype. `w_o[layer]` fp32 [d_z, d_model]: the output projection, so that z w_o is the attention output
    without its bias. `row`, `position` and `branch`, all [tokens]: the row of the batches a token stands in, its
    position there, and its answer's number (0 on the prompt). `group` is how many heads share keys and values.
    """

    shape: Shape
    group: int
    x: dict[int, torch.Tensor]
    z: dict[int, torch.Tensor]
    w_o: dict[int, torch.Tensor]
    row: torch.Tensor
    position: torch.Tensor
    branch: torch.Tensor

    @property
    def n_tokens(self) -> int:
        return len(self.row)

    @property
    def n_rows(self) -> int:
        return int(self.row.max()) + 1

    def check_fits(self, shape: Shape, layers: Sequence[int]) -> None:
        """Raise `InputError` unless they were collected on a model of this shape, at all these layers."""
        if differences := self.shape.differences(shape):
            raise InputError("the neutral inputs come from a model of another shape", got="; ".join(differences))
        if missing := sorted(set(layers) - set(self.x)):
            raise InputError(
                "the neutral inputs lack layers that are gated",
                got=missing,
                allowed=sorted(self.x),
                do="collect them for the gates' layers: neutral_inputs(model, batch, gates.layers)",
            )


def neutral_inputs(model: Any, batch: Batch | Sequence[Batch], layers: Sequence[int] | None = None) -> NeutralInputs:
    """Run `batch` (one or several) once as it is and keep what gates at `layers` (default: all) would read and scale.

    Attach no gates around the call. A prefix that the rows share counts once for each row. Raises `InputError` where
    there is no batch, `ModelError` for a model that cannot be gated.
    """
    batches = [batch] if isinstance(batch, Batch) else list(batch)
    if not batches or not all(isinstance(b, Batch) for b in batches):
        raise InputError(
            "neutral tokens must be a Batch or a list of them",
            got=type(batch).__name__ if batches else "an empty list",
            do="use mechgate.model.prompts: collate([encode_text(model, text) for text in texts])",
        )
    check_gateable(model, allow_post_norm=True)
    sites = all_sites(model, None if layers is None else list(layers))
    kept: dict[str, list[torch.Tensor]] = {name: [] for site in sites for name in (site.read, site.write)}
    where: list[torch.Tensor] = []
    device = next(model.original_model.parameters()).device
    for one in batches:
        real = (one.branch != PAD).to(device)

        def keep(value: torch.Tensor, name: str, real: torch.Tensor = real) -> None:
            kept[name].append(value[real].detach())

        hooks: dict[str, hooking.Hook] = {name: lambda value, name=name, keep=keep: keep(value, name) for name in kept}
        with torch.no_grad(), hooking.attached(model, hooks):
            final_hidden(model, replace(one, prefix=0))  # in one piece, so that each token passes a hook once
        start = 0 if not where else int(where[-1][0, -1]) + 1
        where.append(torch.stack([real.nonzero()[:, 0] + start, one.positions[real], one.branch[real]]))
    row, position, branch = torch.cat(where, dim=1)
    return NeutralInputs(
        shape=shape_of(model),
        group=heads_a_group(model),
        x={site.layer: torch.cat(kept[site.read]) for site in sites},
        z={site.layer: torch.cat(kept[site.write]) for site in sites},
        w_o={site.layer: output_projection(model, site.layer) for site in sites},
        row=row,
        position=position,
        branch=branch,
    )


def heads_a_group(model: Any) -> int:
    """How many query heads share one head of keys and values: 1 without grouped queries."""
    return model.cfg.n_heads // (getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads)
