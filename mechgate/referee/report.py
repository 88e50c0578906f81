"""What `selectivity` returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechgate.report.results import write_result
from mechgate.stats.selectivity import Verdict

QUESTION = "Do the gates select what they are wanted to act on, or damp whatever is there?"


@dataclass(frozen=True, kw_only=True)
class SelectivityReport:
    """A verdict for each context ("base", the gated model, and every host by name), and every number behind it.

    `numbers` holds plain JSON values; changes and margins are in nats, KL in nats a token. `hashes` identify the model
    and all gate sets.
    """

    verdicts: dict[str, Verdict]
    numbers: dict[str, Any]
    hashes: dict[str, Any]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the gated model itself."""
        return self.verdicts["base"]

    def save(self, path: str | Path) -> Path:
        """Write everything, with provenance, as one JSON file (`mechgate.report.results`)."""
        return write_result(
            path, question=QUESTION, numbers=self.numbers, settings=self.numbers["settings"], hashes=self.hashes
        )

    def __str__(self) -> str:
        """The verdicts in words, with their reasons and what would change them."""
        parts = []
        for name, verdict in self.verdicts.items():
            lines = [f"{name}: {verdict.outcome}"]
            lines += [f"  because {reason}" for reason in verdict.reasons]
            lines += [f"  would change with {wish}" for wish in verdict.would_change]
            parts.append("\n".join(lines))
        return "\n".join(parts)
