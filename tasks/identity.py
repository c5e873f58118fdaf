"""The identity of a step: one sha256 over everything that may change its outcome.

    identity("train", spec, code_fingerprint("tasks.train.body"), locked_versions(("torch",)))

It is computed from the step's name, the spec with each artifact reduced to its content, the body's
code, and the versions of the packages that the step declares. Nothing else: no path, no time, no
machine, no Placement. If it cannot be computed, that is an error: a step is never run uncached in
silence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from tasks.artifacts import ArtifactRef, LocalPath, PackageFiles
from tasks.canonical import canonical_json
from tasks.errors import EnvironmentMissing, SpecError, nearest
from tasks.fingerprint import code_fingerprint
from tasks.spec import Spec

IDENTITY_FORMAT = "labwright-identity-1"  # raise it to make every result be computed anew

__all__ = ["canonical_json", "code_fingerprint", "identity", "locked_versions"]


def identity(step: str, spec: Spec, fingerprint: str, versions: Mapping[str, str]) -> str:
    """64 hex digits; SpecError where the spec holds what has no identity."""
    document = {
        "format": IDENTITY_FORMAT,
        "step": step,
        "spec": spec,
        "code": fingerprint,
        "versions": {_normal_name(name): version for name, version in versions.items()},
    }
    try:
        return hashlib.sha256(canonical_json(document, _content_only)).hexdigest()
    except (ValueError, TypeError, RecursionError) as error:
        raise SpecError(f"step '{step}' has no identity: {error}") from error


def locked_versions(packages: Iterable[str], environment: str = "core") -> dict[str, str]:
    """Versions that an environment's lock names, without local parts (`2.13.0+cpu` is 2.13.0)."""
    wanted = tuple(packages)
    if not wanted:
        return {}
    from tasks.environments import read_lock

    lock = {_normal_name(name): version for name, version in read_lock(environment).items()}
    missing = [name for name in wanted if _normal_name(name) not in lock]
    if missing:
        hints = ", ".join(f"'{name}'{nearest(_normal_name(name), lock)}" for name in missing)
        raise EnvironmentMissing(
            f"the lock of the {environment} environment (infra/locks) does not hold {hints}"
        )
    return {name: lock[_normal_name(name)].partition("+")[0] for name in wanted}


def _content_only(model: BaseModel) -> Any:
    """What of an input counts; inputs that were not resolved have no content yet."""
    if isinstance(model, ArtifactRef):
        return {"kind": model.kind, "digest": model.digest, "is_folder": model.is_folder}
    if isinstance(model, LocalPath | PackageFiles):
        raise ValueError(f"{model!r} was not resolved to an artifact")
    return model


def _normal_name(package: str) -> str:
    """PEP 503: `Llm_Compressor` is `llm-compressor`; a prefix such as `serve:` stays."""
    return re.sub(r"[-_.]+", "-", package).lower()
