"""Attaching the gates of all 30 layers (60 hooks): what entering and leaving the block costs."""

import statistics
import time

from benchmarks.timing import Line
from mechgate.gates.gateset import GateSet
from mechgate.model import hooking
from mechgate.model.loading import load_model

REPEATS = 50


def run() -> list[Line]:
    """Milliseconds for one enter and exit, beside TransformerLens' own context."""
    model = load_model()
    gates = GateSet.identity(model)
    ours = {name: (lambda value: None) for site in gates.sites for name in (site.read, site.write)}
    theirs = gates.fwd_hooks(model, 1.0)

    def enter_ours() -> None:
        with hooking.attached(model, ours, must_fire=False):
            pass

    def enter_theirs() -> None:
        with model.hooks(fwd_hooks=theirs):
            pass

    enter_ours(), enter_theirs()
    times = [_milliseconds(enter_ours) for _ in range(REPEATS)]
    reference = [_milliseconds(enter_theirs) for _ in range(3)]
    median = statistics.median(times)
    value = f"{median:.2f} ms (TransformerLens' hooks(): {statistics.median(reference):.0f} ms)"
    return [Line(what="attaching and removing 60 hooks", value=value, bound="< 2 ms", met=median < 2)]


def _milliseconds(action) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3
