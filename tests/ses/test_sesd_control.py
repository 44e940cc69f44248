"""sesd: journal, control port, command line."""

import hashlib
import socket
import struct
import subprocess
import time

import pytest

from sesd_peer import Client, DEADLINE, ID, MAIL, SESD, Sesd, wait_until


def test_journal_of_a_message(sesd):
    s = sesd()
    c = Client(s)
    c.start()
    c.mail(sender="ob\"ject\"@x.test", rcpts=["b@y.test", "c@z.test"])
    c.mail()
    first, second = s.accepted()
    assert {k: first[k] for k in ("conn", "port", "mode", "tls", "from",
                                  "rcpts", "message_id", "nth")} == {
        "conn": 1, "port": s.ports["starttls"], "mode": "starttls",
        "tls": c.sock.version(), "from": 'ob"ject"@x.test',
        "rcpts": ["b@y.test", "c@z.test"], "message_id": "m1@x.test",
        "nth": 1}
    assert second["nth"] == 2
    assert first["sha256"] == hashlib.sha256(MAIL).hexdigest()
    assert first["id"] != second["id"]
    assert abs(first["time"] - time.time()) < 60
    assert s.events("connect")[0]["mode"] == "starttls"
    assert s.events("tls")[0]["sni"] == "localhost"


def test_close_reasons(sesd):
    s = sesd()
    c = Client(s, "wrapper")
    c.sock.close()  # Python sends no close_notify
    wait_until(lambda: len(s.events("close")) == 1)
    c = Client(s, "wrapper")
    c.sock.unwrap().close()
    wait_until(lambda: len(s.events("close")) == 2)
    c = Client(s)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 0))
    c.sock.close()
    wait_until(lambda: len(s.events("close")) == 3)
    reasons = [e["reason"] for e in s.events("close")]
    assert reasons[1:] == ["eof", "reset"]
    assert reasons[0] in ("truncated", "reset")  # tickets may be unread


@pytest.mark.parametrize("how,end", [("", "eof"), (" rst", "reset")])
def test_drop_connections(sesd, how, end):
    s = sesd()
    clients = [Client(s, mode) for mode in ("starttls", "wrapper", "plain")]
    s.ask("drop-connections" + how)
    assert [c.end() for c in clients] == [end] * 3
    assert s.stats()["connections"]["now"] == 0


def test_refuse(sesd):
    s = sesd()
    c = Client(s)
    s.ask("refuse on")
    for mode in ("starttls", "wrapper", "ipv6"):
        with pytest.raises(ConnectionRefusedError):
            Client(s, mode)
    assert c.do("NOOP") == b"250 Ok\r\n"
    s.ask("refuse off")
    for mode in ("starttls", "wrapper", "ipv6"):
        assert Client(s, mode).greeting.startswith(b"220 ")


def test_control_errors(sesd):
    s = sesd()
    for line in ("frob", "set", "set nosuch 1", "set rate x", "set rate -1",
                 "set idle 5h", "set bytewise 2", "set account gone",
                 "set session_cap_phase rcpt", "refuse maybe",
                 "drop-connections hard"):
        with pytest.raises(ValueError, match="ERR "):
            s.ask(line)
    s.set(rate=2.5, idle=3, verified="x.test, y.test")
    settings = dict(line.split("=", 1) for line in s.ask("get"))
    assert settings["rate"] == "2.5"
    assert settings["idle"] == "3000ms"
    assert settings["verified"] == "x.test, y.test"
    assert settings["max_size"] == "41943040"


def test_command_line(certs, tmp_path):
    def run(*args):
        return subprocess.run([SESD, *args], capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
    assert run("--help").stdout.startswith("Usage: sesd ")
    assert run("--version").stdout.startswith("sesd ")
    assert "idle=10000ms\n" in run("--settings").stdout
    for args in (["--frob"], ["--listen", "127.0.0.1:0:tls"],
                 ["--key", "x"], ["extra"],
                 ["--do", "refuse on 1", "--listen", "127.0.0.1:0:plain"],
                 ["--do", "frob", "--listen", "127.0.0.1:0:plain"],
                 ["--rule", "on x"], ["--set", "rate=x"],
                 ["--rules", "/nowhere"], ["--tls-max", "2"]):
        assert run(*args).returncode == 2
    assert run("--listen", "nowhere:0:plain").returncode == 1
    assert run("--listen", "127.0.0.1:0:starttls", "--cert",
               "/nowhere").returncode == 1


def test_sigterm(certs, tmp_path):
    s = Sesd(certs, tmp_path)
    c = Client(s)
    s.process.terminate()
    assert s.process.wait(DEADLINE) == 0
    assert c.end() == "eof"


def test_many_connections(sesd):
    s = sesd()
    clients = [Client(s, "wrapper").start() for _ in range(100)]
    for c in clients:
        assert ID.fullmatch(c.mail())
    stats = s.stats()
    assert stats["accepted"] == stats["recipients"] == 100
    assert stats["connections"] == {"now": 100, "peak": 100, "total": 100}
    assert len({e["id"] for e in s.accepted()}) == 100
