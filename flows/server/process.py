"""The embedded server's own process: Prefect's application, with an identity and an end.

    python -P -m flows.server.process <home> <port>

Started detached by `flows.server.control`. Ends itself when it was idle for long enough: no
request, no running flow run, no deployment with an active schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from flows.server.state import HOST, IDENTITY_PATH, ServerState, fingerprint
from tasks.settings import settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A flow run that has said nothing for so long was killed with its machine and runs no more.
DEAD_AFTER = timedelta(hours=24)
BUSY_STATES = ["RUNNING", "PENDING", "CANCELLING"]


class Door:
    """Answers who we are, and notes when anybody last came to Prefect's application."""

    def __init__(self, app: Any, token: str):
        self.app = app
        self.last_request = time.monotonic()
        self._answer = json.dumps({"server": fingerprint(token)}).encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == IDENTITY_PATH:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._answer})
            return
        if scope["type"] in ("http", "websocket"):
            self.last_request = time.monotonic()
        await self.app(scope, receive, send)


def has_live_run(home: Path) -> bool:
    """Whether some run folder is locked by the process that runs it."""
    for lock in home.glob("runs/*/lock"):
        with contextlib.suppress(OSError), lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


async def has_work(app: Any) -> bool:
    """Whether Prefect knows of a flow run that runs, or of a schedule that will start one."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://embedded") as client:
        since = (datetime.now(UTC) - DEAD_AFTER).isoformat()
        running = {"type": {"any_": BUSY_STATES}}
        runs = await client.post(
            "/api/flow_runs/count",
            json={"flow_runs": {"state": running, "expected_start_time": {"after_": since}}},
        )
        deployments = await client.post("/api/deployments/filter", json={})
        runs.raise_for_status()
        deployments.raise_for_status()
    return runs.json() > 0 or any(
        not deployment["paused"] and any(s["active"] for s in deployment["schedules"])
        for deployment in deployments.json()
    )


async def end_when_idle(server: uvicorn.Server, door: Door, home: Path, idle_s: float) -> None:
    """Ask the server to exit once nobody needs it; never before it is up."""
    while not server.should_exit:
        await asyncio.sleep(min(idle_s / 4, 60.0))
        is_idle = time.monotonic() - door.last_request > idle_s
        if not server.started or not is_idle or has_live_run(home):
            continue
        try:
            server.should_exit = not await has_work(door.app)
        except httpx.HTTPError as error:
            print(f"cannot tell whether there is work, so staying: {error}", flush=True)
    print(f"idle for {idle_s / 60:g} minutes: ending", flush=True)


async def serve(home: Path, port: int) -> None:
    from prefect.server.api.server import create_app

    state = ServerState.of_this_process(port)
    door = Door(create_app(), state.token)
    server = uvicorn.Server(
        uvicorn.Config(door, host=HOST, port=port, log_level="warning", timeout_keep_alive=5)
    )
    state.write(home)
    idle_s = settings().server_idle_minutes * 60
    watching = asyncio.create_task(end_when_idle(server, door, home, idle_s))
    try:
        await server.serve()
    finally:
        watching.cancel()
        with contextlib.suppress(FileNotFoundError):
            (home / "server.json").unlink()


def main() -> None:
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    os.environ.setdefault("PREFECT_SERVER_API_HOST", HOST)
    asyncio.run(serve(home, port))


if __name__ == "__main__":
    main()
