"""`labwright server start|stop|status`."""

from __future__ import annotations

import sys

from flows.server import (
    ServerCondition,
    configured_api,
    port_words,
    server_condition,
    start_server,
    stop_server,
)


def start() -> None:
    is_starting = server_condition()[0] is not ServerCondition.READY
    if is_starting:
        print("starting the Prefect server …", file=sys.stderr)
    state = start_server()
    if is_starting and (words := port_words()):
        print(words, file=sys.stderr)
    print(f"the server runs: {state.ui_url} (pid {state.pid})")


def stop() -> None:
    print("the server has stopped" if stop_server() else "no server was running")


def status() -> int:
    """0 if it runs, else 1."""
    if url := configured_api():
        print(f"an API is configured and used instead: {url}")
    condition, state = server_condition()
    if state is not None and condition in (ServerCondition.READY, ServerCondition.STARTING):
        print(f"{condition.value}: {state.ui_url} (pid {state.pid})")
        return 0
    print("not running; the next run that needs it starts it, or: labwright server start")
    return 1
