"""Disks that fail and disks that are full, with a file system on them.

A device whose writes fail (nbdkit's error filter, on FUSE, on a loop device)
until ext4 gives up and is read-only; a device that has fewer blocks than it
says, and gets them later; file systems without free bytes or i-nodes; a quota
and a limit of file sizes.

Whatever happens: 250 means delivered in the end, once; 451 and 452 mean never
delivered; what cannot be marked as done is not sent; and when the cause is
gone, the relay goes on by itself.
"""
import collections
import contextlib
import errno
import os
import pathlib
import subprocess
import time

from crashdisk import (Image, MS_REMOUNT, all_isolated, attach, mount,
                       scratch, umount)
from crashlib import Failed, Impossible, need
from harness import Relay, Sesd, Submission, make_certificates, wait_until

NAME = "writeback"
ABOUT = "disks that fail, disks that are full"

RECOVERED_S = 2.0
QUEUED = 20
DELIVERED = 10


class Post:
    """A relay, an emulator, and what was said to the clients."""

    def __init__(self, directory, certs, spool, config=None):
        self.sesd = Sesd(directory / "sesd", certs, modes=("wrapper",))
        self.sesd.control("refuse on")
        self.relay = Relay(
            directory / "relay", self.sesd, "wrapper", verbose=False,
            config={"spool.directory": f'"{spool}"', **(config or {})})
        self.acked, self.refused = [], []

    def offer(self, size=2000, rcpt="user@example.net"):
        """One message; the reply that decides about it."""
        name = f"n{len(self.acked) + len(self.refused)}@back.test"
        content = (f"From: app@example.com\r\nMessage-ID: <{name}>\r\n\r\n" +
                   ("x" * 76 + "\r\n") * (1 + size // 78)).encode()
        with Submission(self.relay.port) as s:
            reply = s.do("MAIL FROM:<app@example.com>")
            if reply.startswith("250"):
                s.do(f"RCPT TO:<{rcpt}>", 250)
                s.do("DATA", 354)
                s.sock.sendall(content + b".\r\n")
                reply = s.reply()
        taken = reply.startswith("250")
        (self.acked if taken else self.refused).append(name)
        need(taken or reply.startswith(("451 4.3.", "452 4.3.")),
             f"a client was told: {reply}")
        return reply

    def offer_accepted(self, n, size=2000, rcpt="user@example.net"):
        for _ in range(n):
            reply = self.offer(size, rcpt)
            need(reply.startswith("250"), f"a client was told: {reply}")

    def offer_refused(self, n, code="45", size=2000):
        for _ in range(n):
            reply = self.offer(size)
            need(reply.startswith(code), f"a client was told {reply.strip()}, "
                 f"not {code}")

    def wait_accepts(self, limit=RECOVERED_S):
        """How long it takes to accept again."""
        begun = time.monotonic()
        wait_until(lambda: self.offer().startswith("250"),
                   "new mail to be accepted again")
        took = time.monotonic() - begun
        need(took <= limit, f"accepts again only after {took:.1f} s")
        return took

    def taken(self):
        return collections.Counter(
            m["message_id"] for m in self.sesd.messages())

    def scanned(self):
        wait_until(lambda: not self.relay.status()["spool"]["scanning"],
                   "the end of the scan")

    def drain(self):
        self.sesd.control("refuse off")
        self.scanned()
        self.relay.wait_empty()

    def judge(self, at_most=1):
        taken = self.taken()
        lost = [name for name in self.acked if name not in taken]
        need(not lost, f"lost, though acknowledged: {lost}")
        wrong = [name for name in self.refused if name in taken]
        need(not wrong, f"delivered, though refused: {wrong}")
        need(max(taken.values()) <= at_most, f"sent too often: {taken}")
        return len(self.acked), len(self.refused)

    def close(self):
        self.relay.close()
        self.sesd.close()


@contextlib.contextmanager
def told(post, what):
    """Failures say which part it was, and what the relay's log said."""
    try:
        yield
        need(post.relay.stop() == 0, "the relay did not stop well")
    except (AssertionError, OSError, Failed) as e:
        raise Failed(f"{what}: {str(e)[-1000:]}; the relay's log ends\n" +
                     post.relay.log()[-1500:]) from e
    finally:
        post.close()


# --- writes that fail, for good ---

class BadDisk:
    """200 MB whose writes fail as long as the file INJECT is there."""

    def __init__(self, directory):
        self.inject = directory / "INJECT"
        self.point = directory / "mnt"
        fuse, socket = directory / "fuse", directory / "nbd"
        for d in (fuse, self.point):
            d.mkdir()
        self.programs = [subprocess.Popen(argv, stderr=subprocess.DEVNULL)
                         for argv in (
            ["nbdkit", "-f", "-U", str(socket), "--filter=error", "memory",
             "200M", "error-pwrite=EIO", "error-pwrite-rate=100%",
             f"error-pwrite-file={self.inject}"],)]
        wait_until(lambda: socket.exists() or self.ended(), "nbdkit")
        self.programs.append(subprocess.Popen(
            ["nbdfuse", str(fuse / "disk"), "--unix", str(socket)],
            stderr=subprocess.DEVNULL))
        wait_until(lambda: (fuse / "disk").exists() or self.ended(),
                   "nbdfuse")
        if self.ended():
            raise Impossible("nbdkit or nbdfuse does not run here")
        self.fuse = fuse
        with open(fuse / "disk", "r+b") as f:
            self.loop, self.fd = attach(f.fileno())
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.loop)], check=True)

    def ended(self):
        return any(p.poll() is not None for p in self.programs)

    def mount(self):
        mount(self.loop, self.point, "ext4", "errors=remount-ro")

    def read_only(self):
        """Newer kernels do not say so in the flags of the mount."""
        try:
            (self.point / "probe").touch()
            return False
        except OSError as e:
            return e.errno == errno.EROFS

    def close(self):
        os.close(self.fd)
        umount(self.fuse)
        for p in self.programs:
            p.terminate()
            p.wait()


def failing(work, certs):
    memory = scratch(work)
    disk = BadDisk(memory)
    disk.mount()
    post = Post(memory, certs, disk.point / "spool")
    with told(post, "a disk whose writes fail"):
        first = fail_in_run(post, disk)
        fail_over_restart(post, disk)
        counts = well_again(post, disk)
    umount(disk.point)
    disk.close()
    return (f"writes fail: {counts[0]} accepted, {counts[1]} refused, first "
            f"with {first!r}; nothing delivered that could not be marked, "
            "also not after a restart on the read-only disk")


LATER = "later@example.net"


def fail_in_run(post, disk):
    """Some are delivered, the outcomes of the last not durable yet; the rest
    waits, and must go on waiting when nothing can be marked."""
    post.sesd.rule(f'on RCPT when rcpt={LATER} reply "451 no"')
    post.sesd.control("refuse off")
    post.offer_accepted(30, rcpt=LATER)
    post.offer_accepted(DELIVERED)
    post.sesd.wait_messages(DELIVERED)
    disk.inject.touch()
    first = post.offer()
    need(first.startswith("45"), f"writes fail, but a client was told {first}")
    post.offer_refused(10)
    wait_until(disk.read_only, "ext4 to become read-only")
    wait_until(lambda: not post.relay.status()["spool"]["healthy"],
               "the relay to notice")
    post.sesd.control("clear")
    post.offer_refused(5)
    return first[:9]


def settle_down(post):
    """How many SES has, once no more come."""
    end = [time.monotonic() + 1.5, -1]

    def quiet():
        n = len(post.sesd.messages())
        if n != end[1]:
            end[:] = [time.monotonic() + 1.5, n]
        return time.monotonic() > end[0]
    wait_until(quiet, "the end of deliveries")
    return end[1]


def fail_over_restart(post, disk):
    need(settle_down(post) == DELIVERED and max(post.taken().values()) == 1,
         "delivered what cannot be marked done")
    post.relay.kill()
    post.relay.start()
    post.scanned()
    post.offer_refused(3)
    need(settle_down(post) == DELIVERED,
         "after a restart: delivered what cannot be marked done")
    status = post.relay.status()["spool"]
    need(not status["healthy"] and status["reason"],
         f"status does not tell: {status}")
    log = post.relay.log()
    need("Read-only file system" in log and "spool" in log,
         "the log does not tell")


def well_again(post, disk):
    """The operator mends it: the relay stops, the disk is checked."""
    post.relay.kill()
    umount(disk.point)
    disk.inject.unlink()
    subprocess.run(["e2fsck", "-p", "-f", str(disk.loop)],
                   stdout=subprocess.DEVNULL)
    disk.mount()
    post.relay.start()
    post.offer_accepted(3)
    post.drain()
    # What was sent just before could not be marked anywhere.
    return post.judge(at_most=2)


# --- a device that lacks blocks for a while ---

def use_journal(point):
    """All blocks of ext4's journal, and of the tables that it needs, are in
    memory then: what fails is data."""
    for n in range(600):
        with open(point / str(n), "wb") as f:
            f.write(b"x")
            os.fsync(f.fileno())
        (point / str(n)).unlink()


def overcommitted(work, certs):
    """ext4 believes in blocks that memory does not have: a failing fdatasync,
    and then, on the same mount, all is well."""
    small = scratch(work, "40m")
    image = Image(small, "ext4", 400 << 20, (
        "-E", "lazy_itable_init=1,lazy_journal_init=0,nodiscard",
        "-J", "size=4"))
    image.mount()
    use_journal(image.point)
    memory = scratch(work)
    post = Post(memory, certs, image.point / "spool")
    with told(post, "a disk that has fewer blocks than it says"):
        post.offer_accepted(5)
        wait_until(lambda: not post.offer(900000).startswith("250"),
                   "a failing sync")
        post.offer_refused(3)
        mount("tmpfs", small, "tmpfs", "size=400m", MS_REMOUNT)
        took = post.wait_accepts()
        post.drain()
        counts = post.judge()
    image.close()
    return (f"a device without blocks: {counts[0]} accepted, {counts[1]} "
            f"refused, accepts again after {took:.2f} s")


# --- full ---

def fill_bytes(point):
    filler = point / "filler"
    with open(filler, "wb") as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(bytes(1 << 20))
                f.flush()
    with open(filler, "ab", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(bytes(512))
    return filler.unlink


def fill_inodes(point):
    directory = point / "filler"
    directory.mkdir()
    made = []
    with contextlib.suppress(OSError):
        while True:
            made.append(directory / str(len(made)))
            made[-1].touch()

    def free():
        for path in made:
            path.unlink(missing_ok=True)
    return free


def full(post, fill):
    post.offer_accepted(QUEUED)
    free = fill()
    # The next look at the free space sees it; till then there is what was
    # preallocated.
    wait_until(lambda: "4.3.1" in refusal(post), "452 4.3.1 at MAIL")
    post.offer_refused(5, "452 4.3.1")
    post.drain()
    need(len(post.sesd.messages()) == QUEUED, "while the disk is full, not all "
         "that was queued is delivered")
    free()
    took = post.wait_accepts()
    post.drain()
    post.judge()
    return took


def refusal(post):
    with Submission(post.relay.port) as s:
        return s.do("MAIL FROM:<app@example.com>")


def full_part(work, certs, what, point, fill):
    post = Post(scratch(work), certs, point / "spool")
    with told(post, what):
        took = full(post, lambda: fill(point))
    return f"{what}: {took:.2f} s"


def full_disks(work, certs):
    memory = scratch(work)
    times = []
    for what, fill, kind, options in (
            ("ext4 without bytes", fill_bytes, "ext4", ()),
            ("ext4 without i-nodes", fill_inodes, "ext4", ("-N", "256"))):
        image = Image(memory, kind, 16 << 20, ("-m", "0", *options))
        image.mount()
        times.append(full_part(work, certs, what, image.point, fill))
        image.close()
    for what, fill in (("tmpfs without bytes", fill_bytes),
                       ("tmpfs without i-nodes", fill_inodes)):
        point = pathlib.Path(memory / what.replace(" ", "-"))
        point.mkdir()
        mount("tmpfs", point, "tmpfs", "size=8m,nr_inodes=200,mode=700")
        times.append(full_part(work, certs, what, point, fill))
        umount(point)
    return "full, delivers, accepts again after: " + ", ".join(times)


# --- limits ---

@contextlib.contextmanager
def over_quota(pid, directory):
    log = directory / "strace"
    with open(log, "wb") as f:
        strace = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-o", "/dev/null", "-e",
             "trace=pwritev,fallocate", "-e",
             "inject=pwritev,fallocate:error=EDQUOT"], stderr=f)
    try:
        wait_until(lambda: b"attached" in log.read_bytes() or
                   strace.poll() is not None, "strace")
        yield
    finally:
        strace.terminate()
        strace.wait()


@contextlib.contextmanager
def file_limit(pid, size):
    limit = ["prlimit", "--pid", str(pid)]
    subprocess.run([*limit, f"--fsize={size}:unlimited"], check=True)
    try:
        yield
    finally:
        subprocess.run([*limit, "--fsize=unlimited:unlimited"], check=True)


def limits(work, certs):
    """Outcomes need an append, too: here delivery waits for the quota."""
    memory = scratch(work)
    post = Post(memory, certs, memory / "spool")
    times = []
    with told(post, "limits"):
        for what, limit in (
                ("EDQUOT", over_quota(post.relay.process.pid, memory)),
                ("EFBIG", file_limit(post.relay.process.pid, 20000))):
            post.offer_accepted(10)
            with limit:
                # The first may find room yet.
                wait_until(lambda: not post.offer(40000).startswith("250"),
                           what)
                post.offer_refused(5, "45", 40000)
                need(post.relay.process.alive(), f"{what} ended the relay")
            times.append(f"{what} {post.wait_accepts():.2f} s")
        post.drain()
        counts = post.judge()
    return (f"limits: {counts[1]} refused, accepts again after "
            f"{', '.join(times)}")


def run(work, sample):
    certs = make_certificates(work / "certs")
    return "; ".join(all_isolated(*(
        (part, work, certs)
        for part in (failing, overcommitted, full_disks, limits))))
