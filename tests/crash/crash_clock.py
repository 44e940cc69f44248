"""The wall clock jumps (libfaketime changes it under the relay) while mail
waits, is held, lies in failed/ and comes in: in run, across a restart, and
across a boot of the machine, which is a restart with another boot id.

After the jumps: no attempt beyond the schedule, none too few, nothing expires
before its true age says so, ids stay unique, ages are true, dead letters stay.
"""
import concurrent.futures
import os
import subprocess
import time
import uuid

from crashdisk import MS_BIND, all_isolated, mount
from crashlib import Failed, Impossible, need
from harness import Relay, Sesd, message, wait_until

NAME = "clock"
ABOUT = "jumps of the wall clock, in run and over restarts"

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
HOUR, DAY = 3600, 86400
SINCE_1970 = -int(time.time()) + 9 * DAY  # so early in 1970

# What happens to the clock, one step after the other.
SCENARIOS = {
    "+1 h in run": [("run", HOUR)],
    "+1 day in run": [("run", DAY)],
    "-1 h in run": [("run", -HOUR)],
    "-1 day in run": [("run", -DAY)],
    "to 1970 in run": [("run", SINCE_1970)],
    "to and fro in run": [("run", DAY), ("run", -DAY), ("run", HOUR)],
    "+1 h at restart": [("restart", HOUR)],
    "+1 day at restart": [("restart", DAY)],
    "-1 h at restart": [("restart", -HOUR)],
    "-1 day at restart": [("restart", -DAY)],
    "to 1970 at restart": [("restart", SINCE_1970)],
    "+1 day in run, restart": [("run", DAY), ("restart", DAY)],
    "-1 day in run, restart": [("run", -DAY), ("restart", -DAY)],
    "-1 day, restart, +1 day": [("run", -DAY), ("restart", -DAY), ("run", 0)],
    "+1 day, kill -9, -1 day": [("run", DAY), ("kill", -DAY)],
    "boot in 1970": [("boot", SINCE_1970)],
    "boot a day ago": [("boot", -DAY)],
    "boot in 1970, then right": [("boot", SINCE_1970), ("run", 0)],
    "boot in 1970, then right, restart": [
        ("boot", SINCE_1970), ("run", 0), ("restart", 0)],
}
# Each of these needs a machine of its own.
BOOTS = [name for name, steps in SCENARIOS.items() if steps[0][0] == "boot"]

RETRY = '[ "400ms", "800ms", "1600ms" ]'
LONGEST_S = 1.6
WATCH_S = 3.2
# A message has at most so many attempts in WATCH_S: by the schedule, with
# jitter, three; one more for each time that it begins again.
ATTEMPTS = 4
WAITING, LATER, DEAD, HELD = (f"{w}@example.net" for w in
                              ("waiting", "later", "dead", "held"))
RULES = (f'on DOT when rcpt={WAITING} reply "451 Temporary service failure"',
         f'on DOT when rcpt={LATER} reply "451 Temporary service failure"',
         f'on DOT when rcpt={DEAD} reply "554 Transaction failed: x"',
         f"on DOT when rcpt={HELD} times 1 accept close")


class Case:
    def __init__(self, directory, certs, name):
        self.name, self.steps = name, SCENARIOS[name]
        self.begun = time.monotonic()
        self.starts = 0
        self.sesd = Sesd(directory / "sesd", certs, modes=("wrapper",),
                         rules=RULES)
        self.offset_file = directory / "offset"
        self.relay = Relay(
            directory / "relay", self.sesd, "wrapper", start=False,
            config={"delivery.retry": RETRY, "delivery.expire": '"30m"',
                    "spool.keep_failed": '"30m"',
                    "delivery.uncertain": '"hold"'})

    def set_clock(self, offset):
        """At once: the file is never seen half written."""
        new = self.offset_file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self.offset_file)

    def start(self):
        self.starts += 1
        # What files say of their own age is the truth in both worlds.
        self.relay.start(wrap=(
            "env", f"LD_PRELOAD={FAKETIME}",
            f"FAKETIME_TIMESTAMP_FILE={self.offset_file}",
            "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1"))

    def step(self, kind, offset):
        if kind == "run":
            self.set_clock(offset)
            # The daemon has lived with it for a while.
            wait_until(self.ticked(), "a tick")
            return
        if kind == "kill":
            self.relay.kill()
        else:
            need(self.relay.stop() == 0, "the relay did not stop well")
        if kind == "boot":
            new_boot(self.offset_file.with_name("boot-id"))
        self.set_clock(offset)
        self.start()

    def ticked(self):
        end = time.monotonic() + 1.1
        return lambda: time.monotonic() > end

    def queue(self):
        return {m["id"]: m for m in self.relay.ctl_json("queue")}

    def attempts(self, mail):
        return len([e for e in self.sesd.events("refused")
                    if e["message_id"] == mail])

    def before(self):
        """A queue with a message of each kind."""
        self.set_clock(0)
        self.start()
        ids = [self.relay.send(message(message_id=rcpt), rcpts=(rcpt,))
               for rcpt in (WAITING, DEAD, HELD)]
        self.relay.wait_outcome(ids[0], "deferred", 2)
        self.relay.wait_log(f"{ids[1]}: removed")
        wait_until(lambda: self.relay.status()["queue"]["held"] == 1,
                   "the held one")
        return ids

    def check_ages(self):
        age = self.relay.status()["queue"]["oldest_age_seconds"]
        true = time.monotonic() - self.begun
        # A machine that was off cannot know for how long, but for less.
        need(0 <= age <= true + 1, f"the oldest message is {age} s old, but "
             f"truly not over {true:.0f} s")

    def check_kept(self, ids):
        need(len(self.relay.dead_letters()) == 1, "the dead letter is gone")
        queue = self.queue()
        need(ids[0] in queue, f"{ids[0]}, which waits, is gone")
        need(queue.get(ids[2], {}).get("state") == "held",
             f"{ids[2]} is not held any more")

    def watch(self):
        """How often the waiting one is tried in WATCH_S."""
        first = self.attempts(WAITING)
        end = time.monotonic() + WATCH_S
        wait_until(lambda: time.monotonic() > end, "the watch")
        n = self.attempts(WAITING) - first
        need(1 <= n <= ATTEMPTS, f"{n} attempts in {WATCH_S} s, by the "
             f"schedule 1 to {ATTEMPTS}")
        return n

    def run(self):
        ids = self.before()
        for kind, offset in self.steps:
            self.step(kind, offset)
            self.check_ages()
        ids.append(self.relay.send(rcpts=(LATER,)))
        need(len(set(ids)) == len(ids), f"ids are not unique: {ids}")
        n = self.watch()
        self.check_ages()
        self.check_kept(ids)
        self.sesd.control("clear")
        wait_until(lambda: all(self.taken(r) for r in (WAITING, LATER)),
                   "delivery of what waited", 2 * LONGEST_S + 3)
        need("expired" not in self.relay.log(), "something expired")
        need(self.taken(WAITING) == self.taken(LATER) == 1, "sent twice")
        need(self.relay.stop() == 0, "the relay did not stop well")
        return n

    def taken(self, rcpt):
        return sum(m["rcpts"] == [rcpt] for m in self.sesd.messages())

    def close(self):
        self.relay.close()
        self.sesd.close()


def ageless_certificates(directory):
    """ca.pem and good.pem, good.key: valid since 1970."""
    directory.mkdir()
    for command in (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
            "-nodes -keyout ca.key -out ca.pem -days 40000 -subj /CN=old-ca",
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            "-keyout good.key -out good.csr -subj /CN=localhost",
            "x509 -req -in good.csr -CA ca.pem -CAkey ca.key "
            "-CAcreateserial -out good.pem -days 40000 -extfile names"):
        (directory / "names").write_text("subjectAltName=DNS:localhost\n")
        done = subprocess.run(
            ["faketime", "1970-01-02 00:00:00", "openssl", *command.split()],
            cwd=directory, capture_output=True, text=True)
        need(done.returncode == 0, f"openssl: {done.stderr}")
    return directory


def new_boot(path):
    """The kernel has another boot id; only where isolated() runs."""
    path.write_text(f"{uuid.uuid4()}\n")
    mount(path, BOOT_ID, "", flags=MS_BIND)


def run_case(work, certs, name):
    directory = work / name.replace(" ", "-").replace(",", "")
    directory.mkdir()
    case = Case(directory, certs, name)
    try:
        return case.run()
    except (AssertionError, Failed) as e:
        log = case.relay.log() if case.relay.log_path.exists() else ""
        raise Failed(f"{name}: {e}; the relay's log ends\n"
                     f"{log[-1500:]}") from e
    finally:
        case.close()


def long_uptime(work, certs):
    """Three years of it."""
    directory = work / "uptime"
    sesd = Sesd(directory / "sesd", certs, modes=("wrapper",),
                rules=[f'on DOT when rcpt={WAITING} times 2 '
                       'reply "451 Temporary service failure"'])
    relay = Relay(directory / "relay", sesd, "wrapper", start=False)
    try:
        for _ in range(2):
            relay.start(wrap=("unshare", "-T", "--monotonic", "100000000",
                              "--boottime", "100000000", "--fork",
                              "--kill-child"))
            relay.send(rcpts=(WAITING,))
            relay.wait_empty()
            age = relay.status()["uptime_seconds"]
            need(age < 1000, f"up for {age} s?")
            relay.kill()
        need(len(sesd.messages()) == 2, "not delivered once each")
    finally:
        relay.close()
        sesd.close()


def run_all(work, certs, names):
    """Most of their time is waiting."""
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        tries = list(pool.map(lambda name: run_case(work, certs, name), names))
    return tries


def run(work, sample):
    if not os.path.exists(FAKETIME):
        raise Impossible(f"no {FAKETIME}")
    if subprocess.run(["unshare", "-T", "true"],
                      stderr=subprocess.DEVNULL).returncode != 0:
        raise Impossible("no time namespaces")
    certs = ageless_certificates(work / "certs")
    names = [name for name in SCENARIOS if name not in BOOTS]
    tries = run_all(work, certs, names)
    tries += all_isolated(*((run_case, work, certs, name)
                            for name in (BOOTS[-1:] if sample else BOOTS)))
    long_uptime(work, certs)
    return (f"{len(tries)} cases: nothing lost, stuck or expired; "
            f"{min(tries)} to {max(tries)} attempts in {WATCH_S} s after the "
            "jump; and an uptime of three years")
