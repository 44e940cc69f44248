"""Where content ends, and where it doesn't: everything that some server has once
taken for an end of data, in every state that a message can be in, and however
it is cut on the way.

Each variant is a message with commands behind what is no end; were they run,
there would be mail from SMUGGLED.  Replies are counted at the client, messages
at sesd, which notes any bare CR, LF or NUL that reaches it after TLS.  The
tests of a group share a relay, and the variants are sent side by side.
"""

import contextlib
import pathlib
import signal
import time

import pytest

from conftest import Stage
from harness import (RCPT, SENDER, Workdir, message, wait_until,
                     without_received)
from intake_helpers import (SMUGGLED, Client, accepted, envelope, injected,
                            stuff, unread, wait_accepted)

# Name, what stands between a body and commands that must stay text, the reply,
# and what becomes of it in an accepted message.  "LF" marks those that have a
# bare LF, and no worse: "reject" refuses them.
VARIANTS = [
    ("lf.lf", b"\n.\n", "LF", b"\r\n.\r\n"),
    ("lf.crlf", b"\n.\r\n", "LF", b"\r\n.\r\n"),
    ("crlf.lf", b"\r\n.\n", "LF", b"\r\n.\r\n"),
    ("cr.cr", b"\r.\r", "550", None),
    ("cr.crlf", b"\r.\r\n", "550", None),
    ("crlf.cr", b"\r\n.\r", "550", None),
    ("lf.cr", b"\n.\r", "550", None),
    ("cr.lf", b"\r.\n", "550", None),
    ("crlf.crcrlf", b"\r\n.\r\r\n", "550", None),
    ("crcrlf.crcrlf", b"\r\r\n.\r\r\n", "550", None),
    ("crlf-nul.crlf", b"\r\n\0.\r\n", "550", None),
    ("crlf.nul-crlf", b"\r\n.\0\r\n", "550", None),
    ("crlf.cr-nul-lf", b"\r\n.\r\0\n", "550", None),
    ("cr-nul-lf.crlf", b"\r\0\n.\r\n", "550", None),
    ("dot-blank", b"\r\n. \r\n", "250", b"\r\n \r\n"),
    ("blank-dot", b"\r\n .\r\n", "250", b"\r\n .\r\n"),
    ("dot-tab", b"\r\n.\t\r\n", "250", b"\r\n\t\r\n"),
    ("two-dots", b"\r\n..\r\n", "250", b"\r\n.\r\n"),
    ("lf-two-dots-lf", b"\n..\n", "LF", b"\r\n.\r\n"),
    ("vt.vt", b"\x0b.\x0b", "250", b"\x0b.\x0b"),
    ("ff.ff", b"\x0c.\x0c", "250", b"\x0c.\x0c"),
    ("nel.nel", b"\x85.\x85", "250", b"\x85.\x85"),
    ("ls.ls", "\u2028.\u2028".encode(), "250", "\u2028.\u2028".encode()),
    ("lflf.crlf", b"\n\n.\r\n", "LF", b"\r\n\r\n.\r\n"),
    ("crlf.lf.crlf", b"\r\n.\n.\r\n", "LF", b"\r\n.\r\n.\r\n"),
    ("no-line-end", b".", "250", b"."),
]
SMUGGLE = (b"MAIL FROM:<" + SMUGGLED.encode() + b">\r\n"
           b"RCPT TO:<" + SMUGGLED.encode() + b">\r\nDATA\r\n"
           b"From: " + SMUGGLED.encode() + b"\r\n\r\nsmuggled\r\n")
LINE = b"x" * 98 + b"\r\n"
# conn.c reads that much at a time when there is more.
READ_BYTES = 65536


def header(subject):
    """One with all that a message has to have: nothing is added to it."""
    return (b"From: app@example.com\r\nTo: user@example.net\r\n"
            b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
            b"Message-ID: <%s@example.com>\r\nSubject: %s\r\n\r\n" %
            (subject.replace(b" ", b"."), subject))


class Site:
    """A relay and a sesd for the tests of a group."""

    def __init__(self, stage, config):
        self.stage = stage
        self.sesd = stage.sesd()
        self.relay = stage.relay(self.sesd, config=config)

    def messages(self, group):
        return [e for e in self.sesd.messages()
                if e["from"].endswith(f"@{group}.example")]

    def judge(self, group, expected):
        """Exactly these contents came, each once, and nothing else of this
        group or of nobody's."""
        wait_until(lambda: len(self.messages(group)) >= len(expected),
                   f"{len(expected)} messages of {group}")
        self.relay.wait_empty()
        entries = self.messages(group)
        got = [self.sesd.stored(e) for e in entries]
        assert sorted(map(without_received, got)) == sorted(expected)
        seen = str([(e["from"], e["rcpts"]) for e in self.sesd.messages()])
        assert SMUGGLED not in seen
        assert self.relay.dead_letters() == []
        assert self.sesd.events("protocol") == []


@contextlib.contextmanager
def one_site(certs, config):
    with Workdir("corpus") as path:
        stage = Stage(pathlib.Path(path), certs)
        try:
            yield Site(stage, config)
        finally:
            stage.end()


@pytest.fixture(scope="module")
def normalizing(certs):
    with one_site(certs, {}) as site:
        yield site


@pytest.fixture(scope="module")
def rejecting(certs):
    with one_site(certs, {"smtp.bare_newline": '"reject"'}) as site:
        yield site


@pytest.fixture(scope="module")
def small(certs):
    """Of messages over a kilobyte, the rest is thrown away."""
    with one_site(certs, {"smtp.max_message_size": '"1K"'}) as site:
        yield site


@pytest.fixture(scope="module")
def full(certs):
    """A spool that a message outgrows."""
    with one_site(certs, {"spool.max_size": '"300K"'}) as site:
        yield site


# --- how the bytes are cut on their way ---

def all_drained(clients):
    for c in clients:
        own = c.sock.getsockname()[1]
        end = time.monotonic() + 30
        while unread(own, c.port) > 0:
            assert time.monotonic() < end, "the relay does not read"


def send_in_step(clients, pieces):
    """The first piece of each, and when all are read, the second, and so on:
    each is a segment, and a read, of its own."""
    for k in range(max(map(len, pieces))):
        for c, mine in zip(clients, pieces):
            if k < len(mine):
                c.send(mine[k])
        all_drained(clients)


def whole(content, at, end):
    return [[content]]


def bytewise(content, at, end):
    return [[content[:at]] + [content[i:i + 1]
                              for i in range(at, len(content))]]


def every_split(content, at, end):
    """Two segments, cut before, in and behind what is no end, and in the true
    one."""
    cuts = [*range(at - 1, at + len(end) + 3),
            *range(len(content) - 5, len(content))]
    return [[content[:i], content[i:]] for i in cuts]


CUTS = {"whole": whole, "bytewise": bytewise, "every split": every_split}


def open_lanes(site, n, prelude=None):
    clients = []
    for _ in range(n):
        c = Client(site.relay.port).ehlo()
        if prelude:
            prelude(c)
        clients.append(c)
    return clients


def run(site, group, cut, before=b"", prelude=None, started=None):
    """({name: set of replies}, contents that were accepted); each session is
    in step afterwards."""
    lanes = []  # name, content as it would be accepted, pieces
    for name, end, _, text in VARIANTS:
        head = header(name.encode()) + before + b"body"
        content = head + end + SMUGGLE + b".\r\n"
        for pieces in CUTS[cut](content, len(head), end):
            lanes.append((name, head + (text or b"") + SMUGGLE, pieces))
    clients = open_lanes(site, len(lanes), prelude)
    for c, (name, _, _) in zip(clients, lanes):
        c.begin(sender=f"{name}@{group}.example")
    with started() if started else contextlib.nullcontext():
        send_in_step(clients, [pieces for _, _, pieces in lanes])
        replies = {}
        expected = []
        for c, (name, content, _) in zip(clients, lanes):
            reply = c.reply()[:3].decode()
            replies.setdefault(name, set()).add(reply)
            if reply == "250":
                expected.append(content)
            c.in_step()
            c.quit()
    return replies, expected


def replies_for(lf):
    return {name: {lf if code == "LF" else code}
            for name, _, code, _ in VARIANTS}


def all_refused(code):
    return {name: {code} for name, *_ in VARIANTS}


# --- messages that are taken ---

def after_rset(c):
    c.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRSET\r\n")
    assert [x[:3] for x in c.replies(3)] == [b"250"] * 3


def after_refused_content(c):
    c.begin(sender=SENDER)
    c.send(message(b"a\rb\r\n") + b".\r\n")
    assert c.reply().startswith(b"550 5.5.2 ")


def after_refused_commands(c):
    c.send(b"MAIL FROM:<root>\r\nRCPT TO:<\0>\r\nNOOP " + b"x" * 3000 +
           b"\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<x\r>\r\nRSET\r\n")
    assert [x[:3] for x in c.replies(6)] == [
        b"550", b"501", b"500", b"250", b"501", b"250"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("prelude", [None, after_rset, after_refused_content,
                                     after_refused_commands])
def test_nothing_else_ends_the_data(normalizing, cut, prelude):
    group = f"{prelude.__name__ if prelude else 'first'}.{cut}"
    group = group.replace("_", "-").replace(" ", "-")
    replies, expected = run(normalizing, group, cut, prelude=prelude)
    assert replies == replies_for("250")
    normalizing.judge(group, expected)


@pytest.mark.parametrize("cut", CUTS)
def test_nothing_else_ends_the_data_when_newlines_are_rejected(rejecting, cut):
    group = cut.replace(" ", "-")
    replies, expected = run(rejecting, group, cut)
    assert replies == replies_for("550")
    rejecting.judge(group, expected)


def test_at_the_edge_of_a_read(normalizing):
    """What is no end stands across the end of the most that is read at a time.
    The relay is stopped while the kernel gets it all, so that the read ends
    there and nowhere else."""
    offsets = range(READ_BYTES - 9, READ_BYTES + 4)
    clients = open_lanes(normalizing, len(offsets))
    for c in clients:
        # Lets the kernel's buffer grow.
        c.begin(sender="large@warm.example")
        c.send(b"\r" + LINE * 20000 + b".\r\n")
        assert c.reply().startswith(b"550 ")
    expected = []
    process = normalizing.relay.process
    for name, end, code, text in VARIANTS:
        for c in clients:
            c.begin(sender=f"{name}@edge.example")
        process.kill(signal.SIGSTOP)
        try:
            for c, at in zip(clients, offsets):
                head = header(b"%s %d" % (name.encode(), at))
                body = LINE * (READ_BYTES // len(LINE) - 4)
                head += body + b"y" * (at - len(head) - len(body))
                assert len(head) == at
                content = head + end + SMUGGLE + b".\r\n"
                c.send(content)
                own = c.sock.getsockname()[1]
                wait_until(lambda: unread(own, c.port) == len(content),
                           "all of it in the kernel")
                if code != "550":
                    expected.append(head + text + SMUGGLE)
        finally:
            process.kill(signal.SIGCONT)
        want = b"550" if code == "550" else b"250"
        assert {c.reply()[:3] for c in clients} == {want}, name
        if VARIANTS.index((name, end, code, text)) % 10 == 9:
            for c in clients:
                c.in_step()
    for c in clients:
        c.in_step()
        c.quit()
    normalizing.judge("edge", expected)


# --- messages that are refused already, and read to their end ---

def still_takes_mail(site, group):
    site.relay.send(sender=f"after@{group}.example")
    wait_until(lambda: site.messages(group), "a message")
    site.relay.wait_empty()
    assert [e["from"] for e in site.messages(group)] == [
        f"after@{group}.example"]
    assert SMUGGLED not in str(site.sesd.messages())
    assert site.relay.count() == 0


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("before", [b"bare\rCR\r\n", b"\0\r\n"],
                         ids=["CR", "NUL"])
def test_nothing_else_ends_what_is_refused_already(normalizing, before, cut):
    group = f"refused{len(before)}.{cut.replace(' ', '-')}"
    replies, expected = run(normalizing, group, cut, before)
    assert replies == all_refused("550")
    assert expected == []
    still_takes_mail(normalizing, group)


@pytest.mark.parametrize("cut", CUTS)
def test_nothing_else_ends_what_is_too_large(small, cut):
    group = cut.replace(" ", "-")
    replies, expected = run(small, group, cut, LINE * 11)
    assert replies == all_refused("552")
    assert expected == []
    still_takes_mail(small, group)


def test_nothing_else_ends_what_does_not_fit_the_spool(full):
    """The refusal comes while the content does: the rest is thrown away."""
    replies, expected = run(full, "full", "whole", LINE * 11000)
    assert replies == all_refused("452")
    assert expected == []
    still_takes_mail(full, "full")


def test_nothing_else_ends_what_cannot_be_written(normalizing):
    """The same when the disk refused a part of it."""
    relay = normalizing.relay
    replies, expected = run(
        normalizing, "broken", "whole", LINE * 11000,
        started=lambda: injected(relay, "openat:error=EIO"))
    assert replies == all_refused("451")
    assert expected == []
    # The disk is tried again in a while.
    wait_until(lambda: relay.submit().do("MAIL FROM:<a@b.example>")[:1] == "2",
               "a spool that can be written")
    still_takes_mail(normalizing, "broken")


# --- what does end it ---

def test_the_end_is_seen_as_such(normalizing):
    """The true end in the same place: what follows is run.  This is how a
    variant would show that was taken for one."""
    with Client(normalizing.relay.port) as c:
        c.ehlo().begin(sender="first@control.example")
        c.send(header(b"first") + b"body\r\n.\r\n" +
               envelope("second@control.example") + header(b"second") +
               b".\r\n")
        accepted(c.reply())
        assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
        accepted(c.reply())
        c.in_step()
    wait_until(lambda: len(normalizing.messages("control")) == 2, "both")


def test_stray_cr_before_the_true_end(normalizing):
    """CR CRLF.CRLF is an end: that message is refused, the next is mail."""
    with Client(normalizing.relay.port) as c:
        c.ehlo().begin(sender="stray@stray.example")
        c.send(message(b"body\r\r\n.\r\n") + envelope("next@stray.example") +
               stuff(message()))
        assert c.reply().startswith(b"550 5.5.2 ")
        assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
        accepted(c.reply())
        c.in_step()
    wait_until(lambda: normalizing.messages("stray"), "the next")
    normalizing.relay.wait_empty()
    assert [e["from"] for e in normalizing.messages("stray")] == [
        "next@stray.example"]


@pytest.mark.parametrize("cut", ["whole", "bytewise"])
def test_transactions_behind_every_variant(normalizing, cut):
    """Those behind the true end are neither lost nor taken for content."""
    group = f"behind.{cut}"
    expected = []
    for name, end, code, text in VARIANTS:
        head = header(name.encode()) + b"body"
        following = header(b"behind " + name.encode())
        data = (head + end + SMUGGLE + b".\r\n" +
                envelope(f"behind@{group}.example") + stuff(following) +
                b"QUIT\r\n")
        with Client(normalizing.relay.port) as c:
            c.ehlo().begin(sender=f"{name}@{group}.example")
            if cut == "whole":
                c.send(data)
            else:
                c.send_bytewise(data)
            first = c.reply()
            if code == "550":
                assert first.startswith(b"550 "), name
            else:
                accepted(first)
                expected.append(head + text + SMUGGLE)
            assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
            accepted(c.reply())
            expected.append(following)
            assert c.rest() == b"221 2.0.0 Bye\r\n"
    normalizing.judge(group, expected)


FIRST_LINES = {
    "nothing": (b"", b""),
    "an empty line": (b"\r\n", b"\r\n"),
    "a dot": (b"..\r\n", b".\r\n"),
    "two dots": (b"...\r\n", b"..\r\n"),
    "a dot and text": (b"..text\r\n", b".text\r\n"),
    "a dot that is not stuffed": (b".text\r\n", b"text\r\n"),
    "no line end but the dot's": (b"text\r\n", b"text\r\n"),
    "a bare newline": (b"\n\r\n", b"\r\n\r\n"),
    "a dot and a newline": (b".\n\r\n", b".\r\n\r\n"),
    "a dot and many": (b"." + b"y" * 500 + b"\r\n", b"y" * 500 + b"\r\n"),
}


@pytest.mark.parametrize("cut", ["whole", "bytewise"])
def test_first_line(relay, sesd, cut):
    """Of content without a header: the line start behind DATA is one."""
    s = sesd(settings={"strict_headers": 0})
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo()
        for sent, _ in FIRST_LINES.values():
            c.begin()
            (c.send if cut == "whole" else c.send_bytewise)(sent + b".\r\n")
            accepted(c.reply())
        c.quit()
    wait_accepted(s, len(FIRST_LINES))
    got = [s.stored(e) for e in s.messages()]
    for name, (_, text) in FIRST_LINES.items():
        found = [c for c in got if c.endswith(b"\r\n" + text)]
        assert found, (name, got)
        got.remove(min(found, key=len))
    assert got == []
    assert {tuple(e["rcpts"]) for e in s.messages()} == {(RCPT,)}
