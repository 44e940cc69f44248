"""Each system call on the spool's files fails in turn: the n-th, for n = 1, 2,
3, ... until a run ends in which nothing was left to fail; once, and from then
on.

The relay has messages of before, and a session hands in more; replies are
written down.  Then the fault goes away: by itself, and the relay has to get
well; or with the relay, which is stopped or killed while it lasts.  After a
clean start everything is compared with what the clients were told.
"""
import collections
import contextlib
import os
import re
import signal

import crashlib
import harness
import traced
from crashlib import Failed, Mail, need

NAME = "fail"
ABOUT = "every n-th call on the spool's files fails, once and from then on"

FAULTS = {
    "openat": ("EIO", "ENOSPC", "EMFILE", "EROFS"),
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT"),
    "pwritev": ("EIO", "ENOSPC", "EDQUOT", "EFBIG"),
    "write": ("EIO", "ENOSPC"),
    "fsync": ("EIO",),
    "fdatasync": ("EIO", "ENOSPC"),
    "renameat": ("EIO",),
    "unlinkat": ("EIO",),
    "getdents64": ("EIO",),
    "close": ("EIO",),
    "ftruncate": ("EIO",),
    "fallocate": ("EIO", "ENOSPC"),
    "pread64": ("EIO",),
    "fstatfs": ("EIO",),
    # What was written and not synced cannot be cut off either.
    "fdatasync and ftruncate": ("EIO",),
}
# What only a start does.
START_FAULTS = {"mkdirat": ("ENOSPC",), "flock": ("EIO",),
                "newfstatat": ("EIO",)}
FORMS = ("once", "stop", "kill")
# While all of these fail, nothing can be promised.
PROMISES = {"openat", "pwrite64", "pwritev", "fsync", "fdatasync"}
SAMPLE = 12


class Station(traced.Station):
    """One (phase, call, errno, form): n from 1 until nothing is hit."""

    def __init__(self, directory, certs):
        super().__init__(directory, certs)
        self.output = directory / "trace"
        self.tracer = None

    def run(self, job):
        """Counts of what happened."""
        totals = collections.Counter()
        for n in range(1, 1000):
            try:
                hit, counts = self.run_once(*job, n)
            except Exception as e:
                raise Failed(f"{' '.join(job)} {n}: {type(e).__name__}: {e}\n"
                             f"{self.relay.log()[-3000:]}") from e
            totals.update(counts)
            if not hit:
                return totals
        raise Failed(f"{' '.join(job)}: hit without an end")

    def run_once(self, phase, call, errno, form, n):
        mails = self.begin(traced.queue_some)
        self.queued = list(mails)
        self.set_upstream(True)
        self.set_rules([*traced.RULES, traced.LATER])
        call, _, always = call.partition(" and ")
        inject = f"inject={call}:error={errno}:when={n}"
        calls = ",".join(filter(None, (call, always, "fsync,fdatasync,close")))
        options = ["-y", "-e", f"trace={calls}",
                   "-e", inject + ("" if form == "once" else "+")]
        if always:
            options += ["-e", f"inject={always}:error={errno}"]
        if phase == "start":
            started = self.start_under(options)
        else:
            started = self.attach_to(call, options)
        if started:
            mails += self.hand_in(
                [Mail("small"), Mail("large", traced.LARGE),
                 Mail("stuck", good=[traced.STUCK]), Mail("after")])
            self.relay_is_up()
            if form == "once":
                mails += self.get_well()
            else:
                self.wait_quiet()
                need(n > 1 or call not in PROMISES or
                     not any(m.accepted for m in mails[len(self.queued):]),
                     f"accepted while every {call} fails: {mails}")
        self.end(form, started)
        in_life = self.count_copies()
        hit = re.search(rf"{call}(\(| resumed).*\(INJECTED\)",
                        self.output.read_text(errors="replace")) is not None
        self.check_syncs()
        recorded = self.recorded()
        for mail, copies in in_life.items():
            need(copies <= 1, f"{mail}: sent again by the living relay")
        more, letters = self.recover(mails)
        for mail in [*more, *letters]:
            need(form != "once", f"{mail}: came twice")
            need(mail.qid not in recorded,
                 f"{mail}: came twice though its outcome was on the disk")
        return hit, {
            "runs": 1, "hit": hit, "twice": sum(more.values()),
            "refused": sum(m.refused for m in mails),
            "accepted": sum(m.accepted for m in mails),
            "not started": not started}

    # --- how strace comes in ---

    def spool_paths(self):
        """Those that are there, and those to come."""
        spool = self.relay.spool
        paths = [spool, *spool.rglob("*")]
        paths += [spool / kind / f"{n:09d}" for n in range(1, 9)
                  for kind in ("arrivals", "outcomes")]
        return [word for path in dict.fromkeys(paths)
                for word in ("-P", str(path))]

    def start_under(self, options):
        """True when it started; False when it refused to, with a reason."""
        relay = self.relay
        relay.start(wait=False, wrap=(
            traced.STRACE, "-f", "-qq", "-o", str(self.output), *options,
            *self.spool_paths()))
        self.tracer = relay.process.proc
        harness.wait_until(
            lambda: not relay.process.alive() or
            relay.log_path.exists() and " ready: " in relay.log(),
            "the end of the start")
        if relay.process.alive():
            self.daemon = traced.child_of(relay.process.pid)
            if self.daemon is not None:
                return True
        need(relay.process.wait() in (71, 75),
             f"exit code {relay.process.wait()}")
        need("cannot start: " in relay.log(), "refused to start, but not why")
        relay.process.close()
        return False

    def attach_to(self, call, options):
        """The threads that touch the spool, while it says READY."""
        hold = traced.Hold(self.dir / "hold")
        names = traced.start_held(self.relay, hold)
        if call == "write":
            # They write to an eventfd, too.
            [bad] = [m for m in self.queued if m.bad]
            options = [*options, "-P", str(
                self.relay.spool / f"failed/.{bad.qid}.eml.tmp")]
        self.tracer = traced.attach(
            [t for t, name in names.items()
             if name == "journal" or name.startswith("disk")],
            options, self.output)
        hold.release()
        hold.close()
        self.daemon = self.relay.process.pid
        return True

    # --- the life of messages, with the fault ---

    def relay_is_up(self):
        need(self.relay.process.alive(), "it ended by itself")

    def hand_in(self, mails):
        """In one session, which has to survive."""
        with contextlib.suppress(ConnectionRefusedError), \
                self.relay.submit() as s:
            for mail in mails:
                crashlib.hand_in(s, mail)
                need(mail.accepted or
                     re.match(r"45[12] 4\.3\.[01] ", mail.reply or ""),
                     f"{mail}: what a reply")
            need(s.do("NOOP").startswith("250"), "the session is lost")
        return mails

    def get_well(self):
        """Mail is taken and delivered again."""
        mails = []

        def taken():
            if not self.relay.status()["spool"]["healthy"]:
                return False
            mails.extend(self.hand_in([Mail("well")]))
            return mails[-1].accepted

        def delivered():
            return mails[-1].message_id in self.deliveries.read()
        harness.wait_until(taken, "mail to be taken again", 15)
        harness.wait_until(delivered, "mail to be delivered again", 15)
        return mails

    def wait_quiet(self):
        """Until nothing goes on that could end."""
        def quiet():
            status = self.relay.status()
            queue, spool = status["queue"], status["spool"]
            # A full spool takes no mail, but what is in it goes out.
            fails = not spool["healthy"] and spool["reason"] not in (
                "Insufficient system storage", "Mail queue is full")
            return not status["connections"]["busy"] and (
                fails or not queue["ready"] + queue["active"])
        harness.wait_until(quiet, "the end of what goes on")

    def count_copies(self):
        return {message_id: len(entries)
                for message_id, entries in self.deliveries.read().items()}

    def end(self, form, started):
        """Of the daemon and of strace."""
        if started:
            self.relay_is_up()
            os.kill(self.daemon, signal.SIGKILL if form == "kill"
                    else signal.SIGTERM)
            code = self.relay.process.wait()
            need(code == (-signal.SIGKILL if form == "kill" else 0),
                 f"exit code {code}")
            self.relay.process.close()
        self.tracer.communicate()

    # --- what is looked at ---

    def check_syncs(self):
        """No descriptor of a file is synced again after that failed."""
        failed = set()
        for line in self.output.read_text(errors="replace").splitlines():
            m = re.match(r"\d+ +(\w+)\((\d+)<([^>]*)>", line)
            if not m or os.path.isdir(m[3]):
                continue
            call, fd = m[1], (m[2], m[3])
            if call == "close":
                failed.discard(fd)
            elif call in ("fsync", "fdatasync"):
                need(fd not in failed, f"synced again after it failed: {line}")
                if " = -1 " in line:
                    failed.add(fd)

    def recorded(self):
        """Queue ids with a last outcome in the files as they are."""
        ids = set()
        for path in (self.relay.spool / "outcomes").glob("*"):
            ids |= set(re.findall(r"^\S+Z ([0-9A-F]{16}) (?:sent|failed) \S+ "
                                  r"end .* [0-9a-f]{16}$",
                                  path.read_text(errors="replace"), re.M))
        return ids


def make_jobs():
    return [(phase, call, errno, form)
            for phase, faults in (("life", FAULTS),
                                  ("start", {**FAULTS, **START_FAULTS}))
            for call, errnos in faults.items() for errno in errnos
            for form in FORMS]


def run(work, sample):
    traced.need_ptrace()
    certs = harness.make_certificates(work / "certs")
    jobs = make_jobs()
    if sample:
        jobs = traced.spread(jobs, SAMPLE)
    done = traced.run_jobs(
        lambda directory: Station(directory, certs), work, jobs, 8)
    t, hits = collections.Counter(), collections.Counter()
    for (_, call, _, _), totals in done:
        t.update(totals)
        hits[call] += totals["hit"]
    never = [call for call, n in hits.items() if n == 0]
    need(sample or not never, f"no such calls are made any more: {never}")
    return (f"{len(jobs)} series, {t['runs']} runs, {t['hit']} with a fault: "
            f"{t['accepted']} messages accepted, 0 lost; {t['refused']} "
            f"refused, 0 delivered; {t['not started']} starts refused with a "
            f"reason; {t['twice']} delivered twice, as their outcome could "
            f"not be written")
