"""The order of what is written, synced and said, in a trace of a load.

At each 250 behind a final dot, by offsets: the record, and the large file that
belongs to it, were written and then synced; and so were the entries in their
directories.  Outcome lines are synced within two seconds, and large content is
unlinked only behind that.  A sync that strace kept from the kernel is none: so
the same check has to fail when the syncs of files, and those of directories,
are taken out.
"""
import concurrent.futures
import re
import shutil

import crashlib
import harness
import traced
from crashlib import Mail, need

NAME = "order"
ABOUT = "in a trace of a load: nothing is acknowledged before it is durable"

SESSIONS = 8
CALLS = ("openat,mkdirat,renameat,unlinkat,close,pwrite64,pwritev,write,fsync,"
         "fdatasync,ftruncate,sendto,sendmsg")
OUTCOME_SECONDS = 2.0

LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
BEGIN = re.compile(r"(\w+)\((.*?)(?: <unfinished \.\.\.>|\) += (-?\d+)(.*))$")
RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)(.*)$")
PATH = re.compile(r"\d+<([^>]*)>")
AT = re.compile(r'\d+<([^>]*)>, "([^"]*)"')
RECORD = re.compile(r'"message 1 [0-9a-f]{16} \d{10} (\d{10}) ([0-9A-F]{16}) '
                    r"(\d{10}) (\d{10})")
QUEUED = re.compile(r'"250 2\.0\.0 Ok: queued as ([0-9A-F]{16})\\r')
OUTCOME = re.compile(r"T[0-9:.]+Z ([0-9A-F]{16}) \w+ \S+ end ")


class Call:
    """`text` is complete when it ends."""

    def __init__(self, name, text, begin):
        self.name, self.text, self.begin = name, text, begin
        self.result, self.injected = None, False


def read_calls(path):
    """("begin" or "end", call), in order."""
    open_calls = {}
    with open(path, errors="replace") as f:
        for line in f:
            m = LINE.match(line)
            if not m:
                continue
            thread, when, text = m[1], float(m[2]), m[3]
            if r := RESUMED.match(text):
                call = open_calls.pop(thread, None)
                if call is None:
                    continue
                call.text += r[2]
                result, rest = r[3], r[4]
            elif b := BEGIN.match(text):
                call = Call(b[1], b[2], when)
                yield "begin", call
                if b[3] is None:
                    open_calls[thread] = call
                    continue
                result, rest = b[3], b[4]
            else:
                continue
            call.result = int(result)
            call.injected = "(INJECTED)" in rest
            yield "end", call


class File:
    """What is written to it and not synced."""

    def __init__(self):
        self.dirty = []  # [from, to, since]

    def write(self, start, end, when):
        self.dirty.append((start, end, when))

    def is_dirty(self, start, end):
        return any(a < end and start < b for a, b, _ in self.dirty)


class Checker:
    """Follows a trace; what it finds wrong is in `violations`."""

    def __init__(self, spool):
        self.spool = str(spool)
        self.files = {}  # path: File
        self.entries = {}  # path: in a directory, and not synced
        self.records = {}  # id: (path, from, to)
        self.large = {}  # id: path
        self.lines = {}  # id: (path, from, to) of the line that ends it
        self.syncing = {}  # call: what it will have synced
        self.violations = []
        self.n_acked = self.n_lines = self.n_large = self.n_unlinked = 0
        self.late = 0.0

    def wrong(self, call, text):
        self.violations.append(f"{call.begin:.6f} {call.name}: {text}")

    def feed(self, path):
        for what, call in read_calls(path):
            handler = getattr(self, f"{what}_{call.name}", None)
            if handler is not None:
                handler(call)
        for path, file in self.files.items():
            if "/outcomes/" in path and file.dirty:
                self.violations.append(f"{path} was never synced")

    def file(self, path):
        return self.files.setdefault(path, File())

    # --- names ---

    def end_openat(self, call):
        m = AT.match(call.text)
        if m and call.result >= 0 and "O_CREAT" in call.text and \
                m[1].startswith(self.spool):
            path = f"{m[1]}/{m[2]}"
            self.entries[path] = m[1]
            if m[1].endswith("/large"):
                self.large[m[2]] = path
                self.n_large += 1

    def end_mkdirat(self, call):
        m = AT.match(call.text)
        if m and call.result == 0 and m[1] == self.spool:
            self.entries[f"{m[1]}/{m[2]}"] = m[1]

    def begin_unlinkat(self, call):
        m = AT.match(call.text)
        if not m or m[1] != f"{self.spool}/large" or m[2] not in self.lines:
            return
        self.n_unlinked += 1
        path, start, end = self.lines[m[2]]
        if self.file(path).is_dirty(start, end) or path in self.entries:
            self.wrong(call, f"large/{m[2]} before its outcome is durable")

    # --- contents ---

    def begin_pwritev(self, call):
        path = PATH.match(call.text)[1]
        at = int(call.text.rpartition(", ")[2])
        if "/arrivals/" in path:
            for m in RECORD.finditer(call.text):
                start, head, body = int(m[1]), int(m[3]), int(m[4])
                end = start + 139 + head + body + 21
                self.records[m[2]] = path, start, end
                self.file(path).write(start, end, call.begin)
                if m[2] in self.large:
                    self.check_large(call, m[2])
        elif "/outcomes/" in path:
            length = sum(map(int, re.findall(r"iov_len=(\d+)", call.text)))
            self.file(path).write(at, at + length, call.begin)
            for id in OUTCOME.findall(call.text):
                self.lines[id] = path, at, at + length
                self.n_lines += 1

    def begin_pwrite64(self, call):
        path = PATH.match(call.text)[1]
        length, at = map(int, call.text.rsplit(", ", 2)[1:])
        if path.startswith(self.spool) and not path.endswith("/lock"):
            self.file(path).write(at, at + length, call.begin)

    # --- syncs: what was written before they began ---

    def begin_fdatasync(self, call):
        path = PATH.match(call.text)[1]
        self.syncing[call] = list(self.file(path).dirty)

    def end_fdatasync(self, call):
        synced = self.syncing.pop(call)
        if call.result != 0 or call.injected:
            return
        path = PATH.match(call.text)[1]
        file = self.file(path)
        file.dirty = [d for d in file.dirty if d not in synced]
        if "/outcomes/" in path:
            self.late = max([self.late] + [call.begin - when
                                           for _, _, when in synced])

    def begin_fsync(self, call):
        where = PATH.match(call.text)[1]
        self.syncing[call] = [path for path, parent in self.entries.items()
                              if parent == where]

    def end_fsync(self, call):
        for path in self.syncing.pop(call):
            if call.result == 0 and not call.injected:
                self.entries.pop(path, None)

    # --- what is said ---

    def check_large(self, call, id):
        path = self.large[id]
        if self.file(path).dirty:
            self.wrong(call, f"large/{id} is not synced")
        if path in self.entries:
            self.wrong(call, f"large/{id} has an entry that is not synced")

    def begin_sendto(self, call):
        m = QUEUED.search(call.text)
        if not m:
            return
        self.n_acked += 1
        if m[1] not in self.records:
            self.wrong(call, f"{m[1]}: acknowledged, and never written")
            return
        path, start, end = self.records[m[1]]
        if self.file(path).is_dirty(start, end):
            self.wrong(call, f"{m[1]}: {path} is not synced")
        for name in (path, f"{self.spool}/arrivals"):
            if name in self.entries:
                self.wrong(call, f"{m[1]}: the entry of {name} is not synced")
        if m[1] in self.large:
            self.check_large(call, m[1])

    begin_sendmsg = begin_sendto  # a reply in several pieces


def send(relay, number, n):
    """n messages of mixed sizes in one session; every 50th is large."""
    with relay.submit() as s:
        for i in range(number, n * SESSIONS, SESSIONS):
            mail = Mail("load", traced.LARGE if i % 50 == 7
                        else (1, 700, 5000, 60_000)[i % 4])
            crashlib.hand_in(s, mail)
            need(mail.accepted, f"{mail}: not accepted")


def trace_load(relay, trace, n, inject=()):
    """The checker that has seen a load of n messages for each session."""
    shutil.rmtree(relay.spool, ignore_errors=True)
    relay.log_path.unlink(missing_ok=True)
    relay.start(wrap=(traced.STRACE, "-f", "-qq", "-y", "-ttt", "-s", "8192",
                      "-e", f"trace={CALLS}", *inject, "-o", str(trace)))
    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(lambda i: send(relay, i, n), range(SESSIONS)))
    relay.wait_empty(120)
    harness.wait_until(lambda: not any((relay.spool / "large").iterdir()),
                       "the large files to go")
    traced.stop_traced(relay)
    checker = Checker(relay.spool)
    checker.feed(trace)
    trace.unlink()
    need(checker.n_acked == n * SESSIONS,
         f"{checker.n_acked} of {n * SESSIONS} acknowledgements in the trace")
    return checker


def expect_violations(relay, trace, call, n):
    """The check must see that these syncs are taken out."""
    checker = trace_load(relay, trace, n,
                         ("-e", f"inject={call}:retval=0"))
    need(len(checker.violations) >= checker.n_acked,
         f"{call} was taken out, and the check says "
         f"{len(checker.violations)} violations")
    return len(checker.violations)


class Station:
    """For a worker process: see traced.become_root()."""

    def __init__(self, directory, certs):
        self.sesd = harness.Sesd(directory / "sesd", certs)
        self.relay = harness.Relay(directory / "relay", self.sesd,
                                   start=False)
        self.trace = directory / "trace"

    def close(self):
        self.relay.close()
        self.sesd.close()

    def run(self, n):
        c = trace_load(self.relay, self.trace, n)
        need(not c.violations, f"{len(c.violations)} violations: " +
             "; ".join(c.violations[:10]))
        need(c.n_lines >= c.n_acked and c.n_unlinked == c.n_large > 0,
             f"{c.n_lines} ends, {c.n_unlinked} of {c.n_large} large gone")
        need(c.late <= OUTCOME_SECONDS,
             f"an outcome was synced after {c.late:.2f} s")
        files, directories = (
            expect_violations(self.relay, self.trace, call, 10)
            for call in ("fdatasync", "fsync"))
        return (f"{c.n_acked} messages, {c.n_large} of them large: 0 "
                f"violations, outcomes synced within {c.late:.2f} s; of "
                f"{10 * SESSIONS} messages the check reports {files} without "
                f"fdatasync, {directories} without fsync of directories")


def run(work, sample):
    traced.need_ptrace()
    certs = harness.make_certificates(work / "certs")
    [(_, result)] = traced.run_jobs(
        lambda directory: Station(directory, certs), work,
        [25 if sample else 150], 1)
    return result
