"""Ten thousand screened nulls against three training steps, and against exact evaluations of as many."""

from benchmarks.timing import Line, paired, speed_line
from benchmarks.training import demo_batch, our_step, started_gates
from mechgate.analysis.attribution import screen
from mechgate.analysis.screening import screened_flips
from mechgate.data.tasks import load_pairs
from mechgate.measure.margins import stance_margins
from mechgate.model.loading import load_model

DRAWS = 10_000
PROMPTS = 8
REPEATS = 3


def run() -> list[Line]:
    """What flips add to one gradient pass, beside training steps; and one exact null beside the whole screen."""
    model = load_model(dtype="float32")
    gates, rows = started_gates(model), demo_batch(model)
    pairs = load_pairs("sycophancy", "medical", "test", phrasings=1)[:PROMPTS]
    kept = screen(model, pairs, label=None)

    def steps() -> None:
        gates.requires_grad_(True)
        for _ in range(3):
            our_step(model, gates, rows)
        gates.requires_grad_(False)

    def flips() -> None:
        screened_flips(kept.units(gates).mean(axis=0).ravel(), draws=DRAWS, seed=0)

    def exact() -> None:
        with gates.attached(model, -1.0):
            stance_margins(model, pairs, label=None)

    def whole() -> None:
        screen(model, pairs, label=None)
        flips()

    added = speed_line(
        f"three training steps over {DRAWS:,} screened sign flips", paired(steps, flips, REPEATS), 1.0, REPEATS
    )
    fastest, _ = paired(exact, whole, REPEATS)
    saved = Line(
        what=f"{DRAWS:,} exact nulls on {PROMPTS} prompts over gradients and screen",
        value=f"{DRAWS * fastest:,.0f}x (one exact null: {fastest:.2f} of the screen)",
        bound="",
        met=None,
    )
    return [added, saved]
