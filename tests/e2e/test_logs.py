"""Where log lines go: journal, syslog, standard error; readers that do not
read; what peers send; and whether other people's tools understand the lines.

The journal and syslog are sockets of the test's own, put in their places for
the relay alone.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest

from harness import (BUILD, PASSWORD, USER, message, private_mounts,
                     wait_until)


class Socket:
    """A datagram socket with a reader that can be stopped."""

    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(0.1)
        self.got = []
        self.reading = threading.Event()
        self.reading.set()
        self.ended = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended:
            if not self.reading.wait(0.1):
                continue
            try:
                self.got.append(self.sock.recv(1 << 20))
            except TimeoutError:
                continue

    def close(self):
        self.ended = True
        self.thread.join()
        self.sock.close()

    def raw(self):
        return b"\n".join(self.got)


class Journal(Socket):
    def entries(self):
        """Fields by name; a name that comes twice is a failure."""
        found = []
        for datagram in list(self.got):
            fields = {}
            assert datagram.endswith(b"\n")
            for line in datagram[:-1].split(b"\n"):
                key, equals, value = line.partition(b"=")
                assert equals and re.fullmatch(rb"[A-Z][A-Z0-9_]*", key), line
                assert key not in fields
                fields[key.decode()] = value.decode()
            found.append(fields)
        return found

    def of(self, qid):
        return [e for e in self.entries() if e.get("QUEUE_ID") == qid]


@pytest.fixture
def in_place(directory):
    """Sockets for the relay in the places of the system's; and the words to
    start it with."""
    made = []

    def make(journal=False, syslog=False):
        script = []
        found = None
        if journal:
            found = Journal(directory / "journal.sock")
            script += ["mount -t tmpfs none /run",
                       "mkdir -p /run/systemd/journal",
                       f"ln -s {found.path} /run/systemd/journal/socket"]
        if syslog:
            found = Socket(directory / "syslog.sock")
            script += ["mount -t tmpfs none /dev",
                       f"ln -s {found.path} /dev/log"]
        made.append(found)
        wrap = (*private_mounts(), "sh", "-ec",
                " && ".join(script) + ' && exec "$@"', "sh")
        return found, wrap

    yield make
    for s in made:
        s.close()


def start(r, wrap=()):
    """Its log may be elsewhere, so that its socket says when it is ready."""
    r.start(wait=False, wrap=wrap)
    wait_until(lambda: not r.process.alive() or
               r.run_ctl("count").returncode == 0, "the relay to be ready")
    assert r.process.alive(), r.log()
    return r


def target(relay, s, name, wrap, **config):
    r = relay(s, start=False, verbose=False, config={
        "log.target": f'"{name}"',
        **{k.replace("_", ".", 1): v for k, v in config.items()}})
    return start(r, wrap)


# --- the journal ---

def test_journal(sesd, relay, in_place):
    s = sesd(rules=['on DOT times 1 reply "451 Temporary service failure"'])
    journal, wrap = in_place(journal=True)
    r = target(relay, s, "journal", wrap)
    qid = r.send(message(message_id="a1@host"))
    wait_until(lambda: any(e["MESSAGE"] == f"{qid}: removed"
                           for e in journal.of(qid)), "the last entry")
    [entry] = s.messages()
    pid = r.process.pid
    idents = []
    for e in journal.entries():
        assert re.fullmatch(r"sesrelayd/[a-z]+", e["SYSLOG_IDENTIFIER"])
        assert e["SYSLOG_FACILITY"] == "2" and e["SYSLOG_PID"] == str(pid)
        assert e["PRIORITY"] in "3467" and e["SESRELAYD_EVENT"]
    for e in journal.of(qid):
        assert e["SESRELAYD_QUEUE_ID"] == qid
        assert e["MESSAGE"].startswith(f"{qid}: ")
        idents.append((e["SYSLOG_IDENTIFIER"], e["SESRELAYD_EVENT"]))
    assert idents == [
        ("sesrelayd/smtpd", "client"), ("sesrelayd/cleanup", "message-id"),
        ("sesrelayd/qmgr", "accepted"), ("sesrelayd/smtp", "deferred"),
        ("sesrelayd/smtp", "sent"), ("sesrelayd/qmgr", "removed")]
    [sent] = [e for e in journal.of(qid) if e["SESRELAYD_EVENT"] == "sent"]
    assert sent["SESRELAYD_TO"] == "user@example.net"
    assert sent["SESRELAYD_STATUS"] == "sent"
    assert sent["SESRELAYD_DSN"] == "2.0.0"
    assert sent["SESRELAYD_SES_ID"] == entry["id"]
    assert sent["SESRELAYD_REPLY"] == f"250 Ok {entry['id']}"
    assert sent["PRIORITY"] == "6"
    assert re.fullmatch(
        rf"{qid}: to=<user@example\.net>, relay=localhost\[127\.0\.0\.1\]:\d+,"
        r" delay=[\d.]+, delays=[\d./]+, dsn=2\.0\.0, status=sent "
        rf"\(250 Ok {entry['id']}\), conn=\d+", sent["MESSAGE"])
    # One id for each kind of event, for catalogs and `journalctl MESSAGE_ID=`.
    kinds = {e["SESRELAYD_EVENT"]: e["MESSAGE_ID"]
             for e in journal.of(qid) if "MESSAGE_ID" in e}
    assert set(kinds) == {"accepted", "deferred", "sent"}
    assert len(set(kinds.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", k) for k in kinds.values())
    assert r.log() == ""


def test_journal_is_found_by_its_stream(sesd, relay, in_place):
    """log.target "auto" under systemd: standard error is the journal's, and
    the entries go where fields do."""
    journal, wrap = in_place(journal=True)
    s = sesd()
    r = relay(s, start=False, verbose=False)
    r.log_path.touch()
    st = r.log_path.stat()
    start(r, (*wrap, "env", f"JOURNAL_STREAM={st.st_dev}:{st.st_ino}"))
    qid = r.send()
    wait_until(lambda: journal.of(qid), "an entry")
    assert r.log() == ""


def test_priorities_without_the_journals_socket(sesd, relay, directory):
    s = sesd()
    r = relay(s, start=False, verbose=False)
    r.log_path.touch()
    st = r.log_path.stat()
    wrap = (*private_mounts(), "sh", "-ec",
            'mount -t tmpfs none /run && exec "$@"', "sh",
            "env", f"JOURNAL_STREAM={st.st_dev}:{st.st_ino}")
    start(r, wrap)
    qid = r.send()
    r.wait_log(f"{qid}: removed")
    for line in r.log().splitlines():
        assert re.match(r"<[3467]>sesrelayd/[a-z]+\[\d+\]: ", line), line
    assert f"<6>sesrelayd/qmgr[{r.process.pid}]: {qid}: removed" in r.log()


def test_journal_in_json(sesd, relay, in_place):
    journal, wrap = in_place(journal=True)
    r = target(relay, sesd(), "journal", wrap, log_format='"json"')
    qid = r.send()
    wait_until(lambda: len(journal.of(qid)) >= 5, "all entries")
    for e in journal.of(qid):
        assert json.loads(e["MESSAGE"])["id"] == qid


# --- syslog ---

def test_syslog(sesd, relay, in_place):
    syslog, wrap = in_place(syslog=True)
    r = target(relay, sesd(), "syslog", wrap)
    qid = r.send()
    pid = r.process.pid
    wait_until(lambda: f"{qid}: removed".encode() in syslog.raw(), "the end")
    for line in syslog.got:
        assert re.match(rb"<(19|20|22|23)>\w{3} [ \d]\d \d\d:\d\d:\d\d "
                        rb"sesrelayd/[a-z]+\[\d+\]: ", line)
    assert re.search(rf"<22>.{{15}} sesrelayd/smtp\[{pid}\]: {qid}: to=<"
                     .encode(), syslog.raw())


# --- readers that do not read ---

def many(r, n):
    with r.submit() as client:
        for _ in range(n):
            client.mail()


DROPPED = re.compile(rb"(\d+) log lines dropped: their target did not take "
                     rb"them")


def check_unread(s, r, n, unblock, read):
    """Mail goes on while nobody reads; then it is told how much is missing,
    and what is there and what is missing is all that there was."""
    many(r, n)
    wait_until(lambda: r.count() == 0, "an empty queue")
    assert len(s.messages()) == n
    unblock()
    # Before there is room again, the last line might be missing, too.
    wait_until(lambda: DROPPED.search(read()), "the missing lines to be told")
    last = r.send()
    wait_until(lambda: f"{last}: removed".encode() in read(), "the last line")
    dropped = sum(map(int, DROPPED.findall(read())))
    assert dropped > 0
    removed = len(re.findall(rb": removed", read()))
    assert removed <= n
    # Five lines a message.
    lines = len(re.findall(rb"[0-9A-F]{16}: ", read()))
    assert lines + dropped >= 5 * (n + 1)


def test_journal_that_does_not_read(sesd, relay, in_place):
    s = sesd()
    journal, wrap = in_place(journal=True)
    r = target(relay, s, "journal", wrap)
    journal.reading.clear()
    check_unread(s, r, 400, journal.reading.set,
                 lambda: b"\n".join(
                     line for line in journal.raw().split(b"\n")
                     if line.startswith(b"MESSAGE=")))


def test_stderr_that_nobody_reads(sesd, relay):
    s = sesd()
    r = relay(s, start=False, verbose=False)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    got = bytearray()

    def read():
        try:
            while piece := os.read(read_end, 1 << 20):
                got.extend(piece)
        except BlockingIOError:
            pass
        return bytes(got)

    argv = [str(BUILD / "sesrelayd"), "-c", str(r.config_file)]
    proc = subprocess.Popen(argv, stderr=write_end, stdin=subprocess.DEVNULL)
    os.close(write_end)
    try:
        wait_until(lambda: r.run_ctl("count").returncode == 0, "ready")
        check_unread(s, r, 800, lambda: None, read)
        proc.terminate()
        assert proc.wait(60) == 0
    finally:
        proc.kill()
        proc.wait()
        os.close(read_end)


def test_reader_that_was_stopped_and_goes_on(sesd, relay, in_place):
    """Errors, too, which are written at once, do not wait."""
    s = sesd(rules=['on DOT reply "554 Message rejected"'])
    syslog, wrap = in_place(syslog=True)
    r = target(relay, s, "syslog", wrap, log_level='"debug"')
    syslog.reading.clear()
    many(r, 150)
    wait_until(lambda: r.count() == 0, "an empty queue")
    r.settings["smtp.timeout"] = '"never"'
    r.write_config()
    assert r.run_ctl("reload").returncode == 1
    syslog.reading.set()
    wait_until(lambda: r.send() and DROPPED.search(syslog.raw()),
               "what is missing")


# --- what peers send ---

EVIL = (b"\x1b[31mred\x1b[0m", b"\xff\xfe\xc3(", b"%s%n%5000d", b"a\\x41\\b",
        b"\x07\x08\x7f\x9b", b"(status=sent) to=<x>")


@pytest.mark.parametrize("where", ["stderr", "json", "journal", "syslog"])
def test_bytes_of_peers(sesd, relay, in_place, where):
    rules = ['on MAIL times 1 reply "451 \\x1b[31m \\xff %s%n \\x07"',
             'on DOT times 1 reply "554 \\x1b]0;t\\x07 \\xc3( %s (x)\\x9b"']
    s = sesd(rules=rules)
    sink, wrap = (in_place(**{where: True}) if where in ("journal", "syslog")
                  else (None, ()))
    r = relay(s, start=False, verbose=True, config={
        "log.target": '"stderr"' if sink is None else f'"{where}"',
        "log.format": '"json"' if where == "json" else '"text"'})
    start(r, wrap)

    def raw():
        return sink.raw() if sink else r.log_path.read_bytes()

    for piece in EVIL:
        with r.submit() as client:
            client.sock.sendall(b"HELO h" + piece + b"\r\n")
            client.reply()
            client.sock.sendall(b"MAIL FROM:<a" + piece + b"@b.com>\r\n")
            client.reply()
            client.do("RSET")
            client.sock.sendall(b"MAIL FROM:<a@b.com>\r\nRCPT TO:<" + piece +
                                b"@c.com>\r\nRCPT TO:<d@e.com>\r\nDATA\r\n")
            for _ in range(4):
                client.reply()
            client.content(b"Message-ID: <" + piece + b"@x>\r\n"
                           b"From: a@b.com\r\n\r\nx\r\n")
            client.sock.sendall(b"NONSENSE " + piece + b"\r\n")
            client.reply()
    wait_until(lambda: r.count() == 0, "an empty queue")
    last = r.send()
    wait_until(lambda: last.encode() in raw(), "the last message")
    assert r.stop() == 0
    data = raw()
    assert len(data) > 1000
    printable = set(range(0x20, 0x7f)) | {0x0a}
    if where == "json":
        lines = data.decode("utf-8").splitlines()
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", data.decode())
    else:
        assert set(data) <= printable
    # The % came through, and no more than that.
    assert b"%s%n%5000d" in data
    if where in ("stderr", "syslog"):
        for line in data.splitlines():
            assert re.match(rb"(<\d+>)?\w{3} [ \d]\d \d\d:\d\d:\d\d (\S+ )?"
                            rb"sesrelayd/\w+\[\d+\]: ", line), line
    # No line of ours that we did not write.
    assert not re.search(rb"to=<x>, relay", data)


# --- the password ---

@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("where", ["journal", "syslog", "json"])
def test_password_in_no_target(sesd, relay, in_place, where, auth):
    s = sesd(settings={"auth": auth})
    sink, wrap = (in_place(**{where: True}) if where != "json"
                  else (None, ()))
    r = relay(s, start=False, verbose=True, config={
        "log.target": '"stderr"' if sink is None else f'"{where}"',
        "log.format": '"json"' if where == "json" else '"text"',
        "log.level": '"debug"'})
    start(r, wrap)

    def raw():
        return sink.raw() if sink else r.log_path.read_bytes()

    r.send()
    wait_until(lambda: r.count() == 0, "an empty queue")
    s.rule('on AUTH times 2 reply "535 Invalid"')
    r.set_password("wrong-" + PASSWORD)
    r.ctl("reload")
    wait_until(lambda: b"535" in raw(), "the refusal")
    r.settings["ses.password_file"] = None
    r.settings["ses.password"] = f'"{PASSWORD}"'
    r.write_config()
    r.ctl("reload")
    wait_until(lambda: b"ses.password" in raw(), "the change")
    r.send()
    wait_until(lambda: r.count() == 0, "an empty queue")
    assert r.stop() == 0
    data = raw()
    assert len(data) > 1000
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
    login = base64.b64encode(PASSWORD.encode())
    for form in (PASSWORD.encode(), plain, login):
        # A part of each will do.
        assert form[-20:-4] not in data


# --- other people's tools ---

def pflogsumm(path, name="sesrelayd"):
    """Its table of messages."""
    done = subprocess.run(
        ["pflogsumm", f"--syslog_name={name}", str(path)],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    table = {}
    for m in re.finditer(r"^ +(\d+) +(received|delivered|deferred|bounced|"
                         r"rejected)(?:  \((\d+) +deferrals\)| \(\d+%\))?$",
                         done.stdout, re.M):
        table[m[2]] = int(m[1])
        if m[3]:
            table["deferrals"] = int(m[3])
    return table, done.stdout


@pytest.mark.parametrize("name", ["sesrelayd", "postfix"])
def test_pflogsumm(sesd, relay, name):
    """A mix of mail: its table equals what the emulator saw, and what clients
    were told."""
    assert shutil.which("pflogsumm"), "scripts/setup.sh check installs it"
    s = sesd(rules=[
        'on DOT when rcpt~bad reply "554 Message rejected: Email address is '
        'not verified."',
        'on DOT times 7 reply "451 Temporary service failure"'])
    r = relay(s, verbose=False, config={
        "log.name": f'"{name}"', "delivery.connections": "4",
        "smtp.max_recipients": "3", "smtp.max_message_size": '"20K"'})
    received = rejected = bounced = 0
    with r.submit() as client:
        for i in range(40):
            rcpts = [f"u{i}.{k}@example.net" for k in range(1 + i % 3)]
            if i % 8 == 3:
                rcpts = [f"bad{i}@example.org"]
                bounced += 1
            client.mail(message(b"x" * (i * 20) + b"\r\n"), rcpts=rcpts)
            received += 1
        # Refused: each is one.
        client.do("MAIL FROM:<a@b.com>", 250)
        for bad in ("RCPT TO:<nobody>", "RCPT TO:<nobody>", "RCPT TO:<x@>",
                    "RCPT TO:<y@@z>"):
            assert client.do(bad)[0] == "5"
            rejected += 1
        for k in range(5):
            reply = client.do(f"RCPT TO:<u{k}@example.com>")
            rejected += reply[0] != "2"
        client.do("RSET", 250)
        # Refused at its end, and one that never ends: neither was received.
        client.begin()
        client.sock.sendall(message(b"y" * 30000 + b"\r\n") + b".\r\n")
        assert client.reply().startswith("552")
        rejected += 1
    with r.submit() as client:
        client.begin()
        client.sock.sendall(b"From: a@b.com\r\n\r\nunfinished")
    many(r, 5)
    received += 5
    wait_until(lambda: r.count() == 0, "an empty queue")
    wait_until(lambda: r.log().count(": removed") == received, "all removed")
    assert r.stop() == 0
    table, text = pflogsumm(r.log_path, name)
    delivered = sum(len(m["rcpts"]) for m in s.messages())
    log = r.log()
    assert table["received"] == received, text
    assert table["delivered"] == delivered, text
    assert table["bounced"] == bounced, text
    assert table["rejected"] == rejected, text
    assert table["deferrals"] == log.count("status=deferred"), text
    deferred = {line.split(": ")[1] for line in log.splitlines()
                if "status=deferred" in line}
    assert table["deferred"] == len(deferred) > 0, text


def test_a_refusal_names_what_was_refused(relay):
    r = relay()
    with r.submit() as session:
        session.do("MAIL FROM:<a@@b>", 501)
        session.do("NONSENSE", 500)
        session.do("DATA", 503)
        session.do("MAIL FROM:<a@example.com>", 250)
        session.do("RCPT TO:<c@@d>", 501)  # the first one, too
        session.do("RCPT TO:<e@example.com>", 250)
        session.do("MAIL FROM:<a@example.com>", 503)
        session.do("DATA", 354)
        session.sock.sendall(b"\0\r\n.\r\n")
        assert session.reply().startswith("550")
    wait_until(lambda: "NUL byte" in r.log(), "the last refusal")
    assert re.findall(r"NOQUEUE: reject: (\S+) from \S+: (\d+)", r.log()) == [
        ("MAIL", "501"), ("command", "500"), ("DATA", "503"),
        ("RCPT", "501"), ("MAIL", "503"), ("END-OF-MESSAGE", "550")]
