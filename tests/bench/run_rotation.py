#!/usr/bin/env python3
"""make rotation: 20,000 messages to an SES that ends sessions after 37
messages and cuts what was idle for 3 s, with pauses that let it; the relay is
started again half-way.

Judged by the emulator's journal and the relay's log: 0 lost, 0 duplicated, no
message deferred or tried twice for it, and after the restart no session meets
the cap.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, Relay, Sesd, Workdir  # noqa
from harness import make_certificates, wait_until  # noqa

CAP = 37
BURSTS = 8


def burst(relay, n, number, acked):
    done = subprocess.run(
        [str(BUILD / "load"), "--connect", f"127.0.0.1:{relay.port}",
         "--messages", str(n), "--sessions", "50", "--size", "4096",
         "--acked", str(acked), "--prefix", f"burst{number}", "--json"],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: relay.count() == 0, "an empty queue", 300)


def idle_cuts(sesd):
    return sum(1 for e in sesd.events("close") if e["reason"] == "idle")


def capped(sesd):
    return sum(1 for e in sesd.events("close") if e["reason"] == "session-cap")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20000)
    args = parser.parse_args()
    with Workdir("rotation") as directory:
        certs = make_certificates(directory)
        sesd = Sesd(directory / "sesd", certs,
                    settings={"session_cap": CAP, "idle": "3s"})
        relay = Relay(directory / "relay", sesd, verbose=False,
                      config={"log.format": '"json"'})
        try:
            return run(args, relay, sesd, directory / "acked")
        finally:
            relay.close()
            sesd.close()


def run(args, relay, sesd, acked):
    began = time.monotonic()
    before_restart = 0
    for number in range(BURSTS):
        if number == BURSTS // 2:
            before_restart = capped(sesd)
            relay.stop()
            relay.start()
        cuts = idle_cuts(sesd)
        burst(relay, args.messages // BURSTS, number, acked)
        wait_until(lambda: idle_cuts(sesd) > cuts, "an idle cut", 30)
    relay.wait_empty(60)
    seconds = time.monotonic() - began
    learned = (relay.spool / "learned").read_text()
    code = relay.stop()

    sent_ids = {line.split()[0] for line in acked.read_text().splitlines()}
    arrived = collections.Counter(m["message_id"] for m in sesd.messages())
    lines = [line for line in map(json.loads, relay.log().splitlines())
             if "status" in line]
    lost = len(sent_ids - set(arrived))
    copies = sum(n - 1 for n in arrived.values())
    other = sum(1 for line in lines if line["status"] != "sent")
    again = sum(1 for line in lines if int(line["attempt"]) != 1)
    after_restart = capped(sesd) - before_restart
    print(f"{len(sent_ids)} messages in {BURSTS} bursts, {seconds:.0f} s; "
          f"SES ends a session after {CAP} messages and 3 s of idleness")
    print(f"  lost {lost}, extra copies {copies}, deferred or bounced "
          f"{other}, tried more than once {again}")
    print(f"  sessions {sesd.stats()['connections']['total']}, ended by the "
          f"cap {before_restart} before the restart, {after_restart} after "
          f"it; cut for idleness {idle_cuts(sesd)}")
    print("  learned: " + ", ".join(learned.splitlines()[3:]))
    good = (len(sent_ids) == args.messages and code == 0 and lost == 0 and
            copies == 0 and other == 0 and again == 0 and
            0 < before_restart <= 20 and after_restart == 0 and
            f"session-messages {CAP - 2}\n" in learned)
    print("rotation: " + ("passed" if good else "FAILED"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
