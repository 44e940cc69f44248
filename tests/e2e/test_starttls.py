"""STARTTLS under attack, and what else may stand between a connection and a
login: replies that don't fit, replies that were slipped in, ciphers that hide
nothing, records that never end.

In each case neither AUTH nor MAIL leaves before a handshake whose certificate
is right; sesd, which writes down every command, is the judge of that. The mail
stays, uncharged, and goes out when the fault is gone.
"""

import pathlib
import ssl
import struct
import subprocess
import threading

import pytest

from harness import (ROOT, SANITIZED, message, wait_until,
                     without_received)
from peer import Peer, starttls_first, tls_server
from tls_helpers import MODES, SHORT, arrives, held_back, said
from wire import Wire

TRACE = {"trace": 1}


def held_then_sent(sesd, relay, mode, rules, words, nothing_behind=None):
    """While the rules last, mail waits; then it goes out."""
    s = sesd(settings=TRACE, rules=rules)
    r = relay(s, mode, config=SHORT)
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, words)
    if nothing_behind is not None:
        assert said(s) <= nothing_behind
    s.control("clear")
    arrives(s, r, qid, content)


# --- replies slipped in before TLS ---

INJECTIONS = {
    "whole lines": '"250-x\\r\\n250 AUTH LOGIN\\r\\n"',
    "a line without end": '"250-SMTPUTF8 X"',
    "one byte": '"2"',
    "a whole session": '"454 no\\r\\n235 in\\r\\n250 Ok\\r\\n250 Ok\\r\\n'
                       '354 go\\r\\n250 Ok 0100-fake-000000\\r\\n"',
    "an end of line": '"\\r\\n"',
    "a record of TLS": '"\\x16\\x03\\x03\\x00\\x02"',
}


@pytest.mark.parametrize("bytes_", INJECTIONS.values(), ids=INJECTIONS.keys())
def test_injected_behind_the_220(sesd, relay, bytes_):
    s = sesd(settings=TRACE, rules=[f"on STARTTLS inject {bytes_}"])
    r = relay(s, config=SHORT)
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, "bytes followed the reply to STARTTLS in clear")
    # Not even the handshake was begun.
    assert s.events("tls") == []
    assert {e["error"] for e in s.events("tls-failed")} == {
        "connection closed"}
    s.control("clear")
    arrives(s, r, qid, content)


def test_keywords_of_before_are_forgotten(sesd, relay):
    """What EHLO offered in clear, by whomever, is not used inside TLS."""
    s = sesd(settings={**TRACE, "auth": "LOGIN"}, rules=[
        'on EHLO when tls=0 reply "250-email-smtp.amazonaws.com\\n'
        '250-PIPELINING\\n250-SIZE 1\\n250-SMTPUTF8\\n250-CHUNKING\\n'
        '250-DSN\\n250-8BITMIME\\n250-AUTH PLAIN CRAM-MD5\\n250-STARTTLS\\n'
        '250 Ok"'])
    r = relay(s)
    content = message()
    qid = r.send(content)
    arrives(s, r, qid, content)
    [mail] = [e["line"] for e in s.events("command")
              if e["line"].startswith("MAIL")]
    assert "SIZE=" not in mail
    assert [e["mechanism"] for e in s.events("auth")] == ["LOGIN"]
    assert [e["line"].split()[0] for e in s.events("command")][:3] == [
        "EHLO", "STARTTLS", "EHLO"]


# --- STARTTLS that is not to be had ---

MECHANISMS = " ".join(f"MECHANISM-{i}" for i in range(58)) + " PLAIN LOGIN"


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", MECHANISMS],
                         ids=["two", "sixty"])
def test_login_offered_in_clear(sesd, relay, mechanisms):
    held_then_sent(
        sesd, relay, "starttls",
        ['on EHLO reply "250-email-smtp.amazonaws.com\\n'
         f'250-AUTH {mechanisms}\\n250 Ok"'],
        ["STARTTLS is not offered", "never sent without TLS"], {"EHLO"})


def test_plain_port(sesd, relay):
    """No STARTTLS at all, and a login that would be taken."""
    s = sesd(modes=["plain"], settings=TRACE)
    r = relay(s, "plain", start=False, config=SHORT)
    r.set_ports((s.ports["plain"], "starttls"))
    r.write_config()
    r.start()
    qid = r.send()
    held_back(s, r, qid, "STARTTLS is not offered")
    assert said(s) == {"EHLO"}


# --- reply codes that do not fit ---

GREETINGS = [221, 250, 354, 421, 500, 501, 530, 554]
EHLOS = [220, 221, 354, 421, 500, 501, 502, 504, 530, 535, 550]
STARTTLSES = [221, 250, 354, 421, 454, 500, 501, 502, 530]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", GREETINGS)
def test_greeting(sesd, relay, mode, code):
    held_then_sent(sesd, relay, mode, [f'on CONNECT reply "{code} hello"'],
                   f"{code} hello", set())


@pytest.mark.parametrize("code", EHLOS)
def test_ehlo_in_clear(sesd, relay, code):
    """There is no second try with HELO."""
    held_then_sent(sesd, relay, "starttls",
                   [f'on EHLO reply "{code}-x\\n{code} STARTTLS"'],
                   f"{code} x", {"EHLO"})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", EHLOS)
def test_ehlo_inside_tls(sesd, relay, mode, code):
    held_then_sent(sesd, relay, mode,
                   [f'on EHLO when tls=1 reply "{code}-x\\n'
                    f'{code} AUTH PLAIN"'], f"{code} x", {"EHLO", "STARTTLS"})


@pytest.mark.parametrize("reply", [
    "250 Ok", "250", "250-x\\n250 Ok", "250-AUTH PLAIN LOGIN\\n250 AUTH=LOGIN",
    "250-x\\n250-XSTARTTLS\\n250-STARTTLSX\\n250 STARTTLS1"],
    ids=["one line", "nothing", "empty", "no STARTTLS", "nearly"])
def test_ehlo_without_starttls(sesd, relay, reply):
    held_then_sent(sesd, relay, "starttls", [f'on EHLO reply "{reply}"'],
                   "STARTTLS is not offered", {"EHLO"})


@pytest.mark.parametrize("code", STARTTLSES)
def test_starttls(sesd, relay, code):
    held_then_sent(sesd, relay, "starttls",
                   [f'on STARTTLS reply "{code} so"'], f"{code} so",
                   {"EHLO", "STARTTLS"})


@pytest.mark.parametrize("rule", [
    'on CONNECT reply "530 Must issue a STARTTLS command first"',
    'on CONNECT reply "535 Authentication Credentials Invalid"',
    'on EHLO when tls=0 reply "530 Authentication required"',
    'on STARTTLS reply "530 Must issue a STARTTLS command first"',
    'on STARTTLS reply "535 Account not subscribed to SES"',
    'on EHLO when tls=0 reply "554 Account not subscribed to SES"',
    'on STARTTLS reply "454 Throttling failure: Daily message quota exceeded."',
    'on CONNECT reply "454 Throttling failure: Maximum sending rate exceeded."',
])
def test_words_about_the_account_in_clear(sesd, relay, rule):
    """Anybody can say them there: they don't stop the queue, the next port is
    used at once."""
    one, two = sesd(settings=TRACE, rules=[rule]), sesd(settings=TRACE)
    r = relay(two, start=False, config=SHORT)
    r.set_ports((one.ports["starttls"], "starttls"),
                (two.ports["wrapper"], "wrapper"))
    r.write_config()
    r.start()
    content = message()
    qid = r.send(content)
    r.wait_outcome(qid, "sent", timeout=10)
    arrives(two, r, qid, content)
    assert "deliveries pause" not in r.log()
    assert r.counter("auth_failures_total") == 0
    assert one.events("auth") == []
    assert said(one) <= {"EHLO", "STARTTLS"}


CODES = [220, 221, 354, 421, 500, 501, 503, 530]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", CODES)
def test_rset(sesd, relay, mode, code):
    """After a refusal: the connection is not used again, mail is not hurt."""
    s = sesd(settings=TRACE, rules=[
        'on DOT times 1 reply "500 Transaction failed"',
        f'on RSET times 1 reply "{code} what"'])
    r = relay(s, mode, config={"delivery.connections": "1"})
    contents = [message() for _ in range(3)]
    with r.submit() as client:
        qids = [client.mail(c) for c in contents]
    r.wait_empty()
    assert [without_received(s.stored(e)) for e in s.messages()] == \
        contents[1:]
    assert r.dead_letters() == [f"{qids[0]}.eml"]
    assert r.counter('recipients_total{status="deferred"}') == 0
    assert [e["conn"] for e in s.messages()] == [2, 2]
    conn1 = [e["line"] for e in s.events("command") if e["conn"] == 1]
    assert conn1[-1] == "RSET"


@pytest.mark.parametrize("code", CODES)
def test_quit(sesd, relay, code):
    s = sesd(settings=TRACE, rules=[f'on QUIT reply "{code} what"'])
    r = relay(s, config={"delivery.idle_timeout": '"100ms"'})
    for n in range(2):
        r.send()
        s.wait_event("rule", n + 1)
        s.wait_event("close", n + 1)
    r.wait_empty()
    assert [e["conn"] for e in s.messages()] == [1, 2]
    for conn in (1, 2):
        assert [e["line"] for e in s.events("command")
                if e["conn"] == conn][-1] == "QUIT"
    assert {o["status"] for o in r.outcomes()} == {"sent"}


# --- handshakes that are worth nothing ---

def next_port_is_used(sesd, relay, port, mode, words):
    """The first port is that of a peer that may not be trusted."""
    s = sesd()
    r = relay(s, start=False, config=SHORT)
    r.set_ports((port, mode), (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    content = message()
    qid = r.send(content)
    arrives(s, r, qid, content)
    for text in [words] if isinstance(words, str) else words:
        assert text in r.log()


@pytest.fixture
def peer():
    peers = []

    def start(talk):
        peers.append(Peer(talk))
        return peers[-1]
    yield start
    for p in peers:
        p.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ciphers,version", [
    ("AECDH:@SECLEVEL=0", ssl.TLSVersion.TLSv1_2),
    ("ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0", ssl.TLSVersion.TLSv1_2),
    ("DEFAULT:@SECLEVEL=0", ssl.TLSVersion.TLSv1_1),
    ("DEFAULT:@SECLEVEL=0", ssl.TLSVersion.TLSv1),
], ids=["anonymous", "NULL", "TLS 1.1", "TLS 1.0"])
def test_worthless_ciphers_and_versions(
        sesd, relay, peer, certs, mode, ciphers, version):
    context = tls_server(certs, ciphers, version)

    def talk(p, s):
        if mode == "starttls":
            starttls_first(s)
        with context.wrap_socket(s, server_side=True) as t:
            p.hear(t)
    p = peer(talk)
    next_port_is_used(sesd, relay, p.port, mode, "at TLS handshake")
    assert p.n >= 1 and p.heard == b""


@pytest.mark.parametrize("suite", [0x0003, 0x0019, 0x0000, 0x0005],
                         ids=["export RSA", "export anonymous", "NULL",
                              "RC4"])
def test_cipher_that_was_not_offered(sesd, relay, peer, suite):
    """A ServerHello that picks what no library has any more."""
    hello = (b"\x03\x03" + bytes(32) + b"\x00" + struct.pack("!H", suite) +
             b"\x00")
    record = b"\x02" + struct.pack("!I", len(hello))[1:] + hello

    def talk(p, s):
        s.recv(65536)
        s.sendall(b"\x16\x03\x03" + struct.pack("!H", len(record)) + record)
        data = s.recv(65536)
        p.heard += b"" if data[:1] == b"\x15" else data  # its alert
    p = peer(talk)
    next_port_is_used(sesd, relay, p.port, "wrapper", "cipher returned")
    assert p.n >= 1 and p.heard == b""


@pytest.mark.parametrize("mode", MODES)
def test_name_asked_for(sesd, relay, mode):
    """Without the right SNI a server would show another certificate."""
    s = sesd()
    r = relay(s, mode)
    r.send()
    s.wait_messages(1)
    assert [e["sni"] for e in s.events("tls")] == ["localhost"]


def test_server_that_goes_by_the_name(sesd, relay, peer, certs):
    """The certificate that is shown by default is another's; the name that is
    asked for brings the right one."""
    asked = []
    right = tls_server(certs, "DEFAULT")
    default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    default.load_cert_chain(certs / "othername.pem", certs / "othername.key")

    def by_name(ssl_socket, name, _):
        asked.append(name)
        if name == "localhost":
            ssl_socket.context = right
    default.sni_callback = by_name

    def talk(p, s):
        with default.wrap_socket(s, server_side=True) as t:
            t.sendall(b"220 hello\r\n")
            p.heard += t.recv(1000)
            t.sendall(b"421 enough\r\n")
    p = peer(talk)
    next_port_is_used(sesd, relay, p.port, "wrapper", "421 enough")
    assert asked[0] == "localhost"
    assert p.heard.startswith(b"EHLO ")


# --- the end of TLS, and records without end ---

@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase,half", [
    ("CONNECT", "220 email-smtp"), ("EHLO", "250-x\\r\\n250 AUTH PL"),
    ("AUTH", "235 Authentication suc"), ("MAIL", "250"), ("DATA", "354 End")])
def test_reply_cut_off_without_close_notify(sesd, relay, mode, phase, half):
    """Whoever may cut the wire may not finish a reply by it."""
    when = "when tls=1 " if phase in ("CONNECT", "EHLO") else ""
    if (mode, phase) == ("starttls", "CONNECT"):
        when = ""
    s = sesd(settings={**TRACE, "no_close_notify": 1},
             rules=[f'on {phase} {when}times 1 raw "{half}" close'])
    r = relay(s, mode, config=SHORT)
    content = message()
    qid = r.send(content)
    arrives(s, r, qid, content)
    assert s.stats()["connections"]["total"] == 2
    if phase == "CONNECT":
        assert s.messages()[0]["conn"] == 2


def test_acceptance_cut_off_without_close_notify(sesd, relay):
    """250 without its CRLF is no acceptance."""
    s = sesd(settings={"no_close_notify": 1},
             rules=['on DOT times 1 raw "250 Ok 0100018f-fake" close'])
    r = relay(s)
    content = message()
    qid = r.send(content)
    r.wait_outcome(qid, "sent")
    r.wait_empty()
    assert [without_received(s.stored(e)) for e in s.messages()] == [content]
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "sent"]
    assert r.counter("messages_uncertain_total") == 1


def test_record_that_never_ends(sesd, relay):
    """16 KB of TLS, a byte at a time: the deadline is the stage's and not that
    of a read."""
    long = "250-" + "a" * 800 + "\\r\\n"
    s = sesd(settings=TRACE, rules=[
        f'on EHLO when tls=1 times 1 raw "{20 * long}250 Ok\\r\\n"'])
    # From behind the handshake on.
    wire = Wire(("127.0.0.1", s.ports["wrapper"]), "drip", drip_s=0.05,
                drip_from=2000, drip_bytes=20000)
    try:
        r = relay(s, "wrapper", start=False,
                  config={**SHORT, "delivery.timeout_command": '"1s"'})
        r.set_ports((wire.port, "wrapper"))
        r.write_config()
        r.start()
        content = message()
        qid = r.send(content)
        r.wait_log("timed out at EHLO command")
        arrives(s, r, qid, content)
        assert len(s.events("tls")) == 2
    finally:
        wire.close()


@pytest.mark.parametrize("rule,phase", [
    ('on EHLO when tls=0 times 1 drip 50', "EHLO"),
    ('on EHLO when tls=1 times 1 drip 50', "EHLO"),
    ('on MAIL times 1 raw "{lines}250 Ok\\r\\n" drip 50', "MAIL FROM"),
])
def test_reply_that_takes_for_ever(sesd, relay, rule, phase):
    """A byte now and then does not put the deadline off."""
    s = sesd(rules=[rule.replace("{lines}", 20 * "250-Ok\\r\\n")])
    r = relay(s, config={"delivery.timeout_command": '"1s"'})
    content = message()
    qid = r.send(content)
    r.wait_log(f"timed out at {phase} command")
    arrives(s, r, qid, content)
    assert s.messages()[0]["conn"] == 2


class OpensslServer:
    """openssl s_server, whose standard input goes to the client, but for lines
    that begin with a letter that tells it what to do."""

    def __init__(self, directory, certs, *options):
        self.out = pathlib.Path(directory) / "s_server"
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
                 str(certs / "good.pem"), "-key", str(certs / "good.key"),
                 *options], stdin=subprocess.PIPE, stdout=out,
                stderr=subprocess.STDOUT, cwd=ROOT)
        wait_until(lambda: b"ACCEPT 127.0.0.1:" in self.text(),
                   "openssl s_server to listen")
        line = self.text().split(b"ACCEPT 127.0.0.1:")[1].split()[0]
        self.port = int(line)

    def text(self):
        return self.out.read_bytes()

    def say(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("options,command", [
    (["-tls1_3"], b"K\n"), (["-tls1_3"], b"k\n"), (["-tls1_2"], b"r\n"),
], ids=["KeyUpdate, requested", "KeyUpdate", "renegotiation"])
def test_flood_of_handshakes(
        sesd, relay, directory, certs, options, command):
    """In place of a greeting: it ends by its deadline at the latest, costs no
    memory, and nothing is said."""
    server = OpensslServer(directory, certs, *options)
    s = sesd()
    r = relay(s, start=False, config={**SHORT,
                                      "delivery.timeout_greeting": '"2s"'})
    r.set_ports((server.port, "wrapper"), (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    stop = threading.Event()

    def flood():
        wait_until(lambda: b"CIPHER is" in server.text() or stop.is_set(),
                   "a handshake")
        while not stop.is_set() and server.process.poll() is None:
            server.say(command)
            # s_server takes one line a read.
            stop.wait(0.002)
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        before = r.peak_memory_kib()
        content = message()
        qid = r.send(content)
        arrives(s, r, qid, content)
        # With a sanitizer, what was freed stays for a while.
        assert SANITIZED or r.peak_memory_kib() - before < 6000
    finally:
        stop.set()
        thread.join()
        server.close()
    # A renegotiation is refused, and the server's side gives up at that.
    asked = server.text().count(b"SSL_do_handshake -> 1")
    assert asked > 5 if command != b"r\n" else asked > 0
    assert b"EHLO" not in server.text()
    assert "initial greeting" in r.log()
