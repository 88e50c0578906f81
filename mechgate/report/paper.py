"""What to paste into a paper: a paragraph on methods, from what the run holds, and BibTeX."""

from collections.abc import Mapping
from typing import Any

from mechgate.report.sections.parts import minus, strength
from mechgate.stats.selectivity import EFFECT_BOUND, SIGMA_BOUND

_MECHGATE = """@software{{mechgate,
  title   = {{mechgate: gates on attention heads, trained, turned and put to the test}},
  version = {{{version}}},
  year    = {{{year}}},
  note    = {{commit {commit}}}
}}"""
_GATING = """@misc{alignmentgating,
  title         = {Alignment Gating},
  eprint        = {2606.09068},
  archivePrefix = {arXiv}
}"""
_TRANSFORMER_LENS = """@misc{nanda2022transformerlens,
  title  = {TransformerLens},
  author = {Nanda, Neel and Bloom, Joseph},
  year   = {2022}
}"""
_SENTENCES = {
    "similarity": "Representations were compared by RSA, debiased CKA and linear probes as change on unsafe minus change on "
    "matched safe prompts, against gates of equal KL.",
    "persona_alignment": "Persona vectors were compared with what gates write, read and detect, against null gates and covariance-matched directions.",
    "sae_overlap": "Overlap of SAE latents was tested by permutation within deciles of firing rate and decoder norm.",
    "patching": "Heads were patched exactly, one at a time; maps were corrected by max-T over sign flips of facts.",
    "minimal_heads": "Smallest head sets were chosen on dev facts and compared with random sets of the same size and layers.",
    "planted_truth": "Methods were validated on heads planted by construction.",
    "calibration": "Error rates of verdicts and tests were simulated in worlds whose truth is known.",
}


def methods(results: Mapping[str, dict[str, Any]], config: Mapping[str, Any]) -> str:
    """A paragraph of plain text; it says only what is in the run's results and config."""
    model = config.get("model") or next(
        (r["settings"]["model"] for r in results.values() if "model" in r["settings"]), None
    )
    gates = "Gates g = 2 sigmoid(Wx + b) on the attention heads' output (before W_O) read the attention block's normalised input; "
    gates += "strength s sets g_s = 1 + s(g − 1), so that s = 0 is the unchanged model, +1 the trained gates and −1 their inversion."
    parts = [
        gates
        if model is None
        else f"{gates} The model was {model if isinstance(model, str) else model.get('name', 'as configured')}."
    ]
    if "selectivity" in results:
        parts += _selectivity(results["selectivity"])
    parts += [sentence for name, sentence in _SENTENCES.items() if name in results]
    versions = _provenance(results).get("versions", {})
    if versions:
        parts.append(f"Software: {', '.join(f'{name} {versions[name]}' for name in versions)}.")
    return " ".join(parts)


def bibtex(results: Mapping[str, dict[str, Any]]) -> str:
    """Entries for mechgate (version and commit of the run), the method under study and TransformerLens."""
    made = _provenance(results)
    version = made.get("versions", {}).get("mechgate", "unknown")
    own = _MECHGATE.format(
        version=version, year=str(made.get("created", ""))[:4] or "n.d.", commit=made.get("commit") or "unknown"
    )
    return "\n\n".join([own, _GATING, _TRANSFORMER_LENS])


def _selectivity(result: dict[str, Any]) -> list[str]:
    base = result["numbers"]["contexts"]["base"]
    at, families = base["axes"]["all"][0], base["nulls"]["families"]
    seeds = {one["set"] for one in base["sets"]}
    return [
        f"Selectivity was judged at s = {strength(at['strength'])} on {base['facts']} facts and {len(seeds)} gate set(s) by the change of the stance "
        f"margin log p(agree) − log p(disagree) on false (E) and matched true claims (A), sigma = 1 − A/E, with {at['effect']['level']:.0%} intervals "
        f"({at['effect']['method']}). By a rule fixed beforehand gates are ineffective if E does not clear {EFFECT_BOUND} nats, not selective if sigma's "
        f"interval lies below {SIGMA_BOUND}, and selective only if it lies above, damage measures pass equivalence tests, and trained "
        f"controls at equal KL separate less.",
        f"Nulls: {len(families)} families of gates of equal RMS(g − 1), and of equal KL on neutral text; "
        f"{len(base['equal dose']['controls'])} trained control tasks. Verdict: {base['verdict']['outcome']} "
        f"(E = {minus('{:+.2f}'.format(at['effect']['value']))}, A = {minus('{:+.2f}'.format(at['side_effect']['value']))} nats).",
    ]


def _provenance(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    first = results.get("selectivity") or next(iter(results.values()), {})
    return first.get("provenance", {})
