"""The embedded Prefect server: on loopback, in the background, gone when idle."""

from flows.server.control import (
    ServerNotStarted,
    configured_api,
    ensure_server,
    port_words,
    server_condition,
    start_server,
    stop_server,
    will_start,
)
from flows.server.state import ServerCondition, ServerState

__all__ = [
    "ServerCondition",
    "ServerNotStarted",
    "ServerState",
    "configured_api",
    "ensure_server",
    "port_words",
    "server_condition",
    "start_server",
    "stop_server",
    "will_start",
]
