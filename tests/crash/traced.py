"""The relay under strace: at the n-th system call of one of its threads, a
signal or a failure.

strace(1) counts calls for each name and each thread.  So that the count of a
thread begins at the same place every time, the relay is held while it says
READY (its manager's socket is full), strace is attached to the threads that
are meant, and the relay is let go: what follows are its start scan and the
life of messages.  What comes before is reached by starting it under strace.
"""
import collections
import ctypes
import multiprocessing
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import traceback

import crashlib
import harness
from crashlib import Failed, Impossible, Mail, need

STRACE = shutil.which("strace")
SENDTO = {"x86_64": "44", "aarch64": "206"}.get(platform.machine())
CALL = re.compile(r"^(?:(\d+) +)?(?:\d+\.\d+ )?(\w+)\(")


def become_root():
    """ptrace of a process that has secrets takes a capability: without it, in
    a user namespace.  For a worker process, as it cannot be undone."""
    if os.geteuid() == 0:
        return
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):  # NEWUSER
        raise Impossible("not root, and no user namespaces")
    pathlib.Path("/proc/self/setgroups").write_text("deny")
    pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def need_ptrace():
    if STRACE is None or subprocess.run(
            [STRACE, "-qq", "-o", "/dev/null", "true"],
            stderr=subprocess.DEVNULL).returncode:
        raise Impossible("strace cannot trace")


class Hold:
    """A service manager that reads nothing until release()."""

    def __init__(self, path):
        self.path = path
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            try:
                while True:
                    s.sendto(b"full", str(path))
            except BlockingIOError:
                pass

    def release(self):
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            pass

    def close(self):
        self.socket.close()
        self.path.unlink(missing_ok=True)


def threads(pid):
    """{tid: name}, in order of birth; threads of one name are numbered."""
    names, seen = {}, collections.Counter()
    for tid in sorted(int(p.name) for p in
                      pathlib.Path(f"/proc/{pid}/task").iterdir()):
        name = "main" if tid == pid else pathlib.Path(
            f"/proc/{pid}/task/{tid}/comm").read_text().strip()
        seen[name] += 1
        names[tid] = name if seen[name] == 1 else f"{name}{seen[name]}"
    return names


def has_tracer(tid):
    try:
        text = pathlib.Path(f"/proc/{tid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True  # killed at its first call
    return "TracerPid:\t0\n" not in text


def attach(tids, options, output):
    """strace on these threads, in effect."""
    tracer = subprocess.Popen(
        [STRACE, "-qq", "-o", str(output), *options,
         "-p", ",".join(map(str, tids))],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    harness.wait_until(
        lambda: all(map(has_tracer, tids)) or tracer.poll() is not None,
        "strace to attach")
    need(tracer.poll() in (None, 0),
         lambda: f"strace does not attach: {tracer.communicate()[1]}")
    return tracer


def detach(tracer):
    if tracer.poll() is None:
        tracer.terminate()
    tracer.communicate()


def start_held(relay, hold):
    """The relay as far as READY; {tid: name}."""
    os.environ["NOTIFY_SOCKET"] = str(hold.path)
    try:
        relay.start(wait=False)
    finally:
        del os.environ["NOTIFY_SOCKET"]
    pid = relay.process.pid
    where = pathlib.Path(f"/proc/{pid}/syscall")

    def held():
        need(relay.process.alive(), f"it did not start: {relay.log()}")
        return (relay.control.exists() and
                where.read_text().startswith(SENDTO + " "))

    def named():
        names = threads(pid)
        return "sesrelayd" not in names.values() and names
    harness.wait_until(held, "the relay to say READY")
    return harness.wait_until(named, "its threads to begin")


def child_of(tracer):
    """The process that strace was started with; None when it is gone."""
    path = pathlib.Path(f"/proc/{tracer}/task/{tracer}/children")
    try:
        children = path.read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


def stop_traced(relay):
    """SIGTERM to a relay that was started under strace."""
    os.kill(child_of(relay.process.pid), signal.SIGTERM)
    code = relay.process.wait()
    relay.process.close()
    need(code == 0, f"exit code {code}")


def count_calls(trace, names):
    """{(thread, call): n} of strace's output."""
    counts = collections.Counter()
    for line in trace.read_text(errors="replace").splitlines():
        m = CALL.match(line)
        if m:
            counts[names[int(m[1])], m[2]] += 1
    return counts


RULES = ['on RCPT when rcpt=bad@example.org reply "501 Invalid RCPT TO"',
         'on DOT when rcpt=worse@example.org reply "554 Transaction failed: x"']
DONE = "done@example.net"
STUCK = "stuck@example.net"
LATER = f'on RCPT when rcpt={STUCK} reply "451 Later"'
CONNECTIONS = 2
LARGE = 1_200_000


def queue_some():
    """One of each kind, in one segment with one that is delivered.  While
    LATER is a rule, one keeps the segment from being removed."""
    return [[Mail("done", good=[DONE]), Mail("old"), Mail("oldlarge", LARGE),
             Mail("oldbad", good=[], bad=["bad@example.org"]),
             Mail("oldstuck", good=[STUCK])]]


class Station:
    """What one worker has: an upstream, a relay, spools to begin with."""

    def __init__(self, directory, certs):
        self.dir = directory
        self.sesd = harness.Sesd(directory / "sesd", certs, store=True)
        self.deliveries = crashlib.Deliveries(self.sesd)
        self.relay = harness.Relay(
            directory / "relay", self.sesd, start=False,
            config={"delivery.connections": str(CONNECTIONS)})
        self.templates = {}
        self.set_rules(RULES)

    def close(self):
        self.relay.close()
        self.sesd.close()

    def set_rules(self, rules):
        self.sesd.control("clear")
        for rule in rules:
            self.sesd.rule(rule)

    def set_upstream(self, there):
        port = self.sesd.ports["starttls"] if there else 1
        self.relay.set_ports((port, "starttls"))
        self.relay.write_config()

    def make_template(self, groups, template):
        """A spool with these, each group in a segment of its own: queued, but
        for those to DONE; and rubbish as crashes leave it."""
        relay = self.relay
        self.set_upstream(True)
        self.set_rules([f'on RCPT when rcpt!={DONE} reply "451 Later"'])
        for group in groups:
            relay.start()
            with relay.submit() as s:
                for mail in group:
                    crashlib.hand_in(s, mail)
                    need(mail.accepted, f"{mail}: not accepted")
                    if mail.good == [DONE]:
                        mail.finished = True
                        relay.wait_outcome(mail.qid, "sent")
            need(relay.stop() == 0, f"exit code: {relay.log()}")
        self.set_rules(RULES)
        (relay.spool / "failed/.0000000000000001.eml.tmp").write_text("half")
        (relay.spool / "large/0000000000000001").write_text("half")
        last = sorted((relay.spool / "arrivals").iterdir())[-1]
        record = last.read_bytes()[72:]
        with open(last, "ab") as f:
            f.write(record[:100])
        shutil.copytree(relay.spool, template)

    def begin(self, make_groups=None):
        """A fresh spool; the mails that are queued in it."""
        spool = self.relay.spool
        shutil.rmtree(spool, ignore_errors=True)
        if make_groups is not None and make_groups not in self.templates:
            groups = make_groups()
            template = self.dir / f"template{len(self.templates)}"
            self.make_template(groups, template)
            self.templates[make_groups] = template, sum(groups, [])
            shutil.rmtree(spool)
        self.deliveries.restart()
        self.relay.log_path.unlink(missing_ok=True)
        if make_groups is None:
            return []
        template, mails = self.templates[make_groups]
        shutil.copytree(template, spool)
        return list(mails)

    def is_drained(self):
        status = self.relay.status()
        return not status["spool"]["scanning"] and self.relay.count() == 0

    def recover(self, mails):
        """Start again, drain, stop, compare; see crashlib.judge()."""
        relay = self.relay
        self.set_upstream(True)
        self.set_rules(RULES)
        relay.start()
        harness.wait_until(self.is_drained, "the queue to drain")
        need(relay.stop() == 0, "the restarted relay did not stop well")
        log = relay.log()[relay.log_start:]
        need("damage" not in log and "left alone" not in log,
             "damage at the restart")
        harness.wait_until(
            lambda: self.sesd.stats()["connections"]["now"] == 0,
            "the upstream to rest")
        more = crashlib.judge(mails, self.deliveries,
                              crashlib.read_letters(relay))
        crashlib.check_at_rest(relay.spool)
        return more


# --- workers ---

def _worker(make, work, number, jobs, turn, results):
    # So that what it started goes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        become_root()
        station = make(work / f"worker{number}")
        try:
            while True:
                with turn.get_lock():
                    index = turn.value
                    turn.value += 1
                if index >= len(jobs):
                    break
                results.put((jobs[index], station.run(jobs[index]), None))
        finally:
            station.close()
    except (Failed, Impossible) as e:
        results.put((None, None, e))
    except BaseException:
        results.put((None, None, Failed(traceback.format_exc())))


def run_jobs(make, work, jobs, workers):
    """[(job, station.run(job))] by worker processes, each with the station
    that make(directory) gave it."""
    context = multiprocessing.get_context("fork")
    turn, results = context.Value("i", 0), context.Queue()
    processes = [context.Process(target=_worker,
                                 args=(make, work, i, jobs, turn, results))
                 for i in range(min(workers, len(jobs)))]
    for p in processes:
        p.start()
    done = []
    try:
        while len(done) < len(jobs):
            job, result, error = results.get(timeout=300)
            if error is not None:
                raise error
            done.append((job, result))
    finally:
        turn.value = len(jobs)
        for p in processes:
            p.join(60)
            if p.is_alive():
                p.terminate()
    return done


def spread(items, n):
    """n of them, evenly; the same ones every time."""
    if n >= len(items):
        return items
    return [items[i * len(items) // n] for i in range(n)]
