from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from runtimes.embeddings.pooling import Pooling, read_pooling
from runtimes.errors import SetupError

# Two sequences of hidden size 2, of three tokens and of two.
HIDDEN = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0], [2.0, 2.0], [4.0, 6.0]])
LENGTHS = [3, 2]


def write_modules(folder: Path, *kinds: str, **pooling: bool) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": f"{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "Pooling").mkdir()
    (folder / "Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 2, **pooling}))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("pooling_mode_mean_tokens", [[3.0, 2.0], [3.0, 4.0]]),
        ("pooling_mode_cls_token", [[1.0, 2.0], [2.0, 2.0]]),
        ("pooling_mode_lasttoken", [[5.0, 0.0], [4.0, 6.0]]),
        ("pooling_mode_max_tokens", [[5.0, 4.0], [4.0, 6.0]]),
    ],
)
def test_each_sequence_is_pooled_by_itself(mode: str, expected: list[list[float]]) -> None:
    assert Pooling(mode=mode)(HIDDEN, LENGTHS).tolist() == expected


def test_normalized_vectors_have_length_one() -> None:
    vectors = Pooling(normalize=True)(HIDDEN, LENGTHS)

    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


def test_it_reads_the_folder_of_a_real_model(minilm_folder: Path) -> None:
    assert read_pooling(minilm_folder) == Pooling(
        mode="pooling_mode_mean_tokens", normalize=True, max_tokens=256
    )


def test_a_folder_without_modules_means_the_mean(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == Pooling(mode="pooling_mode_mean_tokens", normalize=False)


def test_it_refuses_a_module_it_would_have_to_leave_out(tmp_path: Path) -> None:
    write_modules(tmp_path, "Transformer", "Pooling", "Dense", pooling_mode_mean_tokens=True)

    with pytest.raises(SetupError, match="has a Dense module"):
        read_pooling(tmp_path)


@pytest.mark.parametrize(
    "modes",
    [
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {},
    ],
    ids=["an unknown one", "two joined", "none"],
)
def test_it_refuses_a_pooling_it_does_not_know(tmp_path: Path, modes: dict[str, bool]) -> None:
    write_modules(tmp_path, "Transformer", "Pooling", **modes)

    with pytest.raises(SetupError, match="asks for"):
        read_pooling(tmp_path)
