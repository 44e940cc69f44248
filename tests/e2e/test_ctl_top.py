"""sesrelayctl top in a real terminal: a pty, with an emulator of a screen at its
other end.  What it shows is true, its keys work, and whatever ends it, the
terminal is as it was before."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pyte
import pytest

from harness import BUILD, message, wait_until

CTL = str(BUILD / "sesrelayctl")
ENV = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"},
       "TERM": "xterm", "LC_ALL": "C.UTF-8"}


class Screen(pyte.Screen):
    """With the alternate screen that pyte has not: what is drawn there is
    gone when it is left."""

    alternate = False

    def set_mode(self, *modes, **kwargs):
        if 1049 in modes and kwargs.get("private"):
            self.alternate = True
        super().set_mode(*modes, **kwargs)

    def reset_mode(self, *modes, **kwargs):
        if 1049 in modes and kwargs.get("private"):
            self.alternate = False
            self.erase_in_display(2)
        super().reset_mode(*modes, **kwargs)


class Terminal:
    """A program in a terminal of its own, as the leader of its session."""

    def __init__(self, *args, size=(80, 24), env=None, argv=None):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.screen = Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            argv or [CTL, *args], stdin=slave, stdout=slave, stderr=slave,
            env={**ENV, **(env or {})}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def read(self):
        while select.select([self.master], [], [], 0.02)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            self.raw += data
            self.stream.feed(data)

    def text(self):
        self.read()
        return "\n".join(self.screen.display)

    def wait(self, pattern, timeout=30):
        """Until the pattern is on the screen; the match."""
        try:
            return wait_until(lambda: re.search(pattern, self.text()),
                              pattern, timeout)
        except BaseException:
            print(self.text(), self.raw[-2000:])
            raise

    def key(self, key):
        os.write(self.master, key)

    def wait_end(self, timeout=30):
        def ended():
            self.read()
            return self.process.poll() is not None
        wait_until(ended, "the end of top", timeout)
        self.read()
        return self.process.returncode

    def assert_restored(self):
        assert termios.tcgetattr(self.slave) == self.before
        assert not self.screen.alternate
        assert pyte.modes.DECTCEM in self.screen.mode  # the cursor is there
        # Each way in has its way out, in this order.
        ways = re.findall(rb"\x1b\[\?1049([hl])", self.raw)
        assert ways and ways == [b"h", b"l"] * (len(ways) // 2)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    opened = []

    def make(*args, **kwargs):
        opened.append(Terminal(*args, **kwargs))
        return opened[-1]
    yield make
    for t in opened:
        t.close()


@pytest.fixture
def top(terminal, sesd, relay):
    """(emulator, relay, a terminal with top in it)"""
    s = sesd()
    r = relay(s)

    def make(*args, **kwargs):
        t = terminal("-s", str(r.control), "top", "-d", "200ms", *args,
                     **kwargs)
        t.wait(r"Queue  .* ready")
        return s, r, t
    return make


def test_it_shows_what_is_true(top):
    s, r, t = top()
    t.wait(r"sesrelayd [\d.]+ on \S+, up .*every 0\.2 s  \d\d:\d\d:\d\d")
    t.wait(r"SES: not connected yet")
    t.wait(r"Errors +none")
    s.rule("on DOT times 1 stall")
    stuck = r.send()
    t.wait(r"Queue +0 ready, 1 active")
    t.wait(rf"1 busy +127\.0\.0\.1:{s.ports['starttls']} .*waiting for the")
    s.control("refuse on")
    ids = [r.send(message(subject=f"m{i}")) for i in range(3)]
    r.ctl("hold", ids[0])
    t.wait(r"1 active, \d waiting, 1 held")
    t.wait(r"Age +4 < 1 min, 0 < 10 min, 0 < 1 h, 0 older; oldest")
    t.wait(r"Errors +[A-Z][a-z]{2} +\d+ [\d:]{8} .*localhost\[127\.0\.0\.1")
    r.ctl("pause")
    t.wait(r"SES: PAUSED by an operator")
    assert stuck


def test_rates_and_graph(top):
    _, r, t = top()
    with r.submit() as client:
        for _ in range(50):
            client.mail()
    r.wait_empty()
    # Its last seconds are columns of blocks; the peak has its figure.
    peak = float(t.wait(r"peak ([1-9][\d.]*)")[1])
    assert 1 <= peak <= 50.5
    t.wait(r"[\u2581-\u2588]")
    [row] = [o["history"] for o in r.ctl_json("top", "--once")]
    assert len(row["sent"]) == len(row["accepted"]) == 60
    wait_until(lambda: abs(sum(r.ctl_json("top", "--once")[0]["history"][
        "sent"]) - 50) < 0.5, "all fifty in the history")


def test_without_utf8(top):
    _, r, t = top(env={"LC_ALL": "C"})
    for _ in range(5):
        r.send()
    t.wait(r"peak [1-9]")
    t.wait(r"(Sent|peak [\d.]+|\d/s|^) +[_.:|#]")
    assert max(t.raw) < 0x80


@pytest.mark.parametrize("how", ["q", "SIGINT", "SIGTERM", "SIGHUP",
                                 "SIGQUIT", "^C", "SIGSEGV", "SIGABRT"])
def test_the_terminal_is_restored(top, how):
    _, _, t = top()
    assert t.screen.alternate
    assert termios.tcgetattr(t.slave) != t.before
    if how == "q":
        t.key(b"q")
        assert t.wait_end() == 0
    elif how == "^C":
        t.key(b"\x03")
        assert t.wait_end() == -signal.SIGINT
    else:
        signo = getattr(signal, how)
        t.process.send_signal(signo)
        assert t.wait_end() == -signo
    t.assert_restored()


def test_keys(top):
    _, r, t = top()
    t.key(b"+")
    t.wait(r"every 0\.5 s")
    t.key(b"+")
    t.wait(r"every 1 s")
    t.key(b"--")
    t.wait(r"every 0\.2 s")
    t.key(b"h")
    t.wait(r"q +quit\n|q      quit")
    assert "Queue" not in t.text()
    t.key(b"?")
    t.wait(r"Queue  ")
    # What is paused stays; and goes on.
    t.key(b"p")
    t.wait(r"PAUSED \d\d:")
    r.ctl("pause")
    r.send()
    time.sleep(0.5)
    assert "Queue        0 ready" in t.text()
    t.key(b" ")
    t.wait(r"Queue +1 ready")
    t.key(b"p")
    r.send()
    t.wait(r"Queue +2 ready")
    # What a key of the keypad sends is no command, though it ends in one.
    t.key(b"\x1bOq")
    t.wait(r"Queue +2 ready")
    wait_until(lambda: not select.select([t.slave], [], [], 0)[0],
               "the key to be read")
    t.key(b"+")
    t.wait(r"every 0\.5 s")
    assert t.process.poll() is None
    t.key(b"q")
    assert t.wait_end() == 0
    t.assert_restored()


@pytest.mark.parametrize("size", [(40, 10), (200, 60), (20, 5)])
def test_resize(top, size):
    _, _, t = top()
    t.resize(*size)
    bottom = "q quit  p pause  +/- interval  h help"[:min(size[0], 19)]
    wait_until(lambda: t.text() and
               t.screen.display[size[1] - 1].startswith(bottom),
               "the foot at the bottom")
    assert re.search(r"\d\d:\d\d:\d\d", t.screen.display[0])
    t.resize(80, 24)
    t.wait(r"Connections  0 busy, 0 idle, 0 connecting; at most 20; 0 local")
    assert t.screen.display[23].startswith("q quit")


def test_only_what_changes_is_written(top):
    """A slow line: of a screen where nothing but the time changes, less than
    two lines a look."""
    _, _, t = top()
    t.wait(r"Errors")
    wait_until(lambda: "up 2 s" in t.text() or "up 3 s" in t.text() or
               "up 4 s" in t.text(), "a clock that goes")
    before = len(t.raw)
    began = time.monotonic()
    wait_until(lambda: (t.read(), time.monotonic() - began > 2)[1], "2 s")
    looks = 2 / 0.2
    assert 0 < len(t.raw) - before < looks * 160
    # And it is true all the same.
    assert re.search(r"\d\d:\d\d:\d\d", t.text())


def test_colours(top, terminal):
    _, r, t = top()
    assert b"\x1b[32m" in t.raw
    plain = terminal("-s", str(r.control), "top", env={"NO_COLOR": "1"})
    plain.wait(r"Queue  .* ready")
    assert not re.search(rb"\x1b\[[\d;]+m", plain.raw)


def test_suspend_and_continue(terminal, sesd, relay):
    """Ctrl-Z at a shell with job control, and fg."""
    r = relay(sesd())
    t = terminal(argv=["bash", "--norc", "--noprofile", "-i"],
                 env={"PS1": "READY ", "HISTFILE": "/dev/null"})
    t.wait(r"READY")
    t.key(f"{CTL} -s {r.control} top -d 200ms\n".encode())
    t.wait(r"Queue  .* ready")
    t.key(b"\x1a")
    t.wait(r"Stopped")
    t.wait(r"READY")
    assert not t.screen.alternate
    assert pyte.modes.DECTCEM in t.screen.mode
    r.ctl("pause")
    r.send()
    t.key(b"fg\n")
    t.wait(r"Queue +1 ready")
    assert t.screen.alternate
    t.key(b"q")
    t.wait(r"READY")
    t.key(b"echo rc=$? $(stty -a | grep -o ' -*icanon\\| -*echo ')\n")
    t.wait(r"rc=0 icanon echo")
    assert not t.screen.alternate


def test_the_daemon_goes_and_returns(top):
    _, r, t = top()
    r.ctl("pause")
    r.send()
    t.wait(r"Queue +1 ready")
    r.kill()
    t.wait(r"NO ANSWER, what follows is old: .*cannot reach the daemon|"
           r"NO ANSWER, what follows is old: the daemon at")
    # What was known is still there.
    t.wait(r"Queue +1 ready")
    r.start()
    t.wait(r"SES: (ok|not connected)")
    assert "NO ANSWER" not in t.text()
    t.key(b"q")
    assert t.wait_end() == 0
    t.assert_restored()


def test_a_daemon_that_hangs_does_not_hang_the_keys(top):
    _, r, t = top()
    os.kill(r.process.pid, signal.SIGSTOP)
    try:
        t.wait(r"NO ANSWER, what follows is old: the daemon is there, but")
        t.key(b"h")
        t.wait(r"look at once")
        t.key(b"q")
        assert t.wait_end() == 0
        t.assert_restored()
    finally:
        os.kill(r.process.pid, signal.SIGCONT)


def test_a_terminal_that_goes_away(top):
    _, _, t = top()
    os.close(t.master)
    t.process.wait(30)
    t.master = os.open("/dev/null", os.O_RDONLY)


def test_not_reached_at_the_start(terminal, directory):
    t = terminal("-s", str(directory / "none"), "top")
    assert t.wait_end() == 69
    assert "cannot reach the daemon" in t.text().replace("\n", "")
    assert termios.tcgetattr(t.slave) == t.before
    assert b"\x1b" not in t.raw


# --- not on a terminal ---

def test_batch(sesd, relay):
    s = sesd()
    r = relay(s)
    r.send()
    r.wait_empty()
    done = r.run_ctl("top", "-n", "3", "-d", "100ms")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    looks = done.stdout.split("\n\nsesrelayd ")
    assert len(looks) == 3
    for look in looks:
        assert "SES: ok, mail goes out via" in look
        assert "Queue        0 ready" in look and "q quit" not in look
    once = r.ctl("top", "--once")
    assert once.count("SES:") == 1
    # -n works on a terminal as well; there, TERM=dumb is text.
    found = [json.loads(line) for line in r.ctl(
        "--json", "top", "-n", "2", "-d", "100ms").splitlines()]
    assert len(found) == 2
    assert found[0]["queue_ages"] == [
        {"below_seconds": n, "messages": 0} for n in (60, 600, 3600, None)]
    assert found[0]["connection_list"][0]["messages_begun"] == 1


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_that_can_nothing(terminal, sesd, relay, env):
    r = relay(sesd())
    t = terminal("-s", str(r.control), "top", "-n", "2", "-d", "100ms",
                 env=env)
    assert t.wait_end() == 0
    assert b"\x1b" not in t.raw and t.raw.count(b"SES: ") == 2


def test_nobody_reads_any_more(sesd, relay):
    """top | head ends."""
    r = relay(sesd())
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -s "$1" top -d 100ms | head -1',
         CTL, str(r.control)], capture_output=True, text=True, timeout=60,
        check=False)
    assert done.stdout.startswith("sesrelayd ")


def test_batch_goes_on_when_the_daemon_returns(sesd, relay):
    r = relay(sesd())
    p = subprocess.Popen(
        [CTL, "-s", str(r.control), "top", "-d", "100ms"],
        stdout=open(r.dir / "out", "w"), stderr=open(r.dir / "err", "w"))
    try:
        wait_until(lambda: "SES: " in (r.dir / "out").read_text(), "a look")
        r.kill()
        wait_until(lambda: "cannot reach" in (r.dir / "err").read_text(),
                   "the trouble")
        n = (r.dir / "out").read_text().count("SES: ")
        r.start()
        wait_until(lambda: (r.dir / "out").read_text().count("SES: ") > n,
                   "another look")
    finally:
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == -signal.SIGINT
