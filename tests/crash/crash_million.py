"""A start with a million messages in the spool (mkspool.c writes it): how
soon the relay accepts and delivers, what it needs for each message, and
whether its loop ever stalls, also under the verbs that concern all of them.
The relay runs before other programs where it may, for it is not their work
that is measured.
"""
import os
import shutil
import subprocess
import time

from crashlib import Failed, need
from crashprobe import Prober, attempts
from harness import BUILD, Relay, Sesd, make_certificates, wait_until

NAME = "million"
ABOUT = "a start with a million messages in the spool"

# With margins where other programs may have the processors.
LIMITS = {"accept_s": 2.0, "deliver_s": 5.0, "bytes": 200, "stall_ms": 50.0,
          "verb_s": 1.0}
SAMPLE = {key: limit * 3 for key, limit in LIMITS.items()} | {"bytes": 250}


def fill(spool, count):
    (spool / "arrivals").mkdir(parents=True, mode=0o700)
    spool.chmod(0o700)
    done = subprocess.run([str(BUILD / "mkspool"), str(spool), str(count)],
                          capture_output=True, text=True, check=True)
    return int(done.stdout)


def resident_bytes(relay):
    with open(f"/proc/{relay.process.pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise Failed("the relay is not there")


def scanned(relay):
    return not relay.status()["spool"]["scanning"]


def start(relay, figures):
    """Starts it, and accepts one message as soon as that can be."""
    prober = Prober(relay.port)
    begun = time.monotonic()
    relay.start(wait=False, wrap=("nice", "-n", "-15"))
    wait_until(lambda: listens(relay), "the relay to listen")
    relay.send()
    figures["accept_s"] = max(figures.get("accept_s", 0.0),
                              time.monotonic() - begun)
    return prober, begun


def listens(relay):
    need(relay.process.alive(), "the relay ended: " + relay.log()[-1000:])
    try:
        relay.submit().close()
        return True
    except ConnectionRefusedError:
        return False


def stop_probe(prober, figures, phase):
    """What a NOOP waited longer than the prober itself for a processor."""
    found = prober.stop()
    wait, late = found["worst"] * 1000, found["late"] * 1000
    figures.setdefault("stalls", []).append(
        f"{phase} {wait:.1f} ms (of {found['noops']} NOOPs; the machine's "
        f"own {late:.1f} ms)")
    figures["stall_ms"] = max(figures.get("stall_ms", 0.0), wait - late)


def empty_bytes(directory):
    relay = Relay(directory, verbose=False)
    try:
        relay.wait_log("spool read")
        relay.send()
        return resident_bytes(relay)
    finally:
        relay.close()


def with_ses(relay, sesd, figures):
    """The emulator is there from the beginning."""
    sesd.control("refuse off")
    prober, begun = start(relay, figures)
    wait_until(lambda: sesd.stats()["accepted"] > 0, "a delivery", 60)
    figures["deliver_s"] = time.monotonic() - begun
    wait_until(lambda: scanned(relay), "the end of the scan", 300)
    stop_probe(prober, figures, "scan and delivery")
    sesd.control("refuse on")
    relay.kill()


def without_ses(relay, figures, empty):
    """It is away; so the queue stays as it is."""
    prober, begun = start(relay, figures)
    wait_until(lambda: scanned(relay), "the end of the scan", 300)
    figures["scan_s"] = time.monotonic() - begun
    stop_probe(prober, figures, "scan")
    queued = relay.count()
    figures["queued"] = queued
    figures["bytes"] = (resident_bytes(relay) - empty) / queued


def probe_now(relay):
    prober = Prober(relay.port)
    prober.wait_connected()
    return prober


def timed(relay, figures, name, *verb):
    """A verb, with its time and what it does to others."""
    prober = probe_now(relay)
    begun = time.monotonic()
    relay.ctl(*verb)
    took = time.monotonic() - begun
    figures.setdefault("verbs", []).append(f"{name} {took * 1000:.0f} ms")
    stop_probe(prober, figures, name)
    return took


def first_row(relay, figures):
    """`queue` may take long to print them all, but not to begin."""
    prober = probe_now(relay)
    begun = time.monotonic()
    argv = [str(BUILD / "sesrelayctl"), "-s", str(relay.control), "--json",
            "queue"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as ctl:
        line = ctl.stdout.readline()
        took = time.monotonic() - begun
        while time.monotonic() < begun + 1 and ctl.stdout.readline():
            pass
        ctl.stdout.close()
        ctl.kill()
    need(line.startswith(b"{"), f"queue: {line!r}")
    figures.setdefault("verbs", []).append(
        f"first row of queue {took * 1000:.0f} ms")
    stop_probe(prober, figures, "queue")
    return took


def knows(relay, verb):
    return f"\n  {verb}" in relay.run_ctl("-h").stdout


def verbs(relay, figures):
    worst = max(timed(relay, figures, "status", "status"),
                timed(relay, figures, "count", "count"),
                first_row(relay, figures))
    if knows(relay, "retry"):
        worst = max(worst, timed(relay, figures, "retry --all", "retry",
                                 "--all"))
    if knows(relay, "delete"):
        delete_all(relay, figures)
    figures["verb_s"] = worst


def delete_all(relay, figures):
    """May take its time, but not the loop's, and gives the space back."""
    full = relay.status()["spool"]["bytes"]
    prober = probe_now(relay)
    begun = time.monotonic()
    relay.ctl("delete", "--all", "--yes")
    wait_until(lambda: relay.count() == 0, "an empty queue", 120)
    stop_probe(prober, figures, "delete --all")
    wait_until(lambda: disk_bytes(relay.spool / "arrivals") < full / 20,
               "the space of deleted messages", 60)
    figures["verbs"].append(
        f"delete --all {time.monotonic() - begun:.1f} s, space included")


def disk_bytes(directory):
    return sum(e.stat().st_blocks * 512 for e in os.scandir(directory))


def measure(work, certs, count):
    figures = {}
    directory = work / "million"
    sesd = Sesd(directory / "sesd", certs, modes=("wrapper",))
    relay = Relay(directory / "relay", sesd, "wrapper", start=False,
                  verbose=False)
    try:
        fill(relay.spool, count)
        empty = empty_bytes(directory / "empty")
        with_ses(relay, sesd, figures)
        without_ses(relay, figures, empty)
        verbs(relay, figures)
        need(relay.stop() == 0, "the relay did not stop well")
        return figures
    except (AssertionError, OSError) as e:
        raise Failed(f"{e}; the relay's log ends\n" +
                     relay.log()[-1000:]) from e
    finally:
        relay.close()
        sesd.close()
        shutil.rmtree(directory)


def judge(figures, limits):
    over = [f"{key} {figures[key]:.1f}, at most {limit}"
            for key, limit in limits.items() if figures[key] > limit]
    need(not over, "; ".join([*over, *figures["stalls"], *figures["verbs"]]))


def run(work, sample):
    certs = make_certificates(work / "certs")
    count = 200_000 if sample else 1_000_000
    limits = SAMPLE if sample else LIMITS
    f = attempts(3, lambda: measure(work, certs, count),
                 lambda figures: judge(figures, limits))
    return (f"{f['queued']} messages: accepting after {f['accept_s']:.2f} s, "
            f"first delivery after {f['deliver_s']:.2f} s, read in "
            f"{f['scan_s']:.1f} s, {f['bytes']:.0f} bytes each; longest "
            f"stalls: {'; '.join(f['stalls'])}; {', '.join(f['verbs'])}")
