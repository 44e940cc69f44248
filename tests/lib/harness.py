"""What the end-to-end tests, the demo and the load runs share: the relay and
the SES emulator as processes, on free ports and in directories of their own.

Nothing here sleeps for a fixed time: wait_until() polls a predicate, and fails
with what it was waiting for.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build/release")
SANITIZED = BUILD.name.startswith("san")  # its memory is not what it uses
USER = "AKIAIOSFODNN7EXAMPLE"
PASSWORD = "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"
SENDER = "app@example.com"
RCPT = "user@example.net"
# Mail that has it, and a From and a Message-ID, goes on as it is.
DATE = "Date: Sat, 21 Nov 2026 10:00:00 +0000"

# A recipient's outcome, as interface and dashboards know the line.
OUTCOME = re.compile(
    r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ sesrelayd/smtp\[\d+\]: "
    r"(?P<id>[0-9A-F]{16}): to=<(?P<to>[^>]*)>"
    r"(?:, orig_to=<(?P<orig_to>[^>]*)>)?, relay=(?P<relay>[^, ]+), "
    r"delay=(?P<delay>[\d.e+]+), "
    r"delays=(?P<delays>[^, ]+), dsn=(?P<dsn>\d\.\d+\.\d+), "
    r"status=(?P<status>sent|deferred|bounced) \((?P<note>.*)\)"
    r"(?:, conn=(?P<conn>\d+))?$", re.M)
# The first and the last word about a message, in both formats of the log.
ACCEPTED = re.compile(r'/qmgr\[\d+\]: ([0-9A-F]{16}): from=<|'
                      r'"event":"accepted","id":"([0-9A-F]{16})"')
REMOVED = re.compile(r'/qmgr\[\d+\]: ([0-9A-F]{16}): removed|'
                     r'"event":"removed","id":"([0-9A-F]{16})"')


def wait_until(predicate, what, timeout=30.0):
    """The first true value of predicate(); polls every few milliseconds."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out after {timeout} s: {what}")
        time.sleep(0.005)


def free_port():
    """A free port below the ephemeral range, so that it is still free when a
    killed relay is started again on it."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def make_certificates(directory, keys="ec"):
    """ca.pem, good.pem/good.key, and the bad ones, by tests/ses/certs.sh."""
    subprocess.run(
        ["bash", str(ROOT / "tests/ses/certs.sh"), str(directory), keys],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return pathlib.Path(directory)


def private_mounts():
    """Words to put before a command: what it mounts, nobody else sees.

    In a chroot the root is no mount point, so its propagation can't be changed
    for the new namespace; where no mount is shared, there is no need to.
    """
    argv = ["unshare", "--mount", "--propagation"]
    if os.geteuid() != 0:
        argv.insert(1, "--map-root-user")
    if subprocess.run([*argv, "private", "true"],
                      stderr=subprocess.DEVNULL).returncode == 0:
        return [*argv, "private"]
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    assert " shared:" not in mounts, (
        "this root is no mount point and mounts here are shared: "
        "bind it to itself before chroot")
    return [*argv, "unchanged"]


def hosts_namespace(directory, hosts, resolv="", services="files"):
    """Words to put before a command: it sees these lines as /etc/hosts (the
    file stays writable, as directory/hosts) and /etc/resolv.conf."""
    directory = pathlib.Path(directory)
    binds = []
    for name, text in (("hosts", hosts), ("resolv.conf", resolv),
                       ("nsswitch.conf", f"hosts: {services}\n")):
        (directory / name).write_text(text)
        target = pathlib.Path("/etc") / name
        if target.exists():
            binds.append(f"mount --bind '{directory / name}' "
                         f"'{target.resolve()}'")
    return (*private_mounts(), "sh", "-ec",
            " && ".join(binds) + ' && exec "$@"', "sh")


def message(body=b"hello\r\n", subject="test", message_id=None, headers=b""):
    """A message as it goes over the wire before dot-stuffing."""
    if message_id is None:
        message_id = f"{random.randrange(1 << 64):016x}@example.com"
    return (f"From: {SENDER}\r\nTo: {RCPT}\r\nSubject: {subject}\r\n"
            f"{DATE}\r\nMessage-ID: <{message_id}>\r\n".encode() +
            headers + b"\r\n" + body)


def without_received(content):
    """Content without the one field that the relay puts on top of it; fails
    if that is not there."""
    m = re.match(rb"Received: from [!-~]+\s+\([!-~ ]+\)\r\n"
                 rb"\s+by relay\.test \(sesrelayd\)\s+with E?SMTP id "
                 rb"[0-9A-F]{16};\r\n\s+\w{3}, \d+ \w{3} \d{4} "
                 rb"\d\d:\d\d:\d\d [+-]\d{4}(?: \(\w+\))?\r\n", content)
    assert m, content[:400]
    return content[m.end():]


class Submission:
    """An SMTP session of a local program with the relay."""

    def __init__(self, port, helo="EHLO client.test", timeout=30):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()
        if helo:
            self.do(helo, 250)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def reply(self):
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            line = self.file.readline()
            if not line:
                raise ConnectionError("closed instead of a reply")
            lines.append(line)
        return b"".join(lines).decode()

    def do(self, line, want=None):
        self.sock.sendall(line.encode() + b"\r\n")
        reply = self.reply()
        assert want is None or reply.startswith(str(want)), (line, reply)
        return reply

    def begin(self, sender=SENDER, rcpts=(RCPT,), params=""):
        self.do(f"MAIL FROM:<{sender}>{params}", 250)
        for rcpt in rcpts:
            self.do(f"RCPT TO:<{rcpt}>", 250)
        self.do("DATA", 354)

    def content(self, content):
        """The queue id of the accepted message."""
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        self.sock.sendall(stuffed + b".\r\n")
        reply = self.reply()
        m = re.fullmatch(r"250 2\.0\.0 Ok: queued as ([0-9A-F]{16})\r\n",
                         reply)
        assert m, reply
        return m[1]

    def mail(self, content=None, sender=SENDER, rcpts=(RCPT,), params=""):
        self.begin(sender, rcpts, params)
        return self.content(message() if content is None else content)


class Process:
    """A program with its output in a file."""

    def __init__(self, argv, log, env=None, **kwargs):
        self.log_path = pathlib.Path(log)
        self._log = open(log, "ab")
        self.proc = subprocess.Popen(
            argv, stdout=self._log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=env, **kwargs)

    @property
    def pid(self):
        return self.proc.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def alive(self):
        return self.proc.poll() is None

    def wait(self, timeout=30):
        return self.proc.wait(timeout)

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            self.proc.send_signal(sig)

    def close(self):
        if self.alive():
            self.proc.kill()
        self.proc.wait()
        self._log.close()


class Sesd:
    """The SES emulator.

    `modes`: the listeners, "starttls", "wrapper" and "plain", each with an
    address before it if that matters ("127.0.0.2:0=wrapper"); `rules`: faults;
    `store`: keep the contents, for stored(); `wrap`: words before the command;
    `control`: where it takes commands.
    """

    def __init__(self, directory, certs, modes=("starttls", "wrapper"),
                 cert="good", options=(), settings=None, rules=(),
                 store=False, wrap=(), control="127.0.0.1:0"):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.certs = pathlib.Path(certs)
        self.journal = self.dir / "journal"
        self.store = self.dir / "store"
        self.store.mkdir(exist_ok=True)
        ready = self.dir / "ready"
        ready.unlink(missing_ok=True)
        argv = [*wrap, str(BUILD / "sesd"), "--ready-file", str(ready),
                "--cert", str(self.certs / f"{cert}.pem"),
                "--key", str(self.certs / f"{cert}.key"),
                "--user", USER, "--password", PASSWORD,
                "--journal", str(self.journal),
                "--control", control]
        for mode in modes:
            address, _, name = mode.rpartition("=")
            argv += ["--listen", f"{address or '127.0.0.1:0'}:{name}"]
        if store:
            argv += ["--store", str(self.store)]
        for key, value in (settings or {}).items():
            argv += ["--set", f"{key}={value}"]
        for rule in rules:
            argv += ["--rule", rule]
        self.process = Process(argv + list(options), self.dir / "log")
        wait_until(lambda: ready.exists() or not self.process.alive(),
                   "sesd to listen")
        assert self.process.alive(), self.process.log()
        self.ports = {}
        self.listeners = []
        for line in ready.read_text().splitlines():
            word = line.split()
            if word[0] == "listen":
                self.ports.setdefault(word[1], int(word[3]))
                self.listeners.append((word[1], word[2], int(word[3])))
            elif word[0] == "control":
                self.control_address = (word[1], int(word[2]))

    def control(self, command):
        """The lines of the answer; raises on ERR."""
        with socket.create_connection(self.control_address, 10) as s:
            s.sendall(command.encode() + b"\n")
            f = s.makefile("r")
            lines = []
            for line in f:
                line = line.rstrip("\n")
                if line == "OK":
                    return lines
                if line.startswith("ERR"):
                    raise RuntimeError(f"sesd: {command}: {line}")
                lines.append(line)
        raise RuntimeError(f"sesd: {command}: no answer")

    def set(self, key, value):
        self.control(f"set {key} {value}")

    def rule(self, text):
        self.control(f"rule {text}")

    def stats(self):
        return json.loads(self.control("stats")[0])

    def entries(self):
        if not self.journal.exists():
            return []
        lines = self.journal.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def messages(self):
        """Accepted messages, in order."""
        return [e for e in self.entries() if "event" not in e]

    def events(self, kind=None):
        return [e for e in self.entries()
                if "event" in e and kind in (None, e["event"])]

    def stored(self, entry):
        """The content of an accepted message."""
        return (self.store / f"{entry['id']}.eml").read_bytes()

    def wait_event(self, kind, n=1, timeout=30, **fields):
        """All such events, as soon as there are n of them."""
        def find():
            found = [e for e in self.events(kind)
                     if all(e.get(k) == v for k, v in fields.items())]
            return found if len(found) >= n else None
        return wait_until(find, f"{n} {kind} events {fields} at sesd",
                          timeout)

    def wait_messages(self, n, timeout=30):
        wait_until(lambda: len(self.messages()) >= n,
                   f"{n} messages at sesd", timeout)
        return self.messages()

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.kill(signal.SIGTERM)
        return self.process.wait()

    def close(self):
        self.process.close()


class Relay:
    """sesrelayd with a spool of its own.

    `upstream` is a Sesd or None; `config` maps keys ("smtp.timeout") to
    libconfig text ('"5s"') and wins over what is set here.
    """

    def __init__(self, directory, upstream=None, mode="starttls", config=None,
                 start=True, verbose=True):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.spool = self.dir / "spool"
        self.control = self.dir / "control"
        self.config_file = self.dir / "sesrelayd.conf"
        self.password_file = self.dir / "password"
        self.verbose = verbose
        self.port = free_port()
        self.process = None
        self.starts = 0
        self.set_password(PASSWORD)
        self.settings = {
            "smtp.listen": f'[ "127.0.0.1:{self.port}" ]',
            "smtp.hostname": '"relay.test"',
            "ses.username": f'"{USER}"',
            "ses.password_file": f'"{self.password_file}"',
            "ses.endpoint": '"localhost"',
            "spool.directory": f'"{self.spool}"',
            "spool.min_free": '"1M"',
            "control.socket": f'"{self.control}"',
            "delivery.retry": '[ "100ms", "200ms", "500ms" ]',
        }
        if upstream is not None:
            self.settings["ses.ca_file"] = f'"{upstream.certs / "ca.pem"}"'
            self.set_ports((upstream.ports[mode], mode))
        self.settings.update(config or {})
        self.write_config()
        if start:
            self.start()

    def set_password(self, password):
        self.password_file.write_text(password + "\n")
        self.password_file.chmod(0o600)

    def set_ports(self, *ports):
        """(number, mode) each, in order; write_config() is still to come."""
        self.settings["ses.ports"] = "[ {} ]".format(
            ", ".join(f'"{port}:{mode}"' for port, mode in ports))

    def write_config(self):
        groups = {}
        for key, value in self.settings.items():
            if value is None:
                continue
            group, name = key.split(".", 1)
            groups.setdefault(group, []).append(f"\t{name} = {value};\n")
        self.config_file.write_text("".join(
            f"{group}:\n{{\n{''.join(lines)}}};\n"
            for group, lines in groups.items()))

    @property
    def log_path(self):
        return self.dir / "log"

    def log(self):
        return self.log_path.read_text(errors="replace")

    def start(self, wait=True, wrap=()):
        argv = [*wrap, str(BUILD / "sesrelayd"), "-c", str(self.config_file)]
        if self.verbose:
            argv.append("-v")
        before = self.log() if self.log_path.exists() else ""
        self.log_start = len(before)
        before = before.count(" ready: ")
        self.process = Process(argv, self.log_path)
        self.starts += 1
        if wait:
            wait_until(lambda: self.log().count(" ready: ") > before or
                       not self.process.alive(), "sesrelayd to be ready")
            assert self.process.alive(), self.log()

    def stop(self, timeout=60):
        """SIGTERM; the exit code."""
        self.process.kill(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process.close()
        return code

    def kill(self):
        self.process.kill(signal.SIGKILL)
        self.process.close()

    def reload(self):
        self.process.kill(signal.SIGHUP)

    def run_ctl(self, *args):
        """sesrelayctl: a CompletedProcess."""
        return subprocess.run(
            [str(BUILD / "sesrelayctl"), "-s", str(self.control), *args],
            capture_output=True, text=True, timeout=60)

    def ctl(self, *args, check=True):
        """Output of sesrelayctl."""
        done = self.run_ctl(*args)
        if check:
            assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout

    def ctl_json(self, *args):
        return [json.loads(line)
                for line in self.ctl("--json", *args).splitlines()]

    def status(self):
        return self.ctl_json("status")[0]

    def count(self):
        return self.ctl_json("count")[0]["messages"]

    def counter(self, name):
        return self.status()["counters"][name]

    def state(self):
        """What upstream is like."""
        return self.status()["upstream"]["state"]

    def wait_state(self, state, timeout=30):
        wait_until(lambda: self.state() == state, f"upstream {state}", timeout)

    def submit(self):
        return Submission(self.port)

    def send(self, content=None, sender=SENDER, rcpts=(RCPT,), params=""):
        """Hands in one message; its queue id."""
        with self.submit() as s:
            return s.mail(content, sender, rcpts, params)

    def outcomes(self, qid=None):
        """Lines with status=, as dicts, in order."""
        return [m.groupdict() for m in OUTCOME.finditer(self.log())
                if qid in (None, m["id"])]

    def wait_outcome(self, qid, status, n=1, timeout=30):
        """All outcomes of that status, as soon as there are n."""
        def find():
            found = [o for o in self.outcomes(qid) if o["status"] == status]
            return found if len(found) >= n else None
        return wait_until(find, f"{n} times {status} of {qid}", timeout)

    def dead_letters(self):
        """Names in failed/."""
        return sorted(p.name for p in (self.spool / "failed").glob("*.eml"))

    def dead_letter(self, qid):
        """(fields that tell about the failure, content)."""
        raw = (self.spool / "failed" / f"{qid}.eml").read_bytes()
        fields = {}
        while True:
            m = re.match(rb"X-Sesrelayd-([\w-]+): (.*)\r\n", raw)
            if not m:
                return fields, raw
            fields.setdefault(m[1].decode(), []).append(m[2].decode())
            raw = raw[m.end():]

    def wait_empty(self, timeout=30):
        """Until the queue is empty and the log, which a thread of its own
        writes, has all about what was in it."""
        def all_logged():
            log = self.log()[self.log_start:]
            return ({a or b for a, b in ACCEPTED.findall(log)} <=
                    {a or b for a, b in REMOVED.findall(log)})
        wait_until(lambda: self.count() == 0, "an empty queue", timeout)
        wait_until(all_logged, "the end of each message in the log", timeout)

    def wait_log(self, text, timeout=30):
        wait_until(lambda: text in self.log(), f"{text!r} in the log", timeout)

    def peak_memory_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return 0

    def close(self):
        if self.process is not None:
            self.process.close()


class Workdir:
    """A directory in $TMPDIR (or /var/tmp: a real disk), removed at the end
    unless KEEP is set in the environment."""

    def __init__(self, name):
        self.path = pathlib.Path(tempfile.mkdtemp(
            prefix=f"sesrelayd-{name}-",
            dir=os.environ.get("TMPDIR", "/var/tmp")))

    def __enter__(self):
        return self.path

    def __exit__(self, *exc):
        if os.environ.get("KEEP"):
            print(f"kept: {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)
