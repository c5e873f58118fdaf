"""Runs one command and leaves none of its descendants behind; `tasks.process` starts it.

    supervisor OUT_FD ERR_FD PARENT_PID TIMEOUT_S GRACE_S MEMORY_BYTES LOG_BYTES ARGV…

OUT_FD and ERR_FD are open log files; a limit of `inf` is none. Standard input is the lifeline: when
it closes, or when the process PARENT_PID dies, everything is ended. Standard output takes one line
of JSON at the end, which `tasks.process` reads.

It is two processes: a keeper, and its child, the supervisor proper; each is a child subreaper.
Every orphan below, whatever session or group it moved to, becomes a child of the supervisor, so
that "I have no child" means "nothing is left", and the report is written only then. If the
supervisor is killed, the keeper inherits its descendants and kills them; if the keeper is killed,
the supervisor sees it.

Not covered: both killed with SIGKILL at the same instant (the command then dies too, by
PR_SET_PDEATHSIG; what it started does not). What nobody here may end, a process in uninterruptible
sleep or one that became another user's, is waited for, and so are the GPUs that it holds.

Linux 5.3 or newer. It is started for every body, so it imports little: about 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from tasks.body_log import BodyLog
from tasks.descendants import descendants, kill_frozen, send, signal_if_there
from tasks.memory import OomKills, proportional_bytes, resident_bytes

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LINGER_S = 0.5  # for helpers of the command to end by themselves after it has exited
MEMORY_POLL_S = 0.1
FIRST_KILL_PAUSE_S, LAST_KILL_PAUSE_S = 0.01, 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

libc = ctypes.CDLL(None)


class Supervisor:
    """The command, its output, and the events that may end it."""

    def __init__(self, memory_limit_bytes: float):
        self.body_status: int | None = None  # of waitpid, once it ended
        self.body_ended_at = 0.0
        self.peak_memory_bytes = 0
        self.has_children = False
        self.stop_is_requested = False
        self.is_over_memory = False
        self._body_pid = 0
        self._logs: dict[int, BodyLog] = {}
        self._memory_limit_bytes = memory_limit_bytes
        self._memory_looked_at = 0.0
        self._poll = select.poll()
        self._wakeup, wakeup_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wakeup, select.POLLIN)
        signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that it wakes the poll
        for number in STOP_SIGNALS:
            signal.signal(number, self._request_stop)

    def stop_when_readable(self, fd: int) -> None:
        """A lifeline: it becomes readable when its other end closes."""
        self._poll.register(fd, select.POLLIN)

    def stop_when_dead(self, pid: int) -> None:
        """A lifeline that no fork of that process can keep open by accident."""
        try:
            self.stop_when_readable(os.pidfd_open(pid))
        except ProcessLookupError:
            self.stop_is_requested = True

    def start(self, argv: list[str], files: tuple[int, int], log_limit_bytes: float) -> None:
        """Start the command in a session of its own; OSError if it cannot be executed."""
        pipes = [os.pipe() for _ in files]
        failure, failure_in = os.pipe()
        supervisor_pid = os.getpid()
        self._body_pid = os.fork()
        if self._body_pid == 0:
            _become(argv, [write for _, write in pipes], failure_in, supervisor_pid)
        os.close(failure_in)
        for (read, write), file in zip(pipes, files, strict=True):
            os.close(write)
            self._logs[read] = BodyLog(read, file, log_limit_bytes)
            self._poll.register(read, select.POLLIN)
        error_number = os.read(failure, 16)
        os.close(failure)
        if error_number:
            raise OSError(int(error_number), os.strerror(int(error_number)))

    def run_until(self, deadline: float, is_over: Callable[[], bool]) -> None:
        """Move output and reap children until `is_over()`, or until the monotonic `deadline`."""
        while True:
            self._reap()
            left_s = deadline - time.monotonic()
            if is_over() or left_s <= 0:
                return
            if self._memory_limit_bytes != float("inf"):
                self._look_at_memory()
                left_s = min(left_s, MEMORY_POLL_S)
            for fd, _ in self._poll.poll(min(left_s, 3600) * 1000):
                self._handle(fd)

    def end_descendants(self, grace_s: float) -> int:
        """End everything below, politely first; returns how many processes were there."""
        self._reap()
        if not self.has_children:
            return 0
        num_found = send(signal.SIGTERM)
        send(signal.SIGCONT)
        self.run_until(time.monotonic() + grace_s, lambda: not self.has_children)
        pause_s = FIRST_KILL_PAUSE_S
        while self.has_children:
            kill_frozen()
            self.run_until(time.monotonic() + pause_s, lambda: not self.has_children)
            pause_s = min(LAST_KILL_PAUSE_S, 2 * pause_s)
        return num_found

    def finish_logs(self) -> None:
        for log in self._logs.values():
            log.finish()

    def _request_stop(self, *_: object) -> None:
        self.stop_is_requested = True

    def _handle(self, fd: int) -> None:
        if fd == self._wakeup:
            os.read(fd, 4096)
        elif fd in self._logs:
            if not self._logs[fd].pump():
                self._poll.unregister(fd)
        else:
            self.stop_is_requested = True
            self._poll.unregister(fd)

    def _reap(self) -> None:
        """Take every child that ended, adopted ones too."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.has_children = False
                return
            self.has_children = True
            if pid == 0:
                return
            self.peak_memory_bytes = max(self.peak_memory_bytes, usage.ru_maxrss * 1024)
            if pid == self._body_pid:
                self.body_status, self.body_ended_at = status, time.monotonic()

    def _look_at_memory(self) -> None:
        """Compare all descendants with the limit; exactly, where a cheap look is over it."""
        now = time.monotonic()
        if now - self._memory_looked_at < MEMORY_POLL_S:
            return
        self._memory_looked_at = now
        pids = descendants()
        held_bytes = resident_bytes(pids)
        if held_bytes > self._memory_limit_bytes:
            held_bytes = proportional_bytes(pids)
            self.is_over_memory |= held_bytes > self._memory_limit_bytes
        self.peak_memory_bytes = max(self.peak_memory_bytes, held_bytes)


def _become(argv: list[str], outputs: list[int], failure: int, supervisor_pid: int) -> None:
    """In the forked child: turn into the command, tied to the supervisor's life. Never returns."""
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:  # it died before the line above
            os._exit(1)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*STOP_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in enumerate((nothing, *outputs)):
            os.dup2(source, target)
        os.closerange(3, failure)  # leases and log files stay with the supervisor
        os.closerange(failure + 1, 1 << 30)
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        os.write(failure, str(error.errno).encode())
    finally:
        os._exit(127)


def _supervise(arguments: list[str], keeper_pid: int) -> None:
    """Run the command to its end and report."""
    out, err, parent_pid = (int(text) for text in arguments[:3])
    timeout_s, grace_s, memory_limit_bytes, log_limit_bytes = map(float, arguments[3:7])
    supervisor = Supervisor(memory_limit_bytes)
    supervisor.stop_when_readable(0)
    supervisor.stop_when_dead(parent_pid)
    supervisor.stop_when_dead(keeper_pid)
    oom_kills = OomKills()
    started_at = time.monotonic()
    try:
        supervisor.start(arguments[7:], (out, err), log_limit_bytes)
    except OSError as error:
        _report(f'{{"errno": {error.errno}}}')
        return
    supervisor.run_until(
        started_at + timeout_s,
        lambda: (
            supervisor.body_status is not None
            or supervisor.stop_is_requested
            or supervisor.is_over_memory
        ),
    )
    body_ended = supervisor.body_status is not None
    if body_ended:
        end = "exited"
        supervisor.run_until(
            time.monotonic() + LINGER_S,
            lambda: not supervisor.has_children or supervisor.stop_is_requested,
        )
    elif supervisor.is_over_memory:
        end, grace_s = "out_of_memory", 0.0
    else:
        end = "stopped" if supervisor.stop_is_requested else "timed_out"
    num_ended = supervisor.end_descendants(grace_s)
    supervisor.finish_logs()
    code = os.waitstatus_to_exitcode(supervisor.body_status or 0)
    if body_ended and oom_kills.explain(code):
        end = "out_of_memory"
    _report(
        f'{{"end": "{end}", "code": {code}, "num_strays": {num_ended if body_ended else 0}, '
        f'"duration_s": {supervisor.body_ended_at - started_at:.4f}, '
        f'"peak_memory_bytes": {supervisor.peak_memory_bytes}}}'
    )


def _report(line: str) -> None:
    try:
        os.write(1, line.encode())
    except BrokenPipeError:
        return  # nobody is left to read it; what had to be done is done


def _keep(supervisor_pid: int) -> None:
    """Outlive the supervisor; if it was killed, kill what it was watching over."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: signal_if_there(os.kill, supervisor_pid, number))
    while os.wait()[0] != supervisor_pid:
        pass
    while True:
        kill_frozen()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(FIRST_KILL_PAUSE_S)


def main() -> None:
    """Entry point; the arguments are described at the top of this module."""
    keeper_pid = os.getpid()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor_pid = os.fork()
    if supervisor_pid:
        _keep(supervisor_pid)
    else:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # a fork does not inherit it
        _supervise(sys.argv[1:], keeper_pid)
