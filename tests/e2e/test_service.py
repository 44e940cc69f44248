"""The daemon under a service manager, played by a datagram socket and by
sockets handed in: sd_notify(3) and sd_listen_fds(3)."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import PASSWORD, RCPT, message, wait_until

# argv: NAME=VALUE for the environment ("%p" is the pid that the program has),
# "listen=ADDRESS" for a socket that is handed in, "--", the program.
START = """
import os, socket, sys
words = sys.argv[1:]
end = words.index("--")
n = 0
for word in words[:end]:
    name, _, value = word.partition("=")
    if name == "listen":
        s = socket.create_server((value, 0))
    elif name == "datagrams":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        os.environ[name] = value.replace("%p", str(os.getpid()))
        continue
    fd = os.dup(s.fileno())
    os.dup2(fd, 3 + n)
    os.set_inheritable(3 + n, True)
    globals()[f"keep{n}"] = s
    n += 1
os.environ["LISTEN_FDS"] = str(n)
os.execv(words[end + 1], words[end + 1:])
"""


class Manager:
    """$NOTIFY_SOCKET; what was said, with when it was heard."""

    def __init__(self, directory):
        self.path = directory / "notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.heard = []
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while True:
            text = self.sock.recv(65536).decode()
            if text == "that is all":
                return
            self.heard.append((time.monotonic(), text))

    def start(self, relay, *words, wait=True):
        """As the service manager does: environment, sockets, program."""
        relay.start(wait=wait, wrap=(
            "/usr/bin/python3", "-c", START, f"NOTIFY_SOCKET={self.path}",
            *words, "--"))

    def texts(self, prefix=""):
        return [text for _, text in list(self.heard)
                if text.startswith(prefix)]

    def statuses(self):
        return [text[7:] for text in self.texts("STATUS=")]

    def wait(self, prefix, n=1):
        wait_until(lambda: len(self.texts(prefix)) >= n,
                   f"{n} of {prefix!r}, heard {self.texts()[-10:]}")

    def wait_status(self, pattern):
        wait_until(lambda: self.statuses() and
                   re.search(pattern, self.statuses()[-1]),
                   f"{pattern!r}, heard {self.texts()[-10:]}")

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"that is all", str(self.path))
        self.thread.join()
        self.sock.close()


@pytest.fixture
def manager(directory):
    m = Manager(directory)
    yield m
    m.close()


# --- ready ---

def test_ready_once_and_mail_can_be_handed_in(sesd, relay, manager):
    s = sesd()
    r = relay(s, start=False)
    manager.start(r, wait=False)
    manager.wait("READY=1")
    r.send()  # the socket is there
    assert r.status()["stopping"] is False  # and the operator's
    s.wait_messages(1)
    r.wait_empty()
    assert r.stop() == 0
    assert manager.texts("READY") == ["READY=1"]
    assert manager.texts()[0] == "READY=1"


@pytest.mark.parametrize("what", ["spool", "port", "configuration"])
def test_not_ready_when_it_cannot_start(sesd, relay, manager, what):
    one = relay(sesd())
    config, code, words = {
        "spool": ({"spool.directory": f'"{one.spool}"'}, 75, str(one.spool)),
        "port": ({"smtp.listen": f'[ "127.0.0.1:{one.port}" ]'}, 71,
                 str(one.port)),
        # Two mistakes are two lines, and a line of STATUS is another word.
        "configuration": ({"smtp.timeout": '"5 parsecs"',
                           "smtp.max_sessions": '"many"'}, 78,
                          "smtp.timeout"),
    }[what]
    r = relay(None, start=False, config=config)
    manager.start(r, wait=False)
    assert r.process.wait(30) == code
    # `systemctl status` shows the last STATUS of a service that failed.
    manager.wait("STATUS=")
    assert manager.texts("READY") == []
    assert words in manager.statuses()[-1]
    assert "\n" not in manager.statuses()[-1]


def test_no_password_says_where_to_put_it(sesd, relay, manager, directory):
    (directory / "credentials").mkdir()
    r = relay(None, start=False, config={"ses.password_file": None})
    manager.start(r, f"CREDENTIALS_DIRECTORY={directory}/credentials",
                  wait=False)
    assert r.process.wait(30) == 78
    for words in ("no SMTP password (systemd gave us no", '"ses-password"',
                  "ses.password_file",
                  "/etc/credstore/ses-password, mode 600, and a restart\n"):
        assert words in r.log()
    manager.wait("STATUS=")
    assert "no SMTP password" in manager.statuses()[-1]


def test_password_by_credential(sesd, relay, manager, directory):
    (directory / "credentials").mkdir()
    (directory / "credentials" / "ses-password").write_text(PASSWORD)
    s = sesd()
    r = relay(s, start=False, config={"ses.password_file": None})
    manager.start(r, f"CREDENTIALS_DIRECTORY={directory}/credentials")
    r.send()
    s.wait_messages(1)


# --- reload ---

def test_reload_good_and_bad(sesd, relay, manager):
    r = relay(sesd(), start=False)
    manager.start(r)
    good = dict(r.settings)
    steps = [
        ("signal", "smtp.timeout", '"4m"', "configuration reloaded, 1 keys"),
        ("signal", "smtp.timeout", '"never"', "reload refused"),
        ("ctl", "smtp.timeout", '"6m"', None),
        ("ctl", "smtp.timeout", '"never"', None),
    ]
    for i, (by, key, value, words) in enumerate(steps):
        r.settings = {**good, key: value}
        r.write_config()
        began = time.monotonic()
        if by == "signal":
            r.reload()
            r.wait_log(words)
        else:
            code = r.run_ctl("reload").returncode
            assert code == (1 if "never" in value else 0)
        manager.wait("READY=1", i + 2)
        said = manager.texts("RELOADING=1\nMONOTONIC_USEC=")
        assert len(said) == i + 1
        us = int(said[-1].rpartition("=")[2])
        assert began * 1e6 - 1 <= us <= time.monotonic() * 1e6
    order = [t.partition("=")[0] for t in manager.texts()
             if not t.startswith("STATUS")]
    assert order == ["READY"] + ["RELOADING", "READY"] * 4


# --- the state ---

def test_status_follows_queue_and_upstream(sesd, relay, manager):
    s = sesd()
    r = relay(s, start=False, config={"delivery.retry": '[ "1h" ]'})
    manager.start(r)
    manager.wait_status(r"^Relaying; 0 queued, upstream ok$")
    s.rule('on RCPT when rcpt=later@example.org reply "450 not now"')
    r.send(rcpts=["later@example.org"])
    manager.wait_status(r"^Relaying; 1 queued, 1 deferred "
                        r"\(oldest under 1m\), upstream ok$")
    r.ctl("hold", "--all")
    manager.wait_status(r"^Relaying; 1 queued, 1 held ")
    r.ctl("pause")
    manager.wait_status(r"upstream paused$")
    r.ctl("pause", "intake")
    manager.wait_status(r"upstream paused, intake paused$")
    r.settings["spool.min_free"] = '"900T"'
    r.write_config()
    r.ctl("reload")
    manager.wait_status(
        r"intake paused, spool: Insufficient system storage$")


def test_status_once_a_second_and_on_change_only(sesd, relay, manager):
    s = sesd(settings={"dot_latency": 20})
    r = relay(s, start=False)
    manager.start(r)
    manager.wait("STATUS=")
    began, before = time.monotonic(), len(manager.statuses())
    with r.submit() as client:
        while time.monotonic() < began + 3:
            client.mail()
    manager.wait_status("0 queued")
    quiet = r.status()["uptime_seconds"] + 3  # in which nothing changes
    wait_until(lambda: r.status()["uptime_seconds"] >= quiet, "3 s")
    took = time.monotonic() - began
    statuses = manager.statuses()
    assert before + 1 < len(statuses) <= before + took + 2
    assert all(a != b for a, b in zip(statuses, statuses[1:]))


def test_a_manager_that_does_not_read_holds_nothing_up(sesd, relay, directory):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(directory / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    s.sendto(b"X=1", str(directory / "notify"))
        s = sesd()
        r = relay(s, start=False)
        r.start(wrap=("/usr/bin/env", f"NOTIFY_SOCKET={directory}/notify",
                      "WATCHDOG_USEC=20000"))
        began = time.monotonic()
        for _ in range(20):
            r.send()
        # Each watchdog that waited would take a second.
        assert time.monotonic() - began < 15
        s.wait_messages(20)


# --- the watchdog ---

def test_watchdog_hears_of_us_in_time(sesd, relay, manager):
    r = relay(sesd(), start=False)
    manager.start(r, "WATCHDOG_USEC=400000", "WATCHDOG_PID=%p")
    manager.wait("WATCHDOG=1", 10)
    times = [t for t, text in manager.heard if text == "WATCHDOG=1"]
    # Twice a period; never early, so that only the mean has an upper bound
    # that a slow machine keeps.
    assert (times[-1] - times[0]) / (len(times) - 1) > 0.15
    r.process.kill(signal.SIGSTOP)
    time.sleep(1)  # what was on its way has come
    stopped = len(manager.texts("WATCHDOG"))
    time.sleep(1)
    assert len(manager.texts("WATCHDOG")) == stopped
    r.process.kill(signal.SIGCONT)
    manager.wait("WATCHDOG=1", stopped + 2)


@pytest.mark.parametrize("words", [
    (), ("WATCHDOG_USEC=100000", "WATCHDOG_PID=1")])
def test_watchdog_of_somebody_else(sesd, relay, manager, words):
    s = sesd()
    r = relay(s, start=False)
    manager.start(r, *words)
    r.send()
    s.wait_messages(1)
    manager.wait_status("0 queued")
    assert r.stop() == 0
    assert manager.texts("WATCHDOG") == []


def test_watchdog_is_not_told_while_the_disk_hangs(sesd, relay, manager):
    s = sesd()
    r = relay(s, start=False)
    manager.start(r, "WATCHDOG_USEC=2000000")
    manager.wait("WATCHDOG=1", 2)
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(r.process.pid),
         "-e", "trace=fdatasync",
         "-e", "inject=fdatasync:delay_enter=8s:when=1"],
        stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "TracerPid:\t0\n" not in
                   open(f"/proc/{r.process.pid}/status").read(),
                   "strace to attach")
        done = []
        sender = threading.Thread(target=lambda: done.append(r.send()))
        sender.start()
        r.wait_log("the disk of the spool has not answered for")
        beats = len(manager.texts("WATCHDOG"))
        # The loop turns all the while.
        assert r.status()["stopping"] is False and not done
        r.wait_log("the disk of the spool answers again")
        assert len(manager.texts("WATCHDOG")) <= beats + 1
        sender.join()
        assert len(done) == 1
        manager.wait("WATCHDOG=1", beats + 3)
    finally:
        strace.terminate()
        strace.wait()
        strace.stderr.close()
    s.wait_messages(1)


# --- stop ---

def test_stop_asks_for_time_while_something_is_under_way(
        sesd, relay, manager):
    s = sesd(settings={"dot_latency": 3500})
    r = relay(s, start=False)
    manager.start(r)
    qid = r.send()
    s.wait_messages(1)
    assert r.stop() == 0
    assert [o["status"] for o in r.outcomes(qid)] == ["sent"]
    [first] = manager.texts("STOPPING=1")
    asked = r"EXTEND_TIMEOUT_USEC=(\d+)"
    assert int(re.search(asked, first)[1]) >= 2_000_000
    assert len(manager.texts("EXTEND_TIMEOUT_USEC=")) >= 2
    assert "Finishing what is under way; 1 queued (oldest under 1m), " \
        "upstream ok" in manager.statuses()


def test_stop_when_idle(sesd, relay, manager):
    r = relay(sesd(), start=False)
    manager.start(r)
    r.process.kill(signal.SIGINT)
    assert r.process.wait(30) == 0
    assert len(manager.texts("STOPPING=1\n")) == 1


# --- sockets handed in ---

def test_sockets_by_name(sesd, relay, manager):
    s = sesd()
    r = relay(s, start=False, config={"smtp.listen": '[ "127.0.0.1:1" ]'})
    manager.start(r, "listen=127.0.0.1", "listen=127.0.0.1",
                  "LISTEN_FDNAMES=smtp:smtp", "LISTEN_PID=%p")
    listening = r.status()["listening"]
    assert len(listening) == 2 and "127.0.0.1:1" not in listening
    for address in listening:
        r.port = int(address.rpartition(":")[2])
        r.send()
    s.wait_messages(2)


@pytest.mark.parametrize("words,says", [
    (("listen=127.0.0.1", "listen=127.0.0.1", "LISTEN_FDNAMES=smtp:http"),
     'handed in as "http", and only "smtp" is known'),
    (("listen=0.0.0.0", "LISTEN_FDNAMES=smtp"), "smtp.allow"),
    (("datagrams=x", "LISTEN_FDNAMES=smtp"), "listen"),
])
def test_sockets_that_cannot_be_used(sesd, relay, manager, words, says):
    r = relay(sesd(), start=False)
    manager.start(r, *words, "LISTEN_PID=%p", wait=False)
    assert r.process.wait(30) == 78
    assert says in r.log()
    manager.wait("STATUS=")
    assert says in manager.statuses()[-1]


def test_sockets_for_another_process(sesd, relay, manager):
    s = sesd()
    r = relay(s, start=False)
    manager.start(r, "listen=127.0.0.1", "LISTEN_FDNAMES=smtp",
                  f"LISTEN_PID={os.getpid()}")
    assert r.status()["listening"] == [f"127.0.0.1:{r.port}"]
    r.send(message(), rcpts=[RCPT])
    s.wait_messages(1)
