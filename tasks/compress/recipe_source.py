"""Where a recipe comes from: a standard's name, YAML text, a YAML file, or a list of modifiers.

What a spec holds afterwards is the content, never the name of a file: an edited file is another
recipe. YAML is read safely, so `!!python/tuple`, which llmcompressor writes into the recipes that
it saves, is refused with its place.

    Recipe.model_validate(parse_recipe("w4a16", Path.cwd()))
    Recipe.model_validate(parse_recipe("GPTQModifier: {scheme: W4A16, ignore: [lm_head]}", …))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import standards
from tasks.documents import parse_yaml
from tasks.errors import SpecError


def parse_recipe(value: Any, base_dir: Path) -> Any:
    """What a user wrote as `{standard, modifiers}`, for `Recipe` to check.

    ValueError says what is wrong with a name, a file or YAML, with line and column.
    """
    if isinstance(value, Path):
        return _parse_file(base_dir / value)
    if isinstance(value, str):
        return _parse_text(value.strip(), base_dir)
    if isinstance(value, list | tuple):
        return {"modifiers": list(value)}
    if isinstance(value, dict) and set(value) == {"path"}:
        return _parse_file(Path(value["path"]))
    if isinstance(value, dict) and "modifiers" not in value:
        return {"modifiers": _modifiers_of(value)}
    return value


def _parse_text(text: str, base_dir: Path) -> Any:
    if text.isidentifier():
        try:
            standard = standards.load(standards.StandardKind.COMPRESSION, text)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return {"standard": standard.name, **standard.content}
    if "\n" not in text and ":" not in text:
        return _parse_file(base_dir / text)
    return _parse_yaml(text, "recipe")


def _parse_file(path: Path) -> Any:
    if not path.is_file():
        known = ", ".join(standards.names(standards.StandardKind.COMPRESSION))
        raise ValueError(f"no such file: {path}; a recipe is a file, YAML text or one of {known}")
    return _parse_yaml(path.read_text(encoding="utf-8"), path.name)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        document, _ = parse_yaml(text, source)
    except SpecError as error:
        raise ValueError(f"{error}\nrecipes are plain YAML; write a tuple as a list") from error
    if isinstance(document, list):
        return {"modifiers": document}
    if not isinstance(document, dict):
        raise ValueError(f"{source}: a recipe is a mapping or a list, not {document!r}")
    if "content" in document:  # a standard that lies in a file of its own
        document = document["content"]
    return document if "modifiers" in document else {"modifiers": _modifiers_of(document)}


def _modifiers_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Modifiers of `{Name: fields}` or of llmcompressor's `{x_stage: {y_modifiers: {Name: …}}}`."""
    modifiers: list[dict[str, Any]] = []
    for key, value in document.items():
        if str(key).endswith(("_stage", "_modifiers")) and isinstance(value, dict):
            modifiers += _modifiers_of(value)
        else:
            modifiers.append({str(key): value})
    return modifiers
