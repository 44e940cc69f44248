"""The relays that are compared, each started afresh in a directory of its own,
in a control group of its own, with the configuration in tests/bench/peers.

A relay has: name, port, group; start() returns when it greets; flush() asks it
to try everything now; stop() ends it and all of its processes.
"""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess

from harness import (BUILD, PASSWORD, ROOT, USER, free_port, private_mounts,
                     wait_until)

PEERS = ROOT / "tests/bench/peers"
POSTFIX = pathlib.Path("/usr/lib/postfix/sbin")
# scripts/setup.sh unpacks Debian's package there: it can't be installed beside
# Postfix.
OPENSMTPD = ROOT / "build/bench/opensmtpd"


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            s.settimeout(5)
            return s.recv(1024).startswith(b"220 ")
    except OSError:
        return False


class Relay:
    name = None

    def __init__(self, ctx, connections=50, settings=None):
        self.dir = ctx.directory(self.name)
        self.group = ctx.groups.new()
        self.port = free_port()
        self.values = {"dir": self.dir, "port": self.port, "user": USER,
                       "upstream": ctx.upstream.ports["wrapper"],
                       "ca": ctx.certs / "ca.pem", "connections": connections}
        self.values.update(settings or {})
        self.process = None

    def configure(self, source, target):
        text = (PEERS / source).read_text()
        for word, value in self.values.items():
            text = text.replace("{%s}" % word, str(value))
        (self.dir / target).write_text(text)

    def run(self, argv, **kwargs):
        with open(self.dir / "output", "ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=self.group.join, start_new_session=True, **kwargs)
        wait_until(lambda: greets(self.port) or
                   self.process.poll() is not None,
                   f"{self.name} to greet, see {self.dir}", 30)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name}: " +
                               (self.dir / "output").read_text())

    def flush(self):
        pass

    def stop(self):
        """All of its processes; what they hold in memory is not of interest
        any more, so they need not take their time."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                pass
            for _ in range(100):
                pids = self.group.pids()
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                if not pids:
                    break
            self.process.wait()
        self.group.remove()
        shutil.rmtree(self.dir, ignore_errors=True)


class Sesrelayd(Relay):
    name = "sesrelayd"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configure("sesrelayd.conf", "sesrelayd.conf")
        password = self.dir / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o600)
        (self.dir / "spool").mkdir()

    def start(self):
        self.run([str(BUILD / "sesrelayd"), "-c",
                  str(self.dir / "sesrelayd.conf")])

    def flush(self):
        subprocess.run([str(BUILD / "sesrelayctl"), "-s",
                        str(self.dir / "control"), "retry", "--all"],
                       stdout=subprocess.DEVNULL, check=True)


class Postfix(Relay):
    name = "Postfix"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("queue", "data"):
            (self.dir / name).mkdir()
        os.chown(self.dir / "data", pwd.getpwnam("postfix").pw_uid, -1)
        self.configure("postfix.main.cf", "main.cf")
        self.configure("postfix.master.cf", "master.cf")
        login = self.dir / "sasl_passwd"
        login.write_text(f"[localhost]:{self.values['upstream']} "
                         f"{USER}:{PASSWORD}\n")
        login.chmod(0o600)
        subprocess.run(["/usr/sbin/postfix", "-c", self.dir, "check"],
                       check=True, stderr=subprocess.DEVNULL)

    def start(self):
        self.run([str(POSTFIX / "master"), "-d", "-c", str(self.dir)],
                 env={"MAIL_CONFIG": str(self.dir),
                      "PATH": os.environ["PATH"]})

    def flush(self):
        subprocess.run(["/usr/sbin/postqueue", "-c", self.dir, "-f"],
                       check=True)


class OpenSmtpd(Relay):
    """It insists on its places in the file system and on being alone, so it
    gets a mount namespace with places of its own there."""
    name = "OpenSMTPD"
    ACCOUNTS = ("opensmtpd", "opensmtpq")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("run", "spool/smtpd", "lib/opensmtpd/empty", "certs"):
            (self.dir / name).mkdir(parents=True)
        (self.dir / "spool/smtpd").chmod(0o711)
        self.configure("opensmtpd.conf", "smtpd.conf")
        (self.dir / "smtpd.conf").chmod(0o600)
        secrets = self.dir / "secrets"
        secrets.write_text(f"ses {USER}:{PASSWORD}\n")
        secrets.chmod(0o600)
        shutil.copy(self.values["ca"],
                    self.dir / "certs/ca-certificates.crt")
        self.accounts()
        # It asks that its file be setgid to the group of the queue.
        gid = next(int(line.split(":")[2]) for line in
                   (self.dir / "group").read_text().splitlines()
                   if line.startswith("opensmtpq:"))
        self.smtpctl = self.dir / "smtpctl"
        shutil.copy(OPENSMTPD / "usr/sbin/smtpctl", self.smtpctl)
        os.chown(self.smtpctl, 0, gid)
        self.smtpctl.chmod(0o2755)

    def accounts(self):
        """Its two users, where the package was never installed."""
        passwd = pathlib.Path("/etc/passwd").read_text()
        group = pathlib.Path("/etc/group").read_text()
        for number, name in enumerate(self.ACCOUNTS, 64001):
            if f"\n{name}:" not in passwd:
                passwd += (f"{name}:x:{number}:{number}::"
                           "/var/lib/opensmtpd/empty:/usr/sbin/nologin\n")
            if f"\n{name}:" not in group:
                group += f"{name}:x:{number}:\n"
        (self.dir / "passwd").write_text(passwd)
        (self.dir / "group").write_text(group)

    def start(self):
        binds = (("run", "/run"), ("spool", "/var/spool"),
                 ("lib", "/var/lib"), ("certs", "/etc/ssl/certs"),
                 ("passwd", "/etc/passwd"), ("group", "/etc/group"))
        script = " && ".join(f"mount --bind '{self.dir / source}' {target}"
                             for source, target in binds)
        self.run([*private_mounts(), "sh", "-ec", script + ' && exec "$@"',
                  "sh", str(OPENSMTPD / "usr/sbin/smtpd"), "-F", "-f",
                  str(self.dir / "smtpd.conf")])

    def flush(self):
        subprocess.run(["nsenter", "--mount", f"--target={self.process.pid}",
                        str(self.smtpctl), "schedule", "all"],
                       stdout=subprocess.DEVNULL, check=True)


ALL = {cls.name: cls for cls in (Sesrelayd, Postfix, OpenSmtpd)}


class Sink(Relay):
    """Not a relay: answers and stores nothing."""
    name = "smtp-sink"

    def start(self):
        self.run(["/usr/sbin/smtp-sink", "-u", "nobody",
                  f"127.0.0.1:{self.port}", "2000"])
