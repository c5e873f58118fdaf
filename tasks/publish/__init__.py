"""Publish: a model folder that explains itself, on disk or on a hub.

    publish_folder(model_ref, {"README.md": render_card(card).encode()}, Path("out"), store)
    upload_folder(Path("out"), "lab/model-w8a8", token, is_public=False)

`card.py` writes the model card, `folder.py` makes the folder, `hub.py` uploads it. What stands on
the card of a run is gathered by `flows/publishing.py`.
"""

from tasks.publish.card import Card, ScoreRow, ServingRow, render_card
from tasks.publish.folder import publish_folder
from tasks.publish.hub import upload_folder

__all__ = ["Card", "ScoreRow", "ServingRow", "publish_folder", "render_card", "upload_folder"]
