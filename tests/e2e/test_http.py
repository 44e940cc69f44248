"""Metrics and health over HTTP: the pages, what they say through the life of a
relay, who may see them, and clients that behave badly while mail flows."""

import contextlib
import http.client
import os
import re
import socket
import subprocess
import time

import pytest

import exposition
from harness import BUILD, free_port, message, wait_until
from intake_helpers import injected

MAX_CLIENTS = 32  # HTTP_MAX_CLIENTS


class Web:
    """The pages of one relay."""

    def __init__(self, relay):
        self.relay = relay
        self.port = int(relay.settings["http.listen"].strip('"')
                        .rpartition(":")[2])

    def request(self, path="/", method="GET", body=None, source="127.0.0.1",
                timeout=30):
        """(status, headers, body)."""
        c = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout,
            source_address=(source, 0))
        try:
            c.request(method, path, body)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def get(self, path):
        """(status, body)."""
        status, _, body = self.request(path)
        return status, body

    def scrape(self):
        status, body = self.get("/metrics")
        assert status == 200
        return exposition.parse(body)

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, data):
        """Everything that comes for these bytes, until the server closes."""
        with self.connect() as s:
            s.sendall(data)
            return read_all(s)


def read_all(s):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := s.recv(65536):
            data += chunk
    return data


def n_sockets(relay):
    """Files of the spool come and go."""
    directory, n = f"/proc/{relay.process.pid}/fd", 0
    for fd in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            n += os.readlink(f"{directory}/{fd}").startswith("socket:")
    return n


@pytest.fixture
def web(relay):
    def make(*args, config=None, **kwargs):
        config = {"http.listen": f'"127.0.0.1:{free_port()}"',
                  **(config or {})}
        return Web(relay(*args, config=config, **kwargs))
    return make


def ready(w):
    return w.get("/readyz") == (200, "ready\n")


def at_the_dot(relay):
    wait_until(lambda: [c["step"] for c in relay.ctl_json("connections")] ==
               ["dot"], "a message at its dot")


# --- the pages ---

def test_pages(sesd, web):
    w = web(sesd())
    w.relay.send()
    w.relay.wait_empty()
    assert (f"metrics and health at http://127.0.0.1:{w.port}/"
            in w.relay.log())
    status, headers, body = w.request("/metrics")
    assert status == 200
    assert headers["Content-Type"] == \
        "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Connection"] == "close"
    assert headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
                        headers["Date"])
    families = exposition.parse(body)
    assert exposition.value(families, "sesrelayd_messages_accepted_total") == 1
    # What sesrelayctl prints is the same.
    assert set(exposition.parse(w.relay.ctl("metrics"))) == set(families)
    assert w.get("/healthz") == (200, "healthy\n")
    assert w.get("/readyz") == (200, "ready\n")
    assert w.get("/readyz?verbose=1") == (200, "ready\n")
    index = w.get("/")[1]
    for page in re.findall(r"(?m)^(/\w+)", index):
        assert w.get(page)[0] == 200, page
    assert len(re.findall(r"(?m)^/\w", index)) == 3
    status, body = w.get("/metrics/")
    assert status == 404 and "no such page" in body


def test_head_is_get_without_a_body(web):
    w = web()
    status, headers, body = w.request("/healthz", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "8", "")
    got = w.raw(b"HEAD /healthz HTTP/1.0\r\n\r\n")
    assert got.endswith(b"\r\n\r\n") and got.count(b"\r\n\r\n") == 1


def test_curl(web):
    w = web()
    done = subprocess.run(
        ["curl", "-sfS", "-i", f"http://127.0.0.1:{w.port}/healthz",
         "-o", "-", f"http://127.0.0.1:{w.port}/readyz"],
        capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert done.stdout.endswith(b"\r\n\r\nready\n")
    w.relay.ctl("pause", "intake")
    done = subprocess.run(
        ["curl", "-sf", f"http://127.0.0.1:{w.port}/readyz"], timeout=60)
    assert done.returncode == 22  # as a probe in a script would see it


def test_on_a_local_socket(relay, directory):
    path = directory / "http"
    r = relay(config={"http.listen": f'"unix:{path}"', "http.allow": "[ ]"})
    done = subprocess.run(
        ["curl", "-sfS", "--unix-socket", str(path), "http://x/healthz"],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "healthy\n"), done.stderr
    r.stop()
    assert not path.exists()


# --- through the life of a relay ---

def test_ready_while_ses_is_away(sesd, web):
    s = sesd()
    w = web(s)
    s.stop()
    w.relay.send()
    w.relay.wait_state("unreachable")
    assert ready(w) and w.get("/healthz")[0] == 200
    f = w.scrape()
    assert exposition.value(f, "sesrelayd_upstream_up") == 0
    assert exposition.value(f, "sesrelayd_upstream_state",
                            state="unreachable") == 1
    w.relay.send()  # it says so because it is so


def test_not_ready_while_intake_is_paused(web):
    w = web()
    assert ready(w)
    w.relay.ctl("pause", "delivery")
    assert ready(w)
    w.relay.ctl("pause", "intake")
    assert w.get("/readyz") == (
        503, "not ready: Mail intake is paused by the operator\n")
    assert w.get("/healthz")[0] == 200  # no reason for a restart
    w.relay.ctl("resume", "intake")
    assert ready(w)


def test_not_ready_while_draining(sesd, web):
    s = sesd(rules=["on DOT times 1 stall"])
    w = web(s)
    w.relay.send()
    at_the_dot(w.relay)
    drain = subprocess.Popen(
        [str(BUILD / "sesrelayctl"), "-s", str(w.relay.control), "drain",
         "--timeout", "60s"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: w.get("/readyz") == (
            503, "not ready: The relay is being drained, try again later\n"),
            "the drain on the page")
        drain.kill()
        wait_until(lambda: ready(w), "the end of the drain")
    finally:
        drain.kill()
        drain.wait()


def test_not_ready_while_the_disk_is_full(web):
    w = web()
    r = w.relay
    r.settings["spool.min_free"] = '"1000000G"'
    r.write_config()
    r.ctl("reload")
    status, body = wait_until(
        lambda: (g := w.get("/readyz"))[0] == 503 and g, "not ready")
    assert re.fullmatch("not ready: [^\n]*storage[^\n]*\n", body)
    with r.submit() as session:
        assert session.do("MAIL FROM:<a@example.com>").startswith("452")
    r.settings["spool.min_free"] = '"1M"'
    r.write_config()
    r.ctl("reload")
    wait_until(lambda: ready(w), "ready again")


def test_not_ready_while_stopping(sesd, web):
    s = sesd(rules=["on DOT times 1 stall"])
    w = web(s)
    w.relay.send()
    at_the_dot(w.relay)
    w.relay.process.kill(15)
    wait_until(lambda: w.get("/readyz") == (
        503, "not ready: the daemon is stopping\n"), "not ready")
    assert w.get("/healthz")[0] == 200
    s.close()


def test_a_disk_that_hangs_is_not_alive(web):
    """One sync that takes 14 s: after ten, a supervisor should know."""
    w = web()
    with injected(w.relay, "fdatasync:delay_enter=14000000:when=1"):
        with w.relay.submit() as session:
            session.begin()
            session.sock.sendall(message() + b".\r\n")
            why = "the disk of the spool does not answer\n"
            wait_until(lambda: w.get("/healthz") == (
                503, f"not healthy: {why}"), "the hang to be noticed", 60)
            assert w.get("/readyz") == (503, f"not ready: {why}")
            assert exposition.value(
                w.scrape(), "sesrelayd_spool_healthy") == 0
            assert w.relay.ctl("status").splitlines()[0].endswith(
                "; NO NEW MAIL IS TAKEN: " + why.rstrip())
            # The loop turns, and the disk comes back.
            wait_until(lambda: w.get("/healthz") == (200, "healthy\n"),
                       "the disk", 60)
            assert session.reply().startswith("250")
            assert ready(w)


def test_figures_survive_whoever_asks_in_a_loop(sesd, web):
    """Scrapes within a tenth of a second share their text; a later one does
    not."""
    w = web(sesd())
    w.scrape()
    w.relay.send()
    wait_until(lambda: exposition.value(
        w.scrape(), "sesrelayd_messages_accepted_total") == 1,
        "the new figure")


# --- who may see them ---

def test_only_networks_that_are_allowed(web):
    w = web(config={"http.allow": '[ "127.0.0.2" ]'})
    status, _, body = w.request("/metrics")
    assert status == 403 and "http.allow" in body
    assert w.request("/nothing")[0] == 403
    assert w.request("/metrics", "POST")[0] == 403
    assert w.request("/metrics", source="127.0.0.2")[0] == 200


def test_allowed_is_looked_up_at_each_request(web):
    w = web()
    with w.connect() as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert ready(w)  # so that one is accepted and read
        w.relay.settings["http.allow"] = '[ "10.0.0.0/8" ]'
        w.relay.write_config()
        assert "http.allow: " in w.relay.ctl("reload")
        s.sendall(b"\r\n")
        assert read_all(s).startswith(b"HTTP/1.1 403 ")
    w.relay.settings["http.allow"] = None
    w.relay.write_config()
    w.relay.ctl("reload")
    assert ready(w)


def test_listen_is_for_the_next_start(web):
    w = web()
    port = free_port()
    w.relay.settings["http.listen"] = f'"127.0.0.1:{port}"'
    w.relay.write_config()
    told = w.relay.ctl("reload")
    assert re.search("http.listen: .*needs a restart", told)
    assert ready(w)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def check(r):
    return subprocess.run(
        [str(BUILD / "sesrelayd"), "-t", "-c", str(r.config_file)],
        capture_output=True, text=True, timeout=60)


def test_no_surprise_beyond_loopback(relay):
    r = relay(config={"http.listen": '"0.0.0.0:9125"'}, start=False)
    done = check(r)
    assert done.returncode == 78
    assert re.search(r":\d+: 'http.listen': 0.0.0.0:9125 can be reached from "
                     "other hosts, and 'http.allow' is at its default",
                     done.stderr)
    r.settings["http.allow"] = '[ "127.0.0.0/8", "10.0.0.0/8" ]'
    r.write_config()
    assert check(r).returncode == 0
    r.settings["http.listen"] = "[ {} ]".format(
        ", ".join(f'"127.0.0.1:{9125 + i}"' for i in range(9)))
    r.write_config()
    assert "at most 8 addresses" in check(r).stderr


def test_a_taken_port_is_refused_at_the_start(relay):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        r = relay(config={"http.listen": f'"127.0.0.1:{port}"'}, start=False)
        done = subprocess.run(
            [str(BUILD / "sesrelayd"), "-c", str(r.config_file)],
            capture_output=True, text=True, timeout=60)
    assert done.returncode == 71
    assert (f"cannot listen on 127.0.0.1:{port}: Address already in use"
            in done.stderr)


# --- clients that behave badly ---

REFUSED = {
    "POST": (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
    "large POST": (b"POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n" +
                   b"x" * 2000000, 405),
    "unknown method": (b"get / HTTP/1.1\r\n\r\n", 405),
    "CONNECT": (b"CONNECT 10.0.0.1:25 HTTP/1.1\r\n\r\n", 405),
    "proxy": (b"GET http://10.0.0.1/metrics HTTP/1.1\r\n\r\n", 404),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "SMTP": (b"EHLO x\r\n\r\n", 400),
    "long line": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
    "endless line": (b"G" * 1000000, 414),
    "long field": (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 65 + b"\r\n", 431),
    "large header": (b"GET / HTTP/1.1\r\n" +
                     (b"X: " + b"a" * 2000 + b"\r\n") * 5 + b"\r\n", 431),
    "empty lines": (b"\r\n" * 1000, 431),
    "up the tree": (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
    "encoded": (b"GET /%6detrics HTTP/1.1\r\n\r\n", 404),
    "zero": (b"GET /metrics\0 HTTP/1.1\r\n\r\n", 400),
}


def test_requests_that_are_refused(web):
    w = web()
    for name, (data, status) in REFUSED.items():
        got = w.raw(data)
        assert re.match(rb"HTTP/1\.1 (\d+) [\w ]+\r\n", got)[1] == \
            b"%d" % status, (name, got[:200])
        assert got.count(b"Content-Length: ") == 1, name
        if status == 405:
            assert b"\r\nAllow: GET, HEAD\r\n" in got
        # One line for people.
        body = got.partition(b"\r\n\r\n")[2]
        assert body.endswith(b"\n") and body.count(b"\n") == 1, name
    assert ready(w)


def test_pipelined_requests_get_one_answer(web):
    w = web()
    got = w.raw(b"GET /healthz HTTP/1.1\r\n\r\n" * 500)
    assert got.count(b"HTTP/1.1 200 OK") == 1
    assert got.endswith(b"\r\n\r\nhealthy\n")


def test_bytes_one_by_one_and_lines_that_end_in_lf(web):
    w = web()
    with w.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\nGET /healthz HTTP/1.1\nHost: x\n\n":
            s.sendall(bytes([byte]))
        assert read_all(s).endswith(b"\r\n\r\nhealthy\n")


def test_a_half_closed_client_gets_its_answer(web):
    w = web()
    with w.connect() as s:
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        got = read_all(s)
    head, _, body = got.partition(b"\r\n\r\n")
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)
    exposition.parse(body.decode())


def test_a_request_that_drips_is_over_after_five_seconds(web):
    w = web()
    before = n_sockets(w.relay)
    with w.connect() as s:
        began = time.monotonic()
        s.sendall(b"GET / HTTP/1.1\r\nX: ")
        s.setblocking(False)
        n_sent = 0

        def ended():
            nonlocal n_sent
            try:
                # Progress is no excuse; yet the line must not get too long.
                if n_sent < 4 * (time.monotonic() - began):
                    s.sendall(b"x")
                    n_sent += 1
                return s.recv(1) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True
        wait_until(ended, "the end of a request that drips", 60)
        assert time.monotonic() - began > 4
    wait_until(lambda: n_sockets(w.relay) == before, "the descriptor")


def test_an_answer_that_is_not_taken_is_dropped(web):
    """Not even a client that never closes keeps a descriptor."""
    w = web()
    before = n_sockets(w.relay)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            s = stack.enter_context(socket.socket())
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            s.connect(("127.0.0.1", w.port))
            s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_until(lambda: n_sockets(w.relay) > before, "they are accepted")
        wait_until(lambda: n_sockets(w.relay) == before, "they are gone", 60)


def test_a_crowd_of_idle_clients_disturbs_nobody(sesd, web):
    s = sesd()
    w = web(s)
    r = w.relay
    r.send()
    r.wait_empty()
    before = n_sockets(r)
    with contextlib.ExitStack() as stack:
        idle = []
        for i in range(200):
            idle.append(stack.enter_context(w.connect()))
            if i % 2:
                idle[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
            if i % 20 == 0:
                r.send()
        # Whoever asks is served, and no more than so many are kept.
        for _ in range(20):
            assert w.request("/metrics", timeout=30)[0] == 200
            assert w.get("/healthz")[0] == 200
        assert n_sockets(r) <= before + MAX_CLIENTS + 5  # and mail's own
        # The oldest had to go before its time; the newest has its turn.
        idle[0].settimeout(60)
        assert read_all(idle[0]) == b""
        s.wait_messages(11)
    r.wait_empty()
    wait_until(lambda: n_sockets(r) <= before, "all descriptors back", 60)


def test_a_flood_of_requests_while_mail_flows(sesd, web):
    """No answer is lost or mixed up, no descriptor left."""
    s = sesd()
    w = web(s)
    r = w.relay
    r.send()
    r.wait_empty()
    before = n_sockets(r)
    for i in range(300):
        path = ("/metrics", "/healthz", "/readyz", "/x")[i % 4]
        status, _, body = w.request(path, ("GET", "POST")[i % 3 == 0])
        want = 405 if i % 3 == 0 else 404 if path == "/x" else 200
        assert status == want, (path, body)
        if i % 30 == 0:
            r.send()
    r.wait_empty()
    assert len(s.messages()) == 11
    wait_until(lambda: n_sockets(r) <= before, "all descriptors back", 60)
