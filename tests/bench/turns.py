"""What is measured: one function a kind of work.  Each takes the context and a
relay that was made but not started, and returns figures by name.

Rates are in messages/s, times in milliseconds, memory in bytes, CPU in seconds
for 1,000 messages.  What the relay's processes use is counted from before the
load to the end of the work.
"""

import json
import subprocess
import time

from harness import (BUILD, PASSWORD, RCPT, SENDER, USER, Submission, message,
                     wait_until)
from measure import PeakMemory

DOT_MS = 50  # the server's time from the final dot to its reply
MIB = 1048576


class Context:
    """Upstream and directories, shared by all turns of a run."""

    def __init__(self, groups, upstream, certs, root):
        self.groups, self.upstream = groups, upstream
        self.certs, self.root = certs, root
        self.turn = 0
        self.journal_at = 0

    def directory(self, name):
        self.turn += 1
        path = self.root / f"{self.turn}-{name}"
        path.mkdir()
        return path

    def pace(self, rtt_ms=0, dot_ms=0):
        """Latency of the network and of the server.  A wrapper's handshake
        in TLS 1.3 is one round trip."""
        up = self.upstream
        up.control("clear")
        for key, value in (("rate", 0), ("latency", f"{rtt_ms}ms"),
                           ("tls_latency", f"{rtt_ms}ms"),
                           ("dot_latency", f"{rtt_ms + dot_ms}ms")):
            up.set(key, value)
        up.control("refuse off")
        self.stats = up.stats()
        self.journal_at = up.journal.stat().st_size

    def away(self):
        self.upstream.control("refuse on")

    def accepted(self):
        """Since pace()."""
        return self.upstream.stats()["accepted"] - self.stats["accepted"]

    def wait_accepted(self, count, seconds):
        """Whether they came in time; looks every 10 ms."""
        end = time.monotonic() + seconds
        while self.accepted() < count:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def journal(self):
        """Entries since pace()."""
        with open(self.upstream.journal, "rb") as lines:
            lines.seek(self.journal_at)
            return [json.loads(line) for line in lines.read().splitlines()]


def generator(port, messages, sessions, size=4096):
    return [str(BUILD / "load"), "--connect", f"127.0.0.1:{port}",
            "--messages", str(messages), "--sessions", str(sessions),
            "--size", str(size), "--deadline", "300", "--json",
            "--from", SENDER, "--to", "user%d@example.net"]


def load(*args, **kwargs):
    done = subprocess.run(generator(*args, **kwargs), text=True,
                          capture_output=True)
    result = json.loads(done.stdout.splitlines()[-1])
    if done.returncode != 0:
        raise RuntimeError(f"load: {result}: {done.stderr}")
    return result


def figures(result):
    out = {"rate": result["msgs_per_s"]}
    out.update(result["latency_ms"])
    return out


def accept(ctx, relay, messages, sessions, size=4096):
    """Durable accept while the upstream is away."""
    ctx.pace()
    ctx.away()
    relay.start()
    before = relay.group.cpu_seconds()
    with PeakMemory(relay.group) as memory:
        out = figures(load(relay.port, messages, sessions, size))
    out["cpu"] = (relay.group.cpu_seconds() - before) * 1000 / messages
    out["memory"] = memory.peak
    return out


def end_to_end(ctx, relay, messages, rtt_ms, dot_ms=DOT_MS, sessions=100,
               size=4096):
    """From the first MAIL to the last message at the upstream."""
    ctx.pace(rtt_ms, dot_ms)
    relay.start()
    out = {"idle": relay.group.pss_bytes()}
    before, began = relay.group.cpu_seconds(), time.monotonic()
    with PeakMemory(relay.group) as memory:
        out.update(figures(load(relay.port, messages, sessions, size)))
        arrived = ctx.wait_accepted(messages, 300)
        seconds = time.monotonic() - began
    if not arrived:
        raise RuntimeError(f"{relay.name}: not all arrived")
    out["rate"] = messages / seconds
    out["mib"] = messages * size / MIB / seconds
    out["cpu"] = (relay.group.cpu_seconds() - before) * 1000 / messages
    out["memory"] = memory.peak
    return out


def drain(ctx, relay, messages, rtt_ms, patience):
    """A queue that gathered while the upstream was away; then it is back, and
    the operator asks for all of it, again every ten seconds."""
    ctx.pace(rtt_ms, DOT_MS)
    ctx.away()
    relay.start()
    load(relay.port, messages, 100)
    ctx.upstream.control("refuse off")
    before, began = relay.group.cpu_seconds(), time.monotonic()
    while time.monotonic() - began < patience:
        relay.flush()
        if ctx.wait_accepted(messages, 10):
            break
    seconds = time.monotonic() - began
    used = relay.group.cpu_seconds() - before
    return {"rate": ctx.accepted() / seconds, "cpu": used * 1000 / messages,
            "left": max(messages - ctx.accepted(), 0)}


def throttled(ctx, relay, messages, patience):
    """The upstream takes 100 a second and no more."""
    ctx.pace(10, DOT_MS)
    ctx.upstream.set("rate", 100)
    relay.start()
    began = time.monotonic()
    load(relay.port, messages, 100)
    ctx.wait_accepted(messages, patience)
    seconds = time.monotonic() - began
    stats = ctx.upstream.stats()
    refused = stats["throttled"] - ctx.stats["throttled"]
    accepted = stats["accepted"] - ctx.stats["accepted"]
    return {"rate": accepted / seconds, "left": messages - accepted,
            "throttled": 100 * refused / (refused + accepted)}


def one_message(ctx, port, rtt_ms):
    """Milliseconds from the end of its content to the upstream's reply having
    arrived, by the upstream's clock."""
    count = ctx.accepted() + 1
    with Submission(port) as session:
        session.begin(SENDER, (RCPT,))
        began = time.time()
        session.sock.sendall(message() + b".\r\n")
        if not session.reply().startswith("250 "):
            raise RuntimeError("refused")
    if not ctx.wait_accepted(count, 30):
        raise RuntimeError("not delivered")
    last = [e for e in ctx.journal() if "event" not in e][-1]
    return (last["time"] - began) * 1000 + rtt_ms + DOT_MS


def latency(ctx, relay, times, rtt_ms=10):
    """The first message, and later ones on connections that are open."""
    ctx.pace(rtt_ms, DOT_MS)
    relay.start()
    cold = one_message(ctx, relay.port, rtt_ms)
    warm = []
    for _ in range(times):
        time.sleep(1)  # the connection is idle by then
        warm.append(one_message(ctx, relay.port, rtt_ms))
    warm.sort()
    return {"cold": cold, "warm": warm[len(warm) // 2]}


def faults(ctx, relay, messages, patience):
    """2 % of the replies to the final dot get lost, and 2 % of the bodies are
    cut off."""
    ctx.pace(10, DOT_MS)
    ctx.upstream.rule("on DOT every 50 accept close")
    ctx.upstream.rule("on BODY every 50 close")
    relay.start()
    began = time.monotonic()
    load(relay.port, messages, 100)

    def copies():
        count = {}
        for e in ctx.journal():
            if "event" not in e:
                count[e["message_id"]] = count.get(e["message_id"], 0) + 1
        return count
    while time.monotonic() - began < patience:
        if ctx.accepted() >= messages and len(copies()) >= messages:
            break
        time.sleep(0.2)
    seconds = time.monotonic() - began
    seen = copies()
    lost = sum(e.get("event") == "rule" and e["phase"] == "DOT"
               for e in ctx.journal())
    return {"seconds": seconds, "left": messages - len(seen),
            "twice": sum(n - 1 for n in seen.values()), "lost": lost}


def bare(ctx, messages, rtt_ms, dot_ms=DOT_MS, connections=50, size=4096):
    """A client without a queue: the limit."""
    ctx.pace(rtt_ms, dot_ms)
    return run_bare(ctx, messages, connections, size)


def run_bare(ctx, messages, connections, size=4096):
    before = ctx.groups.all.cpu_seconds()
    done = subprocess.run(
        [str(BUILD / "bareclient"), "-w", "-u", USER, "-p", PASSWORD,
         "-a", f"127.0.0.1:{ctx.upstream.ports['wrapper']}",
         "-n", str(messages), "-c", str(connections), "-s", str(size),
         "-x", f"bare{ctx.turn}"],
        capture_output=True, text=True)
    ctx.turn += 1
    if done.returncode != 0:
        raise RuntimeError(f"bareclient: {done.stderr}")
    result = json.loads(done.stdout)
    used = ctx.groups.all.cpu_seconds() - before
    return {"rate": result["msgs_per_s"], "mib": result["mib_per_s"],
            "steady": result["second_half_msgs_per_s"],
            "cpu": result["cpu_s"] * 1000 / messages,
            "upstream_cpu": (used - result["cpu_s"]) * 1000 / messages,
            "seconds": result["wall_s"]}


def bare_latency(ctx, rtt_ms=10):
    ctx.pace(rtt_ms, DOT_MS)
    cold = run_bare(ctx, 1, 1)["seconds"] * 1000
    return {"cold": cold, "warm": 1000 / run_bare(ctx, 10, 1)["steady"]}


def disk(ctx, seconds, sessions):
    """What this disk gives a log that does nothing but commit groups."""
    directory = ctx.directory("log")
    done = subprocess.run(
        [str(BUILD / "logbench"), "--directory", str(directory), "--writers",
         str(sessions), "--size", "4096", "--seconds", str(seconds),
         "--json"], capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[0])
    return {"rate": next(v for k, v in line.items()
                         if k.startswith("records") and isinstance(v, float))}


def sink(ctx, messages, sessions):
    """Postfix's test server, which says 250 and forgets."""
    from relays import Sink
    server = Sink(ctx)
    try:
        server.start()
        return figures(load(server.port, messages, sessions))
    finally:
        server.stop()
