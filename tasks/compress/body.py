"""Compress one model with llmcompressor, then read it back and check it.

Order: everything that headers tell is checked before torch is imported; the model is loaded and
looked at; the modifiers run; the model is saved, reloaded, and compared with what was promised.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.body import BodyContext, run_body
from tasks.compress.layout import read_layout
from tasks.compress.modifiers import Role
from tasks.compress.plan import expected_size_bytes, planned_groups, problems_of
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.compress.spec import CompressResult, CompressSpec, tokens_shape
from tasks.model_folder import TOKENIZER_FILES, copy_files
from tasks.spec import DeviceKind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PHASES = ("import", "load", "compress", "save", "verify")


class Progress:
    """Steps of a compression: one a phase, one a module that a modifier reports."""

    def __init__(self, context: BodyContext, num_modules: int):
        self._context = context
        self._num_steps = len(PHASES) + num_modules
        self._num_done = 0
        self._phase = PHASES[0]

    def phase(self, name: str) -> None:
        """Say that a phase begins, and so that the one before it has ended."""
        num_ended = PHASES.index(name) - PHASES.index(self._phase)
        self._phase = name
        self.advance(num_ended)

    def advance(self, num_steps: int) -> None:
        """Some more steps are done; never beyond the end, as two modifiers may share modules."""
        self._num_done = min(self._num_done + num_steps, self._num_steps)
        self._context.metrics(self._num_done, num_steps=self._num_steps, phase=self._phase)

    def finish(self) -> None:
        """All is done, also what no modifier reported."""
        self.advance(self._num_steps)


def main(spec: CompressSpec, context: BodyContext) -> CompressResult:
    """Runs in a process of its own; see the module's docstring."""
    base = context.path(spec.model)
    recipe = _checked_recipe(spec, context, base)
    stored = read_layout(base)
    progress = Progress(context, len(planned_groups(recipe, stored)))
    progress.phase("import")
    _prepare_torch(spec.device_kind)

    import torch
    import transformers

    from tasks.compress import calibration, llmcompressor_run, verify
    from tasks.compress.loaded import layout_of

    device = torch.device(spec.device_kind)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device_kind is cuda, but torch finds no GPU; set device_kind: cpu")
    transformers.set_seed(spec.seed)
    modifiers = llmcompressor_run.build_modifiers(recipe)

    progress.phase("load")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model.eval()
    loader = sample = before = None
    if spec.calibration is not None:
        sequences = calibration.load_sequences(
            context.path(spec.calibration), spec.num_samples, spec.sequence_length, spec.seed
        )
        sample = sequences[: calibration.SAMPLE_SEQUENCES]
        before = calibration.look(model.to(device), sample)
        model.to("cpu")  # llmcompressor moves layer by layer to the device, as each has its turn
        loader = calibration.calibration_loader(sequences) if recipe.needs_data else None
    layout = layout_of(model, stored)

    progress.phase("compress")
    llmcompressor_run.run(model, tokenizer, modifiers, loader, progress.advance)

    progress.phase("save")
    folder = context.out / "model"
    recipe_file = context.out / "recipe.yaml"
    _save(model, folder, base, recipe, recipe_file)
    del model
    llmcompressor_run.release_model()

    progress.phase("verify")
    planned = {k: g for k, g in planned_groups(recipe, layout).items() if g.weights is not None}
    saved = verify.read_saved(folder)
    expected_bytes = expected_size_bytes(recipe, layout, saved.format)
    verify.check_modules(saved, frozenset(planned))
    verify.check_size(saved.size_bytes, expected_bytes)
    verify.check_scales(folder)
    compressed = verify.reload(folder, device)
    after = calibration.look(compressed, sample) if sample is not None else None
    zero_fraction = None
    for modifier in recipe.modifiers:
        if modifier.kind.role is Role.PRUNE:
            zero_fraction = verify.check_zeros(compressed, modifier, layout)

    progress.finish()
    return CompressResult(
        model=context.artifact(ArtifactKind.MODEL, folder, _name(spec, recipe)),
        recipe=context.artifact(ArtifactKind.RECIPE, recipe_file),
        scheme=_scheme_in_words(recipe),
        format=saved.format,
        size_bytes=saved.size_bytes,
        base_size_bytes=layout.size_bytes,
        size_ratio=saved.size_bytes / layout.size_bytes,
        expected_size_ratio=expected_bytes / layout.size_bytes,
        num_linear_modules=len(layout.linears),
        num_quantized_modules=len(planned),
        zero_fraction=zero_fraction,
        base_loss=before.loss if before else None,
        loss=after.loss if after else None,
        agreement_fraction=(
            float((before.predictions == after.predictions).float().mean())
            if before and after
            else None
        ),
    )


def _checked_recipe(spec: CompressSpec, context: BodyContext, base: Path) -> Recipe:
    recipe = spec.recipe
    if isinstance(recipe, ArtifactRef):
        recipe = Recipe.model_validate(parse_recipe(context.path(recipe), Path.cwd()))
    recipe = spec.resolve_recipe(recipe)
    layout = read_layout(base)
    shape = tokens_shape(context.path(spec.calibration)) if spec.calibration else None
    problems = [*spec.problems_of_lengths(layout, shape), *problems_of(recipe, layout)]
    if problems:
        raise ValueError("\n".join(problems))
    return recipe


def _prepare_torch(kind: DeviceKind) -> None:
    """Before torch is imported, which reads these once."""
    # Threads that sleep while they wait: two compressions side by side take a third of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if kind is DeviceKind.CPU:  # its result must not depend on there being a GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _save(
    model: PreTrainedModel, folder: Path, base: Path, recipe: Recipe, recipe_file: Path
) -> None:
    model.save_pretrained(folder, save_compressed=True)
    copy_files(base, folder, (*TOKENIZER_FILES, "generation_config.json"))
    # llmcompressor's own recipe.yaml holds !!python/tuple, which no safe reader takes.
    recipe_file.write_text(recipe.to_yaml(), encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")


def _scheme_in_words(recipe: Recipe) -> str:
    words = []
    for modifier in recipe.modifiers:
        words += [group.summary() for group in modifier.groups.values()]
        if modifier.kind.role is Role.PRUNE:
            structure = modifier.fields.get("mask_structure", "0:0")
            pattern = "unstructured" if structure == "0:0" else structure
            words.append(f"sparse {pattern} {modifier.fields.get('sparsity')}")
    return ", ".join(words)


def _name(spec: CompressSpec, recipe: Recipe) -> str:
    base = spec.model.name if isinstance(spec.model, ArtifactRef) else "model"
    return f"{base}-{recipe.standard or 'compressed'}"


if __name__ == "__main__":
    run_body(CompressSpec, main)
