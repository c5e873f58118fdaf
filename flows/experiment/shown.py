"""A fully cached run in the UI of a server that is up, told over REST without importing Prefect.

    problem = show_cached(report)      # None if it is shown, or if there is no server to show it

Nothing is started for it, and it takes `PATIENCE_S` at most: the run is done without it.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import urllib.error
import urllib.request
from typing import Any

from flows.experiment.record import RunReport, counted
from flows.server import ServerCondition, configured_api, server_condition

PATIENCE_S = 1.0
FLOW_NAME = "experiment"


def show_cached(report: RunReport) -> str | None:
    """Create the flow run and its task runs, all `Cached`; returns why that was not possible."""
    problems: list[str] = []

    def show() -> None:
        url = _server_that_is_up()
        if url is None:
            return
        try:
            _create_runs(url, report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"Prefect's API at {url} does not show this run: {error}")

    telling = threading.Thread(target=show, daemon=True)  # one that hangs must not hold the exit
    telling.start()
    telling.join(PATIENCE_S)
    if telling.is_alive():
        return f"Prefect's API did not show this run within {PATIENCE_S:g} s"
    return problems[0] if problems else None


def _server_that_is_up() -> str | None:
    if url := configured_api():
        return url.rstrip("/")
    condition, state = server_condition()
    return state.api_url if state and condition is ServerCondition.READY else None


def _create_runs(url: str, report: RunReport) -> None:
    flow = _post(f"{url}/flows/", {"name": FLOW_NAME})
    name = f"{report.name} {report.id}"
    held = [step for step in report.steps.values() if not step.state.has_result]
    words = f"computed before: {counted(len(report.steps) - len(held), 'step')}"
    state = _ended("FAILED", "Failed", held[0].error or words) if held else _cached(words)
    run = {"flow_id": flow["id"], "name": name, "state": state}
    flow_run = _post(f"{url}/flow_runs/", run)
    ids: dict[str, str] = {}
    for step, found in report.steps.items():
        upstream = [{"input_type": "task_run", "id": ids[name]} for name in found.upstream]
        task_run = {
            "flow_run_id": flow_run["id"],
            "name": step,
            "task_key": found.kind,
            "dynamic_key": step,
            "task_inputs": {"wait_for": upstream},
            "state": _cached(f"{found.kind} {(found.identity or '')[:12]} was computed before")
            if found.state.has_result
            else _ended("CANCELLED", "Skipped", found.error or ""),
        }
        ids[step] = _post(f"{url}/task_runs/", task_run)["id"]


def _cached(message: str) -> dict[str, str]:
    return _ended("COMPLETED", "Cached", message)


def _ended(kind: str, name: str, message: str) -> dict[str, str]:
    return {"type": kind, "name": name, "message": message}


def _post(url: str, document: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310  (the user's own API)
        url, json.dumps(document).encode(), {"Content-Type": "application/json", **_credentials()}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        found = json.load(answer)
    if not isinstance(found, dict):
        raise ValueError(f"{url} answered with a {type(found).__name__}")
    return found


def _credentials() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
