"""Laws of persona vectors' files: what is written is read again exactly, and nothing is off by one unnoticed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechgate.errors import DataError, InputError, ModelError, StorageError
from mechgate.measure.personas import PersonaVectors, read_personas, read_sidecar, save_personas, vector_file
from mechgate.model.sites import Shape

SHAPE = Shape(n_layers=3, n_heads=2, d_head=4, d_model=8)


def made(shape: tuple[int, ...] = (4, 8), **more: object) -> PersonaVectors:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return PersonaVectors(**{"trait": "evil", "variant": "response_avg", "vectors": values, **more})  # type: ignore[arg-type]


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    one = made(n=100, model="abc")
    path = save_personas(one, tmp_path, steers=True)
    assert path == tmp_path / "evil_response_avg_diff.pt"
    again = read_personas(path, SHAPE)
    np.testing.assert_array_equal(again.vectors, one.vectors)
    for name in ("trait", "variant", "n", "model", "normed_end"):
        assert getattr(again, name) == getattr(one, name)
    assert read_sidecar(path)["steers"] is True
    assert torch.equal(torch.load(path, weights_only=True), torch.from_numpy(one.vectors))


def test_places_are_named_and_not_counted() -> None:
    one = made()
    np.testing.assert_array_equal(one.before_block(0), one.vectors[0])
    for layer in range(3):
        np.testing.assert_array_equal(one.after_block(layer), one.vectors[layer + 1])
    for layer in range(2):
        np.testing.assert_array_equal(one.after_block(layer), one.before_block(layer + 1))
    for ask in (one.after_block, one.before_block):
        with pytest.raises(InputError, match="evil has no"):
            ask(3)


def test_published_vectors_end_behind_the_final_norm(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(made().vectors).to(torch.bfloat16), tmp_path / "evil_prompt_last_diff.pt")
    found = read_personas(vector_file(tmp_path, "evil", "prompt_last"), SHAPE)
    assert (found.normed_end, found.blocks, found.n) == (True, (0, 1), None)
    assert found.vectors.dtype == np.float32
    with pytest.raises(InputError, match="final norm"):
        found.after_block(2)


def test_one_vector_too_few_is_one_clear_error(tmp_path: Path) -> None:
    path = save_personas(made((3, 8)), tmp_path)
    with pytest.raises(ModelError, match=r"\[3, 8\].*\[4, 8\].*off by one"):
        read_personas(path, SHAPE)
    with pytest.raises(ModelError, match="do not fit"):
        made((4, 7)).check_fits(SHAPE)


def test_anything_else_is_an_error(tmp_path: Path) -> None:
    path = vector_file(tmp_path, "evil")
    with pytest.raises(StorageError, match="cannot be read"):
        read_personas(path)
    for value in ({"a": 1}, torch.arange(8).view(4, 2), torch.ones(4), torch.full((4, 8), float("nan"))):
        torch.save(value, path)
        with pytest.raises(DataError, match="vector"):
            read_personas(path)
    torch.save(made(), path)
    with pytest.raises(DataError, match="no tensor"):
        read_personas(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no tensor"):
        read_personas(path)
    save_personas(made(), tmp_path).with_suffix(".json").write_text("{}")
    with pytest.raises(DataError, match="beside"):
        read_personas(path)
    with pytest.raises(InputError, match="does not say"):
        read_personas(tmp_path / "evil.pt")
    with pytest.raises(InputError, match="variant"):
        made(variant="somewhere")
