"""What a similarity analysis measures, on what, and by which margins it is judged."""

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mechgate.analysis.probing import MARGIN as PROBE_MARGIN
from mechgate.analysis.similarity import MARGIN
from mechgate.data.factorial import Factorial, claims_design, responses_design
from mechgate.errors import InputError
from mechgate.gates.nulls import FAMILIES
from mechgate.measure.activations import POSITIONS


class SimilaritySettings(BaseModel):
    """Settings of `representation.similarity`; unknown names are errors.

    `facts` and `phrasings` make the claims' design, `questions` that of harmful and aligned responses (0: without); both
    from `split` but the responses, on which no shipped task trains the judged gates, from `questions_split`. `positions`:
    token roles, where a design has them. `layers`: None is all. `folds`: of disjoint facts, for crossnobis and probes.
    `null_draws` a gate set and family, each at the strength where it moves the first `neutral_texts` neutral texts as
    far as the gates do (KL), as controls are. The families break what gates read: sign flips and permutations of what they
    write open on the same tokens as the gates, and so would change the same side more. `permutations` of sides within facts; `draws` of intervals and of
    sign flips; `probe_controls`: control tasks of probes. `margin`, `probe_margin`: see `analysis.similarity.judged` and
    `analysis.probing.probe_numbers`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strengths: tuple[float, ...] = (-1.0, 1.0)
    positions: tuple[str, ...] = ("last", "claim", "response")
    layers: tuple[int, ...] | None = None
    facts: int = Field(default=54, ge=1)
    phrasings: int = Field(default=2, ge=1)
    split: str = "test"
    questions: int = Field(default=104, ge=0)
    questions_split: str = "all"
    folds: int = Field(default=3, ge=2)
    null_families: tuple[str, ...] = ("gaussian", "static-mean", "dampener")
    null_draws: int = Field(default=1, ge=0)
    neutral_texts: int = Field(default=8, ge=1)
    permutations: int = Field(default=10_000, ge=19)
    draws: int = Field(default=2_000, ge=100)
    probe_controls: int = Field(default=2, ge=1)
    margin: float = Field(default=MARGIN, gt=0, lt=2)
    probe_margin: float = Field(default=PROBE_MARGIN, gt=0, lt=0.5)
    seed: int = 0

    @field_validator("null_families")
    @classmethod
    def _families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - set(FAMILIES):
            raise ValueError(f"unknown null families {sorted(unknown)}; allowed: {', '.join(FAMILIES)}")
        return tuple(dict.fromkeys(value))

    @field_validator("positions")
    @classmethod
    def _positions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(POSITIONS):
            raise ValueError(f"token roles must be some of {', '.join(POSITIONS)}")
        return tuple(dict.fromkeys(value))

    @field_validator("strengths")
    @classmethod
    def _strengths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not np.isfinite(value).all() or 0.0 in value:
            raise ValueError("strengths must be finite numbers other than 0, which is measured anyway")
        return tuple(sorted(set(value)))

    def designs(self) -> list[Factorial]:
        """The shipped designs."""
        found = [claims_design(facts=self.facts, phrasings=self.phrasings, split=self.split)]
        if self.questions:
            found.append(responses_design(questions=self.questions, split=self.questions_split))
        return found


def settings_of(**values: Any) -> SimilaritySettings:
    """`SimilaritySettings`, with what pydantic finds as one `InputError`."""
    try:
        return SimilaritySettings(**values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise InputError("the settings of the similarity analysis cannot be used", got=found) from error
