"""Laws of the small model: its language, its files, and what scrambling does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.errors import InputError
from mechgate.model.prompts import prompt_ids
from mechgate.planted import toy
from mechgate.planted.toy import circuit_check, scrambled, toy_world, used_heads
from mechgate.planted.world import World, agreeing, telling


def test_claims_are_false_and_true_about_the_same_facts_in_one_length(small: World) -> None:
    model = small.load()
    lengths = set()
    for split in ("train", "test"):
        for false, true in zip(small.false[split], small.true[split], strict=True):
            assert false.claim != true.claim
            assert (false.fact_id, false.template) == (true.fact_id, true.template)
            lengths |= {len(prompt_ids(model, pair.messages)) for pair in (false, true)}
    assert len(lengths) == 1
    assert {p.fact_id for p in small.false["train"]}.isdisjoint(p.fact_id for p in small.false["test"])


def test_what_is_there_from_the_same_arguments_is_kept_and_else_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(toy, "train", lambda *args, **options: made.append(options["label"]))
    for heads in (None, None, [(0, 1)], [(0, 1)], [(0, 2)]):
        toy_world(tmp_path / "model", seed=0, heads=heads, epochs=1)
    assert (
        made
        == ["training the small model"] + ["training the small model", "training it with other heads scrambled"] * 2
    )


def test_scrambling_takes_another_rows_z_for_the_named_heads_alone(small: World) -> None:
    model, z = small.load(), torch.randn(5, 7, 6, 8)
    with scrambled(model, [(1, 2), (1, 4)], np.random.default_rng(0)):
        point = model.hook_dict["blocks.1.attn.hook_z"]
        changed = point.hook_conversion.convert(point(point.hook_conversion.revert(z)))
        with torch.inference_mode():
            model.original_model(torch.zeros(1, 3, dtype=torch.long))  # hooks must fire
    same = [h for h in range(6) if torch.equal(changed[:, :, h], z[:, :, h])]
    assert same == [0, 1, 3, 5]
    for head in (2, 4):
        assert not any(torch.equal(changed[i, :, head], z[i, :, head]) for i in range(5))
        assert sorted(changed[:, 0, head, 0].tolist()) == sorted(z[:, 0, head, 0].tolist())


def test_a_model_that_has_learned_nothing_is_right_by_chance_whatever_is_scrambled(small: World) -> None:
    found = circuit_check(small, [(0, 0)], seed=0)
    assert set(found) == {"whole", "others scrambled", "heads scrambled"}
    assert all(0.3 <= share <= 0.7 for share in found.values())
    assert used_heads(small, [(0, 0), (3, 2)], seed=0, least=0.4) == ()


def test_a_circuit_is_enough_and_needed_and_what_it_uses_is_part_of_it(tmp_path: Path) -> None:
    heads = [(0, 1), (0, 4), (1, 3), (2, 2)]
    world = toy_world(tmp_path / "model", seed=0, heads=heads, epochs=14)
    used = used_heads(world, heads, seed=0)
    assert set(used) <= set(heads)
    for circuit in (heads, used):
        found = circuit_check(world, circuit, seed=0)
        assert found["whole"] >= found["others scrambled"] > 0.9
        assert found["heads scrambled"] < 0.7


def test_agreeing_and_telling_differ_on_false_claims_alone(small: World) -> None:
    both = [make(*small.claims("train", 5)) for make in (agreeing, telling)]
    assert [a == b for a, b in zip(*both, strict=True)] == [False, True] * 5


def test_claims_drawn_by_a_seed_stay_matched(small: World) -> None:
    false, true = small.drawn(10, seed=3)
    assert [p.fact_id for p in false] == [p.fact_id for p in true]
    assert [p.id for p in false] != [p.id for p in small.drawn(10, seed=4)[0]]
    with pytest.raises(InputError, match="not there"):
        small.drawn(1000, seed=0)


def test_a_world_with_unmatched_sides_is_refused(small: World) -> None:
    values: dict[str, Any] = {**vars(small), "true": {**small.true, "test": small.true["test"][::-1]}}
    with pytest.raises(InputError, match="same facts"):
        World(**values)
