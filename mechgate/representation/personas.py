"""Do gates work along persona vectors? Extracted, checked by steering, and compared with what gates write, read and detect."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mechgate.analysis.personas import Direction, Nulls, read_side, verdicts, write_side
from mechgate.data.traits import load_trait
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.reading import mean_drives, read_directions
from mechgate.measure.traits import GATE_INPUT, READ, TraitStates
from mechgate.model.sites import shape_of
from mechgate.representation.persona_tables import PersonaSettings, PersonaTables
from mechgate.stages import Stages
from mechgate.stats.detection import detection
from mechgate.stats.directions import cosines
from mechgate.stats.estimates import bootstrap_mean
from mechgate.stats.permutation import p_from_null

QUESTION = "Do the gates write along persona vectors, or read them, more than null gates and null directions do?"
CLAIMS = "false against true claims"
ALPHA = 0.05


def personas(
    model: Any,
    gates: Mapping[str, GateSet],
    *,
    settings: PersonaSettings | None = None,
    folder: str | Path,
    hosts: Mapping[str, Any] | None = None,
    controls: Mapping[str, GateSet] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Numbers of the comparison, as plain JSON values; tables and vectors (public format) are kept in `folder` and reused.

    `gates`: seeds of one recipe. `hosts`: models of the same shape that misbehave; host minus base on other facts is a
    direction beside the traits'. `controls`: gates trained on something else, judged in the same way.

    `directions`: what is known of each (rows, length, halves, steering); `between`: cosines of vectors at the middle
    layer; `write`, `read` (by gate set, then direction), `detect` (by gate set), with nulls for gates and controls,
    values alone for null gates; `verdicts` (`analysis.personas.verdicts`) of gates and controls. Raises `InputError`
    for no gates, for names that two of gates and controls share, and for fewer than 32 facts.
    """
    chosen, controls = settings or PersonaSettings(), dict(controls or {})
    if not gates or set(gates) & set(controls):
        raise InputError("persona vectors need gates, and other names for controls", got=[*gates, *controls])
    desk = PersonaTables(model, gates, dict(hosts or {}), controls, chosen, Stages(folder, say))
    traits = [load_trait(name) for name in chosen.traits]
    states = {trait.name: desk.states(trait) for trait in traits}
    pool, read_pool = desk.pool(states)
    steering: dict[str, Any] = {}
    directions: list[Direction] = []
    for trait in traits:
        vector = states[trait.name].differences(next(iter(READ)))[:, desk.steer_layer + 1].mean(axis=0)
        rows = desk.steered(trait, vector, pool[:, desk.steer_layer])
        steering[trait.name] = _steering(rows, chosen.seed)
        directions.append(desk.trait_direction(trait, states[trait.name], steering[trait.name]["steers"]))
    directions += [desk.host_direction(host) for host in desk.hosts]
    described = {one.name: one.described(seed=chosen.seed) for one in directions}
    for name, found in steering.items():
        described[name] |= {"steering": found, "empty replies": states[name].empty}
    nulls = Nulls(write=pool, read=read_pool, draws=chosen.permutations, seed=chosen.seed)
    numbers: dict[str, Any] = {
        "settings": chosen.model_dump(mode="json"),
        "facts": len(desk.sides["false"]),
        "layers": shape_of(model).n_layers,
        "steer layer": desk.steer_layer,
        "gates": list(gates),
        "controls": list(controls),
        "nulls": list(desk.nulls),
        "directions": described,
        "between": _between(directions, desk.steer_layer),
    }
    write: dict[str, Any] = {}
    true: dict[str, Any] = {}
    read: dict[str, Any] = {}
    detect: dict[str, Any] = {}
    for arm, one in desk.arms.items():
        beside = None if arm in desk.nulls else nulls
        write[arm] = write_side(desk.moved(arm, "false"), directions, beside)
        true[arm] = write_side(desk.moved(arm, "true"), directions, None)
        read[arm] = read_side(read_directions(one, chosen.directions), directions, beside)
        if beside is not None:
            detect[arm] = _detected(desk, one, states)
    numbers |= {"write": write, "write, true claims": true, "read": read, "detect": detect}
    main = {arm: {one.name: write[arm][one.name][one.variant] for one in directions} for arm in write}
    # Flipping units' signs leaves W's right-singular vectors as they are: no null of what is read.
    readers = [name for name in desk.nulls if not name.startswith("row-sign")]
    numbers["verdicts"] = {
        arm: {
            "write": verdicts(main[arm], described, [main[name] for name in desk.nulls]),
            "read": verdicts(read[arm], described, [read[name] for name in readers], side="read"),
        }
        for arm in (*gates, *controls)
    }
    return numbers


def _steering(rows: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether a vector moves the trait's margin on held-out questions: its interval above 0, and beyond null directions."""
    shift = bootstrap_mean(rows[0], np.arange(rows.shape[1]), seed=seed)
    null = rows[1:].mean(axis=1)
    p = p_from_null(shift.value, null, alternative="greater")
    return {"shift": shift.to_json(), "null": null.tolist(), "p": p, "steers": bool(shift.low > 0 and p <= ALPHA)}


def _between(directions: list[Direction], layer: int) -> dict[str, dict[str, float]]:
    """Cosine of every two vectors behind one block."""
    vectors = {one.name: one.write[one.variant][:, layer].mean(axis=0, dtype=np.float64) for one in directions}
    return {a: {b: float(cosines(v, w)) for b, w in vectors.items()} for a, v in vectors.items()}


def _detected(desk: PersonaTables, gates: GateSet, states: Mapping[str, TraitStates]) -> dict[str, Any]:
    """AUROC of how hard gates are driven, by layer: false against true claims at the last token, and each trait's replies
    for against those against it (of a reply's mean input, averaged over a question's system messages)."""
    sides = [desk.claims("", side)[GATE_INPUT, "last"] for side in ("false", "true")]
    cases = {CLAIMS: sides} | {name: list(one.read[next(iter(READ))]) for name, one in states.items()}
    together = {name: one.questions for name, one in states.items()}
    draws, seed = desk.settings.permutations, desk.settings.seed
    found: dict[str, Any] = {}
    for name, both in cases.items():
        drives = [mean_drives(gates, side) for side in both]
        if name in together:  # labels are exchanged by question
            drives = [
                np.stack([d[together[name] == q].mean(axis=0) for q in np.unique(together[name])]) for d in drives
            ]
        whole = [d.mean(axis=1, keepdims=True) for d in drives]
        one = detection(drives[0], drives[1], seed=seed, draws=draws).to_json()
        over_layers = detection(whole[0], whole[1], seed=seed, draws=draws).to_json()
        found[name] = {"layers": list(gates.layers), **one, "whole": over_layers}
    return found


def told(numbers: dict[str, Any]) -> list[str]:
    """The findings in words, a line each: what each vector is worth, then what each gate set writes, reads and detects."""
    lines, at = [], numbers["steer layer"]
    for name, one in numbers["directions"].items():
        variant, first = next(iter(one["variants"].items()))
        halves = ", ".join(f"{by} {values[at]:.2f}" for by, values in first["split-half"].items())
        line = f"{name} ({variant}, {one['rows']} rows): halves at layer {at} agree, {halves}"
        if "steering" in one:
            shift = one["steering"]["shift"]
            does = "steers" if one["steering"]["steers"] else "does not steer"
            line += (
                f"; {does}: {shift['value']:+.2f} nats [{shift['low']:+.2f}, {shift['high']:+.2f}], "
                f"p {one['steering']['p']:.2g} among null directions"
            )
        lines.append(line)
    for arm in (*numbers["gates"], *numbers["controls"]):
        for side, verb in (("write", "writes"), ("read", "reads")):
            for name, one in numbers["verdicts"][arm][side].items():
                beside, why = one["largest null gate"], f" ({one['why']})" if one["why"] else ""
                lines.append(
                    f"{arm} {verb} {name}: {one['verdict']}{why}; layer {one['layer']} "
                    f"{one['value']:+.2f}, largest null gate {beside:.2f}, p {one['p']:.2g}"
                )
        for name, one in numbers["detect"][arm].items():
            whole = one["whole"]
            lines.append(
                f"{arm} detects {name}: AUROC {whole['auroc'][0]:.2f} [{whole['low'][0]:.2f}, {whole['high'][0]:.2f}], "
                f"p {whole['p_any']:.2g}"
            )
    return lines
