#!/usr/bin/env python3
"""make account: what SES says of the account, under load and in real time.

First the password is refused (535) for a minute, until a new one comes by
reload; then the daily quota is used up for two minutes.  Mail comes in all the
while.  Judged by the emulator's journal against what was acknowledged: nothing
lost, twice, bounced or charged an attempt.

After the quota is free again the operator says `retry --all'; with --patient
the relay finds out by itself, which takes 10 to 20 minutes.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import BUILD, ROOT, Relay, Sesd, Workdir  # noqa
from harness import make_certificates, wait_until  # noqa

NEW_PASSWORD = "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd"
DAILY = "454 Throttling failure: Daily message quota exceeded."


def start_load(relay, args, seconds, acked):
    return subprocess.Popen(
        [str(BUILD / "load"), "--connect", f"127.0.0.1:{relay.port}",
         "--messages", str(args.rate * seconds), "--rate", str(args.rate),
         "--sessions", "20", "--size", "2048", "--acked", str(acked),
         "--prefix", acked.stem, "--json"], stdout=subprocess.PIPE, text=True)


def wait_seconds(seconds, load):
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, "time to pass", seconds + 5)
    assert load.poll() is None, "the load ended early"


def finish(sesd, relay, load, acked, began):
    output, _ = load.communicate(timeout=120)
    result = json.loads(output.splitlines()[-1])
    wait_until(lambda: relay.count() == 0, "the queue to drain", 1500)
    took = time.monotonic() - began
    log = relay.log()
    code = relay.stop()
    sesd.control("quit")
    sesd.process.wait()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench/judge.py"), "--acked",
         str(acked), "--journal", str(sesd.journal), "--max-duplicates", "0",
         "--json"], capture_output=True, text=True)
    verdict = json.loads(done.stdout)
    bounced = log.count("status=bounced")
    # The last word on a message says how often it was tried.
    alarms = [line for line in log.splitlines() if "deliveries pause" in line]
    print(f"  acknowledged {result['acked']}, arrived {verdict['arrived']}, "
          f"lost {verdict['lost']}, extra copies {verdict['extra_copies']}, "
          f"bounced {bounced}, put off for it {log.count('status=deferred')}, "
          f"alarms {len(alarms)}; all there {took:.1f} s after the end of it",
          flush=True)
    return done.returncode == 0 and bounced == 0 and code == 0


def show(relay, what):
    print(f"{what}; `sesrelayctl status' says:\n" +
          "".join("    " + line + "\n"
                  for line in relay.ctl("status").splitlines()[:8]),
          flush=True)


def charged(relay):
    return sum(m["attempts"] > 0 for m in relay.ctl_json("queue"))


def password_run(args, directory, certs):
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, verbose=False,
                  config={"delivery.retry": None})
    acked = directory / "password.acked"
    try:
        load = start_load(relay, args, 80, acked)
        wait_until(lambda: sesd.stats()["accepted"] > 500, "mail to flow")
        sesd.set("password", NEW_PASSWORD)
        sesd.control("drop-connections")
        wait_seconds(60, load)
        show(relay, f"the password is refused for 60 s now, {relay.count()} "
             f"messages wait, {charged(relay)} were charged an attempt")
        good = charged(relay) == 0
        relay.set_password(NEW_PASSWORD)
        began = time.monotonic()
        print("    " + relay.ctl("reload").strip())
        return finish(sesd, relay, load, acked, began) and good
    finally:
        relay.close()
        sesd.close()


def quota_run(args, directory, certs):
    sesd = Sesd(directory / "sesd", certs)
    relay = Relay(directory / "relay", sesd, verbose=False,
                  config={"delivery.retry": None})
    acked = directory / "quota.acked"
    try:
        load = start_load(relay, args, 140, acked)
        wait_until(lambda: sesd.stats()["accepted"] > 500, "mail to flow")
        sesd.rule(f'on DOT reply "{DAILY}"')
        wait_seconds(120, load)
        told = len(sesd.events("throttled")) + len(sesd.events("refused"))
        show(relay, f"the daily quota is used up for 120 s now, SES was asked "
             f"{told} times, {relay.count()} messages wait, {charged(relay)} "
             "were charged an attempt")
        good = charged(relay) == 0
        sesd.control("clear")
        began = time.monotonic()
        if not args.patient:
            relay.ctl("retry", "--all")
        return finish(sesd, relay, load, acked, began) and good
    finally:
        relay.close()
        sesd.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=200,
                        help="messages handed in each second")
    parser.add_argument("--patient", action="store_true",
                        help="wait until the relay tries the quota by itself")
    args = parser.parse_args()
    good = True
    with Workdir("account") as directory:
        certs = make_certificates(directory / "certs")
        for name, run in (("password", password_run), ("quota", quota_run)):
            (directory / name).mkdir()
            good &= run(args, directory / name, certs)
    print("account: passed" if good else "account: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
