"""Supervises one run of one container. Started by `attempts`, never imported; standard library only.

Usage: python -I -S shim.py LOCK_FD PATH, where LOCK_FD is `PATH.json`, open and locked.

It is separate from the node so that the node may die: the lock on `PATH.json` is released by the kernel when
this process ends, however it ends, which tells "alive" from "dead" with no doubt about reused process ids.
`PATH.json` says what to run; `PATH.start` and `PATH.exit` are written here, whole or not at all.

SIGTERM is passed on to the container, which is killed when its grace period is over. Nothing that the
container has started outlives it: this process adopts orphans (PR_SET_CHILD_SUBREAPER) and kills what is
left. If this process is itself killed, the kernel kills the container (PR_SET_PDEATHSIG).
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP, signal.SIGINT}
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell reports a command that cannot run

libc = ctypes.CDLL(None, use_errno=True)


def main(lock: int, path: str) -> None:
    os.set_inheritable(lock, False)  # or the container would hold the lock too
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    instruction = json.loads(os.pread(lock, os.fstat(lock).st_size, 0))
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Before the fork: where no start was written, nothing was ever run.
    write_record(path + ".start", {"pid": os.getpid(), "started_at": time.time()})
    container = start(instruction)
    code, stopped = supervise(container, grace=instruction["grace_seconds"])
    finished_at = time.time()
    kill_children()
    write_record(path + ".exit", {"exit_code": code, "finished_at": finished_at, "stopped": stopped})


def write_record(path: str, value: dict[str, object]) -> None:
    with open(path + ".new", "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())  # or a power loss may leave the new name without its content
    os.rename(path + ".new", path)


def start(instruction: dict) -> int:  # type: ignore[type-arg]
    """Runs the container's command; returns its process id, which is also its session's."""
    supervisor = os.getpid()
    child = os.fork()
    if child:
        return child
    code = NOT_EXECUTABLE
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # killed before the line above
            os._exit(128 + signal.SIGKILL)
        os.setsid()
        os.umask(0o022)
        log = os.open(instruction["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; a new program expects defaults
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(instruction["directory"])
        os.execvpe(instruction["command"][0], instruction["command"], instruction["environment"])
    except OSError as error:
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        os.write(2, f"cannot start {instruction['command'][0]}: {error}\n".encode())
    finally:
        os._exit(code)


def supervise(container: int, *, grace: float) -> tuple[int, bool]:
    """Waits for the container; returns its exit code (128 + signal) and whether it was told to stop."""
    stopped = False
    while True:
        number = signal.sigwait(SIGNALS)
        if number == signal.SIGCHLD:
            status = reap(container)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return (code if code >= 0 else 128 - code), stopped
        elif number == signal.SIGALRM:
            os.kill(container, signal.SIGKILL)
        elif not stopped:
            stopped = True
            os.kill(container, signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, max(grace, 0.001))


def reap(container: int) -> int | None:
    """Collects every child that has ended; returns the container's wait status if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == container:
            found = status


def kill_children() -> None:
    """Kills what the container left behind. The children of a killed child become ours: hence the loop."""
    children = f"/proc/self/task/{os.getpid()}/children"
    while True:
        with open(children) as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
