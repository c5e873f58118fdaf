"""The files beside a published model: its card, the experiment, where the model came from.

extras(render_card(card), chosen, experiment_text)     # {"README.md": b"…", …}
"""

from __future__ import annotations

import json

from flows.publish.choose import Chosen
from tasks.scrubbing import scrub


def extras(card: str, chosen: Chosen, experiment_text: bytes | None) -> dict[str, bytes]:
    """Without secrets, and without the name of the machine."""
    told = scrub(
        {
            "step": chosen.record.step,
            "identity": chosen.record.identity,
            "model_sha256": chosen.model.digest,
            "result": chosen.record.result,
            "provenance": {k: v for k, v in chosen.record.provenance.items() if k != "host"},
        }
    )
    files = {
        "README.md": card.encode(),
        "labwright/provenance.json": json.dumps(told, indent=1).encode(),
    }
    if experiment_text is not None:
        files["labwright/experiment.yaml"] = experiment_text
    return files
