"""Does a message cost the same in a small and in a large installation?  CPU
seconds of sesrelayd for 1,000 messages, over the length of the queue, the
number of sessions, and that of connections.

CPU time rather than rate: it says what a message costs where the machine's
cores are busy with the load generator and the upstream, too.  Each session
and each connection has its share of messages, however many there are: what is
asked is what a message costs, not what a greeting or a handshake does.
"""

import json
import subprocess
from functools import partial

import turns
from harness import BUILD, wait_until
from relays import Sesrelayd

QUEUE = (1_000, 10_000, 100_000, 1_000_000)
SESSIONS = (1, 10, 100, 1_000)
CONNECTIONS = (1, 5, 20, 50, 100, 500)
FLAT = 0.20  # the spread of cost that is allowed


def status(relay):
    out = subprocess.run(
        [str(BUILD / "sesrelayctl"), "-s", str(relay.dir / "control"),
         "--json", "status"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def fill(relay, messages):
    """Puts messages into the spool of a relay that doesn't run yet."""
    arrivals = relay.dir / "spool/arrivals"
    arrivals.mkdir(mode=0o700)
    (relay.dir / "spool").chmod(0o700)
    subprocess.run([str(BUILD / "mkspool"), str(relay.dir / "spool"),
                    str(messages)], check=True, stdout=subprocess.DEVNULL)


def used(relay, ctx, until):
    """CPU seconds and messages, until so many have arrived."""
    before, from_ = relay.group.cpu_seconds(), ctx.accepted()
    wait_until(lambda: ctx.accepted() >= until, f"{until} to arrive", 600)
    return ((relay.group.cpu_seconds() - before) * 1000 /
            max(ctx.accepted() - from_, 1))


def queue(ctx, length, messages):
    """Messages accepted, and messages sent, beside a queue of that length."""
    relay = Sesrelayd(ctx)
    try:
        ctx.pace()
        ctx.away()
        fill(relay, length)
        relay.start()
        wait_until(lambda: not status(relay)["spool"]["scanning"],
                   "the queue to be read", 600)
        before = relay.group.cpu_seconds()
        turns.load(relay.port, messages, 10)
        accept = (relay.group.cpu_seconds() - before) * 1000 / messages
        memory = relay.group.pss_bytes()
        ctx.upstream.control("refuse off")
        relay.flush()
        wait_until(lambda: ctx.accepted() >= 200, "the first to arrive", 60)
        return {"accept": accept, "memory": memory,
                "deliver": used(relay, ctx, messages)}
    finally:
        relay.stop()


def sessions(ctx, count, messages):
    relay = Sesrelayd(ctx)
    try:
        out = turns.accept(ctx, relay, messages, count)
        return {"accept": out["cpu"], "memory": out["memory"]}
    finally:
        relay.stop()


def connections(ctx, count, messages):
    """A queue sent by so many connections; all of it, with their opening and
    renewal."""
    relay = Sesrelayd(ctx, connections=count)
    try:
        ctx.pace()
        ctx.away()
        fill(relay, messages)
        relay.start()
        ctx.upstream.control("refuse off")
        with turns.PeakMemory(relay.group) as memory:
            cost = used(relay, ctx, messages)
        return {"deliver": cost, "memory": memory.peak}
    finally:
        relay.stop()


def jobs(quick):
    """(key, name, function of the context)."""
    for n in QUEUE[:2] if quick else QUEUE:
        yield "grow-queue", str(n), partial(
            queue, length=n, messages=800 if quick else 5000)
    for n in (1, 100, 1000) if quick else SESSIONS:
        yield "grow-sessions", str(n), partial(
            sessions, count=n,
            messages=1500 if quick else max(2000, 100 * n))
    for n in (1, 50, 500) if quick else CONNECTIONS:
        yield "grow-connections", str(n), partial(
            connections, count=n,
            messages=2000 if quick else max(10000, 200 * n))
