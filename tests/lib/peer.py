"""Servers that do what a test tells them, byte by byte, in clear or in TLS, where
the emulator would be too well-behaved."""

import socket
import ssl
import threading


class Peer:
    """A server that does what talk(socket) does, to every connection, and
    keeps what was said to it inside TLS."""

    def __init__(self, talk):
        self.talk = talk
        self.heard = b""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.n = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.n += 1
            with s:
                s.settimeout(10)
                try:
                    self.talk(self, s)
                except (OSError, ssl.SSLError):
                    pass

    def hear(self, s):
        while data := s.recv(65536):
            self.heard += data

    def close(self):
        self.server.close()


def starttls_first(s):
    s.sendall(b"220 hello\r\n")
    assert s.recv(1000).startswith(b"EHLO")
    s.sendall(b"250-x\r\n250 STARTTLS\r\n")
    assert s.recv(1000) == b"STARTTLS\r\n"
    s.sendall(b"220 go\r\n")


def tls_server(certs, ciphers, version=ssl.TLSVersion.TLSv1_2):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(certs / "good.pem", certs / "good.key")
    c.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    c.maximum_version = version
    c.set_ciphers(ciphers)
    return c
