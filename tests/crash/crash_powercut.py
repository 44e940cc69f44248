"""Power cuts: the spool's file system is shut down under the daemon, without
flushing its log (FS_IOC_SHUTDOWN), and mounted again.

Under load: several sessions hand in mail while the emulator takes it, takes
it slowly, or is away; the cut comes at a random moment; the next cycle begins
with what is left of the last.  Some cycles last seconds, for what is only
true after a while: an outcome that is older than a second is never forgotten.

Step by step (powersteps.py): one message on a quiet file system, where no
later sync can hide a missing one.

The judge must be able to see a loss: without any sync (spool.durability
"none") it has to.
"""
import collections
import contextlib
import hashlib
import itertools
import os
import random
import signal
import threading
import time

from crashdisk import Image, all_isolated, isolated, scratch
from crashlib import Failed, need
from harness import (DATE, Relay, Sesd, Submission, make_certificates,
                     wait_until)

import powersteps

NAME = "powercut"
ABOUT = "power cuts under load and after each step, on ext4 and xfs"

SESSIONS = 6
FEW_SESSIONS = 2  # where it lasts
# An outcome is durable one tick of the daemon after it is written; beyond the
# second that is promised, how late a tick may be on a busy machine.
FORGOTTEN_S = 1.0 + 0.5
STUCK = "stuck@example.net"


class Mail:
    """A message that can be told whole when it comes out."""

    def __init__(self, name, size, rcpt="user@example.net"):
        line = (name * 8)[:70].encode() + b"\r\n"
        self.name, self.rcpt = name, rcpt
        self.body = line * (1 + size // len(line))
        self.content = (f"From: app@example.com\r\nSubject: {name}\r\n"
                        f"{DATE}\r\nMessage-ID: <{name}@cut.test>\r\n\r\n"
                        ).encode() + self.body
        self.sha256 = hashlib.sha256(self.body).hexdigest()


class Session(threading.Thread):
    """Hands in what make(number) makes until the connection goes, or to the
    end of a message once `enough`; what was accepted is added to `acked`, what
    was offered to `offered`."""

    def __init__(self, port, make, offered, acked):
        super().__init__(daemon=True)
        self.port, self.make = port, make
        self.offered, self.acked = offered, acked
        self.enough = False
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            with Submission(self.port, timeout=20) as s:
                for n in itertools.count():
                    if self.enough:
                        return
                    self.hand_in(s, self.make(n))

    def hand_in(self, s, mail):
        s.sock.sendall(b"MAIL FROM:<app@example.com>\r\n"
                       b"RCPT TO:<" + mail.rcpt.encode() + b">\r\nDATA\r\n")
        replies = [s.reply() for _ in range(3)]
        if not replies[2].startswith("354"):
            time.sleep(0.001)
            return
        self.offered[mail.name] = mail
        s.sock.sendall(mail.content + b".\r\n")
        if s.reply().startswith("250"):
            self.acked[mail.name] = time.time()


def cut_power(relay, image):
    """The daemon must not see the end of a call that was under way: after the
    shutdown ext4 may answer an fdatasync with success that came to nothing.
    SIGKILL keeps it from acting on it; its death is not waited for."""
    relay.process.kill(signal.SIGKILL)
    image.cut()
    relay.process.close()


class Chain:
    """Cuts one after the other, the spool of each being what the one before
    left; then all is delivered, and judged."""

    def __init__(self, directory, certs, image, rng, config=None):
        self.image, self.rng = image, rng
        self.offered, self.acked = {}, {}
        self.cuts = []
        self.sesd = Sesd(directory / "sesd", certs, modes=("wrapper",))
        self.relay = Relay(
            directory / "relay", self.sesd, "wrapper", start=False,
            verbose=False,
            config={"spool.directory": f'"{image.point}/spool"',
                    **(config or {})})

    def start(self):
        self.image.mount()
        if self.relay.log_path.exists():
            self.relay.log_path.rename(self.relay.dir / "log.before")
        self.relay.start()

    def upstream(self):
        """How the emulator is during the next cycle."""
        mode = self.rng.choice(("away", "there", "slow"))
        self.sesd.control("refuse " + ("on" if mode == "away" else "off"))
        self.sesd.set("dot_latency", "15ms" if mode == "slow" else "0ms")

    def cycle(self, seconds):
        self.upstream()
        self.start()
        sessions = [
            Session(self.relay.port, self.small_mail(i), self.offered,
                    self.acked)
            for i in range(SESSIONS if seconds < 0.5 else FEW_SESSIONS)]
        time.sleep(seconds)
        self.cut(sessions)

    def small_mail(self, session):
        cycle, rng = len(self.cuts), random.Random(self.rng.random())
        return lambda n: Mail(f"{cycle}.{session}.{n}",
                              rng.choice((0, 200, 3000, 3000, 20000)))

    def cut(self, sessions):
        # The moment before it begins: what is forgotten is older than that.
        self.cuts.append(time.time())
        cut_power(self.relay, self.image)
        for session in sessions:
            session.join()
        self.image.umount()

    def drain(self):
        self.sesd.control("clear")
        self.sesd.control("refuse off")
        self.sesd.set("dot_latency", "0ms")
        self.start()
        wait_until(lambda: not self.relay.status()["spool"]["scanning"],
                   "the end of the scan")
        self.relay.wait_empty(60)
        self.damaged = sorted(
            p.name for p in (self.image.point / "spool/failed").iterdir())
        need(self.relay.stop() == 0, "the relay did not stop well")
        self.image.umount()
        self.sesd.control("quit")
        self.sesd.process.wait()

    def close(self):
        self.relay.close()
        self.sesd.close()
        self.image.close()

    def judge(self):
        """Counts; raises Failed at the first broken promise but loss."""
        where = f"{self.image.kind}, after {len(self.cuts)} cuts"
        taken = collections.defaultdict(list)
        overhead = set()
        for entry in self.sesd.messages():
            name = (entry["message_id"] or "").split("@")[0]
            mail = self.offered.get(name)
            need(mail is not None, f"{where}: came from nowhere: {entry}")
            need(entry["body_sha256"] == mail.sha256 and
                 entry["from"] == "app@example.com" and
                 entry["rcpts"] == [mail.rcpt],
                 f"{where}: not whole: {entry}")
            overhead.add(entry["bytes"] - len(mail.content))
            taken[name].append(entry["time"])
        need(len(overhead) <= 1, f"{where}: not whole: the field on top of "
             f"messages has lengths {sorted(overhead)}")
        need(self.damaged == [],
             f"{where}: set aside in failed/: {self.damaged}")
        repeats = [self.repeat(where, name, first, second)
                   for name, times in taken.items()
                   for first, second in zip(times, times[1:])]
        lost = [name for name in self.acked if name not in taken]
        return {"cuts": len(self.cuts), "acked": len(self.acked),
                "lost": len(lost), "lost names": lost[:10],
                "again": len(repeats), "oldest": max(repeats, default=0)}

    def repeat(self, where, name, first, second):
        """How old the outcome was that the cut between the two forgot."""
        ages = [cut - first for cut in self.cuts if first - 0.1 < cut < second]
        need(ages, f"{where}: {name} was sent twice without a cut between "
             f"{first:.3f} and {second:.3f}; cuts at {self.cuts}")
        need(ages[0] <= FORGOTTEN_S, f"{where}: {name} was sent again, which "
             f"had been finished {ages[0]:.3f} s before the cut")
        return ages[0]


class Compacting(Chain):
    """Long messages fill segments; a few of each stay, so that the segments
    are compacted; the cut comes while that is under way."""

    BYTES, STUCK_EVERY = 700_000, 30

    def __init__(self, *args):
        super().__init__(*args)
        self.sesd.rule(f'on RCPT when rcpt={STUCK} reply "451 no"')
        self.compacted = 0

    def segments(self):
        return {p.name for p in
                (self.image.point / "spool/arrivals").iterdir()}

    def cycle(self, seconds):
        self.start()
        before = self.segments()
        sessions = [
            Session(self.relay.port, self.long_mail(i), self.offered,
                    self.acked) for i in range(2)]
        # What comes now is the next segment's, so one is full.
        wait_until(lambda: len(self.segments() - before) > 1, "a segment")
        filled = self.segments()
        for session in sessions:
            session.enough = True
        time.sleep(seconds)
        self.compacted += len(filled - self.segments())
        self.cut(sessions)

    def long_mail(self, session):
        cycle = len(self.cuts)
        return lambda n: Mail(
            f"{cycle}.{session}.{n}", self.BYTES,
            "user@example.net" if n % self.STUCK_EVERY else STUCK)

    def judge(self):
        return super().judge() | {"compacted": self.compacted}


def chain(directory, certs, kind, seed, lengths, config=None, form=Chain):
    directory.mkdir()
    image = Image(directory, kind, 1 << 30)
    c = form(directory, certs, image, random.Random(seed), config)
    try:
        for seconds in lengths:
            c.cycle(seconds)
        c.drain()
        return c.judge()
    except AssertionError as e:
        raise Failed(f"{kind}, seed {seed}, after {len(c.cuts)} cuts: {e}; "
                     "the relay's log ends\n" +
                     c.relay.log()[-2000:]) from e
    finally:
        c.close()


def chains(work, certs, kind, seed, plan, config=None):
    """plan: the lengths of the cycles of each chain."""
    memory = scratch(work)
    total = collections.Counter()
    oldest = 0
    for number, lengths in enumerate(plan):
        one = chain(memory / str(number), certs, kind, seed + number, lengths,
                    config)
        oldest = max(oldest, one["oldest"])
        if config is None:
            need(one["lost"] == 0, f"{kind}, seed {seed + number}: lost, "
                 f"though acknowledged: {one['lost names']}")
        total.update({k: one[k] for k in ("cuts", "acked", "lost", "again")})
    return {**total, "oldest": oldest}


def compactions(work, certs, kind, seed):
    """Cuts at random moments after a segment is full: it is compacted with
    the next ticks."""
    rng = random.Random(seed)
    one = chain(scratch(work) / "long", certs, kind, seed,
                [rng.uniform(0, 2.5) for _ in range(12)], None, Compacting)
    need(one["lost"] == 0, f"{kind}, seed {seed}, compaction: lost, though "
         f"acknowledged: {one['lost names']}")
    need(one["compacted"] > 0, f"{kind}: nothing was compacted")
    return one


def lengths(rng, n, longest):
    return [rng.uniform(0.002, longest) for _ in range(n)]


def make_plan(seed, sample):
    rng = random.Random(seed)
    if sample:
        return [lengths(rng, 20, 0.1), [rng.uniform(1, 3)]]
    short = [lengths(rng, 50, 0.08) for _ in range(20)]
    return short + [lengths(rng, 4, 4.0) for _ in range(6)]


def control_run(work, certs, seed):
    """Without syncs: how many are lost?"""
    return isolated(chains, work, certs, "ext4", seed, [lengths(
        random.Random(seed), 10, 0.1)],
        {"spool.durability": '"none"'})["lost"]


def run(work, sample):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    print(f"    SEED={seed}", flush=True)
    certs = make_certificates(work / "certs")
    plan = make_plan(seed, sample)
    kinds = ("ext4", "xfs")
    results = all_isolated(*((chains, work, certs, kind, seed, plan)
                             for kind in kinds))
    text = []
    for kind, r in zip(kinds, results):
        text.append(
            f"{kind}: {r['cuts']} cuts, {r['acked']} accepted, {r['lost']} "
            f"lost, 0 torn, {r['again']} sent again, finished at most "
            f"{r['oldest']:.2f} s before the cut")
    n = powersteps.run(work, certs, seed, sample)
    text.append(f"{n} cuts after a step")
    if not sample:
        both = all_isolated(*((compactions, work, certs, kind, seed)
                              for kind in kinds))
        text.append(f"{sum(r['cuts'] for r in both)} cuts around "
                    f"{sum(r['compacted'] for r in both)} compactions")
    lost = control_run(work, certs, seed)
    need(lost > 0, "the judge does not see the loss without any sync")
    text.append(f"(without syncs: {lost} lost)")
    return "; ".join(text)
