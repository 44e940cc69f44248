#!/usr/bin/env python3
"""make load: 20,000 messages of 4 KiB from 100 sessions through the relay to
the SES emulator; then the same while the relay is killed (-9) three times.

Judged by the emulator's journal against what the load generator saw
acknowledged: 0 lost in both runs, 0 duplicated in the first, and in the second
no more duplicates than transactions that were in flight at the kills.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, ROOT, Relay, Sesd, Workdir  # noqa
from harness import make_certificates, wait_until  # noqa

CONNECTIONS = 20


def generator(relay, args, acked, retry):
    argv = [str(BUILD / "load"), "--connect", f"127.0.0.1:{relay.port}",
            "--messages", str(args.messages), "--sessions",
            str(args.sessions), "--size", str(args.size), "--acked",
            str(acked), "--json", "--prefix", acked.stem]
    return argv + (["--retry", "--deadline", "300"] if retry else [])


def judge(acked, journal, max_duplicates):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench/judge.py"), "--acked",
         str(acked), "--journal", str(journal), "--max-duplicates",
         str(max_duplicates), "--json"], capture_output=True, text=True)
    return json.loads(done.stdout), done.returncode == 0


def accepted(sesd):
    return sesd.stats()["accepted"]


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def drained(relay):
    status = relay.status()
    queue = status["queue"]
    return (not status["spool"]["scanning"] and
            sum(queue[s] for s in ("ready", "waiting", "active", "held")) == 0)


def sent_twice(sesd):
    """Copies that the relay itself sent again: the same content, its Received
    field with the queue id included.  A client that got no 250 and sends its
    message again gets another queue id."""
    seen = collections.Counter(m["sha256"] for m in sesd.messages())
    return sum(n - 1 for n in seen.values())


def report(title, result, verdict, rate, memory):
    print(f"\n{title}")
    print(f"  acknowledged {result['acked']}, arrived {verdict['arrived']}, "
          f"lost {verdict['lost']}, extra copies {verdict['extra_copies']}")
    latency = result["latency_ms"]
    print(f"  accepted {result['msgs_per_s']:.0f} messages/s, 250 after the "
          f"dot: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms; "
          f"delivered {rate:.0f} messages/s")
    print(f"  peak memory of the relay {memory / 1024:.1f} MiB")


def plain_run(args, directory, certs):
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, args.mode, verbose=False)
    acked = directory / "plain.acked"
    try:
        began = time.monotonic()
        done = subprocess.run(generator(relay, args, acked, False),
                              capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        wait_until(lambda: drained(relay), "the queue to drain", 300)
        rate = accepted(sesd) / (time.monotonic() - began)
        memory = relay.peak_memory_kib()
        code = relay.stop()
        sesd.control("quit")
        sesd.process.wait()
        verdict, good = judge(acked, sesd.journal, 0)
        report(f"{args.messages} messages of {args.size} bytes, "
               f"{args.sessions} sessions", result, verdict, rate, memory)
        return good and code == 0 and result["acked"] == args.messages
    finally:
        relay.close()
        sesd.close()


def killed_run(args, directory, certs):
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, args.mode, verbose=False)
    acked = directory / "killed.acked"
    memory, in_flight = 0, 0
    try:
        began = time.monotonic()
        load = subprocess.Popen(generator(relay, args, acked, True),
                                stdout=subprocess.PIPE, text=True)
        for kill in range(1, 4):
            mark = args.messages * kill // 5
            wait_until(lambda: load.poll() is not None or
                       lines(acked) >= mark, f"{mark} messages", 300)
            assert load.poll() is None, "the load ended before the kill"
            memory = max(memory, relay.peak_memory_kib())
            in_flight += CONNECTIONS
            relay.kill()
            relay.start()
        output, _ = load.communicate(timeout=400)
        result = json.loads(output.splitlines()[-1])
        wait_until(lambda: drained(relay), "the queue to drain", 300)
        rate = accepted(sesd) / (time.monotonic() - began)
        memory = max(memory, relay.peak_memory_kib())
        code = relay.stop()
        sesd.control("quit")
        sesd.process.wait()
        # What was durable but not acknowledged is sent again by the client.
        allowed = in_flight + result["in_doubt"]
        verdict, good = judge(acked, sesd.journal, allowed)
        report("the same, kill -9 three times", result, verdict, rate, memory)
        again = sent_twice(sesd)
        print(f"  sent twice by the relay {again}, in flight to SES at the "
              f"kills at most {in_flight}; sent again by the client "
              f"{verdict['extra_copies'] - again}, between dot and 250 "
              f"{result['in_doubt']}")
        return (good and code == 0 and again <= in_flight and
                result["acked"] == args.messages)
    finally:
        relay.close()
        sesd.close()


def outage_run(args, directory, certs):
    """The upstream refuses connections for args.outage seconds while mail
    comes in: all of it arrives afterwards, none is bounced or put off."""
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, args.mode, verbose=False)
    acked = directory / "outage.acked"
    try:
        sesd.control("refuse on")
        end = time.monotonic() + args.outage
        done = subprocess.run(generator(relay, args, acked, False),
                              capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        wait_until(lambda: time.monotonic() > end, "the outage to end",
                   args.outage + 10)
        print("\nafter an outage of "
              f"{args.outage} s, `sesrelayctl status` says:\n" +
              relay.ctl("status"))
        sesd.control("refuse off")
        began = time.monotonic()
        wait_until(lambda: drained(relay), "the queue to drain", 300)
        took = time.monotonic() - began
        log = relay.log()
        code = relay.stop()
        sesd.control("quit")
        sesd.process.wait()
        verdict, good = judge(acked, sesd.journal, 0)
        bounced = log.count("status=bounced")
        print(f"  acknowledged {result['acked']}, arrived "
              f"{verdict['arrived']}, lost {verdict['lost']}, extra copies "
              f"{verdict['extra_copies']}, bounced {bounced}, put off "
              f"{log.count('status=deferred')}; all there {took:.1f} s after "
              "the outage")
        return good and code == 0 and bounced == 0
    finally:
        relay.close()
        sesd.close()


def bare_log(directory, args):
    done = subprocess.run(
        [str(BUILD / "logbench"), "--directory", str(directory), "--writers",
         str(args.sessions), "--size", str(args.size), "--seconds", "3",
         "--json"], capture_output=True, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[0])
    rate = next(v for k, v in line.items() if re.match(r"records", k) and
                isinstance(v, float))
    print(f"a bare group-commit log on this disk, {args.sessions} writers of "
          f"{args.size} bytes: {rate:.0f} records/s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--mode", default="starttls")
    parser.add_argument("--outage", type=int, default=0, metavar="SECONDS",
                        help="only this: the upstream is away for so long")
    args = parser.parse_args()
    with Workdir("load") as directory:
        certs = make_certificates(directory / "certs")
        if args.outage > 0:
            good = outage_run(args, directory / "outage", certs)
            print("\noutage: " + ("good" if good else "FAILED"))
            return 0 if good else 1
        bare_log(directory, args)
        good = plain_run(args, directory / "plain", certs)
        good = killed_run(args, directory / "killed", certs) and good
    print("\nload: " + ("good" if good else "FAILED"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
