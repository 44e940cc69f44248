"""Very many clients that drip: each says something, and then a byte at a time,
seconds apart.  One selector, so that a machine can have ten thousand of them.
"""

import heapq
import random
import resource
import selectors
import socket
import time

from harness import RCPT, SENDER

# What a client has said before it begins to drip, and what it drips.
ENVELOPE = (f"EHLO drip.test\r\nMAIL FROM:<{SENDER}>\r\n"
            f"RCPT TO:<{RCPT}>\r\n").encode()
KINDS = {
    "silent": (b"", b""),
    "command": (b"EHLO drip.test\r\n", b"MAIL FROM:<" + b"x" * 900),
    "envelope": (ENVELOPE, b"RCPT TO:<" + b"y" * 900),
    "content": (ENVELOPE + b"DATA\r\n", b"Subject: " + b"z" * 900),
}


def allow_descriptors(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= n, f"{n} descriptors are needed, the hard limit is {hard}"
    if soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


class Drip:
    """n connections to 127.0.0.1:port, of these kinds in turn; a byte of each
    every `period` seconds while serve() runs."""

    def __init__(self, port, n, kinds=("command",), period=10.0):
        allow_descriptors(n + 200)
        self.port, self.period = port, period
        self.selector = selectors.DefaultSelector()
        self.clients = {}  # socket: bytes still to drip
        self.due = []
        self.refused = self.lost = 0
        for i in range(n):
            self.connect(i, *KINDS[kinds[i % len(kinds)]])
            if i % 64 == 63:
                self.take(0)

    def connect(self, i, said, drip):
        s = socket.socket()
        # Addresses of their own: one has not enough ports for all of them.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((f"127.1.{i % 200}.1", 0))
        s.connect(("127.0.0.1", self.port))
        if said:
            s.sendall(said)
        s.setblocking(False)
        self.selector.register(s, selectors.EVENT_READ)
        self.clients[s] = drip
        heapq.heappush(self.due, (time.monotonic() +
                                  random.random() * self.period, i, s))

    def take(self, timeout):
        """Read what the relay says; who is hung up on is gone."""
        for key, _ in self.selector.select(timeout):
            s = key.fileobj
            try:
                data = s.recv(4096)
            except ConnectionError:
                data = b""
            if data.startswith(b"421"):
                self.refused += 1
            if not data:
                self.lost += 1
                self.drop(s)

    def drop(self, s):
        self.selector.unregister(s)
        del self.clients[s]
        s.close()

    def serve(self, seconds):
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self.due and self.due[0][0] <= now:
                _, i, s = heapq.heappop(self.due)
                drip = self.clients.get(s)
                if not drip:
                    continue
                try:
                    s.send(drip[:1])
                except OSError:
                    continue  # take() will see why
                self.clients[s] = drip[1:]
                heapq.heappush(self.due, (now + self.period, i, s))
            following = self.due[0][0] if self.due else end
            self.take(max(0.0, min(end, following) - time.monotonic()))

    def close(self):
        for s in list(self.clients):
            self.drop(s)
        self.selector.close()


def memory_kib(pid):
    """What the process has in memory that is not shared with others."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise AssertionError("no Pss")
