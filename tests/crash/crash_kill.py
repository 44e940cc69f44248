"""kill -9 at every system call of each thread, in the life of messages.

A point is (scenario, thread, call, n): the relay runs under strace, which
kills it when that thread begins its n-th such call; it is then started again,
drains its queue, is stopped, and everything is compared: deliveries with what
was acknowledged, the spool with what may stay in it.  The points come from a
run of the scenario in which nothing is killed.
"""
import collections
import contextlib
import os
import signal
from fnmatch import fnmatch

import crashlib
import harness
import traced
from crashlib import Failed, Mail, need

NAME = "kill"
ABOUT = "kill -9 at every system call, from the start to the stop"

# No two runs make the same calls in the same threads.  A point that was not
# reached is tried again; in a disk thread, in whichever gets there first, as
# they share their work as it comes.
TRIES = 3
MISSED_MAX = 0.05
# Calls that nobody else sees, left out where there are other points enough.
INTERNAL = {"brk", "epoll_wait", "futex", "getpid", "madvise", "mmap",
            "mprotect", "mremap", "munmap", "rt_sigprocmask",
            "timerfd_settime"}


class Scenario:
    """`before` is in the queue already; `mails` are handed in; with `tick`,
    that second's work is waited for."""

    def __init__(self, name, before=None, mails=None, start=False, tick=None,
                 upstream=True):
        self.name, self.before, self.mails = name, before, mails
        self.start, self.tick, self.upstream = start, tick, upstream


def queue_in_many():
    return [[Mail(f"seg{i}")] for i in range(10)]


def no_large(relay):
    return not any((relay.spool / "large").iterdir())


def is_compacted(relay):
    return not (relay.spool / "arrivals/000000001").exists()


SCENARIOS = {s.name: s for s in (
    Scenario("one", mails=lambda: [Mail("one")]),
    Scenario("few", before=traced.queue_some, mails=lambda: [
        Mail("small"), Mail("part", bad=["bad@example.org"]),
        Mail("dead", good=[], bad=["worse@example.org"])]),
    Scenario("tick", tick=no_large,
             mails=lambda: [Mail("large", traced.LARGE)]),
    Scenario("compact", before=queue_in_many, tick=is_compacted,
             upstream=False),
    Scenario("first", start=True),
    Scenario("again", before=traced.queue_some, start=True),
)}


class Station(traced.Station):
    """Runs a scenario, kills the relay in it, and looks what is left."""

    # --- a run ---

    def hand_in(self, mails):
        try:
            with self.relay.submit() as s:
                for mail in mails:
                    crashlib.hand_in(s, mail)
                    need(mail.accepted, f"{mail}: not accepted")
        except OSError:
            pass  # it was killed

    def is_over(self, scenario, mails):
        """Each message has its end, or there will be none."""
        if not self.relay.process.alive():
            return True
        if scenario.tick and not scenario.tick(self.relay):
            return False
        if not scenario.upstream:
            return True
        taken, dead = self.deliveries.read(), len(self.relay.dead_letters())
        return (all(m.finished or m.message_id in taken
                    for m in mails if m.good) and
                dead >= sum(bool(m.bad) for m in mails))

    def live(self, scenario, threads, options, output):
        """The scenario under strace, to its end; the mails."""
        relay = self.relay
        mails = self.begin(scenario.before)
        self.set_upstream(scenario.upstream)
        hold = traced.Hold(self.dir / "hold")
        names = traced.start_held(relay, hold)
        tids = [t for t, name in names.items() if fnmatch(name, threads)]
        tracer = traced.attach(tids, options, output)
        hold.release()
        if scenario.mails is not None:
            new = scenario.mails()
            self.hand_in(new)
            mails += new
        harness.wait_until(lambda: self.is_over(scenario, mails),
                           f"the end of {scenario.name}")
        self.end_run()
        traced.detach(tracer)
        hold.close()
        return mails, names

    def start_only(self, scenario, _, options, output):
        """The same for its start alone, from the first instruction."""
        relay = self.relay
        mails = self.begin(scenario.before)
        self.set_upstream(False)
        relay.start(wait=False, wrap=(traced.STRACE, "-f", "-qq", "-o",
                                      str(output), *options))
        harness.wait_until(
            lambda: not relay.process.alive() or
            relay.log_path.exists() and " ready: " in relay.log(),
            "the end of the start")
        daemon = traced.child_of(relay.process.pid)
        if daemon is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGTERM)
        self.end_run()
        return mails, {}

    def end_run(self):
        process = self.relay.process
        if process.alive():
            process.kill(signal.SIGTERM)
        self.code = process.wait()
        process.close()
        need(self.code in (0, -signal.SIGKILL),
             f"it ended with {self.code}: {self.relay.log()[-2000:]}")

    # --- after it ---

    def compare(self, mails):
        """How many messages and dead letters came twice."""
        copies, letters = self.recover(mails)
        most = max([0, *copies.values(), *letters.values()])
        need(sum(copies.values()) <= traced.CONNECTIONS and most <= 1,
             f"more came twice than was in flight: {copies} {letters}")
        return sum(copies.values()), sum(letters.values())

    def run(self, point):
        """(was the point reached, (messages, letters) that came twice)"""
        name, thread, call, n = point
        for _ in range(TRIES):
            killed, twice = self.run_once(name, thread, call, n)
            if killed:
                break
            if thread.startswith("disk"):
                thread = "disk*"
        return killed, twice

    def run_once(self, *point):
        name, thread, call, n = point
        scenario = SCENARIOS[name]
        options = ["-e", f"trace={call}",
                   "-e", f"inject={call}:signal=KILL:when={n}"]
        do = self.start_only if scenario.start else self.live
        try:
            mails, _ = do(scenario, thread, options, "/dev/null")
            killed = self.code != 0
            twice = self.compare(mails)
            need(killed or twice == (0, 0), "twice, and nothing was killed")
        except Exception as e:
            raise Failed(f"{' '.join(map(str, point))}: {type(e).__name__}: "
                         f"{e}\n{self.relay.log()[-3000:]}") from e
        return killed, twice

    def list_points(self, name):
        """Every (scenario, thread, call, n) of a run without a kill."""
        scenario = SCENARIOS[name]
        trace = self.dir / f"trace-{name}"
        if scenario.start:
            self.start_only(scenario, "*", ["-y"], trace)
            points = start_points(name, trace, self.relay.spool)
        else:
            _, names = self.live(scenario, "*", [], trace)
            counts = traced.count_calls(trace, names)
            points = [(name, thread, call, n)
                      for (thread, call), most in sorted(counts.items())
                      if scenario.tick is None or call not in INTERNAL
                      for n in range(1, most + 1)]
        need(self.code == 0, f"exit code {self.code} without a kill")
        return points


def start_points(name, trace, spool):
    """From the first look at the spool on, in the main thread."""
    counts, points, seen = collections.Counter(), [], False
    main = None
    for line in trace.read_text(errors="replace").splitlines():
        m = traced.CALL.match(line)
        if not m:
            continue
        main = main or m[1]
        if m[1] != main:
            continue
        counts[m[2]] += 1
        seen = seen or str(spool) in line and "mkdirat" in line
        if seen:
            points.append((name, "main", m[2], counts[m[2]]))
        if " ready: " in line:
            break
    return points


def run(work, sample):
    traced.need_ptrace()
    certs = harness.make_certificates(work / "certs")

    def make(directory):
        return Station(directory, certs)

    class Lister(Station):
        run = Station.list_points

    points = []
    for name, found in traced.run_jobs(
            lambda d: Lister(d.with_name(d.name + "-list"), certs), work,
            list(SCENARIOS), 2):
        points += found
    points.sort()
    if sample:
        points = traced.spread(points, 120)
    done = traced.run_jobs(make, work, points, 5)
    reached = sum(killed for _, (killed, _) in done)
    copies, letters = map(sum, zip(*(twice for _, (_, twice) in done)))
    missed = len(done) - reached
    need(missed <= MISSED_MAX * len(done),
         f"{missed} of {len(done)} points were not reached: " +
         ", ".join(" ".join(map(str, p)) for p, (hit, _) in done if not hit))
    return (f"{len(done)} points in {len(SCENARIOS)} scenarios, {reached} "
            f"reached: 0 acknowledged lost, 0 garbled, {copies} messages and "
            f"{letters} dead letters twice, within those in flight")
