"""sesrelay-sendmail as sendmail, mailq and newaliases: the argument lists of
real callers, what becomes of their messages, and what its exit codes mean."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import threading

import pytest

from harness import BUILD, RCPT, SENDER, private_mounts, without_received
from intake_helpers import canonical

SENDMAIL = BUILD / "sesrelay-sendmail"
ME = pwd.getpwuid(os.getuid()).pw_name
DOMAIN = '"example.com"'  # completes bare addresses, where a test has it
TO = "to@example.net"
OTHER = "other@example.net"
BODY = "hello\n"
WHOLE = (f"From: {SENDER}\nTo: {TO}\nSubject: s\nDate: Sat, 21 Nov 2026 "
         "10:00:01 +0000\nMessage-ID: <m@example.com>\n\nhello\n")

OK, USAGE, DATAERR, NOUSER, UNAVAILABLE = 0, 64, 65, 67, 69
TEMPFAIL, NOPERM, CONFIG = 75, 77, 78


def environment(server=None, **more):
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "dumb",
           **{k: v for k, v in os.environ.items() if k.endswith("_OPTIONS")},
           **more}
    if server is not None:
        env["SESRELAY_SENDMAIL_SERVER"] = server
    return env


def server_of(relay):
    return f"127.0.0.1:{relay.port}"


def sendmail(relay, *argv, stdin="", want=OK, server=None, program=SENDMAIL,
             wrap=(), **env):
    """Runs it to its end; a CompletedProcess."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run(
        [*wrap, str(program), *argv], input=stdin, capture_output=True,
        timeout=60, env=environment(server or server_of(relay), **env))
    assert done.returncode == want, (argv, done.stdout, done.stderr)
    # One line for each failure, and none for a success.
    lines = done.stderr.decode().splitlines()
    if want != OK:
        assert len(lines) == 1, lines
        assert lines[0].startswith("sesrelay-sendmail: "), lines
    else:
        assert lines == [] or "-v" in argv, lines
    return done


def delivered(sesd, n=1):
    """(entry, content without the trace field) of the last message."""
    entry = sesd.wait_messages(n)[n - 1]
    return entry, without_received(sesd.stored(entry))


def header_of(content):
    """{name: value} of the fields, which come once each, and the body."""
    block, _, body = content.partition(b"\r\n\r\n")
    fields = {}
    for line in re.split(rb"\r\n(?![ \t])", block):
        name, _, value = line.partition(b":")
        assert name.decode() not in fields, block
        fields[name.decode()] = value.strip().decode()
    return fields, body


def rcpts(entry):
    return sorted(entry["rcpts"])


# Recorded from the programs: arguments, standard input, envelope.
CRON = (f"From: root (Cron Daemon)\nTo: {TO}\nSubject: Cron <root@host> job\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\nX-Cron-Env: <SHELL=/bin/sh>\n"
        "X-Cron-Env: <HOME=/root>\n\nGr\u00fc\u00dfe\n.\nend\n")
AT = "Subject: Output from your job        1\nTo: root\n\ndone\n"
PHP = f"To: {TO}\r\nSubject: s\r\nX-PHP-Originating-Script: 0:a.php\r\n\r\nhi\n"
MAILX = f"To: {TO}\nSubject: s\nCc: {OTHER}\n\nhello\n.\nmore\n"
PLAIN = f"From: {SENDER}\nTo: {TO}\nSubject: s\n\nhello\n"
LOCAL = "root@example.com"
MINE = f"{ME}@example.com"
CALLERS = {
    "cron": (["-FCronDaemon", "-i", "-B8BITMIME", "-oem", TO], CRON, MINE,
             [TO]),
    "at": (["-i", "root"], AT, MINE, [LOCAL]),
    "php": (["-t", "-i"], PHP, MINE, [TO]),
    "php-5th": (["-t", "-i", "-fbounce@example.org"], PHP,
                "bounce@example.org", [TO]),
    "bsd-mailx": (["-i", "-t"], MAILX, MINE, [OTHER, TO]),
    "bsd-mailx-r": (["-i", "-t", "-f", SENDER], MAILX, SENDER, [OTHER, TO]),
    "s-nail": (["-i", "--", TO], PLAIN, MINE, [TO]),
    "s-nail-f": (["-i", "-f", SENDER, "--", TO], PLAIN, SENDER, [TO]),
    "mutt": (["-oem", "-oi", "--", TO], PLAIN, MINE, [TO]),
    "mutt-dsn": (["-oem", "-oi", "-f", SENDER, "-N", "failure,delay", "-R",
                  "hdrs", "--", TO], PLAIN, SENDER, [TO]),
    "mutt-8bit": (["-oem", "-oi", "-B8BITMIME", "--", TO], CRON, MINE, [TO]),
    "mailutils": (["-oi", "-f", SENDER, "-t"], PLAIN, SENDER, [TO]),
    "git": (["-i", TO, OTHER], PLAIN, MINE, [OTHER, TO]),
    "ruby-mail": (["-i", "-f", SENDER, "--", TO, OTHER],
                  PLAIN.replace("\n", "\r\n"), SENDER, [OTHER, TO]),
    "email-sender": (["-i", "-f", SENDER, "--", TO], PLAIN, SENDER, [TO]),
    "mime-lite": (["-t", "-oi", "-oem", f"-f{SENDER}"], PLAIN.rstrip("\n"),
                  SENDER, [TO]),
    "mdadm": (["-t"], "From: mdadm monitoring <root>\nTo: root\nSubject: s\n"
              "\nevent\n", MINE, [LOCAL]),
    "sudo": (["-t"], "To: root\nFrom: joe\nAuto-Submitted: auto-generated\n"
             "Subject: s\n\nreport\n", MINE, [LOCAL]),
    "fail2ban": (["-f", SENDER, f"{TO}, {OTHER}"], PLAIN, SENDER,
                 [OTHER, TO]),
    "unattended-upgrades": (["-oi", "-t"], PLAIN, MINE, [TO]),
    "cronie": (["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f",
                "root"], CRON, LOCAL, [TO]),
    "all-that-must-parse": (
        ["-t", "-i", "-oi", "-om", "-oem", "-odb", "-o7", "-f", "x@y", "-fx@y",
         "-r", SENDER, "-F", "A B", "-FA", "-B", "7BIT", "-bm", "-v", "-N",
         "never", "-R", "full", "-V", "id1", "-O", "opt=val", "-L", "tag",
         "-h", "7", "-n", "-m", "-G", "-U", "-Am", "-Ac", "-X", "/dev/null",
         OTHER, "-odq"], PLAIN, SENDER, [OTHER, TO]),
    "bundled": (["-tif", SENDER], PLAIN, SENDER, [TO]),
    "options-behind": ([OTHER, "-i", "-f", SENDER, "-t"], PLAIN, SENDER,
                       [OTHER, TO]),
}


@pytest.fixture(scope="module")
def host(request, certs):
    """One relay for what does not look at it but by its mail."""
    import conftest
    import harness
    with harness.Workdir("sendmail") as directory:
        stage = conftest.Stage(directory, certs)
        s = stage.sesd()
        r = stage.relay(s, config={"rewrite.default_domain": DOMAIN})
        try:
            yield s, r
        finally:
            stage.end()


@pytest.mark.parametrize("caller", CALLERS)
def test_the_arguments_of_a_caller(host, caller):
    sesd, relay = host
    argv, stdin, sender, recipients = CALLERS[caller]
    n = len(sesd.messages())
    sendmail(relay, *argv, stdin=stdin)
    entry, content = delivered(sesd, n + 1)
    assert entry["from"] == sender
    assert rcpts(entry) == recipients
    sent = canonical(stdin.encode())
    head, _, body = sent.partition(b"\r\n\r\n")
    if "-i" not in argv and "-oi" not in argv and "-tif" not in argv:
        body = body.split(b".\r\n")[0]
    got_head, _, got_body = content.partition(b"\r\n\r\n")
    assert got_body == body
    lines = [line for line in got_head.split(b"\r\n")]
    names = [line.partition(b":")[0] for line in lines]
    for name in (b"Date", b"Message-ID", b"From"):
        assert names.count(name) == 1, got_head
    # What it had is as it was, up to the addresses that are completed.
    for line in head.split(b"\r\n"):
        if not re.match(rb"(To|From|Cc):", line):
            assert line in lines


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_header_fields_that_are_missing_are_added(sesd, relay, ending):
    upstream = sesd()
    r = relay(upstream, config={"rewrite.default_domain": DOMAIN})
    sendmail(r, "-F", "J\u00f6rg", "-f", SENDER, TO,
             stdin=f"Subject: s\n\nhello\n".replace("\n", ending))
    fields, body = header_of(delivered(upstream)[1])
    assert body == b"hello\r\n"
    assert fields["Subject"] == "s"
    assert fields["From"] == f"=?utf-8?q?J=C3=B6rg?= <{SENDER}>"
    assert re.fullmatch(r"<[0-9a-f.]+@example\.com>", fields["Message-ID"])
    assert re.fullmatch(r"\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
                        fields["Date"])


def test_text_without_a_header_is_a_body(sesd, relay):
    upstream = sesd()
    r = relay(upstream, config={"rewrite.default_domain": DOMAIN})
    sendmail(r, "-f", SENDER, TO, stdin="just text\nand: more\n")
    fields, body = header_of(delivered(upstream)[1])
    assert body == b"just text\r\nand: more\r\n"
    assert set(fields) == {"From", "Date", "Message-ID"}
    # Empty input is a message, too.
    sendmail(r, "-f", SENDER, TO, stdin="")
    assert header_of(delivered(upstream, 2)[1])[1] == b""


def test_what_is_whole_is_not_touched(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    sendmail(r, "-f", SENDER, TO, stdin=WHOLE)
    assert delivered(upstream)[1] == canonical(WHOLE.encode())


def test_t_takes_recipients_of_all_three_and_drops_bcc(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    head = (f'From: {SENDER}\nTo: "Last, First" <a@example.net>,\n\t(x, y) '
            "b@example.net (the \\) b)\nCc: team: c@example.net, D <d@example."
            "net>;, a@example.net\nBcc: hidden@example.net,\n "
            "hidden2@example.net\nSubject: s\n")
    sendmail(r, "-t", "-f", SENDER, "arg@example.net",
             stdin=head + "\nBcc: body@example.net\n")
    entry, content = delivered(upstream)
    assert rcpts(entry) == sorted(f"{x}@example.net" for x in (
        "a", "arg", "b", "c", "d", "hidden", "hidden2"))
    assert b"hidden" not in content
    assert content.endswith(b"\r\n\r\nBcc: body@example.net\r\n")
    # Sent again by somebody: it is for whom that one says.
    sendmail(r, "-t", "-f", SENDER,
             stdin="Resent-To: again@example.net\n" + head + "\nhello\n")
    assert rcpts(delivered(upstream, 2)[0]) == ["again@example.net"]


def test_a_dot_alone_ends_the_input_unless_i(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    text = WHOLE + ".\nmore\n..\n.x\n"
    sendmail(r, "-f", SENDER, TO, stdin=text)
    sendmail(r, "-f", SENDER, "-i", TO, stdin=text)
    sendmail(r, "-f", SENDER, "-O", "IgnoreDots=true", TO, stdin=text)
    sendmail(r, "-f", SENDER, TO, stdin=(WHOLE + ".").replace("\n", "\r\n"))
    upstream.wait_messages(4)
    got = [delivered(upstream, n + 1)[1] for n in range(4)]
    assert got == [canonical(x.encode()) for x in (WHOLE, text, text, WHOLE)]


def test_bytes_that_smtp_cannot_carry(sesd, relay):
    """The relay would refuse a bare CR or a NUL: cron's mail comes through."""
    upstream = sesd()
    r = relay(upstream)
    sendmail(r, "-f", SENDER, TO, stdin=WHOLE.encode().replace(
        b"Subject: s", b"Subject: s\rBcc: x@example.net") +
        b" 10%\r 20%\r\r\ndone\0!\r\r\n\xff\xfe")
    content = delivered(upstream)[1]
    assert b"\r\nSubject: s Bcc: x@example.net\r\n" in content
    assert content.endswith(
        b"\r\nhello\r\n 10%\r\n 20%\r\ndone !\r\n\xff\xfe\r\n")


def test_a_message_larger_than_memory(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    body = b"".join(b".%07d \xc3\xa9 %s\n" % (i, b"x" * (i % 90))
                    for i in range(60000))
    sendmail(r, "-f", SENDER, "-i", TO, stdin=WHOLE.encode() + body)
    assert delivered(upstream)[1] == canonical(WHOLE.encode() + body)


def test_zero_means_durable(sesd, relay):
    """Its mail is still there after kill -9 at the moment of its end."""
    upstream = sesd()
    r = relay(upstream)
    r.ctl("pause", "delivery")
    for n in range(20):
        sendmail(r, "-f", SENDER, TO, stdin=WHOLE.replace("m@", f"{n}@"))
    r.kill()
    r.start()
    got = {e["message_id"] for e in upstream.wait_messages(20)}
    assert got == {f"{n}@example.com" for n in range(20)}


# --- who sends ---

def test_a_bare_sender_gets_the_host_when_nothing_completes_it(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    sendmail(r, TO, stdin=WHOLE)
    entry, _ = delivered(upstream)
    try:
        domain = open("/etc/mailname").readline().split()[0]
    except (OSError, IndexError):
        domain = socket.gethostname()
    assert entry["from"] == f"{ME}@{domain}"
    # The null sender is one that was asked for.
    sendmail(r, "-f", "<>", TO, stdin=WHOLE)
    r.wait_log(": from=<>, size=")


# --- what goes wrong ---

def test_the_daemon_is_down(directory):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))  # bound, but it does not listen
    server = f"127.0.0.1:{s.getsockname()[1]}"
    done = sendmail(None, TO, stdin=WHOLE, want=TEMPFAIL, server=server)
    assert b"is it running? see \"systemctl status" in done.stderr
    assert server.encode() in done.stderr
    done = sendmail(None, "-bs", want=TEMPFAIL, server=server)
    assert done.stdout.startswith(b"421 4.3.2 ")
    done = sendmail(None, TO, stdin=WHOLE, want=TEMPFAIL,
                    server=f"unix:{directory}/none")
    assert b"No such file" in done.stderr
    s.close()


def test_a_relay_that_drains_says_to_come_again(sesd, relay):
    r = relay(sesd())
    r.ctl("pause", "intake")
    done = sendmail(r, TO, stdin=WHOLE, want=TEMPFAIL)
    assert re.search(rb": 4\d\d 4\.3\.\d ", done.stderr)


def test_one_bad_recipient_and_nothing_is_sent(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    done = sendmail(r, "-f", SENDER, TO, "root", stdin=WHOLE, want=NOUSER)
    assert b"refuses the recipient <root>: 550 5.1" in done.stderr
    assert b"set rewrite.default_domain" in done.stderr
    assert r.count() == 0 and upstream.messages() == []


@pytest.mark.parametrize("argv, stdin, want, says", [
    ([], WHOLE, USAGE, "no recipients"),
    (["-z", TO], WHOLE, USAGE, "unknown option"),
    (["-f"], WHOLE, USAGE, "needs a value"),
    (["-bd"], "", USAGE, "systemctl start sesrelayd"),
    (["-bt"], "", USAGE, "-bv"),
    (["-bz"], "", USAGE, "no mode"),
    (["-t"], "Subject: s\n\n", DATAERR, "no recipient in To"),
    (["-t"], "To: a@@b\n\n", DATAERR, '"a@@b" is no mail address'),
    (["-t"], "To: J\u00f6rg@example.net\n\n", DATAERR, "ASCII"),
    (["a@b>\r\nDATA\r\n"], WHOLE, DATAERR, "is no mail address"),
    (["-f", "a b c", TO], WHOLE, DATAERR, "is no mail address"),
    (["-C", "/nonexistent", TO], WHOLE, None, ""),
])
def test_what_cannot_be_sent(host, argv, stdin, want, says):
    sesd, relay = host
    n = len(sesd.messages())
    if want is None:  # a configuration that is named has to be there
        env = environment()
        done = subprocess.run([str(SENDMAIL), *argv], env=env,
                              input=stdin.encode(), capture_output=True)
        assert done.returncode == CONFIG, done
        assert b"cannot read /nonexistent" in done.stderr
    else:
        done = sendmail(relay, *argv, stdin=stdin, want=want)
        assert says in done.stderr.decode()
    assert relay.count() == 0 and len(sesd.messages()) == n


def test_a_message_that_is_too_large(sesd, relay):
    upstream = sesd()
    r = relay(upstream, config={"smtp.max_message_size": '"100K"'})
    text = WHOLE + "0123456789\n" * 9000
    done = sendmail(r, TO, stdin=text, want=DATAERR)
    assert b"more than the 100000 that" in done.stderr
    # To the byte: what it announces is what it sends.
    room = 100000 - len(canonical(WHOLE.encode()))
    text = WHOLE + ("x" * 98 + "\n") * (room // 100 - 1)
    text += "y" * (room % 100 + 98)
    sendmail(r, "-f", SENDER, TO, stdin=text)
    sendmail(r, "-f", SENDER, TO, stdin=text + "y", want=DATAERR)
    assert len(delivered(upstream)[1]) == 100000


class Scripted:
    """A server that answers each command by a script; it hears all."""

    def __init__(self, answers):
        self.answers = dict(answers)
        self.heard = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.server.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        sock, _ = self.server.accept()
        with sock, sock.makefile("rb") as f:
            try:
                self.serve(sock, f)
            except ConnectionError:
                pass  # it goes without waiting for the end

    def serve(self, sock, f):
        sock.sendall(self.answers.get("greeting", b"220 x ESMTP\r\n"))
        for line in f:
            self.heard.append(line)
            verb = line.split()[0].decode()
            reply = self.answers.get(verb, b"250 2.0.0 Ok\r\n")
            if reply.startswith(b"354"):
                sock.sendall(reply)
                self.heard.append(b"".join(iter(f.readline, b".\r\n")))
                reply = self.answers.get("dot", b"250 2.0.0 Ok\r\n")
            sock.sendall(reply)
            if not reply.endswith(b"\n"):
                return

    def close(self):
        self.server.close()
        self.thread.join(30)


@pytest.mark.parametrize("answers, want", [
    ({}, OK),
    ({"greeting": b"421 4.3.2 later\r\n"}, TEMPFAIL),
    ({"greeting": b"554 5.7.1 Access denied\r\n"}, NOPERM),
    ({"greeting": b"554 5.3.0 no service\r\n"}, UNAVAILABLE),
    ({"greeting": b"SSH-2.0-x\r\n"}, 76),
    ({"MAIL": b"452 4.3.1 no room\r\n"}, TEMPFAIL),
    ({"MAIL": b"553 5.1.7 bad\r\n"}, DATAERR),
    ({"RCPT": b"451 4.3.0 later\r\n"}, TEMPFAIL),
    ({"RCPT": b"550 5.1.1 no\r\n"}, NOUSER),
    ({"RCPT": b"550 5.1.2 no host\r\n"}, 68),
    ({"RCPT": b"452 4.5.3 too many\r\n"}, UNAVAILABLE),
    ({"DATA": b"451 4.3.0 later\r\n"}, TEMPFAIL),
    ({"DATA": b"554 5.5.1 no\r\n"}, DATAERR),
    ({"dot": b"452 4.3.1 disk full\r\n"}, TEMPFAIL),
    ({"dot": b"554 5.6.0 no\r\n"}, DATAERR),
    ({"dot": b"250-2.0.0 a\r\n250 2.0.0 b\r\n"}, OK),
    ({"dot": b"350 what\r\n"}, 76),
    ({"dot": b"250 2.0.0 Ok\n"}, OK),
    ({"dot": b"250 2.0.0 O"}, TEMPFAIL),
    ({"dot": b""}, TEMPFAIL),
    ({"RCPT": b""}, TEMPFAIL),
])
def test_the_exit_code_for_each_refusal(answers, want):
    """Zero for one thing alone: a whole reply of 250 to the dot."""
    server = Scripted({"DATA": b"354 go\r\n", **answers})
    done = sendmail(None, "-f", SENDER, TO, stdin=WHOLE, want=want,
                    server=server.address)
    server.close()
    if want != OK:
        assert server.address.encode() in done.stderr or (
            b"sesrelayd refuses" in done.stderr)


def test_bodies_are_declared_as_they_are():
    for text, params in ((WHOLE, b" SIZE=%d" % len(canonical(WHOLE.encode()))),
                         (WHOLE + "\u00e9\n", b" BODY=8BITMIME SIZE=")):
        server = Scripted({"EHLO": b"250-x\r\n250-SIZE 0\r\n250 8BITMIME\r\n",
                           "DATA": b"354 go\r\n"})
        sendmail(None, "-f", SENDER, TO, stdin=text, server=server.address)
        server.close()
        mail = [h for h in server.heard if h.startswith(b"MAIL")][0]
        assert mail.startswith(b"MAIL FROM:<%s>" % SENDER.encode() + params)


# --- other modes ---

def test_smtp_on_standard_input(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    talk = (f"EHLO x\nMAIL FROM:<{SENDER}>\nRCPT TO:<{TO}>\nDATA\n{WHOLE}.\n"
            "QUIT\n")
    done = sendmail(r, "-bs", stdin=talk)
    assert done.stdout.startswith(b"220 relay.test ESMTP")
    assert b"\r\n250 2.0.0 Ok: queued as " in done.stdout
    assert done.stdout.endswith(b"221 2.0.0 Bye\r\n")
    assert delivered(upstream)[1] == canonical(WHOLE.encode())
    # A client that just goes away ends it, too.
    assert sendmail(r, "-bs", stdin="NOOP\r\n").stdout.endswith(
        b"250 2.0.0 Ok\r\n")


def test_smtp_on_standard_input_when_nobody_reads():
    """Both sides write megabytes before they read: nothing waits for ever."""
    data = b"250 2.0.0 Ok\r\n" * 1500000
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            sock, _ = server.accept()
            with sock, sock.makefile("rb") as f:
                sock.settimeout(20)
                sock.sendall(data)
                heard.append(f.read())

        thread = threading.Thread(target=serve)
        thread.start()
        done = sendmail(None, "-bs", stdin=data,
                        server="127.0.0.1:%d" % server.getsockname()[1])
        thread.join(30)
    assert done.stdout == data and heard == [data]


def run_as(relay, name, *argv, want=OK, config=True):
    """By a name of its own: a link, as packages make it."""
    link = relay.dir / name
    if not link.exists():
        link.symlink_to(SENDMAIL.resolve())
    env = environment()
    if config:
        env["SESRELAYD_CONF"] = str(relay.config_file)
    done = subprocess.run([str(link), *argv], capture_output=True, text=True,
                          timeout=60, env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == want, done
    return done


def test_mailq_retry_and_newaliases(sesd, relay):
    upstream = sesd()
    r = relay(upstream)
    assert run_as(r, "mailq").stdout == "Mail queue is empty\n"
    r.ctl("pause", "delivery")
    sendmail(r, "-f", SENDER, TO, stdin=WHOLE)
    for done in (run_as(r, "mailq"), run_as(r, "sendmail", "-bp")):
        assert f" {SENDER}\n" in done.stdout and f" {TO}\n" in done.stdout
    run_as(r, "sendmail", "-q")
    for done in (run_as(r, "newaliases"), run_as(r, "sendmail", "-bi"),
                 run_as(r, "sendmail", "-I")):
        assert "sesrelayctl reload" in done.stdout
    r.ctl("resume", "delivery")
    upstream.wait_messages(1)
    r.stop()
    done = run_as(r, "sendmail", "-q", want=UNAVAILABLE)
    assert "cannot reach the daemon" in done.stderr


def test_bv_asks_and_sends_nothing(host):
    sesd, relay = host
    n = len(sesd.messages())
    done = sendmail(relay, "-bv", TO, "root")
    assert done.stdout == (f"{TO}... would be accepted\n"
                           "root... would be accepted\n").encode()
    sendmail(relay, "-bv", want=USAGE)
    assert relay.count() == 0 and len(sesd.messages()) == n


# --- where the daemon is ---

def test_the_daemon_is_found_by_its_configuration(sesd, relay, directory):
    upstream = sesd()
    r = relay(upstream)
    argv = [str(SENDMAIL), "-f", SENDER, TO]
    for extra, env in ((["-C", str(r.config_file)], {}),
                       ([], {"SESRELAYD_CONF": str(r.config_file)})):
        done = subprocess.run(argv + extra, input=WHOLE.encode(), timeout=60,
                              capture_output=True, env=environment(**env))
        assert done.returncode == OK, done
    upstream.wait_messages(2)
    bad = directory / "bad.conf"
    bad.write_text("smtp: {\n listen = [\n")
    done = subprocess.run(argv + ["-C", str(bad)], input=WHOLE.encode(),
                          capture_output=True, env=environment())
    assert done.returncode == CONFIG
    assert f"{bad}:".encode() in done.stderr
    done = subprocess.run(argv, input=WHOLE.encode(), capture_output=True,
                          env=environment("nonsense"))
    assert done.returncode == CONFIG
    assert b'"nonsense" is not an address such as' in done.stderr


@pytest.fixture
def local(sesd, relay, directory):
    """A relay with a socket for local programs, and the way to it for all."""
    directory.chmod(0o755)
    path = directory / "run" / "smtp"
    upstream = sesd()
    r = relay(upstream, start=False)
    r.dir.chmod(0o755)
    r.settings["smtp.listen"] = (
        f'[ "127.0.0.1:{r.port}", "unix:{path}" ]')
    r.write_config()
    r.start()
    return upstream, r, path


def test_a_local_socket(local):
    upstream, r, path = local
    assert oct(path.stat().st_mode & 0o7777) == "0o666"
    env = environment(SESRELAYD_CONF=str(r.config_file))
    done = subprocess.run([str(SENDMAIL), "-f", SENDER, TO], env=env,
                          input=WHOLE.encode(), capture_output=True)
    assert done.returncode == OK, done
    assert delivered(upstream)[1] == canonical(WHOLE.encode())
    # It comes before TCP, and the relay knows who is there.
    r.wait_log(f": client=local[{os.getuid()}]")
    assert f"unix:{path}" in r.status()["listening"]
    r.ctl("send-test", TO, "--from", SENDER)
    # A second daemon leaves it alone; after a crash it is taken over.
    other = subprocess.run(
        [str(BUILD / "sesrelayd"), "-c", str(r.config_file)],
        capture_output=True, text=True, timeout=60)
    assert other.returncode != 0
    assert path.is_socket()
    r.kill()
    r.start()
    sendmail(r, "-f", SENDER, TO, stdin=WHOLE, server=f"unix:{path}")
    upstream.wait_messages(3)
    r.stop()
    assert not path.exists()


def test_in_a_sandbox_without_privileges(local, directory):
    """Another user, no new privileges, a configuration it can't read, a file
    system it can't write to, no network: the service of somebody else."""
    upstream, r, path = local
    program = directory / "sendmail"
    shutil.copy(SENDMAIL, program)
    program.chmod(0o755)
    drop = ["setpriv", "--no-new-privs"]
    if os.getuid() == 0:
        drop += ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    read_only = [*private_mounts(), "sh", "-ec",
                 "for dir in /tmp /var/tmp; do mount --bind $dir $dir; "
                 "mount -o remount,ro,bind $dir; done; exec \"$@\"", "sh"]
    big = WHOLE + "0123456789\n" * 200000
    for server, wrap in ((f"unix:{path}", ["unshare", "--net", *drop]),
                         (server_of(r), drop)):
        sendmail(r, "-f", SENDER, TO, stdin=big, program=program,
                 wrap=read_only + wrap, server=server, TMPDIR="/nonexistent")
    upstream.wait_messages(2)
    for n in (1, 2):
        assert delivered(upstream, n)[1] == canonical(big.encode())
    user = "nobody" if os.getuid() == 0 else ME
    r.wait_log(f"local[{pwd.getpwnam(user).pw_uid}]")


@pytest.mark.parametrize("bad, says", [
    ("unix:run/smtp", "a socket is the absolute path"),
    ("unix:/" + "x" * 108, "a socket is the absolute path"),
])
def test_a_socket_that_cannot_be(relay, bad, says):
    r = relay(start=False, config={"smtp.listen": f'[ "{bad}" ]'})
    done = subprocess.run([str(BUILD / "sesrelayd"), "-t", "-c",
                           str(r.config_file)], capture_output=True, text=True)
    assert done.returncode == CONFIG
    assert says in done.stderr


# --- programs that run it ---

def by_mailx(directory, text):
    rc = directory / "mailrc"
    rc.write_text(f"set sendmail={SENDMAIL}\n")
    return ["bsd-mailx", "-n", "-r", SENDER, "-s", "test", RCPT], {
        "MAILRC": str(rc)}


def by_s_nail(directory, text):
    return ["s-nail", "-n", f"-Smta={SENDMAIL}", "-Ssendwait",
            "-r", SENDER, "-s", "test", RCPT], {}


def by_mutt(directory, text):
    rc = directory / "muttrc"
    rc.write_text(f'set sendmail="{SENDMAIL} -oem -oi"\nset from={SENDER}\n'
                  "set use_envelope_from=yes\nset copy=no\n"
                  f"set folder={directory}\n")
    return ["mutt", "-n", "-F", str(rc), "-s", "test", RCPT], {}


@pytest.mark.parametrize("program", [by_mailx, by_s_nail, by_mutt])
def test_mail_programs(sesd, relay, directory, program):
    upstream = sesd()
    r = relay(upstream)
    text = "hello\n.\n.dot\nlast line\n"
    argv, env = program(directory, text)
    env = environment(server_of(r), HOME=str(directory), **env)
    done = subprocess.run(argv, input=text.encode(), capture_output=True,
                          timeout=60, env=env, cwd=directory)
    assert done.returncode == 0, done
    entry, content = delivered(upstream)
    assert (entry["from"], entry["rcpts"]) == (SENDER, [RCPT])
    fields, body = header_of(content)
    assert body == canonical(text.encode())
    assert fields["Subject"] == "test" and RCPT in fields["To"]
    # With the daemon down they hear of it.
    r.stop()
    done = subprocess.run(argv, input=text.encode(), capture_output=True,
                          timeout=60, env=env, cwd=directory)
    assert done.returncode != 0
    assert b"is it running" in done.stderr + done.stdout
