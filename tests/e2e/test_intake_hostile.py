"""Clients that mean no mail, or more than mail: what they say is never run at
SES, never kept, and never keeps the others from being served."""

import base64
import contextlib
import os
import re
import select
import socket
import ssl
import subprocess
import time

import pytest

from conftest import Stage
from drip import Drip, memory_kib
from harness import (PASSWORD, RCPT, SANITIZED, SENDER, USER, message,
                     wait_until)
from intake_helpers import (SMUGGLED, Client, accepted, check_memory, contents,
                            envelope, push_until_stuck, stuff, wait_accepted)
from network import Bridge, in_network, run

MAIL_INSIDE = b"HELO a\r\n" + envelope(SMUGGLED, [SMUGGLED]) + stuff(
    b"From: " + SMUGGLED.encode() + b"\r\n\r\nx\r\n") + b"QUIT\r\n"


# --- injection into the envelope ---

def label(n):
    return ("x" * 49 + ".") * (n // 50) + "y" * (n % 50)


# What stands behind MAIL FROM: and RCPT TO:, the reply, and the path that SES
# is told.
PATHS = [
    ("<a@b.example>", "250", "a@b.example"),
    ("<-rf@b.example>", "250", "-rf@b.example"),
    ("<;id;>", "501", None),
    ("<;id;@b.example>", "501", None),
    ("<`id`@b.example>", "250", "`id`@b.example"),
    ("<$(id)@b.example>", "501", None),
    ("<|id@b.example>", "250", "|id@b.example"),
    ("</etc/passwd@b.example>", "250", "/etc/passwd@b.example"),
    ("<@>", "501", None),
    ("<a@>", "501", None),
    ("<@b.example>", "501", None),
    ("<a@@b.example>", "501", None),
    ("<a@b.example@c.example>", "501", None),
    ('<"a b"@b.example>', "250", '"a b"@b.example'),
    ('<"a>b"@b.example>', "250", '"a>b"@b.example'),
    ('<"a\\"b"@b.example>', "250", '"a\\"b"@b.example'),
    ('<"a\\"@b.example>', "501", None),
    ('<"a@b.example>', "501", None),
    ('<""@b.example>', "501", None),
    ("<a\\@b.example>", "501", None),
    ("<a@[127.0.0.1]>", "250", "a@[127.0.0.1]"),
    ("<a@[IPv6:::1]>", "250", "a@[IPv6:::1]"),
    ("<a@[127.0.0.1>", "501", None),
    ("<a@[127.0.0.1 ]>", "501", None),
    ("<a@[x]>", "501", None),
    ("<@x.example,@y.example:a@b.example>", "250", "a@b.example"),
    ("<@x.example:@y.example:a@b.example>", "501", None),
    ("<@x.example,a@b.example>", "501", None),
    ("<a%x.example@b.example>", "250", "a%x.example@b.example"),
    ("<x.example!a@b.example>", "250", "x.example!a@b.example"),
    ("<" + "l" * 64 + "@b.example>", "250", "l" * 64 + "@b.example"),
    ("<" + "l" * 65 + "@b.example>", "501", None),
    ("<a@" + label(252) + ">", "250", "a@" + label(252)),
    ("<a@" + label(253) + ">", "501", None),
    ("<a@" + label(254) + ">", "501", None),
    ("<a@" + label(998) + ">", "501", None),
    ("<a@" + "x" * 64 + ".example>", "501", None),
    ("<a@b..example>", "501", None),
    ("<a@-b.example>", "501", None),
    ("<a@b.example>x", "501", None),
    ("<a@b.example> <c@b.example>", "5", None),
    ("<<a@b.example>>", "501", None),
    ("<a@b.example", "501", None),
    ("a@b.example>", "501", None),
    ("<a%0d%0aRCPT TO:<evil@b.example>@b.example>", "501", None),
    ("<a\rRCPT TO:<evil@b.example>@b.example>", "501", None),
    ("<a@b.example>\rRCPT TO:<evil@b.example>", "501", None),
    ("<a\0@b.example>", "501", None),
    ("<a@b.example>\0", "501", None),
    ("<a\x7f@b.example>", "501", None),
    ("<a\u0085evil@b.example>", "553", None),
    ("<a\u2028evil@b.example>", "553", None),
    ("<a@b\u2029.example>", "553", None),
    ("<a@b.example> SIZE=1\x0bX=evil", "501", None),
    ("<a@b.example> evil=1", "555", None),
    ("<a@b.example> ORCPT=rfc822;evil", "555", None),
    ("<a@b.example> evil\u2028", "501", None),
    ("<a@b.example> =evil", "501", None),
    ("<a@b.example> " + "evil " * 300, "501", None),
] + [(f"<a{chr(c)}evil@b.example>", "501", None)
     for c in (*range(1, 9), *range(11, 32)) if c != 13]
MAIL_PARAMETERS = [
    ("SIZE=100 BODY=8BITMIME AUTH=<>", "250"),
    ("AUTH=evil+40b.example", "250"),
    ("AUTH=evil\x0b", "501"),
    ("AUTH=<evil>\rRCPT", "501"),
    ("ENVID=evil+0D+0ARCPT", "555"),
    ("RET=evil", "555"),
    ("SMTPUTF8", "555"),
    ("BODY=evil", "501"),
    ("SIZE=" + "9" * 500, "552"),
]


def commands_at(sesd):
    """What sesd was told of envelopes, line by line; its own and ours are
    compared byte for byte."""
    return [e["line"] for e in sesd.events("command")
            if e["line"] not in ("DATA", "RSET", "QUIT", "STARTTLS",
                                 "EHLO relay.test", "AUTH ...", "NOOP")]


def test_nothing_gets_into_the_envelope(relay, sesd):
    """Each path as a sender and as a recipient: what is accepted reaches sesd
    as one command with just that path, and no reply repeats what was said."""
    s = sesd(settings={"trace": 1})
    r = relay(s, config={"delivery.connections": "1"})
    want = []
    n = 0
    for path, code, clean in PATHS:
        with Client(r.port) as c:
            c.ehlo()
            for kind in ("sender", "rcpt"):
                if kind == "sender":
                    reply = c.do(f"MAIL FROM:{path}")
                else:
                    assert c.do(f"MAIL FROM:<{SENDER}>")[:3] == b"250"
                    reply = c.do(f"RCPT TO:{path}")
                assert reply.startswith(code.encode()), (kind, path, reply)
                assert re.fullmatch(rb"\d{3} [ -~]{1,200}\r\n", reply), path
                assert b"evil" not in reply
                if clean is None:
                    c.do("RSET")
                    continue
                if kind == "sender":
                    assert c.do(f"RCPT TO:<{RCPT}>")[:3] == b"250"
                want += [f"MAIL FROM:<{clean if kind == 'sender' else SENDER}>",
                         f"RCPT TO:<{clean if kind == 'rcpt' else RCPT}>"]
                assert c.do("DATA")[:3] == b"354"
                c.finish(message())
                n += 1
            c.quit()
    for params, code in MAIL_PARAMETERS:
        with Client(r.port) as c:
            reply = c.do(f"MAIL FROM:<{SENDER}> {params}")
            assert reply.startswith(code.encode()), (params, reply)
            assert b"evil" not in reply
            if code == "250":
                c.do(f"RCPT TO:<{RCPT}>")
                c.do("DATA")
                c.finish(message())
                want += [f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RCPT}>"]
    r.wait_empty()
    got = [re.sub(r"> .*", ">", line) if line.startswith("MAIL ") else line
           for line in commands_at(s)]
    assert sorted(got) == sorted(want)
    # Behind the path there is what we say, and none of what clients said.
    tails = {line.rpartition(">")[2] for line in commands_at(s)
             if line.startswith("MAIL ")}
    assert all(re.fullmatch(r"( SIZE=\d+| BODY=8BITMIME)*", t)
               for t in tails), tails
    assert "evil" not in str(commands_at(s))


HELOS = [b"a)(b", b"a\\", b"<a>", b"a\tb", b"a" * 1000, b"\xe9\xff", b"a;b",
         "a\u2028b".encode(), b"[IPv6:::1]", b'"', b"a\x1b[2J", b""]


def test_nothing_gets_into_the_trace_field(relay, sesd):
    """The name that a client gives itself comes out as letters, digits and
    little more, in one field of one line end."""
    s = sesd()
    r = relay(s)
    n = 0
    for name in HELOS:
        with Client(r.port) as c:
            if c.do(b"HELO " + name)[:3] != b"250":
                assert b"\x1b" in name
                continue
            c.mail()
            n += 1
    wait_accepted(s, n)
    for entry in s.messages():
        field = re.match(rb"Received: from ([\w.?:\[\]+=-]+)\s", s.stored(entry))
        assert field and len(field[1]) <= 255
    assert len(contents(s)) == n
    assert "\x1b" not in r.log()


# --- other protocols ---

def client_hello(inside=b""):
    """Of a TLS client; with `inside` in a field that a URL can fill."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    if inside:
        # 255 bytes at most: the protocol that it would like to speak.
        context.set_alpn_protocols([inside.decode("latin-1")])
    tls = context.wrap_bio(incoming, outgoing, server_hostname="relay.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


FOREIGN = {
    "FTP": b"USER x\r\nPASS y\r\nPORT 127,0,0,1,0,25\r\n",
    "FTP, mail in the name": b"USER a\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "RTSP": b"SETUP rtsp://x/ RTSP/1.0\r\n",
    "SIP": b"INVITE sip:a@b SIP/2.0\r\n",
    "gopher": b"_HELO a\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "JSON": b'{"method":"x"}\r\n',
    "PROXY of a load balancer": b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
    "UTF-16": "EHLO x\r\n".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbfHELO a\r\n",
    "a header with QUIT in it": b"X-A: b\r\nQUIT\r\n",
    "POST of a form": (
        b"POST /x HTTP/1.1\r\nHost: localhost:25\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 200\r\n\r\n"),
    "HTTP in the middle": b"NOOP\r\nGET /" + b"x" * 1500 + b" HTTP/1.1\r\n",
}


@pytest.mark.parametrize("early", [False, True])
def test_foreign_protocols_are_cut_off(relay, early):
    """At their first line, before or behind the greeting, with all the mail
    that came in the same segment."""
    r = relay()
    for name, text in FOREIGN.items():
        with Client(r.port, greeting=not early) as c:
            c.send(text + MAIL_INSIDE)
            said = c.rest()
            assert re.fullmatch(rb"(220 [ -~]+\r\n)?(250 [ -~]+\r\n)?"
                                rb"(500 5\.5\.2 [ -~]+\r\n)*"
                                rb"554 5\.5\.1 [ -~]+\r\n", said), (name, said)
    assert r.count() == 0 and "queue active" not in r.log()


def test_tls_is_cut_off(relay):
    """A line end in its first record is not waited for; nor is there the start
    of a command behind it."""
    r = relay()
    hello = client_hello()
    hello = hello[:hello.index(b"\n")]
    inside = client_hello(b"\r\n" + MAIL_INSIDE[:200] + b"\r\n")
    assert b"\nMAIL FROM" in inside
    for data in (hello, hello[:1], inside, b"\x80\x2e\x01\x00\x02"):
        for before in (b"", b"EHLO x\r\n"):
            with Client(r.port, timeout=10) as c:
                if before:
                    c.send(before)
                    c.reply()
                c.send(data)
                assert re.fullmatch(rb"554 5\.5\.1 [ -~]+\r\n", c.rest())
    assert r.count() == 0 and "queue active" not in r.log()


def test_blank_line_is_forgiven(relay):
    """Byte by byte, too."""
    r = relay()
    with Client(r.port) as c:
        c.send_bytewise(b"\r\n")
        assert c.reply().startswith(b"500 5.5.2 ")
        c.send_bytewise(b"noop\r\n")
        assert c.reply() == b"250 2.0.0 Ok\r\n"


# --- text behind DATA ---

def test_commands_behind_data_are_content(relay, sesd):
    """Sent before the 354, as a script does."""
    s = sesd()
    r = relay(s)
    text = b"MAIL FROM:<a@b.example>\r\nRSET\r\nQUIT\r\n"
    with Client(r.port, greeting=False) as c:
        c.send(b"HELO x\r\n" + envelope() + message(text) + b".\r\nQUIT\r\n")
        assert [x[:3] for x in c.replies(7)] == [
            b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    wait_accepted(s, 1)
    assert contents(s)[0].endswith(b"\r\n\r\n" + text)


@pytest.mark.parametrize("head", [
    b"RCPT TO:<a@b.example>\r\nDATA\r\n",
    b"MAIL FROM:<a@b.example>\r\nRCPT TO:<root>\r\nDATA\r\n",
    b"MAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA now\r\n"])
def test_text_behind_a_refused_data_is_not_run(relay, head):
    """The one who wrote the text is not the one who wrote the script."""
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        # First without text: the session goes on.
        c.send(head)
        c.replies(head.count(b"\n"))
        c.send(b"RSET\r\n")
        assert c.reply().startswith(b"250 ")
        c.send(head + MAIL_INSIDE)
        replies = c.replies(head.count(b"\n"))
        assert replies[-1][:3] in (b"503", b"554", b"501"), replies
        assert c.rest() == b""
    assert r.count() == 0 and "queue active" not in r.log()


# --- floods ---

@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"VRFY x", b"HELP",
                                     b"EHLO x", b"MAIL FROM:<a@b>\r\nRSET"])
def test_flood_of_commands_that_bring_no_mail(relay, sesd, command):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        # As many as ever, with a message now and then.
        for _ in range(3):
            for _ in range(90):
                c.send(command + b"\r\n")
                c.replies(1 + command.count(b"\n"))
            c.do("RSET")
            c.mail()
        push_until_stuck(c, (command + b"\r\n") * 100000)
        last = c.rest().splitlines()[-1]
        assert last == (b"421 4.7.0 relay.test too many commands and no mail")
    wait_accepted(s, 3)


def test_flood_of_header_lines(relay, sesd):
    """Six million fields, and one of 30 MB."""
    s = sesd(settings={"strict_headers": 0})
    r = relay(s)
    before = r.peak_memory_kib()
    with Client(r.port, timeout=60) as c:
        c.ehlo().begin()
        for _ in range(60):
            c.send(b"A:b\r\n" * 100000)
        c.send(b"\r\nx\r\n.\r\n")
        accepted(c.reply())
        c.begin()
        c.send(b"Subject: ")
        for _ in range(30):
            c.send(b"x" * 1000000)
        c.send(b"\r\n\r\nx\r\n.\r\n")
        assert c.reply()[:1] in b"25"
        c.in_step()
    check_memory(r, 24 * 1024, before)
    r.send()


def test_half_closed_client_that_reads_late(relay, sesd):
    """It has said everything, more than there is room for in replies that it
    does not read yet: all of it is run."""
    s = sesd()
    r = relay(s)
    rcpts = [f"u{i:03}@example.net" for i in range(300)]
    # The replies to these are seven times as long.
    bad = b"RCPT TO:a\r\n" * 15
    wire = f"MAIL FROM:<{SENDER}>\r\n".encode()
    wire += b"".join(f"RCPT TO:<{x}>\r\n".encode() + bad for x in rcpts)
    wire += b"DATA\r\n" + stuff(message())
    assert len(wire) < 65536
    with Client(r.port, greeting=False, receive_buffer=4096) as c:
        c.send(wire)
        c.sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: "queue active" in r.log(), "the message", 10)
        last = c.rest().splitlines()[-1]
        accepted(last + b"\r\n")
    wait_accepted(s, 6)
    assert sorted(x for e in s.messages() for x in e["rcpts"]) == rcpts


def test_ten_thousand_connections_in_small(relay, sesd):
    """make slowloris is the real thing."""
    n = 1000
    s = sesd(store=False)
    r = relay(s, config={"smtp.max_sessions": str(n + 50)})
    empty = memory_kib(r.process.pid)
    drip = Drip(r.port, n, ("silent", "command", "envelope", "content"),
                period=2.0)
    with contextlib.closing(drip):
        drip.serve(2.5)
        wait_until(lambda: r.status()["sessions"] == n, "all sessions")
        grown = (memory_kib(r.process.pid) - empty) * 1024 / n
        assert SANITIZED or grown < 8192
        worst = 0.0
        for _ in range(50):
            start = time.monotonic()
            r.send()
            worst = max(worst, time.monotonic() - start)
            drip.serve(0.01)
        assert worst < 1.0
        assert drip.lost == drip.refused == 0
    wait_accepted(s, 50)


# --- descriptors ---

def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_clients_cannot_take_all_descriptors(relay, sesd):
    """Those for whom there is none wait, at no cost; mail goes on, though
    there was no connection to SES before; and they are served when others
    have gone."""
    s = sesd()
    r = relay(s)
    pid = r.process.pid
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Client(r.port)).ehlo()
        subprocess.run(["prlimit", "--pid", str(pid), "--nofile=160:160"],
                       check=True)
        clients = [stack.enter_context(Client(r.port, greeting=False))
                   for _ in range(200)]
        r.wait_log("Too many open files")
        first.mail()
        wait_accepted(s, 1)
        before = cpu_seconds(pid)
        select.select([], [], [], 1.0)
        assert cpu_seconds(pid) - before < 0.05
        assert r.log().count("Too many open files") == 1
        greeted, _, _ = select.select([c.sock for c in clients], [], [], 0)
        assert 20 < len(greeted) < 100
        waiting = [c for c in clients if c.sock not in greeted]
        for c in clients:
            if c not in waiting:
                c.close()
        assert waiting[0].reply().startswith(b"220 ")
        waiting[0].ehlo().mail()
    wait_accepted(s, 2)


def test_flood_of_connections(relay, sesd):
    """Far more than there may be sessions: each over the limit is told so,
    and those who are inside go on."""
    s = sesd()
    r = relay(s, config={"smtp.max_sessions": "5"})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(r.port).ehlo())
                   for _ in range(5)]
        refused = [stack.enter_context(Client(r.port, greeting=False))
                   for _ in range(1000)]
        for c in clients:
            c.mail()
        for c in refused:
            assert c.rest().startswith(b"421 4.3.2 ")
    wait_accepted(s, 5)


# --- who the peer is ---

OUTSIDE = "192.0.2.77"


@pytest.fixture
def isolated(directory, certs):
    """Runs a function in a network of its own, with the factory of relays."""
    def run_there(fn):
        def body():
            stage = Stage(directory, certs)
            try:
                fn(stage.relay)
            except BaseException:
                for r in stage.relays:
                    print(r.log()[-20000:], flush=True)
                raise
            finally:
                stage.end()
        in_network(body)
    return run_there


def test_peer_is_checked_on_every_socket(isolated):
    """A packet from outside can reach a listener on the loopback: by an address
    that is on it, by destination NAT with route_localnet, or by a socket that
    systemd opened.  None is served before its address is known."""
    @isolated
    def _(relay):
        run("ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo")
        r = relay()
        with Client(r.port, source=OUTSIDE) as c:
            assert c.greeting.startswith(b"554 5.7.1 "), c.greeting
            assert c.rest() == b""
        with Client(r.port, source=OUTSIDE, greeting=False) as c:
            c.send(MAIL_INSIDE)
            assert c.rest().startswith(b"554 5.7.1 ")
        with Client(r.port) as c:
            c.ehlo().mail()
        assert r.count() == 1
        assert f"unknown[{OUTSIDE}]: 554 5.7.1" in r.log()


def test_peer_behind_destination_nat(isolated):
    @isolated
    def _(relay):
        bridge = Bridge(1500)
        r = relay()
        run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        run("nft", "-f", "-", stdin=(
            "add table ip test\n"
            "add chain ip test pre "
            "{ type nat hook prerouting priority -100; }\n"
            "add rule ip test pre tcp dport 25 "
            f"dnat to 127.0.0.1:{r.port}\n"))
        talk = (f"import socket; s = socket.create_connection"
                f"(('{bridge.OURS}', 25), 10)\n"
                f"s.sendall({MAIL_INSIDE!r})\n"
                "f = s.makefile('rb'); print(f.read().decode())")
        done = subprocess.run(
            [*bridge.there, "/usr/bin/python3", "-c", talk],
            capture_output=True, text=True, timeout=30)
        assert done.stdout.startswith("554 5.7.1 "), (done.stdout, done.stderr)
        assert "220" not in done.stdout
        assert r.count() == 0
        assert f"unknown[{bridge.PEER}]: 554 5.7.1" in r.log()


def test_peer_at_a_socket_of_the_service_manager(isolated):
    """Open to all addresses, which the daemon refuses unless smtp.allow was
    thought of; then that is what counts."""
    @isolated
    def _(relay):
        run("ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo")
        r = relay(start=False)
        r.settings["smtp.allow"] = '[ "127.0.0.1/32" ]'
        r.write_config()
        r.start(wrap=("/usr/bin/python3", "-c", f"""
import os, socket, sys
s = socket.create_server(("0.0.0.0", {r.port}))
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="smtp",
                  LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""))
        for source, code in ((OUTSIDE, b"554 5.7.1 "), ("127.0.0.2", b"554 "),
                             (None, b"220 ")):
            with Client(r.port, source=source) as c:
                assert c.greeting.startswith(code), (source, c.greeting)


# --- logins that nobody asked for ---

LOGINS = [b"AUTH PLAIN AGFwcABkb24ndC10ZWxs",
          b"AUTH PLAIN\r\nAGFwcABkb24ndC10ZWxs",
          b"AUTH LOGIN\r\nYXBw\r\nZG9uJ3QtdGVsbA==",
          b"AUTH LOGIN YXBw\r\nZG9uJ3QtdGVsbA==",
          b"auth plain =",
          b"AUTH PLAIN /+/don't-tell",
          b"AUTH PLAIN\r\n" + b"don't-tell" * 100]


def test_any_login_is_accepted_and_none_is_logged(relay, sesd):
    """At the level of debug."""
    s = sesd()
    r = relay(s, config={"smtp.accept_any_auth": "true",
                         "log.level": '"debug"'})
    for login in LOGINS:
        with Client(r.port) as c:
            c.ehlo()
            lines = login.split(b"\r\n")
            for line in lines[:-1]:
                assert c.do(line).startswith(b"334 "), login
            assert c.do(lines[-1]).startswith(b"235 2.7.0 "), login
            c.mail()
    with Client(r.port) as c:
        # Cut short, too long, or with no such mechanism.
        assert c.do("AUTH LOGIN").startswith(b"334 ")
        assert c.do("*").startswith(b"501 5.7.0 ")
        assert c.do("AUTH PLAIN").startswith(b"334 ")
        assert c.do("don't-tell" * 300).startswith(b"500 5.5.2 ")
        assert c.do("AUTH CRAM-MD5 don't-tell").startswith(b"504 5.5.4 ")
        assert c.do("AUTH PLAIN don't-tell\x01").startswith(b"501 5.5.2 ")
        c.do("MAIL FROM:<a@b.example>")
        assert c.do("AUTH PLAIN don't-tell").startswith(b"503 5.5.1 ")
    wait_accepted(s, len(LOGINS))
    log = r.log()
    for secret in (b"don't-tell", base64.b64encode(b"\0app\0don't-tell"),
                   base64.b64encode(b"don't-tell")):
        assert secret.decode() not in log
    assert USER not in log and PASSWORD not in log


def test_login_is_for_this_machine_only(isolated):
    """Elsewhere, a password would cross the network in clear."""
    @isolated
    def _(relay):
        run("ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo")
        r = relay(config={"smtp.accept_any_auth": "true",
                          "smtp.allow": f'[ "127.0.0.1", "{OUTSIDE}" ]'})
        for source, offered in ((OUTSIDE, False), (None, True)):
            with Client(r.port, source=source) as c:
                assert (b"AUTH" in c.do("EHLO x")) == offered
                reply = c.do("AUTH PLAIN AGFwcABkb24ndC10ZWxs")
                assert reply.startswith(b"235 " if offered else b"502 ")
                c.in_step()


# --- lines that are too long ---

def test_long_body_lines_are_told_of(stage):
    """One line of the log for a message, with the length of the longest."""
    s = stage.sesd()
    r = stage.relay(s)
    with Client(r.port) as c:
        c.ehlo()
        good = c.mail(message(b"x" * 998 + b"\r\n"))
        folded = c.mail(message(headers=b"X-A: b\r\n " + b"c " * 600 + b"\r\n"))
        bad = c.mail(message(b"x" * 999 + b"\r\n" + b"y" * 1500 + b"\r\n"
                             b"short\r\n" + b"z" * 1200 + b"\r\n"))
        large = c.mail(message(b"." + b"x" * 3000000 + b"\r\n"))
    wait_accepted(s, 4)
    log = r.log()
    for qid, octets in ((bad, 1500), (large, 3000001)):
        found = re.findall(rf"warning: {qid}: a line of (\d+) octets", log)
        assert found == [str(octets)]
    for qid in (good, folded):
        assert f"warning: {qid}" not in log
    # sesd notes such lines as a violation, and nothing else.
    assert {e["violation"] for e in s.events("protocol")} == {"long-line"}
    stage.sesds.remove(s)
    r.wait_empty()
    assert r.stop() == 0
    s.close()
