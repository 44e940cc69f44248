"""What the tests of the intake side share: a client that says just what it is
told, many such clients at once, and the view from sesd."""

import contextlib
import errno
import os
import pathlib
import re
import selectors
import socket
import struct
import subprocess
import time

from harness import BUILD, RCPT, SENDER, message, wait_until, without_received

SMUGGLED = "smuggled@example.com"
# The leak check at exit cannot run while strace traces the process.
STRACE = ("env", "ASAN_OPTIONS=detect_leaks=0", "strace", "-f")
# What a sanitizer keeps of freed memory, and of its own, is not our doing.
SANITIZER_KIB = 800 * 1024 if "san-" in BUILD.name else 0


def stuff(content):
    """Content as it goes over the wire, with the end of data."""
    return re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"


def canonical(content):
    """As SMTP carries it: CRLF everywhere, and at the end."""
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def envelope(sender=SENDER, rcpts=(RCPT,)):
    """The commands up to DATA, to be sent in one segment."""
    lines = [f"MAIL FROM:<{sender}>"] + [f"RCPT TO:<{r}>" for r in rcpts]
    return "\r\n".join(lines + ["DATA", ""]).encode()


def unread(client_port, server_port):
    """Bytes of a client on 127.0.0.1 that the server has not read yet.  Asks
    for the one socket (sock_diag(7)); /proc/net/tcp would walk through all."""
    loopback = socket.inet_aton("127.0.0.1") + bytes(12)
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0,
                          0xffffffff)
    request += struct.pack("!HH", server_port, client_port)
    request += loopback + loopback + struct.pack("=III", 0, 2**32 - 1,
                                                 2**32 - 1)
    header = struct.pack("=IHHII", 16 + len(request), 20, 1, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as s:
        s.sendall(header + request)
        answer = s.recv(4096)
    kind, = struct.unpack_from("=H", answer, 4)
    if kind != 20:
        return 0  # it is closed
    return struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0]


class Client:
    """A session with the relay, byte by byte.  Replies are bytes; b"" is the
    end of the connection."""

    def __init__(self, port, host="127.0.0.1", source=None, greeting=True,
                 timeout=30, receive_buffer=None):
        self.port = port
        self.sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(timeout)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                 receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply() if greeting else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def drained(self):
        """Wait until the relay has read all that was sent."""
        own = self.sock.getsockname()[1]
        end = time.monotonic() + 30
        while unread(own, self.port) > 0:
            assert time.monotonic() < end, "the relay does not read"

    def send_bytewise(self, data):
        """Each byte in a segment, and in a read, of its own."""
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])
            self.drained()

    def reply(self):
        lines = []
        try:
            while not lines or lines[-1][3:4] == b"-":
                line = self.file.readline()
                if not line:
                    break
                lines.append(line)
        except ConnectionResetError:
            pass
        return b"".join(lines)

    def replies(self, n):
        return [self.reply() for _ in range(n)]

    def do(self, line):
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def ehlo(self):
        reply = self.do("EHLO client.test")
        assert reply.startswith(b"250"), reply
        return self

    def begin(self, sender=SENDER, rcpts=(RCPT,)):
        """The envelope in one segment, up to the 354."""
        self.send(envelope(sender, rcpts))
        replies = self.replies(2 + len(rcpts))
        want = [b"250 2.1.0"] + [b"250 2.1.5"] * len(rcpts) + [b"354 End d"]
        assert [r[:9] for r in replies] == want, replies

    def finish(self, content):
        """Stuffed content and its end; the queue id."""
        self.send(stuff(content))
        return accepted(self.reply())

    def mail(self, content=None, sender=SENDER, rcpts=(RCPT,)):
        self.begin(sender, rcpts)
        return self.finish(message() if content is None else content)

    def in_step(self):
        """Every command has had its one reply, and the session goes on."""
        assert self.do("NOOP") == b"250 2.0.0 Ok\r\n"

    def quit(self):
        """QUIT, its reply, and nothing else before the end."""
        self.send(b"QUIT\r\n")
        assert self.rest() == b"221 2.0.0 Bye\r\n"
        self.close()

    def rest(self):
        """Everything up to the end of the connection."""
        data = b""
        try:
            while chunk := self.file.read1(65536):
                data += chunk
        except ConnectionResetError:
            pass
        return data


def mail_reply(port, params=""):
    """What MAIL gets in a session of its own: one that asks again and again
    and sends no mail is cut off."""
    with Client(port) as c:
        return c.ehlo().do(f"MAIL FROM:<a@example.com>{params}")


def accepted(reply):
    """The queue id in the 250 for a message."""
    m = re.fullmatch(rb"250 2\.0\.0 Ok: queued as ([0-9A-F]{16})\r\n", reply)
    assert m, reply
    return m[1].decode()


@contextlib.contextmanager
def sessions(relay, n):
    """n greeted sessions at the same time."""
    clients = []
    try:
        for _ in range(n):
            clients.append(Client(relay.port, timeout=60).ehlo())
        yield clients
    finally:
        for c in clients:
            c.close()


def send_together(clients, payloads):
    """Sends to all of them at once, each as fast as it is read."""
    left = dict(zip(clients, map(memoryview, payloads)))
    with selectors.DefaultSelector() as selector:
        for c in clients:
            c.sock.setblocking(False)
            selector.register(c.sock, selectors.EVENT_WRITE, c)
        while left:
            ready = selector.select(60)
            assert ready, f"the relay reads no more, {len(left)} wait"
            for key, _ in ready:
                c = key.data
                n = c.sock.send(left[c][:131072])
                left[c] = left[c][n:]
                if not left[c]:
                    selector.unregister(c.sock)
                    del left[c]
    for c in clients:
        c.sock.settimeout(60)


def push(client, data):
    """Sends without waiting for room; how much went out."""
    client.sock.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += client.sock.send(data[sent:sent + 65536])
    except BlockingIOError:
        pass
    finally:
        client.sock.settimeout(30)
    return sent


def push_until_stuck(client, data):
    """Sends until nobody reads any more; how much went out."""
    sent, last = push(client, data), time.monotonic()
    while sent < len(data) and time.monotonic() < last + 0.5:
        more = push(client, data[sent:])
        sent += more
        if more:
            last = time.monotonic()
    return sent


def wait_accepted(sesd, n, timeout=60):
    """Waits without reading the journal, which may be long."""
    wait_until(lambda: sesd.stats()["accepted"] >= n,
               f"{n} messages at sesd", timeout)
    return sesd.messages()


def contents(sesd):
    """Contents that sesd has, as the clients sent them."""
    return [without_received(sesd.stored(e)) for e in sesd.messages()]


def by_message_id(sesd):
    """{Message-ID without <>: content}; fails for one that came twice."""
    found = {}
    for entry in sesd.messages():
        key = entry["message_id"].strip("<>")
        assert key not in found, f"{key} came twice"
        found[key] = without_received(sesd.stored(entry))
    return found


def check_memory(relay, limit_kib, before_kib=0):
    """Did the relay never have more than that (and what it had before)?"""
    used = relay.peak_memory_kib() - before_kib
    assert used < limit_kib + SANITIZER_KIB, f"{used} KiB"


def daemon_pid(relay):
    """Of the relay itself, when it runs inside another program."""
    return int((relay.spool / "lock").read_text())


@contextlib.contextmanager
def injected(relay, *faults):
    """strace(1) makes system calls of the running relay fail, each fault in
    each thread counted from here on."""
    words = [w for fault in faults for w in ("-e", f"inject={fault}")]
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", "/dev/null", *words,
         "-p", str(relay.process.pid)], stderr=subprocess.PIPE, text=True)
    try:
        line = tracer.stderr.readline()
        assert "attached" in line, line
        yield
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


def unstarted(relay, **config):
    """A relay that a test starts itself, if at all."""
    r = relay(start=False, config=config)
    r.log_path.touch()
    return r


def run_relay(config_file, *options, timeout=30, env=None):
    """sesrelayd to its end."""
    leaks = pathlib.Path(__file__).with_name("lsan.txt")
    env = {**(env or os.environ),
           "LSAN_OPTIONS": f"print_suppressions=0:suppressions={leaks}"}
    return subprocess.run(
        [str(BUILD / "sesrelayd"), "-c", str(config_file), *options],
        capture_output=True, text=True, timeout=timeout, env=env)


def has_ipv6():
    """Is there a ::1 to listen on?"""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError as e:
        if e.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        raise
