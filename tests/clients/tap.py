"""Listens in between a client and the relay: what the client said, in which
pieces, and the content that it sent, unstuffed."""

import re
import socket
import sys
import pathlib
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import wait_until  # noqa: E402

VERBS = {"HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT",
         "AUTH", "VRFY", "HELP", "EXPN", "STARTTLS", "BDAT"}


class Tap:
    """Passes on one connection after the other, and keeps the client's part
    of those since forget()."""

    def __init__(self, target):
        self.target = target
        self.chunks = []
        self.open = 0  # of the two ways of the last connection
        self.lock = threading.Lock()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.server_thread = threading.Thread(target=self.serve, daemon=True)
        self.server_thread.start()

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.open = 2
            relay = socket.create_connection(("127.0.0.1", self.target))
            for a, b, keep in ((client, relay, True), (relay, client, False)):
                b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.copy, args=(a, b, keep),
                                 daemon=True).start()

    def copy(self, a, b, keep):
        try:
            while data := a.recv(65536):
                if keep:
                    self.chunks.append(data)
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (a, b):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        with self.lock:
            self.open -= 1

    def forget(self):
        self.chunks = []

    def wait_end(self):
        wait_until(lambda: self.chunks and self.open == 0,
                   "the end of the client's connection")

    def close(self):
        # A thread that still waits in accept() would keep the port, and take
        # a client of whoever comes next.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server_thread.join()
        self.server.close()


def end_of_data(stream, start, lf_only):
    """(end of the content, start of the next command)."""
    dot = b"\n.\n" if lf_only else b"\r\n.\r\n"
    line = 1 if lf_only else 2  # its line end
    if stream.startswith(dot[line:], start):
        return start, start + len(dot) - line
    at = stream.find(dot, start)
    if at < 0:
        return len(stream), len(stream)
    return at + line, at + len(dot)


def unstuffed(data, lf_only):
    """The content as it was meant, with CRLF.  Behind a bare LF in a session
    with CRLF, a dot may have been stuffed or not: two are one, one is one."""
    if lf_only:
        data = data.replace(b"\n", b"\r\n")
    data = re.sub(rb"(\A|\r\n)\.", rb"\1", data)
    data = re.sub(rb"(?<!\r)\n\.\.", rb"\n.", data)
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def read_back(chunks):
    """(the dialogue in a line, contents as they were meant).

    Commands that came in one piece are joined by "+", a dot is a content; what
    is no command, such as the answers of AUTH LOGIN, is "..".
    """
    stream = b"".join(chunks)
    starts = {0}
    for chunk in chunks:
        starts.add(max(starts) + len(chunk))
    words, contents = [], []
    lf_only = b"\r\n" not in stream
    at = 0
    while at < len(stream):
        line = stream[at:].split(b"\n", 1)[0]
        verb = line.split(b" ")[0].strip().upper().decode("latin-1")
        word = verb if verb in VERBS else ".."
        if verb in ("HELO", "EHLO", "AUTH"):
            word = " ".join(line.decode("latin-1").split()[:2])
        joined = at not in starts
        at += len(line) + 1
        words.append(("+" if joined else " ") + word)
        if verb == "DATA":
            end, after = end_of_data(stream, at, lf_only)
            contents.append(unstuffed(stream[at:end], lf_only))
            words.append("+." if at not in starts else " .")
            at = after
    text = "".join(words).strip()
    text = re.sub(r"([+ ])RCPT((?:\1RCPT)+)",
                  lambda m: f"{m[1]}RCPT*{len(m[2]) // 5 + 1}", text)
    return ("LF: " if lf_only else "") + text, contents
