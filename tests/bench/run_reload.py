#!/usr/bin/env python3
"""make reload: a hundred reloads a minute at 200 messages/s, good and broken
files in turn.

A good file changes keys of every part: endpoint's ports, rotation, limits, the
log, rewriting.  A broken one is wrong in one of many ways, and has to leave
what was in force alone.  Judged by the emulator's journal: 0 lost, 0
duplicated; by the relay: each reload had the outcome of its file, nothing was
answered but 250, no descriptor and no memory is left behind.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, ROOT, SANITIZED, Relay, Sesd, Workdir  # noqa
from harness import make_certificates, wait_until  # noqa

# Key and value: each is a mistake, some found only after all else was right.
BROKEN = [
    ("smtp.timeout", '"never"'),
    ("smtp.max_sesions", "10"),
    ("delivery.retry", "[ ]"),
    ("delivery.connections", "5000000000"),
    ("ses.ca_file", '"/nonexistent/ca.pem"'),
    ("ses.ca_file", '"/dev/null"'),
    ("ses.password_file", '"/nonexistent/password"'),
    ("ses.ports", '[ "2525" ]'),
    ("rewrite.aliases_file", '"/nonexistent/aliases"'),
    ("log.level", '"loud"'),
    ("log.name", '"no'),
]


def good_change(rng, sesd):
    ports = [(sesd.ports[mode], mode) for mode in ("starttls", "wrapper")]
    rng.shuffle(ports)
    return {
        "ses.ports": "[ {} ]".format(", ".join(
            f'"{port}:{mode}"' for port, mode in ports)),
        "delivery.messages_per_connection": str(rng.randrange(20, 200)),
        "delivery.connections": str(rng.randrange(10, 30)),
        "delivery.connection_lifetime": f'"{rng.randrange(2, 60)}s"',
        "smtp.max_recipients": str(rng.randrange(100, 1000)),
        "smtp.max_message_size": f'"{rng.randrange(10, 40)}M"',
        "smtp.hostname": f'"relay{rng.randrange(9)}.test"',
        "ses.tags": f'[ "round={rng.randrange(1000)}" ]',
        "rewrite.default_domain": f'"d{rng.randrange(9)}.example.com"',
        "log.name": rng.choice(['"sesrelayd"', '"postfix"']),
        "log.format": rng.choice(['"text"', '"json"']),
        "spool.min_free": f'"{rng.randrange(1, 9)}M"',
    }


def descriptors(relay):
    """What is open, without the sockets: their number goes with the load."""
    found = []
    for fd in pathlib.Path(f"/proc/{relay.process.pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if not target.startswith("socket:"):
            found.append(target)
    return found


def sockets(relay):
    return sum(1 for fd in pathlib.Path(
        f"/proc/{relay.process.pid}/fd").iterdir()
        if os.path.lexists(fd) and "socket:" in (_readlink(fd) or ""))


def _readlink(path):
    try:
        return os.readlink(path)
    except OSError:
        return None


def memory_kib(relay):
    for line in pathlib.Path(
            f"/proc/{relay.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class Torture:
    """Reloads at even intervals until the load has ended."""

    def __init__(self, sesd, relay, per_minute, seed):
        self.sesd, self.relay = sesd, relay
        self.interval = 60 / per_minute
        self.rng = random.Random(seed)
        self.plain = dict(relay.settings)
        self.good = self.refused = 0
        self.wrong = []
        self.memory, self.files = [], []

    def one(self, n):
        broken = n % 2 == 1
        change = good_change(self.rng, self.sesd)
        word = None
        if broken:
            key, value = BROKEN[n // 2 % len(BROKEN)]
            change[key] = value
            word = key.split(".")[1][:6]
        self.relay.settings = {**self.plain, **change}
        self.relay.write_config()
        done = self.relay.run_ctl("reload")
        if broken and done.returncode == 1 and (
                word in done.stderr or "no end" in done.stderr):
            self.refused += 1
        elif not broken and done.returncode == 0:
            self.good += 1
        else:
            self.wrong.append((change if not broken else key,
                               done.returncode, done.stdout, done.stderr))
        self.memory.append(memory_kib(self.relay))
        self.files.append(len(descriptors(self.relay)))

    def run(self, alive):
        due = time.monotonic()
        n = 0
        while alive():
            if time.monotonic() < due:
                time.sleep(min(0.05, self.interval))
                continue
            due = max(due + self.interval, time.monotonic())
            self.one(n)
            n += 1


def torture(directory, certs, seconds, rate=200, per_minute=100, seed=1):
    """The counts, as a dict; "good" says whether all is as it should be."""
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, verbose=False)
    acked = directory / "acked"
    try:
        before = descriptors(relay)
        load = subprocess.Popen(
            [str(BUILD / "load"), "--connect", f"127.0.0.1:{relay.port}",
             "--messages", str(int(rate * seconds)), "--rate", str(rate),
             "--sessions", "20", "--per-session", "100", "--size", "2048",
             "--acked", str(acked), "--json", "--prefix", "torture",
             "--deadline", str(seconds * 5 + 60)],
            stdout=subprocess.PIPE, text=True)
        t = Torture(sesd, relay, per_minute, seed)
        began = time.monotonic()
        t.run(lambda: load.poll() is None)
        took = time.monotonic() - began
        result = json.loads(load.communicate()[0].splitlines()[-1])
        wait_until(lambda: relay.count() == 0, "an empty queue", 120)
        # Back to where it began: idle connections go, files stay.
        relay.settings = t.plain
        relay.write_config()
        relay.ctl("reload")
        wait_until(lambda: sum(relay.status()["connections"][s] for s in
                               ("idle", "busy", "connecting")) == 0,
                   "the end of the connections", 60)
        after = descriptors(relay)
        left = sockets(relay)
        code = relay.stop()
        log = relay.log()
        sesd.control("quit")
        sesd.process.wait()
        verdict = json.loads(subprocess.run(
            [sys.executable, str(ROOT / "tests/bench/judge.py"), "--acked",
             str(acked), "--journal", str(sesd.journal), "--json"],
            capture_output=True, text=True).stdout)
        half = len(t.memory) // 2
        growth = max(t.memory[half:]) - max(t.memory[:half])
        counts = {
            "seconds": round(took, 1),
            "reloads": t.good + t.refused + len(t.wrong),
            "good": t.good, "refused": t.refused, "wrong": len(t.wrong),
            "messages": result["acked"],
            "lost": verdict["lost"],
            "duplicated": verdict["extra_copies"],
            "errors": sum(result["errors"].values()),
            "bounced_or_deferred": log.count("=bounced") +
            log.count("=deferred") + log.count('"status":"bounced"') +
            log.count('"status":"deferred"'),
            "files_before": len(before), "files_after": len(after),
            "sockets_after": left,
            "memory_first_half_kib": max(t.memory[:half]),
            "memory_second_half_kib": max(t.memory[half:]),
            "exit_code": code,
        }
        counts["examples"] = t.wrong[:3]
        counts["ok"] = (
            not t.wrong and counts["lost"] == 0 and
            counts["duplicated"] == 0 and counts["errors"] == 0 and
            counts["bounced_or_deferred"] == 0 and
            result["acked"] == int(rate * seconds) and
            len(after) <= len(before) + 2 and left <= 6 and code == 0 and
            (SANITIZED or growth < 2048))
        return counts
    finally:
        relay.close()
        sesd.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--per-minute", type=int, default=100)
    args = parser.parse_args()
    with Workdir("reload") as directory:
        certs = make_certificates(directory / "certs")
        counts = torture(directory, certs, args.seconds, args.rate,
                         args.per_minute)
    examples = counts.pop("examples")
    for name, value in counts.items():
        print(f"{name.replace('_', ' '):<24} {value}")
    for example in examples:
        print(f"  {example}")
    print("\nreload: " + ("good" if counts["ok"] else "FAILED"))
    return 0 if counts["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
