"""Every standard recipe on a tiny model: compressed, saved, read back, checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.artifacts import ArtifactKind, Input, describe
from tasks.body import METRICS_FILE, BodyContext
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.compress.spec import CompressResult, CompressSpec
from tasks.spec import DeviceKind
from tests.fakes.tiny_model import build_tiny_model

Compress = Callable[..., tuple[CompressResult, Path]]


@pytest.fixture(scope="module")
def compress(
    tiny_model: Path, tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compress]:
    """Runs the body in this process; each distinct call once."""
    import torch

    from tasks.compress.body import main

    done: dict[str, tuple[CompressResult, Path]] = {}

    def run(model: Path = tiny_model, **fields: Any) -> tuple[CompressResult, Path]:
        refs = {
            "model": describe(model, ArtifactKind.MODEL, "tiny"),
            "calibration": describe(tiny_tokens, ArtifactKind.TOKENS, "tokens"),
        }
        paths = {"model": model, "calibration": tiny_tokens}
        inputs = {refs[name].digest: str(path) for name, path in paths.items()}
        given: dict[str, Input] = {**refs, **fields}
        spec = CompressSpec(device_kind=DeviceKind.CPU, **given)
        key = spec.model_dump_json()
        if key not in done:
            out = tmp_path_factory.mktemp("out")
            context = BodyContext(out, out / "checkpoints", inputs)
            result = main(spec, context)
            context.finish(result)
            done[key] = (result, out)
        return done[key]

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a tiny model gains nothing from threads that spin beside others
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the body does, and undone
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        yield run
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize(
    ("recipe", "format_name", "num_quantized"),
    [
        ("w8a8", "int-quantized", 14),
        ("w4a16", "pack-quantized", 14),
        ("fp8_dynamic", "float-quantized", 14),
        ("awq_w4a16", "pack-quantized", 14),
        ("sparse_2of4", "dense", 0),
        ("nvfp4", "nvfp4-pack-quantized", 14),
        ("mxfp4", "mxfp4-pack-quantized", 14),
    ],
)
def test_standard_recipe_gives_a_model_of_the_predicted_size(
    recipe: str, format_name: str, num_quantized: int, compress: Compress
) -> None:
    result, out = compress(recipe=recipe)
    assert result.format == format_name
    assert result.num_quantized_modules == num_quantized
    assert result.num_linear_modules == 15
    assert result.size_ratio == pytest.approx(result.expected_size_ratio, rel=1e-6)
    assert result.base_loss is not None
    assert result.loss == pytest.approx(result.base_loss, rel=0.05)
    assert (out / "model" / "chat_template.jinja").is_file()
    assert (out / "model" / "generation_config.json").is_file()
    config = json.loads((out / "model" / "config.json").read_text())
    assert config.get("quantization_config", {}).get("format", "dense") == format_name


def test_sparse_recipe_zeroes_two_of_every_four_and_spares_the_head(compress: Compress) -> None:
    from safetensors.torch import load_file

    result, out = compress(recipe="sparse_2of4")
    assert result.zero_fraction == 0.5
    weights = load_file(out / "model" / "model.safetensors")
    assert bool(weights["lm_head.weight"].all())
    up_proj = weights["model.layers.0.mlp.up_proj.weight"]
    assert int((up_proj == 0).reshape(-1, 4).sum(-1).min()) == 2


def test_recipe_artifact_reads_back_safely_and_as_applied(compress: Compress) -> None:
    result, out = compress(recipe="w8a8")
    for file in (out / "recipe.yaml", out / "model" / "recipe.yaml"):
        yaml.safe_load(file.read_text())
        read = Recipe.model_validate(parse_recipe(file, Path.cwd()))
        assert [modifier.name for modifier in read.modifiers] == [
            "SmoothQuantModifier",
            "GPTQModifier",
        ]
    assert result.recipe.kind is ArtifactKind.RECIPE


def test_same_spec_gives_the_same_bytes(
    compress: Compress, tmp_path: Path, tiny_model: Path
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    first, _ = compress(recipe="w4a16")
    again, _ = compress(model=copy, recipe="w4a16", num_samples=16)
    assert again.model.digest == first.model.digest


def test_overrides_reach_the_model(compress: Compress) -> None:
    default, _ = compress(recipe="w4a16")
    finer, out = compress(recipe="w4a16", group_size=64, ignore=["lm_head", "re:.*down_proj"])
    config = json.loads((out / "model" / "config.json").read_text())["quantization_config"]
    assert config["config_groups"]["group_0"]["weights"]["group_size"] == 64
    assert finer.num_quantized_modules == 12
    assert finer.size_bytes > default.size_bytes


def test_progress_reaches_its_end(compress: Compress) -> None:
    _, out = compress(recipe="w4a16")
    lines = [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert lines[-1]["phase"] == "verify"
    assert len({line["num_steps"] for line in lines}) == 1
    assert (steps[0], steps[-1]) == (0, lines[-1]["num_steps"])


def test_what_headers_tell_fails_in_words_before_anything_is_loaded(
    compress: Compress, tmp_path: Path
) -> None:
    model = build_tiny_model(tmp_path / "narrow", width=96, num_layers=1)
    with pytest.raises(ValueError, match="group_size 32 divides all of them"):
        compress(model=model, recipe="w4a16")
    with pytest.raises(ValueError, match="num_samples 99: the calibration data has 16"):
        compress(recipe="w4a16", num_samples=99)


def test_a_value_that_the_library_refuses_is_named(compress: Compress) -> None:
    recipe = [{"GPTQModifier": {"scheme": "W4A16", "ignore": ["lm_head"], "block_size": "many"}}]
    with pytest.raises(ValueError, match=r"GPTQModifier\.block_size: .* integer, .* found 'many'"):
        compress(recipe=recipe)


def test_a_tied_model_keeps_its_size_promise(compress: Compress, tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "tied", num_layers=1, tied=True)
    result, _ = compress(model=model, recipe="fp8_dynamic", calibration=None)
    assert result.size_ratio == pytest.approx(result.expected_size_ratio, rel=1e-6)
    assert result.loss is None


@pytest.fixture
def damaged(compress: Compress, tmp_path: Path) -> Path:
    """A copy of a good compressed model, to be damaged."""
    return shutil.copytree(compress(recipe="w4a16")[1] / "model", tmp_path / "damaged")


def test_scales_that_are_not_finite_are_found(damaged: Path) -> None:
    from safetensors.torch import load_file, save_file

    from tasks.compress.verify import check_scales

    check_scales(damaged)
    file = damaged / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("weight_scale"))
    tensors[name][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=f"{name} in model.safetensors is not finite"):
        check_scales(damaged)


def test_a_module_that_was_left_out_is_found(damaged: Path) -> None:
    from tasks.compress.verify import check_modules, check_size, read_saved

    saved = read_saved(damaged)
    check_modules(saved, saved.quantized_modules)
    with pytest.raises(RuntimeError, match="the first extra: was to be quantized and is not"):
        check_modules(saved, saved.quantized_modules | {"extra"})
    with pytest.raises(RuntimeError, match="more than 2% apart"):
        check_size(saved.size_bytes, int(saved.size_bytes * 1.1))


def test_logits_that_are_not_finite_are_found(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from tasks.compress.verify import reload

    folder = shutil.copytree(tiny_model, tmp_path / "nan")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    (folder / "model.safetensors").chmod(0o644)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="not finite"):
        reload(folder, torch.device("cpu"))
