"""A power cut right after each step of the protocol, with one message on a
file system of its own that nobody else syncs; for crash_powercut.py.

Each step is a function that goes so far and returns how often the message may
be delivered in all, and how many dead letters there may be: (least, most).
"""
import hashlib
import random
import time

from crashdisk import Image, all_isolated, scratch
from crashlib import Failed, need
from harness import DATE, RCPT, Relay, Sesd, wait_until

# Between dot and 250: so many cuts of each kind, at random moments.
DOTS, DOTS_SAMPLE = 60, 6
NEVER, MAYBE, ONCE, AGAIN = (0, 0), (0, 1), (1, 1), (1, 2)


class Quiet:
    """One message, its relay and emulator."""

    def __init__(self, directory, certs, kind, large):
        directory.mkdir()
        self.large = large
        body = b"0123456789abcdef" * 6 + b"\r\n"
        self.body = body * (18000 if large else 20)
        self.content = (b"From: app@example.com\r\nSubject: step\r\n" +
                        DATE.encode() +
                        b"\r\nMessage-ID: <step@cut.test>\r\n\r\n") + self.body
        self.image = Image(directory, kind)
        self.image.mount()
        self.spool = self.image.point / "spool"
        self.sesd = Sesd(directory / "sesd", certs, modes=("wrapper",))
        self.sesd.control("refuse on")
        self.relay = Relay(
            directory / "relay", self.sesd, "wrapper", verbose=False,
            config={"spool.directory": f'"{self.spool}"'})
        self.client = self.relay.submit()
        self.rcpts = [RCPT]

    def hand_in(self):
        return self.client.mail(self.content, rcpts=self.rcpts)

    def cut(self):
        self.relay.process.kill()
        self.image.cut()
        self.relay.process.close()
        self.client.close()
        self.image.umount()

    def recover(self):
        """Starts again, and lets everything out."""
        self.image.mount()
        self.sesd.control("clear")
        self.sesd.control("refuse off")
        self.relay.start()
        wait_until(lambda: not self.relay.status()["spool"]["scanning"],
                   "the end of the scan")
        self.relay.wait_empty()
        need(self.relay.stop() == 0, "the relay did not stop well")

    def judge(self, deliveries, letters):
        for rcpt in self.rcpts:
            n = sum(rcpt in m["rcpts"] for m in self.sesd.messages())
            need(deliveries[0] <= n <= deliveries[1],
                 f"delivered {n} times to {rcpt}, expected {deliveries}")
        want = hashlib.sha256(self.body).hexdigest()
        need(all(m["body_sha256"] == want for m in self.sesd.messages()),
             "delivered, but not whole")
        names = sorted(p.name for p in (self.spool / "failed").iterdir())
        need(letters[0] <= len(names) <= letters[1],
             f"in failed/: {names}, expected {letters}")
        for name in names:
            need((self.spool / "failed" / name).read_bytes()
                 .endswith(self.content), f"failed/{name} is not whole")
        left = [p.name for p in (self.spool / "large").iterdir()]
        need(left == [], f"left in large/: {left}")

    def close(self):
        self.client.close()
        self.relay.close()
        self.sesd.close()
        self.image.close()


# --- the steps, in their order ---

def mail(q):
    q.client.do("MAIL FROM:<app@example.com>", 250)
    return NEVER, NEVER


def rcpt(q):
    mail(q)
    q.client.do(f"RCPT TO:<{RCPT}>", 250)
    return NEVER, NEVER


def data(q):
    rcpt(q)
    q.client.do("DATA", 354)
    return NEVER, NEVER


def half(q):
    data(q)
    q.client.sock.sendall(q.content[:len(q.content) * 9 // 10])
    if q.large:
        wait_until(lambda: any(p.stat().st_size > 0 for p in
                               (q.spool / "large").iterdir()),
                   "content in large/")
    return NEVER, NEVER


def dot(q, delay=0.0):
    data(q)
    q.client.sock.sendall(q.content + b".\r\n")
    time.sleep(delay)
    return MAYBE, NEVER


def accepted(q):
    q.hand_in()
    return ONCE, NEVER


def at_ses(q):
    q.sesd.control("refuse off")
    q.hand_in()
    q.sesd.wait_messages(1)
    return AGAIN, NEVER


def outcome(q):
    q.sesd.control("refuse off")
    q.relay.wait_outcome(q.hand_in(), "sent")
    return AGAIN, NEVER


def passed(q):
    """So long that every outcome must be durable."""
    end = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > end, "1.5 s")


def outcome_old(q):
    outcome(q)
    passed(q)
    return ONCE, NEVER


def one_of_two(q):
    """One recipient has it; the other one's turn comes after the cut."""
    q.rcpts = ["first@example.net", "second@example.net"]
    q.sesd.control("refuse off")
    q.sesd.rule('on RCPT when rcpt=second@example.net reply "451 no"')
    q.relay.wait_outcome(q.hand_in(), "sent")
    passed(q)
    return ONCE, NEVER


def removed(q):
    """The segment is gone, after some idle seconds."""
    outcome(q)
    wait_until(lambda: not any((q.spool / "arrivals").iterdir()),
               "the removal of the segment")
    return ONCE, NEVER


def letter(q):
    q.sesd.control("refuse off")
    q.sesd.rule('on DOT reply "554 Transaction failed: x"')
    q.relay.wait_log(q.hand_in() + ": removed")
    return MAYBE, ONCE


def letter_old(q):
    letter(q)
    passed(q)
    return NEVER, ONCE


STEPS = (mail, rcpt, data, half, dot, accepted, at_ses, outcome, outcome_old,
         one_of_two, letter, letter_old, removed)
LARGE_SAMPLE = (half, dot, accepted, outcome_old, letter)


def chosen(large, step, sample):
    return not sample or (step in LARGE_SAMPLE if large else
                          step is not removed)


def cut_after(directory, certs, kind, large, name, step, *args):
    q = Quiet(directory, certs, kind, large)
    try:
        allowed = step(q, *args)
        q.cut()
        q.recover()
        q.judge(*allowed)
    except (AssertionError, Failed) as e:
        raise Failed(f"{kind}, {'large' if large else 'small'} message, cut "
                     f"after {name}: {e}; the relay's log ends\n"
                     f"{q.relay.log()[-2000:]}") from e
    finally:
        q.close()


def all_steps(work, certs, kind, seed, sample):
    memory = scratch(work)
    rng = random.Random(seed)
    todo = [(large, step.__name__, step) for large in (False, True)
            for step in STEPS if chosen(large, step, sample)]
    todo += [(large, f"the dot and {delay * 1000:.2f} ms", dot, delay)
             for large in (False, True)
             for delay in (rng.uniform(0, 0.012 if large else 0.004)
                           for _ in range(DOTS_SAMPLE if sample else DOTS))]
    for number, (large, name, *step) in enumerate(todo):
        cut_after(memory / str(number), certs, kind, large, name, *step)
    return len(todo)


def run(work, certs, seed, sample):
    """How many cuts there were."""
    return sum(all_isolated(*((all_steps, work, certs, kind, seed, sample)
                              for kind in ("ext4", "xfs"))))
