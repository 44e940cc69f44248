"""What the spool promises: a 250 is on the disk, nothing accepted is lost and
nothing refused ever appears, whatever happens to the process, the disk or the
files.  strace(1) is the witness of what was done, and makes the faults."""

import os
import pathlib
import re
import select
import shutil
import signal

import pytest

from harness import message, private_mounts, wait_until
from intake_helpers import (STRACE, Client, accepted, by_message_id, contents,
                            daemon_pid, envelope, injected, mail_reply,
                            run_relay, send_together, sessions, stuff,
                            unstarted, wait_accepted)


def numbered(n, body=b"body\r\n"):
    """{Message-ID: content}"""
    return {f"m{i}@example.com": message(body + b"%d\r\n" % i,
                                         message_id=f"m{i}@example.com")
            for i in range(n)}


def hand_in(relay, messages):
    """{queue id: Message-ID}"""
    with Client(relay.port) as c:
        c.ehlo()
        return {c.mail(content): mid for mid, content in messages.items()}


def connect_to(relay, sesd):
    """Where the relay finds sesd, from its next start on."""
    relay.settings["ses.ca_file"] = f'"{sesd.certs / "ca.pem"}"'
    relay.set_ports((sesd.ports["starttls"], "starttls"))
    relay.write_config()


def segments(relay, kind="arrivals"):
    return sorted((relay.spool / kind).iterdir())


# --- order on the disk ---

class Call:
    """A system call: where in the trace it began and ended."""

    def __init__(self, name, text, begin):
        self.name, self.text, self.begin, self.end = name, text, begin, None
        self.result = None

    def path(self):
        return re.match(r"\d+<([^>]*)>", self.text)[1]


def read_trace(path):
    """strace -f -y in order of begin; calls that did not end have end None."""
    calls, open_calls = [], {}
    for n, line in enumerate(path.read_text(errors="replace").splitlines()):
        pid, rest = line.split(None, 1)
        m = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
        if m:
            call = open_calls.pop(pid)
            assert call.name == m[1]
            call.text += m[2]
        else:
            m = re.match(r"(\w+)\((.*)", rest)
            if not m:
                continue
            call = Call(m[1], m[2], n)
            calls.append(call)
            if call.text.endswith("<unfinished ...>"):
                open_calls[pid] = call
                continue
        m = re.search(r"= (-?\d+)[^=]*$", call.text)
        call.result = int(m[1]) if m else None
        call.end = n
    return calls


TRACED = ("write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,openat,"
          "fdatasync,fsync,sync_file_range,rename,renameat,renameat2,linkat")


def start_traced(relay, trace):
    relay.start(wrap=[*STRACE, "-y", "-s", "300", "-o", str(trace),
                      "-e", f"trace={TRACED}"])


def stop_inside(relay):
    """SIGTERM to the relay itself, not to what it runs in."""
    os.kill(daemon_pid(relay), signal.SIGTERM)
    assert relay.process.wait(60) == 0
    relay.process.close()


def durable_before(calls, reply, path, written):
    """Was `path` synced after `written` and before `reply`, and its name?"""
    assert any(c.name == "fdatasync" and c.path() == path and c.result == 0 and
               written.end < c.begin and c.end < reply.begin
               for c in calls), f"{path} is not synced before the 250"
    directory, name = os.path.split(path)
    made = [c for c in calls if c.name == "openat" and "O_CREAT" in c.text and
            c.path() == directory and f'"{name}"' in c.text]
    assert len(made) == 1
    assert any(c.name == "fsync" and c.path() == directory and
               c.result == 0 and
               made[0].end < c.begin and c.end < reply.begin
               for c in calls), f"{directory} is not synced before the 250"


def check_durability(calls, qid):
    replies = [c for c in calls if c.name in ("sendmsg", "sendto", "writev")
               and f"250 2.0.0 Ok: queued as {qid}" in c.text]
    assert len(replies) == 1
    records = [c for c in calls if c.name.startswith("pwrite") and
               "/spool/arrivals/" in c.path() and
               re.search(rf"message 1 [^\\]* {qid} ", c.text)]
    assert len(records) == 1 and records[0].result > 0
    durable_before(calls, replies[0], records[0].path(), records[0])
    large = [c for c in calls if c.name.startswith("pwrite") and
             c.path().endswith(f"/large/{qid}")]
    if large:
        assert max(c.end for c in large) < records[0].begin
        durable_before(calls, records[0], large[0].path(),
                       max(large, key=lambda c: c.end))
    return bool(large)


def test_the_250_comes_when_it_is_on_the_disk(relay, directory):
    """One by one, many at once, large ones in between."""
    r = relay(start=False)
    start_traced(r, directory / "trace")
    large = message((b"x" * 98 + b"\r\n") * 15000)
    ids, large_ids = [], []
    with sessions(r, 20) as clients:
        for _ in range(5):
            ids.append(clients[0].mail())
        large_ids.append(clients[1].mail(large))
        for _ in range(3):
            for c in clients:
                c.begin()
            for c in clients[:-1]:
                c.send(stuff(message()))
            clients[-1].send(stuff(large))
            ids += [accepted(c.reply()) for c in clients[:-1]]
            large_ids.append(accepted(clients[-1].reply()))
    stop_inside(r)
    calls = read_trace(directory / "trace")
    assert [check_durability(calls, qid) for qid in ids] == [False] * 62
    assert [check_durability(calls, qid) for qid in large_ids] == [True] * 4
    # The witness would have seen other ways to write, too.
    assert not [c for c in calls if c.name == "openat" and "/spool" in c.text
                and re.search(r"O_(DIRECT|SYNC|DSYNC)\b", c.text)]


def test_no_sync_without_durability(relay, directory):
    """spool.durability = "none" is for spools in memory."""
    r = relay(start=False, config={"spool.durability": '"none"'})
    start_traced(r, directory / "trace")
    hand_in(r, numbered(3))
    stop_inside(r)
    calls = read_trace(directory / "trace")
    assert [c for c in calls if c.name in ("fsync", "fdatasync")] == []


@pytest.mark.parametrize("delay,rounds,most", [(1000, 10, 200),
                                               (100000, 3, 12)])
def test_group_commit(relay, delay, rounds, most):
    """50 sessions hand in at the same time: a sync is shared by all that wait
    for it, the more the slower the disk (1 ms, 100 ms)."""
    r = relay()
    with injected(r, f"fdatasync:delay_exit={delay}"), \
            sessions(r, 50) as clients:
        before = r.counter("spool_syncs_total")
        for _ in range(rounds):
            for c in clients:
                c.begin()
            for c in clients:
                c.send(stuff(message()))
            for c in clients:
                accepted(c.reply())
        syncs = r.counter("spool_syncs_total") - before
    print(f"{50 * rounds} messages in {syncs} syncs")
    assert rounds <= syncs <= most


def test_others_are_served_while_the_disk_is_slow(relay):
    """A sync of 1 s keeps waiting who waits for it, and nobody else."""
    r = relay()
    with injected(r, "fdatasync:delay_exit=1000000"), \
            Client(r.port) as one, Client(r.port) as other:
        one.ehlo().begin()
        other.ehlo()
        one.send(stuff(message()) + b"NOOP\r\n")
        one.drained()
        for _ in range(50):
            other.in_step()
        with Client(r.port) as late:
            late.ehlo().begin()
            late.send(b"From: a@example.com\r\n")
        assert r.status()["sessions"] >= 2
        # All that happened while the message was being made durable.
        assert select.select([one.sock], [], [], 0)[0] == []
        accepted(one.reply())
        assert one.reply() == b"250 2.0.0 Ok\r\n"


# --- restarts ---

def test_restart_finds_every_message(relay, sesd):
    """Upstream is away, then comes; in between the relay goes and comes."""
    r = relay()
    sent = numbered(30)
    big = message((b"y" * 98 + b"\r\n") * 31000, message_id="big@example.com")
    sent["big@example.com"] = big
    ids = hand_in(r, sent)
    assert r.count() == 31
    assert r.stop() == 0
    r.start()
    wait_until(lambda: r.count() == 31, "31 messages found")
    queue = {e["id"]: e for e in r.ctl_json("queue")}
    assert queue.keys() == ids.keys()
    for qid, mid in ids.items():
        assert 0 < queue[qid]["size"] - len(sent[mid]) < 400
    r.stop()
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 31)
    r.wait_empty()
    assert by_message_id(s) == sent
    assert "spool read: 31 messages" in r.log()


def test_upstream_comes_back_without_a_restart(relay, sesd):
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    sent = numbered(20)
    hand_in(r, sent)
    r.wait_state("unreachable")
    assert r.count() == 20
    s.control("refuse off")
    wait_accepted(s, 20)
    r.wait_empty()
    assert by_message_id(s) == sent
    assert r.dead_letters() == []


def test_kill_with_a_queue(relay, sesd):
    r = relay()
    sent = numbered(20, (b"z" * 70 + b"\r\n") * 50)
    sent["big@example.com"] = message(b"big\r\n" * 600000,
                                      message_id="big@example.com")
    hand_in(r, sent)
    with Client(r.port) as c:
        # What is not acknowledged may be lost, and is not seen in part.
        c.ehlo().begin()
        c.send(message(b"half of a large one\r\n" * 200000))
        wait_until(lambda: len(list((r.spool / "large").iterdir())) == 2,
                   "a large message on its way to the disk")
        r.kill()
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 21)
    r.wait_empty()
    assert by_message_id(s) == sent
    wait_until(lambda: not list((r.spool / "large").iterdir()), "no file")


def test_kill_in_the_middle_of_intake(relay, sesd):
    """Again and again, while 20 sessions hand in mail as fast as they can:
    everything acknowledged arrives, everything that arrives is whole."""
    s = sesd()
    r = relay(s)
    sent, acked = {}, set()
    for turn in range(4):
        with sessions(r, 20) as clients:
            payloads = []
            for i, _ in enumerate(clients):
                mine = {f"t{turn}.{i}.{n}@example.com": None
                        for n in range(20)}
                for mid in mine:
                    mine[mid] = message(b"k" * 70 + b"\r\n" * 9,
                                        message_id=mid)
                sent.update(mine)
                payloads.append((list(mine), b"".join(
                    envelope() + stuff(m) for m in mine.values())))
            send_together(clients, [p for _, p in payloads])
            assert clients[0].replies(4)[3][:3] == b"250"
            r.kill()
            for n, (c, (mids, _)) in enumerate(zip(clients, payloads)):
                replies = re.findall(rb"queued as", c.rest())
                acked.update(mids[:len(replies) + (n == 0)])
        r.start()
    wait_until(lambda: {e["message_id"].strip("<>") for e in s.messages()} >=
               acked, "all that was acknowledged")
    r.wait_empty()
    assert len(acked) >= 4
    got = [e["message_id"].strip("<>") for e in s.messages()]
    # What was between SES's reply and our disk goes out again, no more.
    assert len(got) - len(set(got)) <= 4 * 20
    for content in contents(s):
        mid = re.search(rb"Message-ID: <(.*)>", content)[1].decode()
        assert content == sent[mid]


# --- damaged files ---

def record_at(data, qid):
    """(offset of the record, of its content, of its end)"""
    m = re.search(rb"message 1 \w{16} \d{10} \d{10} " + qid.encode() +
                  rb" (\d{10}) (\d{10}) ", data)
    body = m.start() + 139 + int(m[1])
    end = body + int(m[2])
    assert data[end:].startswith(b"end " + qid.encode() + b"\n")
    return m.start(), body, end + 21


@pytest.mark.parametrize("cut", ["line", "head", "body", "end", "last byte",
                                 "whole record"])
def test_torn_tail(relay, sesd, cut):
    """The newest segment ends inside its last record."""
    r = relay()
    sent = numbered(5, (b"t" * 70 + b"\r\n") * 20)
    ids = hand_in(r, sent)
    r.kill()
    segment = segments(r)[-1]
    data = segment.read_bytes()
    start, body, end = record_at(data, list(ids)[-1])
    assert end == len(data)
    os.truncate(segment, {
        "line": start + 50, "head": start + 139 + 20, "body": body + 700,
        "end": end - 15, "last byte": end - 1, "whole record": start}[cut])
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 4)
    r.wait_empty()
    del sent["m4@example.com"]
    assert by_message_id(s) == sent
    torn = 0 if cut == "whole record" else 1
    assert r.counter("spool_torn_total") == torn
    # And mail goes on behind it.
    r.send()
    wait_accepted(s, 5)


@pytest.mark.parametrize("place", ["line", "head", "body", "end"])
def test_damage_in_the_middle(relay, sesd, place):
    """One record's bytes are not what was written: the others are delivered,
    that one is set aside, and the log says so."""
    r = relay()
    sent = numbered(5, (b"d" * 70 + b"\r\n") * 20)
    ids = hand_in(r, sent)
    r.kill()
    victim = [qid for qid, mid in ids.items() if mid == "m2@example.com"][0]
    segment = segments(r)[-1]
    data = bytearray(segment.read_bytes())
    start, body, end = record_at(bytes(data), victim)
    at = {"line": start + 60, "head": start + 139 + 40, "body": body + 900,
          "end": end - 10}[place]
    data[at] ^= 0x20
    segment.write_bytes(data)
    s = sesd()
    connect_to(r, s)
    r.start()
    del sent["m2@example.com"]
    wait_accepted(s, 4)
    r.wait_log("arrivals/000000001: ")
    assert re.search(r"warning: spool: arrivals/000000001: \d+ bytes at \d+ "
                     r"are damaged", r.log())
    assert by_message_id(s) == sent
    assert r.counter("spool_damaged_total") == 1
    # Its bytes are there for who wants to look.
    kept = [p.read_bytes() for p in (r.spool / "failed").iterdir()]
    assert any(bytes(data[body:body + 300]) in k for k in kept)
    r.wait_empty()


def test_damage_that_is_met_later(relay, sesd):
    """The content of an older segment is checked when it is read: held."""
    r = relay()
    sent = numbered(3, (b"d" * 70 + b"\r\n") * 2000)
    ids = hand_in(r, sent)
    r.stop()
    r.start()
    hand_in(r, {"late@example.com": message(message_id="late@example.com")})
    r.kill()
    victim = list(ids)[1]
    segment = segments(r)[0]
    data = bytearray(segment.read_bytes())
    _, body, _ = record_at(bytes(data), victim)
    data[body + 100000] ^= 1
    segment.write_bytes(data)
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 3)
    r.wait_log(f"error: {victim}: cannot be read from the spool, held: ")
    wait_until(lambda: r.count() == 1, "the rest to be gone")
    assert r.status()["queue"]["held"] == 1
    assert victim in r.run_ctl("--json", "queue", "held").stdout
    assert set(by_message_id(s)) == {"m0@example.com", "m2@example.com",
                                     "late@example.com"}
    # Its bytes are there for who wants to look, after a restart too.
    r.stop()
    r.start()
    r.wait_log("spool read: ")
    kept = [p.read_bytes() for p in (r.spool / "failed").iterdir()]
    assert any(bytes(data[body:body + 300]) in k for k in kept)
    r.send()
    wait_accepted(s, 4)


def test_trouble_that_passes(relay, sesd):
    """A file that cannot be opened just now is no reason to hold a message
    until somebody notices."""
    s = sesd(rules=['on MAIL reply "451 Temporary service failure"'])
    r = relay(s)
    qid = r.send(message(message_id="p@example.com"))
    r.wait_outcome(qid, "deferred")
    segment, = segments(r)
    aside = r.dir / "aside"
    segment.rename(aside)
    r.wait_log(f"warning: {qid}: cannot be read from the spool, tried again "
               "later: ")
    assert r.status()["queue"]["held"] == 0
    aside.rename(segment)
    s.control("clear")
    wait_accepted(s, 1)
    r.wait_empty()


def test_damage_of_a_large_body(relay, sesd):
    r = relay()
    big = message(b"large\r\n" * 400000, message_id="big@example.com")
    ids = hand_in(r, {"big@example.com": big,
                      "ok@example.com": message(message_id="ok@example.com")})
    r.kill()
    qid = list(ids)[0]
    with (r.spool / "large" / qid).open("r+b") as f:
        f.seek(2000000)
        f.write(b"LARGE")
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 1)
    wait_until(lambda: r.count() == 1 and
               r.status()["queue"]["held"] == 1 or r.dead_letters(),
               "the damaged message to be held or buried")
    assert list(by_message_id(s)) == ["ok@example.com"]


@pytest.mark.parametrize("what", ["empty", "junk", "header", "directory",
                                  "fifo", "symlink", "newer"])
def test_foreign_files_in_the_spool(relay, sesd, what):
    """They neither stop the start nor the mail behind them."""
    r = relay()
    sent = numbered(3)
    hand_in(r, sent)
    r.kill()
    alien = r.spool / "arrivals" / "000000007"
    if what == "empty":
        alien.write_bytes(b"")
    elif what == "junk":
        alien.write_bytes(os.urandom(200000))
    elif what == "header":
        alien.write_bytes(segments(r)[0].read_bytes()[:40])
    elif what == "directory":
        alien.mkdir()
    elif what == "fifo":
        os.mkfifo(alien)
    elif what == "symlink":
        alien.symlink_to("/etc/passwd")
    elif what == "newer":
        text = segments(r)[0].read_bytes()
        alien.write_bytes(text.replace(b"arrivals 1 ", b"arrivals 9 ", 1))
    (r.spool / "arrivals" / "README").write_text("not ours")
    (r.spool / "large" / "stray").write_text("not ours")
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 3)
    r.wait_empty()
    assert by_message_id(s) == sent
    r.send()
    wait_accepted(s, 4)


def test_no_message_comes_back(relay, sesd):
    """What was delivered before a kill is not delivered again after it, once
    its outcome has had the tick to become durable."""
    s = sesd()
    r = relay(s)
    hand_in(r, numbered(20))
    wait_accepted(s, 20)
    r.wait_empty()
    for _ in range(3):
        r.kill()
        r.start()
        r.wait_log("spool read: 0 messages")
    r.send()
    wait_accepted(s, 21)
    assert len(s.messages()) == 21


# --- faults of the disk ---

FAULTS = [
    # The sync of a record fails once, or from then on.
    "fdatasync:error=EIO:when=1", "fdatasync:error=EIO:when=2+",
    "fdatasync:error=ENOSPC:when=3", "fdatasync:error=EDQUOT:when=2",
    # And it cannot be cut off again, either.
    "fdatasync:error=EIO:when=2 ftruncate:error=EIO:when=1+",
    "pwritev:error=EIO:when=2 ftruncate:error=EIO:when=1+",
    # Writing it does.
    "pwritev:error=EIO:when=2", "pwritev:error=EIO:when=2+",
    "pwritev:error=ENOSPC:when=1", "pwritev:error=ENOSPC:when=2+",
    "pwritev:error=EDQUOT:when=2", "pwritev:error=EFBIG:when=2",
    # The first segment cannot be made, or its name is not durable.
    "fsync:error=EIO:when=1", "pwrite64:error=ENOSPC:when=1",
    "openat:error=EMFILE:when=1",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_refused_is_never_delivered(relay, sesd, fault):
    """A disk that fails costs a 4xx: the session goes on, what got its 250 is
    delivered, what did not get it is not, neither now nor after a restart."""
    r = relay()
    sent = numbered(8)
    acked, refused = set(), set()
    with injected(r, *fault.split()), Client(r.port) as c:
        c.ehlo()
        for mid, content in sent.items():
            c.send(b"MAIL FROM:<app@example.com>\r\n")
            reply = c.reply()
            if not reply.startswith(b"250"):
                assert reply.startswith((b"452 4.3.1 ", b"451 4.3.")), reply
                refused.add(mid)
                continue
            assert c.do("RCPT TO:<user@example.net>")[:3] == b"250"
            assert c.do("DATA")[:3] == b"354"
            c.send(stuff(content))
            reply = c.reply()
            if reply.startswith(b"250"):
                acked.add(mid)
            else:
                assert reply.startswith((b"452 4.3.1 ", b"451 4.3.")), reply
                refused.add(mid)
            c.in_step()
        assert refused
        if not fault.split()[0].endswith("+"):
            # It is over: mail is taken again, without anybody's help.
            wait_until(lambda: c.do("MAIL FROM:<a@example.com>")[:3] == b"250",
                       "the spool to be well again")
            c.do("RSET")
            mid = "after@example.com"
            sent[mid] = message(message_id=mid)
            c.mail(sent[mid])
            acked.add(mid)
        r.kill()
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, len(acked))
    r.wait_empty()
    assert set(by_message_id(s)) == acked
    assert all(by_message_id(s)[mid] == sent[mid] for mid in acked)


@pytest.mark.parametrize("fault", [
    "pwrite64:error=ENOSPC:when=2", "pwrite64:error=EIO:when=1",
    "fdatasync:error=EIO:when=1"])
def test_large_content_that_cannot_be_written(relay, sesd, fault):
    """Refused after its true end; the next is taken."""
    r = relay()
    first = message(message_id="first@example.com")
    hand_in(r, {"first": first})
    big = message(b"0123456789abcd\r\n" * 250000, message_id="big@example.com")
    with Client(r.port) as c:
        c.ehlo()
        # From here on only the threads of large files make these calls.
        with injected(r, fault):
            c.begin()
            c.send(stuff(big) + b"NOOP\r\n")
            reply = c.reply()
        assert reply.startswith((b"451 4.3.", b"452 4.3.1 ")), reply
        assert c.reply() == b"250 2.0.0 Ok\r\n"
        wait_until(lambda: not list((r.spool / "large").iterdir()), "no file")
        wait_until(lambda: c.do("MAIL FROM:<a@example.com>")[:3] == b"250",
                   "the spool to be well again")
        c.do("RSET")
        c.mail(big)
    r.kill()
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, 2)
    r.wait_empty()
    assert by_message_id(s) == {"first@example.com": first,
                                "big@example.com": big}


@pytest.mark.parametrize("point", [
    "pwritev:signal=KILL:when=1", "pwritev:signal=KILL:when=3",
    "fdatasync:signal=KILL:when=2", "fdatasync:signal=KILL:when=4",
    "sendto:signal=KILL:when=4", "sendto:signal=KILL:when=6",
    "fsync:signal=KILL:when=1"])
def test_killed_at_a_step_of_the_protocol(relay, sesd, point):
    """What was being done when the process died is there whole or not at
    all; what had its 250 is there."""
    r = relay()
    assert r.stop() == 0
    # strace as the parent: attached, it does not see such an end.  The call
    # of fsync is that for the directory entry of the first segment.
    only = ["-P", str(r.spool / "arrivals")] if point[:5] == "fsync" else []
    r.start(wrap=[*STRACE, "-qq", "-o", "/dev/null", *only,
                  "-e", f"inject={point}"])
    sent = numbered(4)
    acked = set()
    with Client(r.port) as c:
        try:
            c.ehlo()
            for mid, content in sent.items():
                c.begin()
                c.send(stuff(content))
                if c.reply()[:3] != b"250":
                    break
                acked.add(mid)
        except (AssertionError, OSError):
            pass  # it died between two commands
    r.process.wait(30)
    r.process.close()
    assert len(acked) < 4
    s = sesd()
    connect_to(r, s)
    r.start()
    wait_accepted(s, len(acked))
    r.wait_log("spool read: ")
    r.wait_empty()
    got = by_message_id(s)
    assert acked <= set(got)
    assert len(got) <= len(acked) + 1
    assert all(got[mid] == sent[mid] for mid in got)


# --- space ---

def start_on_tmpfs(relay, size):
    """The spool is a small file system of its own, in a mount namespace."""
    relay.spool.mkdir(mode=0o700)
    mount = (f"mount -t tmpfs -o size={size},mode=0700 spool "
             f"'{relay.spool}' && exec \"$@\"")
    relay.start(wrap=[*private_mounts(), "sh", "-ec", mount, "sh"])
    return pathlib.Path(f"/proc/{relay.process.pid}/root{relay.spool}")


@pytest.mark.parametrize("min_free", ['"1M"', "0"])
def test_disk_full(relay, sesd, min_free):
    """Refused with 452 or 451, whether it was foreseen or not; the session
    and what was accepted survive; delivery needs no space; and when there is
    space again, mail is taken again."""
    s = sesd()
    s.control("refuse on")
    r = relay(s, start=False, config={"spool.min_free": min_free})
    inside = start_on_tmpfs(r, "24m")
    body = (b"f" * 98 + b"\r\n") * 9000
    sent, acked = {}, set()
    with Client(r.port) as c:
        c.ehlo()
        for n in range(100):
            mid = f"m{n}@example.com"
            reply = c.do("MAIL FROM:<a@example.com>")
            if reply[:3] == b"250":
                assert c.do("RCPT TO:<b@example.net>")[:3] == b"250"
                assert c.do("DATA")[:3] == b"354"
                sent[mid] = message(body, message_id=mid)
                c.send(stuff(sent[mid]))
                reply = c.reply()
            if reply[:3] != b"250":
                break
            acked.add(mid)
        assert reply.startswith((b"452 4.3.1 ", b"451 4.3.0 ")), reply
        assert len(acked) >= 10
        c.in_step()
        # While it is full, it says so before the content.
        wait_until(lambda: mail_reply(r.port, " SIZE=3000000").startswith(
            b"452 4.3.1 ") or min_free == "0", "452 at MAIL")
        assert r.count() == len(acked)
        # Delivery goes on, and makes room by itself.
        s.control("refuse off")
        wait_accepted(s, len(acked))
        r.wait_empty()
        assert set(by_message_id(s)) == acked
        assert all(by_message_id(s)[mid] == sent[mid] for mid in acked)

        wait_until(lambda: mail_reply(r.port)[:3] == b"250",
                   "mail to be taken again")
        c.do("RSET")
        c.mail()
    assert len(wait_accepted(s, len(acked) + 1)) == len(acked) + 1
    assert inside.joinpath("failed").exists()


def test_disk_filled_by_somebody_else(relay, sesd):
    s = sesd()
    r = relay(s, start=False, config={"spool.min_free": '"4M"'})
    inside = start_on_tmpfs(r, "24m")
    with Client(r.port) as c:
        c.ehlo().mail()
        with (inside / "filler").open("wb") as f:
            f.write(bytes(20 << 20))
        wait_until(lambda: mail_reply(r.port).startswith(b"452 4.3.1 "),
            "452 at MAIL")
        (inside / "filler").unlink()
        wait_until(lambda: mail_reply(r.port).startswith(b"250 "), "250 at MAIL")
        c.do("RSET")
        c.mail()
    assert len(wait_accepted(s, 2)) == 2


def test_min_free(relay):
    """By configuration and reload: no disk has so much space."""
    r = relay(config={"spool.min_free": '"8000000T"'})
    with Client(r.port) as c:
        c.ehlo()
        assert c.do("MAIL FROM:<a@example.com>") == \
            b"452 4.3.1 Insufficient system storage\r\n"
        c.in_step()
        r.settings["spool.min_free"] = '"1M"'
        r.write_config()
        r.ctl("reload")
        c.mail()
        # Lost between MAIL and the dot: refused after its true end.
        c.begin()
        r.settings["spool.min_free"] = '"8000000T"'
        r.write_config()
        r.ctl("reload")
        c.send(stuff(message()) + b"NOOP\r\n")
        assert c.reply().startswith(b"452 4.3.1 ")
        assert c.reply() == b"250 2.0.0 Ok\r\n"
    assert r.count() == 1


def test_max_messages(relay, sesd):
    s = sesd()
    s.control("refuse on")
    r = relay(s, config={"spool.max_messages": "3"})
    with Client(r.port) as c:
        c.ehlo()
        for _ in range(3):
            c.mail()
        assert c.do("MAIL FROM:<a@example.com>").startswith(b"452 4.3.1 ")
        c.in_step()
        s.control("refuse off")
        wait_accepted(s, 3)
        wait_until(lambda: mail_reply(r.port).startswith(b"250 "), "room")
        c.do("RSET")
        c.mail()
    wait_accepted(s, 4)


def test_max_size(relay):
    r = relay(config={"spool.max_size": '"100K"'})
    body = (b"s" * 98 + b"\r\n") * 400
    with Client(r.port) as c:
        c.ehlo()
        c.mail(message(body))
        c.mail(message(body))
        c.begin()
        c.send(stuff(message(body)))
        assert c.reply().startswith(b"452 4.3.1 ")
        c.mail(message(b"small\r\n"))
    assert r.count() == 3


def test_segments_go_when_their_mail_is_gone(relay, sesd):
    s = sesd(store=False)
    r = relay(s)
    body = (b"g" * 98 + b"\r\n") * 40
    with sessions(r, 50) as clients:
        send_together(clients, [b"".join(
            envelope() + stuff(message(body)) for _ in range(40))
            for _ in clients])
        for c in clients:
            for _ in range(40):
                accepted(c.replies(4)[3])
    wait_accepted(s, 2000)
    r.wait_empty()
    assert len(s.messages()) == 2000
    assert r.status()["queue"]["bytes"] == 0

    def used():
        return sum(p.stat().st_blocks * 512 for p in segments(r))
    wait_until(lambda: used() < 65536, "arrivals/ to become small", 40)
    assert r.stop() == 0
    assert sum(p.stat().st_blocks * 512 for p in r.spool.rglob("*")
               if p.is_file()) < 65536 + 512 * 2000
    assert segments(r) == []


# --- who may ---

def test_second_daemon_is_refused(relay, sesd):
    s = sesd()
    r = relay(s)
    other = unstarted(relay, **{"spool.directory": f'"{r.spool}"'})
    done = run_relay(other.config_file)
    assert done.returncode not in (0, 78)
    assert f"another sesrelayd (pid {r.process.pid}) uses {r.spool}" in \
        done.stdout + done.stderr
    assert not other.control.exists()
    r.send()
    wait_accepted(s, 1)
    r.stop()
    other.start()
    other.stop()


def test_spool_that_others_may_write_to(relay):
    r = unstarted(relay)
    r.spool.mkdir(mode=0o700)
    r.spool.chmod(0o770)
    done = run_relay(r.config_file)
    assert done.returncode != 0
    assert "chmod 700" in done.stdout + done.stderr
    assert run_relay(r.config_file, "-t").returncode == 78


def test_spool_is_for_its_user_alone(relay):
    r = relay()
    hand_in(r, {"a": message(), "b": message(b"x\r\n" * 500000)})
    for path in [r.spool, *r.spool.rglob("*")]:
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_spool_is_text(relay):
    """People can read it in an emergency."""
    r = relay()
    qid = r.send(message(b"plain words\r\n"))
    text = segments(r)[0].read_bytes()
    for part in (qid.encode(), b"\nfrom app@example.com\n",
                 b" user@example.net\n", b"plain words\r\n"):
        assert part in text


def test_spool_may_move(relay, sesd):
    """A copy of the files is the queue."""
    r = relay()
    sent = numbered(5, (b"c" * 70 + b"\r\n") * 20)
    sent["big@example.com"] = message(b"big\r\n" * 300000,
                                      message_id="big@example.com")
    hand_in(r, sent)
    r.stop()
    s = sesd()
    other = relay(s, start=False)
    shutil.copytree(r.spool, other.spool)
    other.start()
    wait_accepted(s, 6)
    other.wait_empty()
    assert by_message_id(s) == sent
