"""A relay of bytes between the daemon and the emulator, for what happens below
SMTP: a SYN that nobody answers, a connection that ends at once, a handshake
whose records come byte by byte. The first connection meets the fault, those
after it are passed on as they are.
"""

import socket
import struct
import threading
import time

DRIP_BYTES = 6000  # of a handshake and more
DRIP_S = 0.0002


class Wire:
    """`fault`: "hole", "RST", "FIN", "half", "drip" or None; what drips are
    the bytes of the server from `drip_from` on, one each `drip_s` seconds."""

    def __init__(self, target, fault, drip_s=DRIP_S, drip_from=0,
                 drip_bytes=DRIP_BYTES):
        self.target = target
        self.fault = fault
        self.drip_s, self.drip_from = drip_s, drip_from
        self.drip_bytes = drip_bytes
        self.acted = 0  # connections that met the fault
        self.fillers = []
        self.server = socket.socket()
        self.server.bind(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        if fault == "hole":
            self.fill()
        elif fault != "RST":
            self.open()

    def fill(self):
        """With its queue full, a SYN to it is not answered."""
        self.server.listen(0)
        for _ in range(64):
            c = socket.socket()
            c.settimeout(0.1)
            self.fillers.append(c)
            try:
                c.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return
        raise AssertionError("the queue never fills")

    def open(self):
        """From now on it is well, or as far as it will be."""
        self.server.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def heal(self):
        """After a fault that is there before a connection is."""
        self.acted = 1
        for c in self.fillers:
            c.close()
        self.open()

    def serve(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            first = self.acted == 0
            if first:
                self.acted = 1
            if first and self.fault == "FIN":
                s.close()
            elif first and self.fault == "half":
                s.shutdown(socket.SHUT_WR)
                self.half = s
            else:
                self.relay(s, first and self.fault == "drip")

    def relay(self, s, drip):
        try:
            t = socket.create_connection(self.target)
        except OSError:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                         struct.pack("ii", 1, 0))
            s.close()
            return
        for a, b, slow in ((s, t, False), (t, s, drip)):
            b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.copy, args=(a, b, slow),
                             daemon=True).start()

    def copy(self, a, b, slow):
        n = 0
        end = self.drip_from + self.drip_bytes if slow else 0
        try:
            while data := a.recv(65536):
                while data and n < end:
                    size = max(1, min(len(data), self.drip_from - n))
                    if n >= self.drip_from:
                        time.sleep(self.drip_s)
                    b.sendall(data[:size])
                    data = data[size:]
                    n += size
                b.sendall(data)
                n += len(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (a, b):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.server.close()
        for c in self.fillers:
            c.close()
