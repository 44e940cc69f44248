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
    def __init__(self, target, fault):
        self.target = target
        self.fault = fault
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

    @staticmethod
    def copy(a, b, slow):
        left = DRIP_BYTES if slow else 0
        try:
            while data := a.recv(65536):
                while left > 0 and data:
                    b.sendall(data[:1])
                    data = data[1:]
                    left -= 1
                    time.sleep(DRIP_S)
                b.sendall(data)
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
