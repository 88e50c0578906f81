"""Do the gates select, or damp whatever is there? The referee's verdict with its three figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechgate.gates.sources import Source
from mechgate.questions.place import Place, model_words
from mechgate.referee import SelectivityReport, SelectivitySettings, selectivity
from mechgate.report.selectivity_figures import draw_dose, draw_nulls, draw_plane

NAME = "selectivity"
_SIDES = ("False claims (wanted)", "True claims (unwanted)")


def judged(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    hosts: Mapping[str, Any] | None = None,
    controls: Mapping[str, Sequence[Source]] | None = None,
    settings: SelectivitySettings | None = None,
    place: Place,
) -> SelectivityReport:
    """`referee.selectivity`, written and drawn at `place`: NAME-dose, NAME-plane and NAME-nulls."""
    chosen = settings or SelectivitySettings()
    report = selectivity(model, gates, hosts, controls, settings=chosen, folder=place.tables, say=place.say)
    report.save((place.results or place.tables) / f"{NAME}.json")
    draw(report.numbers, place.picture(NAME).parent, told=model_words(model))
    return report


def draw(numbers: dict[str, Any], folder: Path, *, told: str) -> list[Path]:
    """The dose curves, the efficacy-damage plane and the null histograms of a verdict's numbers (the last only where null
    families were drawn); `told` begins the captions."""
    base, strength, controls = numbers["contexts"]["base"], numbers["settings"]["strength"], numbers["controls"]
    trained = (
        f"{sum(map(len, controls.values()))} control sets of {len(controls)} tasks." if controls else "no controls."
    )
    start = f"{told}. {len(base['nulls']['learned'])} gate set(s) of one recipe, each drawing facts, wordings and order anew; {trained}"
    facts = base["plane"]["facts"]
    made = draw_dose(
        base,
        folder / f"{NAME}-dose.png",
        names=_SIDES,
        caption=f"{start} Means over sets and {facts}\nunseen facts in unseen wordings, with 95% hierarchical bootstrap "
        "intervals; controls: means over sets; band: range of one row-sign null a gate set.\ns = +1 trained, 0 no gate, -1 "
        "inverted. Odd part (f(s) - f(-s))/2, even part (f(s) + f(-s))/2 - f(0): to first order any gate is odd.",
    )
    made += draw_plane(
        base,
        strength,
        folder / f"{NAME}-plane.png",
        names=_SIDES,
        caption=f"{start} Learned gates and controls: means over {facts} facts.\na: null gates of equal RMS(g - 1), "
        f"means over {base['nulls']['facts']} of these facts. b: nulls (one a family and set) and controls at the "
        "strength, up to 20, where KL(base || gated)\non neutral text equals the learned gates'. Points on A = E turn "
        "agreement as such.",
    )
    if base["nulls"]["families"]:
        made += draw_nulls(
            base["nulls"],
            folder / f"{NAME}-nulls.png",
            caption=f"{start} s = {strength:+g}; exact: means over {base['nulls']['facts']} facts,\nall sets' draws; first order: "
            f"one gradient pass over {facts} facts (families computed draw by draw: the exact draws' facts), first gate set. "
            "r and p are the first set's.\np: coherence (were the parts learned together?), not selectivity.",
        )
    return made
