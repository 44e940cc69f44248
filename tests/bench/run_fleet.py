#!/usr/bin/env python3
"""make fleet: eight relays share one SES account that takes 100 recipients a
second, with 40,000 messages queued, and know nothing of each other.

Judged by the emulator's journal, from the moment all begin until the first of
them has nothing left: at least 95 % of the limit used, at most 2 % of all
replies throttled, and even shares (Jain's fairness index at least 0.9); in the
end nothing lost, nothing twice, nothing given up.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, Relay, Sesd, Workdir  # noqa
from harness import make_certificates, wait_until  # noqa

USED, THROTTLED, FAIRNESS = 0.95, 0.02, 0.9


def fill(relay, number, messages):
    """That many into the queue of a relay whose deliveries are paused."""
    done = subprocess.run(
        [str(BUILD / "load"), "--connect", f"127.0.0.1:{relay.port}",
         "--messages", str(messages), "--sessions", "20", "--size", "1024",
         "--from", f"relay{number}@load.test", "--prefix", f"r{number}",
         "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["acked"]


def sender(entry):
    return entry["from"].split("@")[0]


def window(sesd, limit):
    """From the first message to the end of the relay that is done first."""
    taken = sesd.messages()
    refused = sesd.events("throttled")
    last = {}
    for entry in taken:
        last[sender(entry)] = entry["time"]
    begin, end = taken[0]["time"], min(last.values())
    inside = collections.Counter(
        sender(e) for e in taken if e["time"] <= end)
    shares = list(inside.values())
    return {
        "seconds": end - begin,
        "used": sum(shares) / (limit * (end - begin)),
        "throttled": len(refused) / (len(taken) + len(refused)),
        "jain": sum(shares) ** 2 / (len(last) * sum(n * n for n in shares)),
        "shares": dict(sorted(inside.items())),
        "all_seconds": max(last.values()) - begin,
    }


def run(args, directory, certs):
    sesd = Sesd(directory / "sesd", certs,
                settings={"rate": args.limit, "latency": 5,
                          "dot_latency": 50})
    relays = [Relay(directory / f"relay{i}", sesd, "starttls", verbose=False)
              for i in range(args.relays)]
    each = args.messages // args.relays
    try:
        for relay in relays:
            relay.ctl("pause", "delivery")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            queued = sum(pool.map(lambda i: fill(relays[i], i, each),
                                  range(args.relays)))
        print(f"{queued} messages queued in {args.relays} relays; the account "
              f"takes {args.limit} recipients/s", flush=True)
        for relay in relays:
            relay.ctl("resume", "delivery")
        began = time.monotonic()
        wait_until(lambda: sesd.stats()["accepted"] >= queued,
                   "all to arrive", 3 * queued / args.limit + 60)
        print(f"all there after {time.monotonic() - began:.1f} s")
        for relay in relays:
            wait_until(lambda r=relay: r.count() == 0, "an empty queue", 30)
        bounced = sum(r.log().count("status=bounced") for r in relays)
        codes = [r.stop() for r in relays]
        sesd.control("quit")
        sesd.process.wait()
        ids = collections.Counter(m["message_id"] for m in sesd.messages())
        w = window(sesd, args.limit)
        lost, twice = queued - len(ids), sum(ids.values()) - len(ids)
        print(f"  until the first was done, {w['seconds']:.1f} s: "
              f"{100 * w['used']:.1f} % of the limit used, fairness "
              f"{w['jain']:.3f}, shares {w['shares']}")
        print(f"  {100 * w['throttled']:.2f} % of all replies throttled; "
              f"lost {lost}, twice {twice}, bounced {bounced}")
        return (w["used"] >= USED and w["throttled"] <= THROTTLED and
                w["jain"] >= FAIRNESS and
                not (lost or twice or bounced or any(codes)))
    finally:
        for relay in relays:
            relay.close()
        sesd.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--relays", type=int, default=8)
    parser.add_argument("--messages", type=int, default=40000)
    parser.add_argument("--limit", type=int, default=100)
    args = parser.parse_args()
    with Workdir("fleet") as directory:
        certs = make_certificates(directory / "certs")
        good = run(args, directory, certs)
    print("fleet: passed" if good else "fleet: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
