"""Upload of a published folder to a hub, as one commit.

    upload_folder(Path("out"), "lab/model-w8a8", token_of(os.environ), is_public=False)

The hub is Hugging Face's, or the one that `HF_ENDPOINT` names. The token comes from the environment
alone (`HF_TOKEN`) and is never written or printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.errors import EnvironmentMissing, StoreError
from tasks.scrubbing import Scrubber

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105  (the variable's name)


def token_of(environment: Mapping[str, str]) -> str:
    """The token; `EnvironmentMissing` says how to give one."""
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise EnvironmentMissing(
            f"uploading needs a token with write access: export {TOKEN_VARIABLE}=hf_… "
            "(from huggingface.co/settings/tokens); for a folder on disk, type --to ./FOLDER"
        )
    return token


def upload_folder(folder: Path, repository: str, token: str, *, is_public: bool) -> str:
    """Create the model repository if there is none, and commit the folder; returns its address."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=token)
    try:
        address = api.create_repo(
            repository, repo_type="model", private=not is_public, exist_ok=True
        )
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="model",
            commit_message="Publish from labwright",
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        words = Scrubber({token}).text(" ".join(str(error).split()))
        raise StoreError(f"the hub did not take {repository}: {words}") from error
    return str(address)
