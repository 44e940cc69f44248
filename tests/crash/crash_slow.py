"""A disk that takes two seconds for every sync (strace delays the call): the
loop must not feel it.

While one batch is synced, another session's NOOP is answered at once, mail
that was accepted before is delivered, and all that comes in meanwhile shares
the next sync.
"""
import concurrent.futures
import pathlib
import tempfile
import time

from crashlib import Failed, need
from crashprobe import Prober, attempts
from harness import Relay, Sesd, make_certificates

NAME = "slow"
ABOUT = "syncs that take two seconds"

DELAY_S = 2.0
SESSIONS = 30
QUEUED = 20
NOOP_MS = 50.0


def slow_syncs(after, log):
    """Words to put before the relay: when a thread of it has synced `after`
    files, each more takes DELAY_S.  Other calls are not looked at."""
    return ("nice", "-n", "-15", "strace", "-D", "-f", "--seccomp-bpf", "-qq",
            "-o", str(log), "-e", "trace=fdatasync", "-e",
            f"inject=fdatasync:delay_enter={int(DELAY_S * 1000000)}:"
            f"when={after + 1}+")


def timed_send(relay):
    begun = time.monotonic()
    relay.send()
    return time.monotonic() - begun


def measure(work, certs):
    directory = pathlib.Path(tempfile.mkdtemp(dir=work))
    sesd = Sesd(directory / "sesd", certs, modes=("wrapper",))
    sesd.control("refuse on")
    relay = Relay(directory / "relay", sesd, "wrapper", verbose=False,
                  start=False)
    try:
        relay.start(wrap=slow_syncs(QUEUED, directory / "strace"))
        for _ in range(QUEUED):
            relay.send()
        need(sesd.messages() == [], "mail came to an emulator that is away")
        return observe(relay, sesd)
    except (AssertionError, OSError) as e:
        raise Failed(str(e)) from e
    finally:
        relay.close()
        sesd.close()


def observe(relay, sesd):
    syncs = relay.counter("spool_syncs_total")
    prober = Prober(relay.port)
    prober.wait_connected()
    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        handed_in = [pool.submit(timed_send, relay) for _ in range(SESSIONS)]
        begun = time.monotonic()
        sesd.control("refuse off")
        sesd.wait_messages(QUEUED)
        delivered = time.monotonic() - begun
        waited = max(f.result() for f in handed_in)
    sesd.wait_messages(QUEUED + SESSIONS)
    probe = prober.stop()
    syncs = relay.counter("spool_syncs_total") - syncs
    return {"noops": probe["noops"], "worst_ms": probe["worst"] * 1000,
            "late_ms": probe["late"] * 1000, "delivered_s": delivered,
            "waited_s": waited, "syncs": syncs}


def judge(f):
    need(f["worst_ms"] - f["late_ms"] <= NOOP_MS,
         f"a NOOP waited {f['worst_ms']:.1f} ms")
    # Who comes first is synced alone, all others together.
    need(f["syncs"] <= 3, f"{SESSIONS} messages took {f['syncs']} syncs")
    need(f["waited_s"] >= DELAY_S, "the syncs were not slow at all")
    # The outcome of each is written before its connection sends the next dot,
    # by the thread that syncs.
    need(f["delivered_s"] <= 4 * DELAY_S, "what was accepted before was "
         f"delivered after {f['delivered_s']:.1f} s only")


def run(work, sample):
    certs = make_certificates(work / "certs")
    f = attempts(3, lambda: measure(work, certs), judge)
    return (f"longest of {f['noops']} NOOPs {f['worst_ms']:.1f} ms (the "
            f"machine's own {f['late_ms']:.1f} ms); {SESSIONS} messages "
            f"accepted in {f['syncs']} syncs, {f['waited_s']:.1f} s; "
            f"{QUEUED} older ones delivered meanwhile in "
            f"{f['delivered_s']:.2f} s")
