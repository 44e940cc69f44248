"""What run.py does in the container: each step prints what was seen.

A step is a function with a line about it; it returns the line of its figures
or raises.  They build on each other, in this order; sesd is the SES emulator.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

WORK = pathlib.Path(os.environ["WORK"])
TREE = pathlib.Path(os.environ["TREE"])
sys.path.insert(0, str(TREE / "tests/lib"))

from harness import (BUILD, PASSWORD, USER, Sesd, Submission,  # noqa: E402
                     make_certificates, message, wait_until)

UNIT = "sesrelayd.service"
SOCKET = "sesrelayd.socket"
CONFIG = pathlib.Path("/etc/sesrelayd/sesrelayd.conf")
CREDENTIAL = pathlib.Path("/etc/credstore/ses-password")
DROP_INS = pathlib.Path("/etc/systemd/system/sesrelayd.service.d")
STEPS = []


def step(about):
    def add(fn):
        STEPS.append((fn.__name__, about, fn))
        return fn
    return add


# --- systemd ---

def run(*words, code=0):
    """Output of a command; `code` None: whatever it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if code is not None and done.returncode != code:
        raise AssertionError(f"{' '.join(words)}: {done.returncode}, "
                             f"{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def systemctl(*words, code=0):
    return run("systemctl", *words, code=code)


def show(name, unit=UNIT):
    return systemctl("show", "--value", "-p", name, unit).strip()


def main_pid():
    return int(show("MainPID"))


def unit_of_service():
    return pathlib.Path(show("FragmentPath"))


@contextlib.contextmanager
def drop_in(text):
    DROP_INS.mkdir(exist_ok=True)
    path = DROP_INS / "test.conf"
    path.write_text(text)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        path.unlink()
        systemctl("daemon-reload")


def journal(ident, since, unit=UNIT):
    run("journalctl", "--sync")
    out = run("journalctl", "-o", "json", "--all", "-t", ident, "-u", unit,
              "--since", f"@{since}")
    return [json.loads(line) for line in out.splitlines()
            if line.startswith("{")]


# --- mail ---

class Stage:
    """The emulator, and what has been handed in so far."""

    def __init__(self):
        self.certs = make_certificates(WORK / "certs")
        self.sesd = Sesd(WORK / "sesd", self.certs, store=True)
        for path in (WORK / "certs", *(WORK / "certs").iterdir()):
            path.chmod(path.stat().st_mode | 0o444 | (0o111 * path.is_dir()))
        self.acked = []
        self.began = time.time()
        self.configure()
        self.give_password(PASSWORD)

    @staticmethod
    def give_password(password):
        CREDENTIAL.parent.mkdir(exist_ok=True)
        CREDENTIAL.write_text(password + "\n")
        CREDENTIAL.chmod(0o600)

    def configure(self, **more):
        keys = {"hostname": "relay.test", "timeout": "5m", **more}
        CONFIG.write_text(
            "smtp: {\n" + "".join(f'  {k} = "{v}";\n'
                                  for k, v in keys.items()) + "};\n"
            f'ses: {{ endpoint = "localhost"; username = "{USER}";\n'
            f'  ca_file = "{self.certs}/ca.pem";\n'
            f'  ports = [ "{self.sesd.ports["starttls"]}:starttls" ]; }};\n'
            'delivery: { retry = [ "200ms" ]; };\n'
            'spool: { min_free = "1M"; };\n')
        CONFIG.chmod(0o644)

    def send(self, n=1, host="127.0.0.1"):
        with submit(host) as s:
            for _ in range(n):
                mail = message()
                s.mail(mail)
                self.acked.append(mail)

    def arrived(self):
        # Below the Received: field that the relay has put on top.
        return [self.sesd.stored(e).split(b"\r\nFrom: ", 1)[1]
                for e in self.sesd.messages()]

    def all_arrived(self):
        """Each once, nothing else."""
        want = sorted(m.split(b"From: ", 1)[1] for m in self.acked)
        wait_until(lambda: len(self.sesd.messages()) >= len(want),
                   f"{len(want)} messages at sesd, has "
                   f"{len(self.sesd.messages())}")
        wait_until(lambda: "queue is empty" in run("sesrelayctl", "queue").
                   lower() or run("sesrelayctl", "count").strip() == "0",
                   "an empty queue")
        assert sorted(self.arrived()) == want, "lost, or sent twice"
        return len(want)


class Local(Submission):
    """A session through port 25, by either loopback."""

    def __init__(self, host="127.0.0.1"):
        import socket
        self.sock = socket.create_connection((host, 25), 60)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()


def submit(host="127.0.0.1"):
    s = Local(host)
    s.do("EHLO client.test", 250)
    return s


# --- the steps ---

@step("units, user and spool as installed")
def installed(stage):
    unit = unit_of_service()
    assert unit.name == UNIT, unit
    noise = run("systemd-analyze", "verify", "--man=no", UNIT, SOCKET)
    assert noise == "", noise
    done = run("systemd-analyze", "security", "--offline=true",
               "--threshold=15", "--no-pager", str(unit))
    offline = re.search(r"exposure level for \S+: ([\d.]+)", done)[1]
    spool = pathlib.Path("/var/spool/sesrelayd")
    assert (spool.owner(), spool.group()) == ("sesrelay", "sesrelay")
    assert spool.stat().st_mode & 0o7777 == 0o700
    return f"verify is silent, security {offline} offline"


@step("no password: says what to do, is not started again")
def no_password(stage):
    CREDENTIAL.unlink()
    systemctl("start", UNIT, code=1)
    assert show("Result") == "exit-code"
    assert show("ExecMainStatus") == "78"
    status = systemctl("status", "--no-pager", "-l", UNIT, code=3)
    assert "there is no SMTP password" in show("StatusText")
    assert "/etc/credstore/ses-password, mode 600" in status
    assert show("NRestarts") == "0" and show("ActiveState") == "failed"
    systemctl("reset-failed", UNIT)
    systemctl("stop", SOCKET)
    stage.give_password(PASSWORD)
    return "exit 78, NRestarts=0, Status tells of /etc/credstore"


@step("started by its socket; mail through port 25 of both loopbacks")
def socket_start(stage):
    systemctl("enable", "--quiet", "--now", SOCKET)
    assert show("ActiveState") == "inactive"
    began = time.monotonic()
    stage.send(host="127.0.0.1")
    first = time.monotonic() - began
    stage.send(host="::1")
    stage.all_arrived()
    assert show("ActiveState") == "active" and show("Type") == "notify"
    assert show("User") == "sesrelay"
    wait_until(lambda: show("StatusText") ==
               "Relaying; 0 queued, upstream ok", "the state")
    return f"first mail queued {first * 1000:.0f} ms after connect()"


@step("the process has no privilege, the sandbox is in force")
def sandbox(stage):
    status = dict(
        line.split(":\t", 1) for line in
        pathlib.Path(f"/proc/{main_pid()}/status").read_text().splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert int(status["CapPrm"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    out = run("systemd-analyze", "security", "--no-pager", UNIT)
    live = re.search(r"exposure level for \S+: ([\d.]+)", out)[1]
    assert float(live) <= 1.5
    warnings = journal("sesrelayd/control", stage.began)
    assert not warnings, [w["MESSAGE"] for w in warnings]
    sockets = run("ss", "-Htlnp", "sport = :25")
    assert "127.0.0.1:25" in sockets and "[::1]:25" in sockets, sockets
    return f"security {live} live, no capability, seccomp"


@step("reload: good is in force on return, bad changes nothing")
def reload(stage):
    pid = main_pid()
    stage.configure(hostname="other.test")
    began = time.monotonic()
    systemctl("reload", UNIT)
    took = time.monotonic() - began
    with submit() as s:
        assert "220 other.test" in s.greeting, s.greeting
    stage.configure(hostname="third.test", timeout="never")
    systemctl("reload", UNIT, code=1)
    with submit() as s:
        assert "220 other.test" in s.greeting, s.greeting
    assert show("ActiveState") == "active" and main_pid() == pid
    line = [e["MESSAGE"] for e in journal("sesrelayd/master", stage.began)
            if "reload refused" in e["MESSAGE"]][-1]
    assert f"{CONFIG}:3: " in line and "timeout" in line, line
    told = "; ".join(e["MESSAGE"]
                     for e in journal("sesrelayctl", stage.began)
                     if str(CONFIG) in e["MESSAGE"])
    assert f"{CONFIG}:3: " in told and "timeout" in told, told
    stage.configure()
    systemctl("reload", UNIT)
    run("sesrelayd", "-t", code=78)  # does not see the credential
    run("systemd-run", "-q", "--pipe", "--wait", "-p", "User=sesrelay",
        "-p", "LoadCredential=ses-password", "sesrelayd", "-t")
    stage.send()
    stage.all_arrived()
    return f"{took * 1000:.0f} ms; bad: rc 1, {told[:70]}..."


@step("another password by the credential, at a restart")
def rotation(stage):
    stage.give_password(PASSWORD[:-2] + "xx")
    systemctl("restart", UNIT)
    stage.send()
    wait_until(lambda: "credentials refused" in show("StatusText"),
               "SES to refuse the wrong password")
    stage.give_password(PASSWORD)
    systemctl("restart", UNIT)
    n = stage.all_arrived()
    return f"wrong one: \"credentials refused\"; right one: {n} delivered"


class Probe(threading.Thread):
    """100 connections a second, each by itself, until told to end."""

    def __init__(self):
        super().__init__()
        self.end = threading.Event()
        self.results, self.each = [], []

    def connect(self):
        began = time.monotonic()
        try:
            with Local() as s:
                result = s.greeting[:3]
        except ConnectionRefusedError:
            result = "refused"
        except OSError as e:
            result = type(e).__name__
        self.results.append((result, time.monotonic() - began))

    def run(self):
        due = time.monotonic()
        while not self.end.is_set():
            t = threading.Thread(target=self.connect)
            t.start()
            self.each.append(t)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))

    def finish(self):
        self.end.set()
        self.join()
        for t in self.each:
            t.join()
        counts = {}
        for result, _ in self.results:
            counts[result] = counts.get(result, 0) + 1
        return counts, max(t for _, t in self.results)


@step("5 restarts under 100 connections a second and mail")
def restart(stage):
    probe = Probe()
    probe.start()
    end = threading.Event()

    def sender():
        while not end.is_set():
            mail = message()
            try:
                with submit() as s:
                    s.mail(mail)
                stage.acked.append(mail)
            except (ConnectionError, AssertionError):
                pass  # 421 or cut off: it is not accepted
    t = threading.Thread(target=sender)
    t.start()
    began = time.monotonic()
    for _ in range(5):
        pid = main_pid()
        systemctl("restart", UNIT)
        assert main_pid() != pid
        n = len(stage.acked)
        wait_until(lambda: len(stage.acked) > n + 5, "mail to go on")
    took = time.monotonic() - began
    end.set()
    t.join()
    counts, longest = probe.finish()
    assert set(counts) <= {"220", "421"} and counts["220"], counts
    n = stage.all_arrived()
    return (f"{took:.1f} s, greetings {counts}, refused 0, longest wait "
            f"{longest * 1000:.0f} ms, {n} of {n} delivered once")


@step("the watchdog ends a daemon that hangs, nothing is lost")
def watchdog(stage):
    # The abort of a process that is stopped waits for TimeoutAbortSec.
    with drop_in("[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n"):
        systemctl("restart", UNIT)
        stage.sesd.control("refuse on")
        stage.send(20)
        before, pid = int(show("NRestarts")), main_pid()
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        waiting = threading.Thread(target=stage.send)
        waiting.start()  # a client that comes now waits
        wait_until(lambda: int(show("NRestarts")) == before + 1 and
                   show("ActiveState") == "active", "a restart", 60)
        took = time.monotonic() - began
        waiting.join()
        stage.sesd.control("refuse off")
        n = stage.all_arrived()
    run("journalctl", "--sync")
    log = run("journalctl", "-u", UNIT, "--since", f"@{stage.began}")
    assert "Watchdog timeout (limit 2s)!" in log
    assert main_pid() != pid
    systemctl("restart", UNIT)
    return (f"SIGSTOP to active again: {took:.1f} s, queue of 21 kept, "
            f"{n} of {n} delivered once")


@step("stop finishes what SES is about to answer")
def stop(stage):
    with drop_in("[Service]\nTimeoutStopSec=2s\n"):
        stage.sesd.set("dot_latency", 6000)
        before = len(stage.sesd.messages())
        stage.send()
        wait_until(lambda: len(stage.sesd.messages()) > before, "the dot")
        began = time.monotonic()
        systemctl("stop", SOCKET, UNIT)
        took = time.monotonic() - began
        assert show("Result") == "success" and took > 2, took
        stage.sesd.set("dot_latency", 0)
    systemctl("start", SOCKET, UNIT)
    n = stage.all_arrived()
    return f"{took:.1f} s with TimeoutStopSec=2s, Result=success, {n} once"


@step("the journal has each delivery, with fields")
def fields(stage):
    entries = [e for e in journal("sesrelayd/smtp", stage.began)
               if e.get("SESRELAYD_EVENT") == "sent"]
    n = len(stage.acked)
    assert len(entries) == n, (len(entries), n)
    for e in entries:
        assert e["SESRELAYD_STATUS"] == "sent" and e["PRIORITY"] == "6"
        assert re.fullmatch("[0-9A-F]{16}", e["QUEUE_ID"])
        assert e["SESRELAYD_TO"] and e["SESRELAYD_RELAY"]
        assert f"{e['QUEUE_ID']}: to=<{e['SESRELAYD_TO']}>" in e["MESSAGE"]
    assert len({e["QUEUE_ID"] for e in entries}) == n
    some = entries[-1]["QUEUE_ID"]
    story = run("journalctl", "-o", "cat", f"QUEUE_ID={some}")
    assert f"{some}: client=" in story and f"{some}: removed" in story
    return f"{n} lines of status=sent for {n} messages at sesd"


@step("without the socket: binds port 25 itself, by the drop-in of the manual")
def own_port(stage):
    systemctl("stop", SOCKET, UNIT)
    systemctl("disable", "--quiet", SOCKET)
    systemctl("mask", "--quiet", SOCKET)
    try:
        systemctl("start", UNIT, code=1)
        assert show("ExecMainStatus") == "71"
        systemctl("stop", UNIT)
        with drop_in("[Service]\nPrivateUsers=no\n"
                     "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
                     "AmbientCapabilities=CAP_NET_BIND_SERVICE\n"):
            systemctl("start", UNIT)
            stage.send()
            n = stage.all_arrived()
            systemctl("stop", UNIT)
    finally:
        systemctl("unmask", "--quiet", SOCKET)
    return f"71 without the capability, then {n} delivered"


DROPPED = re.compile(r"(Type|Exec\w+|Restart\w*|Watchdog\w+|Timeout\w+|"
                     r"LoadCredential)=")
SUITE = ("test_intake.py", "test_delivery.py", "test_operate.py",
         "test_process.py")
# What these tests themselves do, the sandbox forbids: tracing the daemon,
# mounts of their own, looking into its /proc, other address families.
FORBIDDEN = ("large_bodies", "content_split_at_every_byte",
             "client_that_leaves_without_quit", "reload_under_load",
             "all_addresses_of_the_name", "name_without_address",
             "being_loaded_is_taken_back", "cannot_be_recorded",
             "drain_waits_for_what_is_arriving", "before_the_letter_goes",
             "offline_without_a_right_to_it", "list_reads_no_content",
             "mailq_is_what_postqueue_prints")


@step("the end-to-end suite in the sandbox of the unit")
def suite(stage):
    systemctl("stop", SOCKET, UNIT)
    # Without a configuration, sesrelayctl would look at what is in there.
    CONFIG.unlink()
    for path in pathlib.Path("/var/spool/sesrelayd").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    unit = unit_of_service().read_text()
    lines = [line for line in unit[unit.index("[Service]"):].splitlines()
             if not DROPPED.match(line)]
    lines = lines[:lines.index("[Install]")]
    tests = [f"tests/e2e/{name}" for name in SUITE]
    log = WORK / "suite.log"
    path = pathlib.Path("/run/systemd/system/sesrelayd-suite.service")
    path.write_text("\n".join([
        *lines, "Type=oneshot", f"WorkingDirectory={TREE}",
        f"Environment=BUILD={BUILD} SESD={BUILD}/sesd "
        "PYTHONDONTWRITEBYTECODE=1 HOME=/tmp",
        f"StandardOutput=file:{log}", "StandardError=inherit",
        "ExecStart=/usr/bin/python3 -m pytest -q -p no:cacheprovider "
        f'--tb=line -n 4 -k "not ({" or ".join(FORBIDDEN)})" '
        + " ".join(tests), ""]))
    systemctl("daemon-reload")
    done = subprocess.run(["systemctl", "start", path.name], timeout=900,
                          capture_output=True, text=True)
    text = log.read_text()
    last = text.strip().splitlines()[-1]
    assert done.returncode == 0, text[-6000:]
    assert "skipped" not in last, last
    return f"{last}; {', '.join(SUITE)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("steps", nargs="*")
    args = parser.parse_args()
    stage = Stage()
    failed = 0
    for name, about, fn in STEPS:
        if args.steps and name not in args.steps or \
                args.quick and fn is suite:
            continue
        began = time.monotonic()
        try:
            seen, mark = fn(stage), "ok  "
        except Exception:
            seen, mark = traceback.format_exc(), "FAIL"
            failed += 1
            print(run("journalctl", "-n", "40", "--no-pager", code=None))
        print(f"{mark} {name:14s}{about}\n     {'':14s}{seen} "
              f"({time.monotonic() - began:.1f} s)", flush=True)
        if failed:
            break
    with contextlib.suppress(Exception):
        systemctl("stop", SOCKET, UNIT)
    stage.sesd.close()
    shutil.rmtree(WORK / "sesd", ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
