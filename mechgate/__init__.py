"""mechgate inserts, trains, turns and tests gates on the attention heads of language models.

The names in `__all__` are loaded when they are first used (PEP 562), so that `import mechgate` is quick
and does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "Example",
    "GateSet",
    "MechgateError",
    "Pair",
    "SelectivityReport",
    "SelectivitySettings",
    "TrainConfig",
    "__version__",
    "activations",
    "check_file",
    "four_choice",
    "generate",
    "judge",
    "knowledge",
    "load_gates",
    "load_model",
    "load_pairs",
    "margins",
    "neutral_text",
    "null_gates",
    "patch_heads",
    "save_paper",
    "selectivity",
    "stance_margins",
    "train_gates",
]

_MODULES = {
    "Estimate": "mechgate.stats.estimates",
    "Example": "mechgate.data.pairs",
    "GateSet": "mechgate.gates.gateset",
    "MechgateError": "mechgate.errors",
    "Pair": "mechgate.data.pairs",
    "SelectivityReport": "mechgate.referee.report",
    "SelectivitySettings": "mechgate.referee.design",
    "TrainConfig": "mechgate.train.gates",
    "activations": "mechgate.measure.activations",
    "check_file": "mechgate.data.readers",
    "four_choice": "mechgate.measure.capability",
    "generate": "mechgate.measure.generation",
    "judge": "mechgate.measure.judging.run",
    "knowledge": "mechgate.measure.knowledge",
    "load_gates": "mechgate.gates.storage",
    "load_model": "mechgate.model.loading",
    "load_pairs": "mechgate.data.tasks",
    "margins": "mechgate.measure.margins",
    "neutral_text": "mechgate.measure.capability",
    "null_gates": "mechgate.gates.nulls",
    "patch_heads": "mechgate.measure.patching",
    "save_paper": "mechgate.gates.storage",
    "selectivity": "mechgate.referee.run",
    "stance_margins": "mechgate.measure.margins",
    "train_gates": "mechgate.train.gates",
}

if TYPE_CHECKING:
    from mechgate.data.pairs import Example, Pair
    from mechgate.data.readers import check_file
    from mechgate.data.tasks import load_pairs
    from mechgate.errors import MechgateError
    from mechgate.gates.gateset import GateSet
    from mechgate.gates.nulls import null_gates
    from mechgate.gates.storage import load_gates, save_paper
    from mechgate.measure.activations import activations
    from mechgate.measure.capability import four_choice, neutral_text
    from mechgate.measure.generation import generate
    from mechgate.measure.judging.run import judge
    from mechgate.measure.knowledge import knowledge
    from mechgate.measure.margins import margins, stance_margins
    from mechgate.measure.patching import patch_heads
    from mechgate.model.loading import load_model
    from mechgate.referee.design import SelectivitySettings
    from mechgate.referee.report import SelectivityReport
    from mechgate.referee.run import selectivity
    from mechgate.stats.estimates import Estimate
    from mechgate.train.gates import TrainConfig, train_gates
else:
    # Hidden from type checkers, which would take a module with __getattr__ to have every name there is.
    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
