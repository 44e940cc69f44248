"""What the tests of sesd share: a running sesd and a client of it.

Finds the binary by the environment variable SESD. Sockets and ssl only; no
fixed ports and no fixed sleeps: whatever has to be waited for is read from a
socket with a deadline. The journal is read right after a reply, because sesd
writes it before the reply leaves.
"""

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SESD = os.environ.get("SESD", "sesd")
USER = "AKIAIOSFODNN7EXAMPLE"
PASSWORD = "secret"
DEADLINE = 20
# Before a command: in a network of its own.  Root needs no user namespace for
# that, and in a chroot nobody gets one.
OWN_NETWORK = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]
HEAD = b"From: a@x.test\r\nTo: b@y.test\r\nMessage-ID: <m1@x.test>\r\n"
MAIL = HEAD + b"Subject: s\r\n\r\nhello\r\n"
PLAIN = base64.b64encode(b"\0" + USER.encode() + b"\0" + PASSWORD.encode())
ID = re.compile(rb"250 Ok [0-9a-f]{16}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-"
                rb"[0-9a-f]{4}-[0-9a-f]{12}-000000\r\n")


def wait_until(predicate):
    end = time.monotonic() + DEADLINE
    while not predicate():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Sesd:
    """A running sesd with its control connection."""

    def __init__(self, certs, tmp, *args, cert="good",
                 listen=("127.0.0.1:0:starttls", "127.0.0.1:0:wrapper",
                         "127.0.0.1:0:plain", "[::1]:0:starttls")):
        self.tmp, self.certs = tmp, certs
        self.journal_file = tmp / "journal"
        self.store = tmp / "store"
        self.store.mkdir(exist_ok=True)
        ready = tmp / "ready"
        command = [SESD, "--ready-file", str(ready),
                   "--control", "127.0.0.1:0",
                   "--cert", str(certs / f"{cert}.pem"),
                   "--key", str(certs / f"{cert}.key"),
                   "--journal", str(self.journal_file),
                   "--store", str(self.store)]
        for spec in listen:
            command += ["--listen", spec]
        self.process = subprocess.Popen(command + list(args))
        wait_until(lambda: ready.exists() or self.process.poll() is not None)
        self.ports, self.listening = {}, []
        for line in ready.read_text().splitlines():
            words = line.split()
            self.listening.append(words)
            if words[0] == "control":
                control = (words[1], int(words[2]))
            elif ":" in words[2]:
                self.ports["ipv6"] = int(words[3])
            else:
                self.ports[words[1]] = int(words[3])
        self.control = socket.create_connection(control, DEADLINE)
        self.answers = self.control.makefile("rb")

    def ask(self, line):
        self.control.sendall(line.encode() + b"\n")
        out = []
        while True:
            answer = self.answers.readline().decode().rstrip("\n")
            if answer == "OK":
                return out
            if answer.startswith("ERR ") or answer == "":
                raise ValueError(answer)
            out.append(answer)

    def set(self, **settings):
        for key, value in settings.items():
            self.ask(f"set {key} {value}")

    def stats(self):
        return json.loads(self.ask("stats")[0])

    def lines(self):
        self.ask("stats")  # whatever happened before this is written
        with open(self.journal_file) as f:
            return [json.loads(line) for line in f]

    def accepted(self):
        return [e for e in self.lines() if "event" not in e]

    def events(self, name):
        return [e for e in self.lines() if e.get("event") == name]

    def violations(self):
        return [e["violation"] for e in self.events("protocol")]

    def stop(self):
        self.ask("quit")
        assert self.process.wait(DEADLINE) == 0
        self.control.close()


class Client:
    """An SMTP client that does just what it is told."""

    def __init__(self, sesd, mode="starttls", read_greeting=True):
        self.sesd = sesd
        host = "::1" if mode == "ipv6" else "127.0.0.1"
        self.sock = socket.create_connection((host, sesd.ports[mode]),
                                             DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        if mode == "wrapper":
            self.wrap()
        self.greeting = self.reply() if read_greeting else None

    def wrap(self):
        context = ssl.create_default_context(cafile=self.sesd.certs / "ca.pem")
        # Python's own defaults are laxer than a relay has to be.
        context.hostname_checks_common_name = False
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self.sock = context.wrap_socket(self.sock,
                                        server_hostname="localhost",
                                        suppress_ragged_eofs=False)

    def send(self, data):
        self.sock.sendall(data)

    def reply(self):
        """All lines of one reply; b"" at the end of the connection."""
        at = 0
        while True:
            end = self.data.find(b"\n", at)
            if end < 0:
                more = self.sock.recv(65536)
                if not more:
                    rest, self.data = self.data, b""
                    return rest
                self.data += more
                continue
            if self.data[at + 3:at + 4] != b"-":
                out, self.data = self.data[:end + 1], self.data[end + 1:]
                return out
            at = end + 1

    def do(self, line):
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def start(self):
        """EHLO, TLS if needed, AUTH."""
        if not isinstance(self.sock, ssl.SSLSocket):
            self.do("EHLO test")
            assert self.do("STARTTLS") == b"220 Ready to start TLS\r\n"
            self.wrap()
        assert self.do("EHLO test").startswith(b"250")
        assert self.do("AUTH PLAIN " + PLAIN.decode()).startswith(b"235")
        return self

    def envelope(self, sender="a@x.test", rcpts=("b@y.test",)):
        assert self.do(f"MAIL FROM:<{sender}>") == b"250 Ok\r\n"
        for rcpt in rcpts:
            assert self.do(f"RCPT TO:<{rcpt}>") == b"250 Ok\r\n"

    def data_phase(self):
        assert self.do("DATA") == (b"354 End data with <CR><LF>.<CR><LF>\r\n")

    def mail(self, content=MAIL, **envelope):
        self.envelope(**envelope)
        self.data_phase()
        self.send(content + b".\r\n")
        return self.reply()

    def end(self):
        """How the connection ends: eof, truncated (TLS without close_notify)
        or reset; fails if there is a reply instead."""
        try:
            assert self.reply() == b""
            return "eof"
        except ConnectionResetError:
            return "reset"
        except ssl.SSLError as e:
            # Python 3.11 makes an SSLEOFError of ECONNRESET, too.
            return "truncated" if "UNEXPECTED_EOF" in str(e) else "reset"
