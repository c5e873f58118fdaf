"""Secrets stay out of what is kept: their values become `***` in records, logs and reports.

    scrub({"argv": sys.argv})                       # with the secrets of this process
    scrubber = Scrubber(secrets_in(environment))
    scrubber.text(line); scrubber.file(logs / "stdout.txt")

Known by value: what variables with a secret-looking name hold, in the environment and in `.env`,
and passwords in the URLs of any variable. Known by form: passwords in URLs, the tokens of the
services that bodies talk to, and what follows `--token` or `API_KEY=` on a command line.

Not found: a secret that was encoded (base64, percent) or cut in two before it was printed, one
shorter than 6 characters, and one that came from nowhere that is looked at. What a body writes into
its own artifacts is its result, and is kept as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

HIDDEN = "***"
MIN_SECRET_LENGTH = 6
SECRET_NAME = re.compile(
    r"TOKEN(?!S|IZER)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE"
    r"|API_?KEY|(?:^|_)(?:KEY|AUTH|PAT)(?:_|$)",
    re.IGNORECASE,
)
URL_WITH_PASSWORD = re.compile(r"(\w+://[^/\s:@]*:)([^@\s/]+)@")
TOKEN_FORMS = {  # how the tokens of services begin, and go on
    "hf_": r"[A-Za-z0-9]{20,}",
    "sk-": r"[\w-]{20,}",
    "ghp_": r"[A-Za-z0-9]{20,}",
    "gho_": r"[A-Za-z0-9]{20,}",
    "ghs_": r"[A-Za-z0-9]{20,}",
    "github_pat_": r"\w{20,}",
    "glpat-": r"[\w-]{20,}",
    "AKIA": r"[A-Z0-9]{16}",
    "pnu_": r"[A-Za-z0-9]{20,}",
}
TOKENS = {start: re.compile(rf"\b{start}{rest}") for start, rest in TOKEN_FORMS.items()}
ASSIGNMENT = re.compile(r"(?P<name>[\w.-]+)=(?P<value>.+)", re.DOTALL)


def secrets_in(environment: Mapping[str, str]) -> frozenset[str]:
    """The secrets that variables hold; each line of one that has several counts."""
    found: set[str] = set()
    for name, text in environment.items():
        if is_secret_name(name):
            found.update(text.splitlines())
        found.update(match[2] for match in URL_WITH_PASSWORD.finditer(text))
    return frozenset(secret for secret in found if len(secret) >= MIN_SECRET_LENGTH)


def own_secrets(more: Mapping[str, str] | None = None) -> frozenset[str]:
    """The secrets of this process, of the `.env` where it runs, and of further variables."""
    file = {name: text for name, text in _dotenv().items() if text}
    return secrets_in(os.environ) | secrets_in(file) | secrets_in(more or {})


def _dotenv() -> Mapping[str, str | None]:
    try:
        return dotenv_values(".env", interpolate=False)
    except (OSError, ValueError):
        return {}


def is_secret_name(name: str) -> bool:
    """Whether a variable, an option or a key of this name holds a secret: `hf-token`, `API_KEY`."""
    return SECRET_NAME.search(name.replace("-", "_").replace(".", "_")) is not None


def typed_secrets(tree: Any) -> frozenset[str]:
    """What stands under a secret-looking key of a file or a spec, at any depth."""
    found: set[str] = set()
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
            if is_scalar and not str(value).startswith("${"):
                found |= secrets_in({str(key): str(value)})
            found |= typed_secrets(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            found |= typed_secrets(value)
    return frozenset(found)


def scrub(value: Any) -> Any:
    """A JSON value without the secrets of this process."""
    return Scrubber(own_secrets()).value(value)


class Scrubber:
    """Replaces a set of secrets, and whatever has the form of one."""

    def __init__(self, secrets: Iterable[str]):
        self._secrets = sorted(secrets, key=len, reverse=True)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "://" in text:
            text = URL_WITH_PASSWORD.sub(rf"\1{HIDDEN}@", text)
        for start, token in TOKENS.items():
            if start in text:
                text = token.sub(HIDDEN, text)
        return text

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, int | float) and str(value) in self._secrets:
            return HIDDEN
        return value

    def command_line(self, argv: Sequence[str]) -> list[str]:
        """Also what `--token VALUE`, `--token=VALUE` and `NAME_TOKEN=VALUE` give."""
        return [self.text(word) for word in _without_secret_options(argv)]

    def file(self, path: Path) -> None:
        """Rewrite a log if there is a secret in it; its mode stays."""
        if not path.exists() or all(self.text(block) == block for block in _blocks(path)):
            return
        clean = path.with_name(f"{path.name}.clean")
        self.copy(path, clean)
        clean.chmod(path.stat().st_mode & 0o777)
        clean.replace(path)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a log without its secrets: not even half a copy holds one."""
        with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.writelines(self.text(block) for block in _blocks(source))


def _blocks(path: Path) -> Iterator[str]:
    """Whole lines, about a megabyte at a time; bytes that are not UTF-8 survive."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        while lines := file.readlines(1 << 20):
            yield "".join(lines)


def _without_secret_options(argv: Sequence[str]) -> Iterator[str]:
    is_value_secret = False
    for word in argv:
        assignment = ASSIGNMENT.fullmatch(word)
        if is_value_secret and not word.startswith("-"):
            yield HIDDEN
        elif assignment and is_secret_name(assignment["name"]):
            yield f"{assignment['name']}={HIDDEN}"
        else:
            yield word
        is_value_secret = word.startswith("--") and "=" not in word and is_secret_name(word)
