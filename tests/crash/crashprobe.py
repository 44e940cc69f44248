"""Does the relay's loop ever stall?  A client that asks all the time."""
import contextlib
import json
import os
import select
import socket
import time

from crashlib import Failed


NOOPS_PER_SESSION = 90


class Prober:
    """A client in a process of its own that says NOOP every millisecond, from
    the moment the relay listens: does its loop ever stall?  It begins a new
    session now and then, as the relay hangs up on those who only talk.

    It runs before everybody else where it may, so that what it measures is
    the relay.  stop() tells the longest wait for an answer, in seconds.
    """

    def __init__(self, port):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, 0, -20)
                theirs.sendall(json.dumps(probe(port, theirs)).encode())
            finally:
                os._exit(0)
        theirs.close()
        self.pipe = ours

    def wait_connected(self):
        self.pipe.recv(1)

    def stop(self):
        """{"noops": number of them, "worst": seconds, "at": since when it
        connected, "late": the worst that this machine let it wait itself}"""
        self.pipe.shutdown(socket.SHUT_WR)
        with self.pipe.makefile("rb") as f:
            raw = f.read()
        self.pipe.close()
        os.waitpid(self.pid, 0)
        if not raw.strip():
            raise Failed("the relay hung up on a client that says NOOP")
        return json.loads(raw)


def connect_soon(port, stop):
    while not stopped(stop):
        with contextlib.suppress(ConnectionRefusedError):
            s = socket.create_connection(("127.0.0.1", port), 60)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return s
        time.sleep(0.001)


def stopped(stop):
    return bool(select.select([stop], [], [], 0)[0])


def probe(port, stop):
    found = {"noops": 0, "worst": 0.0, "at": 0.0, "late": 0.0}
    begun = None
    while (s := connect_soon(port, stop)) is not None:
        with s, s.makefile("rb") as replies:
            if begun is None:
                begun = time.monotonic()
            replies.readline()
            if found["noops"] == 0:
                stop.sendall(b"\n")
            probe_session(found, begun, s, replies, stop)
    return found


def probe_session(found, begun, s, replies, stop):
    for _ in range(NOOPS_PER_SESSION):
        if stopped(stop):
            return
        start = time.monotonic()
        s.sendall(b"NOOP\r\n")
        if not replies.readline().startswith(b"250"):
            raise ConnectionError("no 250 for NOOP")
        end = time.monotonic()
        found["noops"] += 1
        if end - start > found["worst"]:
            found.update(worst=end - start, at=start - begun)
        time.sleep(0.001)
        found["late"] = max(found["late"], time.monotonic() - end - 0.001)


def attempts(n, measure, judge):
    """The figures of measure() that judge() has nothing against, of at most
    n times: another program may have had the processors."""
    for left in reversed(range(n)):
        figures = measure()
        try:
            judge(figures)
            return figures
        except Failed as e:
            if left == 0:
                raise
            print(f"    once more: {e}", flush=True)
