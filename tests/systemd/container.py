"""This machine's own root, booted by a systemd of its own.

The root is an overlay: what the container writes is in memory and gone with
it.  Mounts are in a private namespace, and its control groups below one of our
own, so nothing is left behind, whatever happens: not even after kill -9 more
than that empty group.
"""

import atexit
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

GROUPS = pathlib.Path("/sys/fs/cgroup")
# What must not start: other servers' own affairs, and what needs a machine.
KEEP = {"dbus.service", "dbus.socket"}


def in_private_mounts():
    """Starts this program again in a mount namespace of its own."""
    if os.environ.get("SESRELAYD_PRIVATE_MOUNTS"):
        return
    os.environ["SESRELAYD_PRIVATE_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private",
                          sys.executable, *sys.argv])


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Container:
    """`binds`: host paths, and where it sees them; those of which it is
    "read-only" it cannot write.  `prepare` gets the root before the boot."""

    def __init__(self, work, binds=(), prepare=None):
        self.work = pathlib.Path(work)
        self.root = self.work / "root"
        self.groups = []
        self.nspawn = None
        self.leader = None
        atexit.register(self.close)
        self.make_root()
        if prepare:
            prepare(self.root)
        self.own_groups()
        self.boot(binds)

    def make_root(self):
        memory = self.work / "memory"
        for d in (memory, self.root):
            d.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs",
                        str(memory)], check=True)
        (memory / "up").mkdir()
        (memory / "work").mkdir()
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir=/,upperdir={memory}/up,workdir={memory}/work",
             str(self.root)], check=True)
        (self.root / "etc/fstab").write_text("")
        (self.root / "etc/hosts").write_text(
            "127.0.0.1 localhost\n::1 localhost\n")
        (self.root / "etc/hostname").write_text("relaytest\n")
        self.mask()

    def mask(self):
        """Services that somebody enabled on this machine stay off."""
        units = self.root / "etc/systemd/system"
        wanted = {p.name for d in units.glob("*.wants") for p in d.iterdir()}
        init = self.root / "etc/init.d"
        wanted |= {f"{p.name}.service" for p in init.iterdir()} \
            if init.is_dir() else set()
        for name in wanted - KEEP:
            for d in units.glob("*.wants"):
                (d / name).unlink(missing_ok=True)
            (units / name).unlink(missing_ok=True)
            (units / name).symlink_to("/dev/null")

    def own_groups(self):
        """A control group of our own in each hierarchy that systemd uses."""
        for base in (GROUPS, GROUPS / "systemd", GROUPS / "unified"):
            if (base / "cgroup.procs").exists():
                group = base / f"sesrelayd-test-{os.getpid()}"
                group.mkdir()
                self.groups.append(group)

    def join_groups(self):
        for group in self.groups:
            (group / "cgroup.procs").write_text("0")
        die_with_parent()

    def boot(self, binds):
        argv = ["systemd-nspawn", "-D", str(self.root), "--boot",
                "--register=no", "--keep-unit", "--private-network",
                "--machine=relaytest", "--console=pipe", "--quiet"]
        for path, where, mode in binds:
            option = "--bind-ro" if mode == "read-only" else "--bind"
            argv.append(f"{option}={path}:{where}")
        self.console = self.work / "console"
        with open(self.console, "wb") as log:
            self.nspawn = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=self.join_groups)
        self.wait(self.find_leader, "systemd to be started")
        self.wait(lambda: self.state() in ("running", "degraded"),
                  "the container to be up")

    def wait(self, predicate, what, timeout=60):
        end = time.monotonic() + timeout
        while not predicate():
            if self.nspawn.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no success in waiting for {what}:\n" +
                                   self.console.read_text(errors="replace"))
            time.sleep(0.05)

    def find_leader(self):
        path = f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children"
        for pid in pathlib.Path(path).read_text().split():
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                self.leader = int(pid)
                return True
        return False

    def argv(self, *words):
        return ["nsenter", "-t", str(self.leader), "-a", "--", *words]

    def run(self, *words, **kwargs):
        return subprocess.run(self.argv(*words), **kwargs)

    def state(self):
        done = self.run("systemctl", "is-system-running",
                        capture_output=True, text=True)
        return done.stdout.strip()

    def close(self):
        if self.nspawn is not None and self.nspawn.poll() is None:
            if self.leader:
                self.run("systemctl", "poweroff", "--force",
                         capture_output=True)
            try:
                self.nspawn.wait(15)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        self.nspawn = None
        for group in self.groups:
            self.remove_group(group)
        self.groups = []
        for path in (self.root, self.work / "memory"):
            if path.is_mount():
                subprocess.run(["umount", "-l", str(path)], check=False)

    @staticmethod
    def remove_group(group):
        end = time.monotonic() + 10
        while group.exists() and time.monotonic() < end:
            for d, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(d)
                except OSError:
                    time.sleep(0.05)  # somebody in it is still dying
