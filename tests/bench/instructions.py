#!/usr/bin/env python3
"""make bench-instructions: what a message costs sesrelayd in instructions (by
callgrind) and system calls (by strace), for accept and for delivery.

Each is counted in a small run and in a larger one, and the difference is
divided by the difference of messages: so start and end cost nothing.  Unlike
time, instructions hardly depend on the machine and on what else it does; only
the size of batches does a little.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
from harness import BUILD, ROOT, Sesd, Workdir, make_certificates  # noqa
from harness import wait_until  # noqa
import growth  # noqa
import measure  # noqa
import turns  # noqa
from relays import Sesrelayd  # noqa

OUTPUT = ROOT / "build/bench"
SMALL, LARGE = 1000, 4000
SESSIONS, CONNECTIONS = 100, 50


class Wrapped(Sesrelayd):
    """sesrelayd under a tool."""

    def __init__(self, ctx, wrap):
        super().__init__(ctx, connections=CONNECTIONS)
        self.wrap = wrap

    def run(self, argv, **kwargs):
        super().run([*self.wrap, *argv], **kwargs)

    def end(self):
        """A clean end, for the tool to write what it counted."""
        for pid in self.group.pids():
            comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            if comm != "strace":
                signal.pidfd_send_signal(
                    os.pidfd_open(pid), signal.SIGTERM)
        self.process.wait(120)


def accept(ctx, relay, messages):
    ctx.pace()
    ctx.away()
    relay.start()
    turns.load(relay.port, messages, SESSIONS)


def deliver(ctx, relay, messages):
    ctx.pace()
    growth.fill(relay, messages)
    relay.start()
    wait_until(lambda: ctx.accepted() >= messages, "all to arrive", 300)


def through(ctx, relay, messages):
    """Accepted and sent at the same time, as mail mostly is."""
    ctx.pace()
    relay.start()
    turns.load(relay.port, messages, SESSIONS)
    wait_until(lambda: ctx.accepted() >= messages, "all to arrive", 300)


def callgrind(path):
    """Instructions in all threads."""
    total = 0
    for part in path.parent.glob(path.name + "*"):
        for line in part.read_text(errors="replace").splitlines():
            if line.startswith("totals:"):
                total += int(line.split()[1])
    return {"instructions": total}


def strace(path):
    """Calls by name."""
    calls = {}
    for line in path.read_text().splitlines():
        m = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$",
                     line)
        if m and m[2] != "total":
            calls[m[2]] = int(m[1])
    return calls


def count(ctx, job, messages, tool):
    path = ctx.root / f"{tool.__name__}-{job.__name__}-{messages}"
    wrap = {callgrind: ["valgrind", "-q", "--tool=callgrind",
                        f"--callgrind-out-file={path}"],
            strace: ["strace", "-f", "-c", "-o", str(path)]}[tool]
    relay = Wrapped(ctx, wrap)
    try:
        job(ctx, relay, messages)
        relay.end()
        return tool(path), path
    finally:
        relay.stop()


def profile(path, lines=40):
    """The functions that cost most by themselves."""
    out = subprocess.run(["callgrind_annotate", "--threshold=95", str(path)],
                         capture_output=True, text=True).stdout
    found = []
    for line in out.splitlines():
        m = re.match(r"\s*([\d,]+) \(\s*([\d.]+)%\)\s+(.*)$", line)
        if m and "PROGRAM TOTALS" not in line:
            # file:function [object]
            name = re.sub(r"^.*?:(?=[^:]+$)", "", m[3].split(" [")[0])
            found.append((float(m[2]), name))
    return found[:lines]


def main():
    OUTPUT.mkdir(parents=True, exist_ok=True)
    groups = measure.Groups()
    record = {}
    try:
        with Workdir("instructions") as root:
            root.chmod(0o755)
            certs = make_certificates(root / "certs", "rsa")
            upstream = Sesd(root / "sesd", certs, modes=("wrapper",))
            try:
                ctx = turns.Context(groups, upstream, certs, root)
                for job in (accept, deliver, through):
                    one = record[job.__name__] = {}
                    for tool in (callgrind, strace):
                        few, _ = count(ctx, job, SMALL, tool)
                        many, path = count(ctx, job, LARGE, tool)
                        one[tool.__name__] = {
                            k: (many[k] - few.get(k, 0)) / (LARGE - SMALL)
                            for k in many}
                        if tool is callgrind:
                            one["profile"] = profile(path)
            finally:
                upstream.close()
    finally:
        groups.close()
    (OUTPUT / "instructions.json").write_text(json.dumps(record, indent=1))
    for name, one in record.items():
        print(f"{name}: {one['callgrind']['instructions']:,.0f} instructions, "
              f"{sum(one['strace'].values()):.1f} system calls a message")
        for k, v in sorted(one["strace"].items(), key=lambda kv: -kv[1]):
            if v >= 0.005:
                print(f"    {k:<20} {v:.2f}")
        for share, function in one["profile"]:
            print(f"    {share:5.1f} % {function}")


if __name__ == "__main__":
    sys.exit(main())
