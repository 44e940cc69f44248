"""Disks to break: file systems on loop devices that nobody else sees.

isolated() runs a function in mount and pid namespaces of its own, where
nothing outlives it: its end, however it comes, ends every process that it
started, with them the mounts, and with those the loop devices, which are set
up to detach themselves when they are closed.
"""
import ctypes
import errno
import fcntl
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import traceback

from crashlib import Failed, Impossible

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REMOUNT = 32
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
FS_IOC_SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2


def check(result, what):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source, target, kind, data="", flags=0):
    check(libc.mount(str(source).encode(), str(target).encode(),
                     kind.encode(), flags, data.encode()),
          f"mount {kind} on {target}")


def umount(target):
    check(libc.umount2(str(target).encode(), 0), f"umount {target}")


# --- namespaces ---

def enter_namespaces():
    if os.geteuid() != 0:
        raise Impossible("not root")
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID) < 0:
        raise Impossible("unshare: " + os.strerror(ctypes.get_errno()))
    # In a chroot the root is no mount point; then no mount may be shared.
    if libc.mount(b"none", b"/", b"", MS_REC | MS_PRIVATE, b"") < 0 and \
            " shared:" in pathlib.Path("/proc/self/mountinfo").read_text():
        raise Impossible("the mounts here are shared and cannot be made "
                         "private")


def outcome_of(function, args):
    try:
        return True, function(*args)
    except (Failed, Impossible) as e:
        return False, e
    except BaseException:
        return False, Failed("\n" + traceback.format_exc())


def inner(function, args, pipe):
    """The first process of the namespaces."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount("proc", "/proc", "proc")
    with open(pipe, "wb") as f:
        pickle.dump(outcome_of(function, args), f)


def outer(function, args, pipe):
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ok, result = outcome_of(enter_namespaces, ())
    if not ok:
        with open(pipe, "wb") as f:
            pickle.dump((ok, result), f)
        return
    pid = os.fork()
    if pid == 0:
        leave_with(lambda: inner(function, args, pipe))
    os.waitpid(pid, 0)


def leave_with(function):
    try:
        function()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


class Isolated:
    """function(*args) under way in namespaces of its own."""

    def __init__(self, function, *args):
        sys.stdout.flush()
        ours, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours)
            leave_with(lambda: outer(function, args, theirs))
        os.close(theirs)
        self.pipe = ours

    def result(self):
        """What it returned; raises Failed and Impossible here."""
        with open(self.pipe, "rb") as f:
            raw = f.read()
        os.waitpid(self.pid, 0)
        if not raw:
            raise Failed("the test's own process died")
        ok, result = pickle.loads(raw)
        if not ok:
            raise result
        return result


def isolated(function, *args):
    return Isolated(function, *args).result()


def all_isolated(*calls):
    """Each (function, args...) at the same time; their results."""
    running = [Isolated(*call) for call in calls]
    results, problem = [], None
    for one in running:
        try:
            results.append(one.result())
        except (Failed, Impossible) as e:
            problem = problem or e
    if problem:
        raise problem
    return results


def scratch(work, size="2g"):
    """A directory in memory, to keep the host's disk out of it; only where
    isolated() runs."""
    path = pathlib.Path(tempfile.mkdtemp(dir=work))
    mount("tmpfs", path, "tmpfs", f"size={size},mode=700")
    return path


# --- loop devices and their file systems ---

def open_loop_node(number):
    path = pathlib.Path(f"/dev/loop{number}")
    if not path.exists():
        os.mknod(path, 0o600 | 0o060000, os.makedev(7, number))
    return path, os.open(path, os.O_RDWR | os.O_CLOEXEC)


def attach(backing_fd):
    """(path, fd) of a fresh loop device over an open file."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise Impossible(f"no loop devices: {e}") from e
    # fd, block size, loop_info64 with its flags, and what is reserved.
    config = struct.pack("II", backing_fd, 512) + bytearray(52) + \
        struct.pack("I", LO_FLAGS_AUTOCLEAR) + bytearray(176 + 64)
    try:
        while True:
            try:
                path, fd = open_loop_node(
                    fcntl.ioctl(control, LOOP_CTL_GET_FREE))
            except OSError as e:
                raise Impossible(f"no loop devices: {e}") from e
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, config)
                return path, fd
            except OSError as e:
                os.close(fd)
                if e.errno != errno.EBUSY:  # somebody else was faster
                    raise Impossible(f"no loop devices: {e}") from e
    finally:
        os.close(control)


MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E",
             "lazy_itable_init=1,lazy_journal_init=1,nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}


class Image:
    """A file system in a sparse file.  While it is mounted it is on a loop
    device, which is given back each time: so nothing that is in memory only
    is there at the next mount."""

    def __init__(self, directory, kind, size=512 << 20, options=(),
                 mount_options=""):
        self.kind = kind
        self.mount_options = mount_options
        self.file = pathlib.Path(directory) / f"{kind}.img"
        self.point = pathlib.Path(directory) / f"{kind}.mnt"
        self.point.mkdir(exist_ok=True)
        self.mounted = False
        with open(self.file, "wb") as f:
            f.truncate(size)
        subprocess.run([*MKFS[kind], *options, str(self.file)], check=True,
                       stdout=subprocess.DEVNULL)

    def mount(self):
        with open(self.file, "r+b") as f:
            loop, fd = attach(f.fileno())
        try:
            mount(loop, self.point, self.kind, self.mount_options)
        except OSError as e:
            if e.errno == errno.ENODEV:
                raise Impossible(f"this kernel has no {self.kind}") from e
            raise
        finally:
            os.close(fd)
        self.mounted = True

    def umount(self):
        umount(self.point)
        self.mounted = False

    def cut(self):
        """Power is off: what is not on the disk yet never gets there."""
        fd = os.open(self.point, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN,
                        struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(fd)

    def close(self):
        if self.mounted:
            self.umount()
        self.file.unlink(missing_ok=True)
