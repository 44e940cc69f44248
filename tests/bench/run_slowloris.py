#!/usr/bin/env python3
"""make slowloris: ten thousand connections, of which each drips a byte in ten
seconds, some into a command and some into a message, for a minute; and one
client that behaves.

Judged: the 99th percentile of what the well-behaved one waits, from its connect
to the 250 for its message, at most a second; memory, at most 8 KiB for each of
the connections; and none of them is hung up on for it.
"""

import argparse
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from drip import KINDS, Drip, memory_kib  # noqa
from harness import Relay, Sesd, Workdir, make_certificates  # noqa
from harness import wait_until  # noqa

SECONDS_P99, BYTES_EACH = 1.0, 8192


class Client(threading.Thread):
    """A message after the other, each in a session of its own."""

    def __init__(self, relay):
        super().__init__()
        self.relay, self.waits, self.stopped = relay, [], False

    def run(self):
        while not self.stopped:
            begun = time.monotonic()
            self.relay.send()
            self.waits.append(time.monotonic() - begun)
            time.sleep(0.05)


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


def measure(relay, n, seconds):
    pid = relay.process.pid
    empty = memory_kib(pid)
    begun = time.monotonic()
    drip = Drip(relay.port, n, list(KINDS))
    drip.serve(1)
    wait_until(lambda: relay.status()["sessions"] >= n, "all sessions", 60)
    print(f"{n} connections in {time.monotonic() - begun:.1f} s", flush=True)
    idle = memory_kib(pid) - empty
    client = Client(relay)
    client.start()
    drip.serve(seconds)
    client.stopped = True
    client.join()
    grown = memory_kib(pid) - empty
    left = relay.status()["sessions"]
    drip.close()
    return {"idle": idle * 1024 / n, "grown": grown * 1024 / n,
            "waits": client.waits, "lost": drip.lost, "left": left}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    n = args.connections
    with Workdir("slowloris") as path:
        sesd = Sesd(path / "sesd", make_certificates(path / "certs"))
        relay = Relay(path / "relay", sesd, verbose=False, config={
            "smtp.max_sessions": str(n + 100)})
        try:
            found = measure(relay, n, args.seconds)
            relay.wait_empty()
            delivered = sesd.stats()["accepted"]
        finally:
            relay.close()
            sesd.close()
    waits = found["waits"]
    p99 = percentile(waits, 0.99)
    print(f"a message, connect to 250: median "
          f"{percentile(waits, 0.5) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
          f"worst {max(waits) * 1000:.1f} ms, of {len(waits)}")
    print(f"memory of a connection: {found['idle']:.0f} bytes at first, "
          f"{found['grown']:.0f} bytes after {args.seconds:g} s")
    print(f"hung up on: {found['lost']}; still there: {found['left']}; "
          f"messages at the emulator: {delivered}")
    good = (p99 <= SECONDS_P99 and found["grown"] <= BYTES_EACH and
            found["idle"] <= BYTES_EACH and found["lost"] == 0 and
            found["left"] >= n and delivered == len(waits))
    print("slowloris:", "passed" if good else "FAILED")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
