"""Back-pressure: more mail than the spool may hold, or than there is memory
for, is put off with 452 4.3.1, as early as it can be known, and taken again
when the cause has ended, without anybody's help."""

import pathlib
import subprocess
import time

import pytest

from harness import message, private_mounts, wait_until
from intake_helpers import (Client, SANITIZER_KIB, by_message_id, envelope,
                            mail_reply, send_together, sessions, stuff,
                            wait_accepted)

# A look at the free space every second, and what it takes on a busy machine.
WITHIN = 1.0 + 1.0


def start_on_tmpfs(relay, size):
    """The spool is a small file system of its own, in a mount namespace."""
    relay.spool.mkdir(mode=0o700)
    mount = (f"mount -t tmpfs -o size={size},mode=0700 spool "
             f"'{relay.spool}' && exec \"$@\"")
    relay.start(wrap=[*private_mounts(), "sh", "-ec", mount, "sh"])
    return pathlib.Path(f"/proc/{relay.process.pid}/root{relay.spool}")


def lines(size):
    return (b"p" * 98 + b"\r\n") * (size // 100)


def ask(c, params=""):
    c.do("RSET")
    return c.do(f"MAIL FROM:<a@example.com>{params}")


def refused_by_size(c, size):
    return mail_reply(c.port, f" SIZE={size}").startswith(b"452 4.3.1 ")


def taken_within(c, seconds=WITHIN):
    began = time.monotonic()
    wait_until(lambda: not refused_by_size(c, 10_000),
               "mail to be taken again", seconds)
    c.do("RSET")
    return time.monotonic() - began


def test_size_at_mail(relay):
    """What a client says of its message decides before a byte of it comes."""
    r = relay(config={"spool.max_size": '"1M"'})
    with Client(r.port) as c:
        c.ehlo()
        assert refused_by_size(c, 1_000_001)
        assert ask(c, " SIZE=999000")[:3] == b"250"
        c.do("RSET")
        c.mail(message(lines(600_000)))
        assert refused_by_size(c, 500_000)
        assert ask(c, " SIZE=300000")[:3] == b"250"
        # It is not for ever: that is 552.
        assert ask(c, " SIZE=99999999999")[:3] == b"552"
        c.in_step()
    assert r.count() == 1


def test_size_at_mail_by_free_space(relay):
    r = relay(start=False, config={"spool.min_free": '"4M"'})
    start_on_tmpfs(r, "24m")
    with Client(r.port) as c:
        c.ehlo()
        wait_until(lambda: refused_by_size(c, 21_000_000), "a look at it")
        assert ask(c, " SIZE=10000000")[:3] == b"250"


@pytest.mark.parametrize("limit", ["min_free", "max_size"])
def test_message_that_outgrows_the_spool(relay, limit):
    """Nothing was said of its size: from where it does not fit, nothing of
    it is kept, its end is read, and the disk is as it was."""
    r = relay(start=False, config={
        "spool.min_free": '"8M"',
        **({"spool.max_size": '"6M"'} if limit == "max_size" else {})})
    inside = start_on_tmpfs(r, "24m")
    most = 0
    with Client(r.port) as c, Client(r.port) as other:
        c.ehlo()
        other.ehlo()
        wait_until(lambda: refused_by_size(other, 17_000_000), "a look")
        other.do("RSET")
        c.begin()
        c.send(message())
        for _ in range(30):
            c.send(lines(1_000_000))
            c.drained()
            most = max(most, sum(
                p.stat().st_size for p in (inside / "large").iterdir()))
        c.send(b".\r\nNOOP\r\n")
        reply = c.reply()
        assert reply.startswith(b"452 4.3.1 "), reply
        assert c.reply() == b"250 2.0.0 Ok\r\n"
        if limit == "max_size":
            assert 2_000_000 < most < 6_500_000
        else:
            # The rest of min_free is never touched.
            assert 8_000_000 < most < 17_000_000
        wait_until(lambda: not list((inside / "large").iterdir()), "no file")
        taken_within(other)
        other.mail()
    assert r.count() == 1


def test_large_message_that_just_fits(relay):
    """What of it is on the disk already is not asked for twice."""
    r = relay(start=False, config={"spool.min_free": '"2M"'})
    start_on_tmpfs(r, "24m")
    with Client(r.port) as c:
        c.ehlo()
        wait_until(lambda: refused_by_size(c, 24_000_000), "a look")
        c.do("RSET")
        c.begin()
        c.send(message())
        for i in range(14):
            c.send(lines(1_000_000))
            c.drained()
        # The spool has looked again meanwhile.
        free = r.status()["spool"]["free_bytes"]
        wait_until(lambda: r.status()["spool"]["free_bytes"] < 12_000_000,
                   f"a look after {free}")
        c.send(b".\r\n")
        assert c.reply().startswith(b"250 ")
    assert r.count() == 1


@pytest.mark.parametrize("cause", ["min_free", "max_messages", "max_size"])
def test_recovery_within_a_second(relay, sesd, cause):
    s = sesd()
    s.control("refuse on")
    r = relay(s, start=False, config={
        "spool.min_free": '"6M"',
        **{"min_free": {}, "max_messages": {"spool.max_messages": "3"},
           "max_size": {"spool.max_size": '"50K"'}}[cause]})
    inside = start_on_tmpfs(r, "24m")
    with Client(r.port) as c:
        c.ehlo()
        ids = [c.mail(message(lines(16_000))) for _ in range(3)]
        if cause == "min_free":
            (inside / "filler").write_bytes(bytes(18 << 20))
        wait_until(lambda: refused_by_size(c, 10_000), "452 at MAIL")
        if cause == "min_free":
            (inside / "filler").unlink()
        else:
            r.ctl("delete", ids[0])
        print("taken again after", taken_within(c))
        c.mail()


def test_limit_of_file_size(relay, sesd):
    """EFBIG (a limit of the service): 452, no signal ends us, and it is over
    when the limit is."""
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo()
        first = message(lines(50_000), message_id="first@example.com")
        c.mail(first)
        subprocess.run(["prlimit", "--pid", str(r.process.pid),
                        "--fsize=131072:unlimited"], check=True)
        c.begin()
        c.send(stuff(message(lines(200_000))))
        reply = c.reply()
        assert reply.startswith(b"452 4.3.1 "), reply
        c.begin()
        c.send(stuff(message(lines(3_000_000))))
        reply = c.reply()
        assert reply.startswith(b"452 4.3.1 "), reply
        c.in_step()
        subprocess.run(["prlimit", "--pid", str(r.process.pid),
                        "--fsize=unlimited:unlimited"], check=True)
        assert taken_within(c) < WITHIN
        last = message(lines(3_000_000), message_id="last@example.com")
        c.mail(last)
    s.control("refuse off")
    r.ctl("retry")
    wait_accepted(s, 2)
    r.wait_empty()
    assert by_message_id(s) == {"first@example.com": first,
                                "last@example.com": last}


# Content in memory: INBOUND_MEMORY_MAX (64 MiB) before all of it goes to the
# disk as it comes, doubled by growing buffers at the worst, RELAY_MEMORY_MAX
# (8 MiB) kept for a first attempt, and 64 KiB a session of what is read.
FLOOD_KIB = 220 * 1024


def test_memory_while_upstream_is_away(relay, sesd):
    """200 sessions send 1 MiB each at the same time, again and again, and
    nothing leaves: what is accepted is on the disk, not in memory."""
    s = sesd()
    s.control("refuse on")
    r = relay(s, config={"smtp.max_sessions": "300"}, verbose=False)
    body = lines(1_040_000)
    with sessions(r, 200) as clients:
        for turn in range(3):
            send_together(clients, [envelope() + stuff(message(
                body, message_id=f"t{turn}.{i}@example.com"))
                for i in range(200)])
            for c in clients:
                assert [x[:3] for x in c.replies(4)] == [
                    b"250", b"250", b"354", b"250"]
    assert r.count() == 600
    used = r.peak_memory_kib()
    print(f"{used} KiB for 600 MB")
    assert used < FLOOD_KIB + SANITIZER_KIB
    r.ctl("delete", "--all", "--yes")
