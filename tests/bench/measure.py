"""CPU, memory and noise: what a relay with all of its processes uses, and what
else the machine did meanwhile.

CPU is read from control groups (cpuacct of version 1, or cpu.stat of version
2), so that processes which ended count, too; memory is the sum of the
proportional set sizes (PSS) of the group's processes, sampled.  The kernel
accounts CPU time in groups; nothing is limited by them.
"""

import hashlib
import os
import pathlib
import subprocess
import threading
import time

ROOT_V1 = pathlib.Path("/sys/fs/cgroup/cpuacct")
NOISY_SHARE = 0.10  # of one core, used by somebody else
NOISY_SPIN = 1.25  # times the fastest spin of the run


def _base():
    """The directory of the group we are in, and the version."""
    groups = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            groups[name] = path.lstrip("/")
    if "cpuacct" in groups and ROOT_V1.exists():
        return ROOT_V1 / groups["cpuacct"], 1
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        path = pathlib.Path(root) / groups.get("", "")
        if (path / "cgroup.procs").exists():
            return path, 2
    raise SystemExit("bench: no control groups here to account CPU time with")


class Group:
    """A control group; processes join it by `join` as preexec_fn."""

    def __init__(self, path, version):
        self.path, self.version = path, version
        path.mkdir(exist_ok=True)

    def join(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def child(self, name):
        return Group(self.path / name, self.version)

    def cpu_seconds(self):
        """Of all that is and was in it, and in the groups below it."""
        if self.version == 1:
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        for line in (self.path / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
        raise RuntimeError(f"{self.path}/cpu.stat: no usage_usec")

    def pids(self):
        return [int(p) for p in
                (self.path / "cgroup.procs").read_text().split()]

    def pss_bytes(self):
        total = 0
        for pid in self.pids():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:  # it ended
                continue
            for line in text.splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def remove(self):
        """Gone as soon as its last process is."""
        for _ in range(200):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.01)


class Groups:
    """The group of the whole benchmark, and one in it for the drivers."""

    def __init__(self):
        self.home, version = _base()
        self.all = Group(self.home / f"sesrelayd-bench-{os.getpid()}", version)
        self.drivers = self.all.child("drivers")
        self.drivers.join()
        self.count = 0

    def new(self):
        self.count += 1
        return self.all.child(f"relay-{self.count}")

    def close(self):
        (self.home / "cgroup.procs").write_text(str(os.getpid()))
        self.drivers.remove()
        self.all.remove()


class PeakMemory:
    """Samples a group's PSS in a thread of its own; reading the page tables
    of many processes costs, so not more than every 200 ms."""

    def __init__(self, group):
        self.group, self.peak = group, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while True:
            self.peak = max(self.peak, self.group.pss_bytes())
            if self.over.wait(0.2):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()


def spin_seconds():
    """A fixed piece of work; the fastest of three."""
    block, times = b"x" * (1 << 20), []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(16):
            hashlib.blake2b(block).digest()
        times.append(time.perf_counter() - began)
    return min(times)


def busy_seconds():
    """CPU time of the whole machine, stolen time included."""
    words = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    user, nice, system, _, _, irq, soft, steal = map(int, words)
    return ((user + nice + system + irq + soft + steal) /
            os.sysconf("SC_CLK_TCK"))


class Noise:
    """What the machine did for others during a turn."""

    fastest = None

    def __init__(self, groups):
        self.groups = groups
        self.load = os.getloadavg()[0]
        self.spin = spin_seconds()
        self.busy = busy_seconds()
        self.own = groups.all.cpu_seconds()
        self.began = time.monotonic()

    def end(self):
        wall = max(time.monotonic() - self.began, 0.1)
        foreign = ((busy_seconds() - self.busy) -
                   (self.groups.all.cpu_seconds() - self.own)) / wall
        self.foreign = max(foreign, 0.0)
        self.spin = max(self.spin, spin_seconds())
        if Noise.fastest is None or self.spin < Noise.fastest:
            Noise.fastest = self.spin
        return {"load": self.load, "spin": self.spin, "foreign": self.foreign}

    @classmethod
    def is_noisy(cls, noise):
        return (noise["foreign"] > NOISY_SHARE or
                noise["spin"] > NOISY_SPIN * cls.fastest)


def machine():
    """Lines that say where the figures are from."""
    model = [line.split(":", 1)[1].strip() for line in
             pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().split()[1]
    release = pathlib.Path("/etc/debian_version").read_text().strip()
    disk = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T",
         os.environ.get("TMPDIR", "/var/tmp")],
        capture_output=True, text=True).stdout.strip()
    uname = os.uname()
    return {"cpu": f"{len(model)} × {model[0] if model else uname.machine}",
            "memory": f"{int(memory) / 1048576:.0f} GiB",
            "kernel": f"{uname.sysname} {uname.release}",
            "system": f"Debian {release}", "spool": disk}
