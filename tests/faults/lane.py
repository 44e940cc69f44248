"""A relay and an emulator of their own, on which cells of one row of the matrix
are run one after the other, and the judge of each.

What the judge looks at: the emulator's journal (what it took, what it was told,
on which connection), the relay's log (outcomes, attempts, what it calls
uncertain), its counters and its memory.
"""

import collections
import json
import re
import time

import cells
import harness
from cells import SLOW, TIMEOUT_S
from wire import Wire

RETRY_S = 0.6
# More than a connection's buffers take unread, at both ends: a relay that has
# had to wait when the reply came has not told the kernel of the final dot.
LONG_BODY = b"a line of text that is sent to SES\r\n" * 170_000
RECEIVE_BUFFER = 128 << 10
RCPTS = ["first@example.net", "mid@example.net", "last@example.net"]
# A huge reply may not grow it by more than its buffers.
MEMORY_KIB = 4096
# "At once" is less than this, where the schedule would be a minute.
AT_ONCE_S = 8 * SLOW


class Wrong(Exception):
    """A cell is not as it has to be."""


def check(good, what):
    if not good:
        raise Wrong(what)


class Tail:
    """The lines of a file of JSON lines that are new since mark()."""

    def __init__(self, path):
        self.path = path
        self.at = 0
        self.items = []

    def mark(self):
        self.read()
        self.items = []

    def read(self):
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        data = data[:data.rfind(b"\n") + 1]
        self.at += len(data)
        self.items += [json.loads(line) for line in data.splitlines()]
        return self.items


class Lane:
    def __init__(self, directory, certs, mode, stage, faults):
        self.mode, self.stage, self.faults = mode, stage, faults
        kinds = {cells.outcome(stage, f) for f in faults}
        self.wire = None
        self.sesd = harness.Sesd(directory / "sesd", certs, modes=(mode,),
                                 settings={
                                     "trace": 1, "idle": "60s",
                                     "receive_buffer": RECEIVE_BUFFER})
        config = {f"delivery.timeout_{t}": f'"{TIMEOUT_S}s"' for t in
                  ("connect", "tls", "greeting", "command", "data", "final")}
        config |= {
            "delivery.connections": "1",
            "delivery.idle_timeout": '"30s"',
            "delivery.connection_lifetime": '"1h"',
            "delivery.messages_per_connection": "100000",
            # Where nothing may be put off, a wait would be seen.
            "delivery.retry": (f'[ "{int(RETRY_S * 1000)}ms" ]' if kinds &
                               {"later", "uncertain"} else '[ "60s" ]'),
            "log.format": '"json"'}
        if stage == "quit":
            config["delivery.idle_timeout"] = '"100ms"'
        if stage == "idle":
            self.sesd.set("idle", "300ms")
        self.relay = harness.Relay(directory / "relay", self.sesd, mode,
                                   config=config, start=False, verbose=False)
        if cells.needs_wire(stage, faults[0]):
            self.wire = Wire(("127.0.0.1", self.sesd.ports[mode]), faults[0])
            self.relay.set_ports((self.wire.port, mode))
            self.relay.write_config()
        self.relay.start()
        self.journal = Tail(self.sesd.journal)
        self.log = Tail(self.relay.log_path)

    def close(self):
        for thing in (self.relay, self.sesd, self.wire):
            if thing is not None:
                thing.close()

    def wait(self, predicate, what, timeout=25 * SLOW):
        end = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > end or not self.relay.process.alive():
                raise Wrong(f"waited in vain for {what}")
            time.sleep(0.02)

    # --- what happened ---

    def events(self, kind):
        return [e for e in self.journal.read() if e.get("event") == kind]

    def accepted(self):
        return [e for e in self.journal.read() if "event" not in e]

    def closed(self):
        """No connection is open that was opened."""
        ends = {e["conn"] for e in self.events("close")}
        return {e["conn"] for e in self.events("connect")} <= ends

    def removed(self, qids):
        gone = {e["id"] for e in self.log.read() if e["event"] == "removed"}
        return set(qids) <= gone

    def faults_met(self):
        return self.wire.acted if self.wire else len(self.events("rule"))

    # --- a cell ---

    def run(self, fault):
        """What to print for it; raises Wrong."""
        self.fault = fault
        self.kind = cells.outcome(self.stage, fault)
        self.sent = {}  # message id: recipients, in order
        self.qids = {}  # message id: queue id
        self.sesd.control("clear")
        self.sesd.control("drop-connections")
        self.wait(self.closed, "old connections to end")
        self.journal.mark()
        self.log.mark()
        self.uncertain = self.relay.counter("messages_uncertain_total")
        self.memory = self.relay.peak_memory_kib()
        self.wanted = 1
        if self.wire is None and self.stage != "connect":
            rules = cells.rules(self.stage, fault)
            self.wanted = len(rules)
            for rule in rules:
                self.sesd.rule(rule)
        getattr(self, "go_" + self.stage, self.go)()
        self.wait(lambda: self.removed(self.qids.values()),
                  "all messages to have an end")
        return self.judge()

    def submit(self, *plan):
        with self.relay.submit() as client:
            for rcpts, body in plan:
                mid = f"{len(self.sent)}-{time.monotonic_ns()}@example.com"
                content = harness.message(body, message_id=mid)
                self.sent[mid] = rcpts
                self.qids[mid] = client.mail(content, rcpts=rcpts)

    def go(self):
        body = LONG_BODY if self.stage == "body" else b"hello\r\n"
        self.submit((RCPTS, body), (RCPTS, body), (RCPTS, b"hello\r\n"),
                    (RCPTS[:1], b"hello\r\n"))
        if self.kind == "held":
            self.wait(lambda: self.relay.state() == "credentials refused",
                      "status to tell of the credentials")
            queue = self.relay.ctl_json("queue")
            check(len(queue) == len(self.sent), "mail left a held queue")
            check({m["attempts"] for m in queue} == {0},
                  "an attempt was charged for the login")
            self.relay.ctl("retry", "--all")

    def go_connect(self):
        self.go()
        if self.fault in ("RST", "hole"):
            self.wait(lambda: "connect to " in self.relay.log(),
                      "a failed connect in the log")
            self.wire.heal()

    def one_after_the_other(self, between):
        started = []
        for _ in range(3):
            self.submit((RCPTS, b"hello\r\n"))
            started.append(time.monotonic())
            self.wait(lambda: self.removed(self.qids.values()),
                      "a message to have its end")
            check(time.monotonic() - started[-1] < AT_ONCE_S,
                  "the next message did not go at once")
            between(len(started))

    def go_idle(self):
        def between(n):
            if n > 1:
                return
            self.wait(lambda: self.faults_met() == 1, "the fault")
            conn = self.events("rule")[0]["conn"]
            if self.fault != "hole":
                # Thrown away before anything is said on it.
                self.wait(lambda: conn in {
                    e["conn"] for e in self.events("close")},
                    "the relay to close the connection", TIMEOUT_S * 4)
        self.one_after_the_other(between)

    def go_reuse(self):
        self.one_after_the_other(lambda n: None)

    def go_quit(self):
        def between(n):
            if n == 1:
                self.wait(lambda: self.faults_met() == 1, "the fault")
        self.one_after_the_other(between)
        conn = self.events("rule")[0]["conn"]
        self.wait(lambda: conn in {e["conn"] for e in self.events("close")},
                  "the relay to give the connection up")

    # --- the judge ---

    def judge(self):
        check(self.faults_met() == self.wanted,
              f"{self.faults_met()} faults happened, not {self.wanted}")
        check(self.events("protocol") == [],
              f"protocol: {self.events('protocol')}")
        check(self.relay.process.alive(), "the relay is gone")
        twice = self.judge_copies()
        self.judge_outcomes()
        self.judge_uncertain()
        if self.kind in ("free", "uncertain", "sent", "held"):
            self.judge_connections()
        self.judge_memory()
        return f"ok+{twice}" if twice else "ok"

    def faulted(self):
        """Messages that met the fault."""
        return [e["message_id"] for e in self.events("rule")
                if "message_id" in e]

    def judge_copies(self):
        """Each recipient of each message, as often as it may be."""
        copies = {(m, r): 0 for m, rcpts in self.sent.items() for r in rcpts}
        for e in self.accepted():
            for r in e["rcpts"]:
                check((e["message_id"], r) in copies, f"not ours: {e}")
                copies[e["message_id"], r] += 1
        taken = {e["message_id"] for e in self.events("rule") if e.get("id")}
        twice = set()
        dead = {(m, r) for m, r in copies if self.is_dead(m, r)}
        for (m, r), n in copies.items():
            want = 0 if (m, r) in dead else 1
            if self.kind == "uncertain" and m in taken:
                want = 2
                twice.add(m)
            check(n >= want, f"lost: {m} to {r} arrived {n} times")
            check(n <= want, f"twice: {m} to {r} arrived {n} times")
        return len(twice)

    def is_dead(self, mid, rcpt):
        if self.kind not in ("dead", "rcpt-dead"):
            return False
        mine = [e for e in self.log.read() if e.get("id") == self.qids[mid]
                and e.get("status") == "bounced" and e.get("to") == rcpt]
        return len(mine) > 0

    def judge_outcomes(self):
        lines = [e for e in self.log.read() if "status" in e]
        by_status = {s: [e for e in lines if e["status"] == s]
                     for s in ("sent", "deferred", "bounced")}
        dead = {"dead": 3 * self.wanted, "rcpt-dead": self.wanted}.get(
            self.kind, 0)
        check(len(by_status["bounced"]) == dead,
              f"{len(by_status['bounced'])} recipients bounced, not {dead}")
        charged = self.kind in ("later", "uncertain")
        # A message that comes back soon may be hit twice, and another not.
        put_off = {(e["id"], e["attempt"]) for e in by_status["deferred"]}
        deferred = collections.Counter(id for id, _ in put_off)
        check(len(put_off) == (self.wanted if charged else 0) or
              self.kind == "held",
              f"{len(put_off)} times put off: {by_status['deferred']}")
        for e in by_status["sent"]:
            # A recipient that was not put off may be sent with the first.
            most = 1 + (deferred[e["id"]] if charged else 0)
            check(int(e["attempt"]) <= most, f"charged: {e}")
            if self.kind == "uncertain" and e["id"] in deferred:
                check(int(e["attempt"]) == most, f"not charged: {e}")
        for e in by_status["deferred"]:
            if charged:
                check("next attempt in " in e["reply"], f"no schedule: {e}")

    def judge_uncertain(self):
        n = self.relay.counter("messages_uncertain_total") - self.uncertain
        want = self.wanted if self.kind == "uncertain" else 0
        check(n == want, f"{n} messages counted as uncertain, not {want}")
        if want == 0:
            return
        check(len(set(self.faulted())) == want, "not each a message")
        text = self.relay.log()
        last = {e["message_id"]: e for e in self.accepted()}
        for mid in self.faulted():
            qid = self.qids[mid]
            told = re.search(rf'"id":"{qid}".*delivery uncertain, '
                             rf'message-id=<{re.escape(mid)}>', text)
            check(told, f"the log does not tell of {qid}, <{mid}>")
            met = [e for e in self.events("rule")
                   if e.get("message_id") == mid][0]
            check(last[mid]["time"] - met["time"] > RETRY_S * 0.95,
                  f"{mid} went again at once")

    def judge_connections(self):
        """Nothing is said on a connection after what went wrong on it."""
        items = self.journal.read()
        for n, e in enumerate(items):
            if e.get("event") != "rule":
                continue
            after = [x for x in items[n + 1:] if x.get("conn") == e["conn"]
                     and x.get("event") in ("command", "ignored")]
            if self.stage in ("wrap", "tls"):
                after = after[1:]  # the ClientHello
            if self.stage == "body" or self.fault == "early":
                # Its content, or the command that was to follow.
                after = [x for x in after if x["event"] == "command"][1:]
            if self.stage == "idle" and self.fault == "hole":
                after = after[1:]  # nothing told us
            check(after == [], f"used again after the fault: {after}")

    def judge_memory(self):
        grown = self.relay.peak_memory_kib() - self.memory
        if self.fault in ("long", "10MB", "1e5") and not harness.SANITIZED:
            check(grown < MEMORY_KIB, f"it grew by {grown} KiB")
