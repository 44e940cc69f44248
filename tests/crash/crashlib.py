"""What the tests of tests/crash share: the oracle."""
import collections
import json
import re
import secrets

import harness


class Failed(Exception):
    """The relay broke a promise."""


class Impossible(Exception):
    """This machine cannot do what the test needs."""


def need(condition, text):
    if not condition:
        raise Failed(text() if callable(text) else text)


# --- what was handed in, and what became of it ---

class Mail:
    """A message, whom it is for, and what its client was told."""

    def __init__(self, kind, size=1, good=(harness.RCPT,), bad=()):
        self.message_id = f"{kind}.{secrets.token_hex(8)}@example.com"
        line = f".{self.message_id}, line by line\r\n".encode()
        self.content = harness.message(line * (size // len(line) + 1),
                                       subject=kind,
                                       message_id=self.message_id)
        self.good, self.bad = list(good), list(bad)
        self.reply = None  # the last one; None: nothing was handed in
        self.finished = False  # delivered before what is looked at

    @property
    def accepted(self):
        return bool(self.reply) and self.reply.startswith("250 ")

    @property
    def refused(self):
        """Never to be delivered; when no reply came, nobody knows."""
        return self.reply is None or self.reply[:1] in ("4", "5")

    @property
    def qid(self):
        """When it was accepted."""
        return self.reply.split()[-1] if self.accepted else None

    def __repr__(self):
        return f"{self.message_id} ({self.reply!r})"


def hand_in(session, mail):
    """All of it, or as far as it is taken; mail.reply is "" when the
    connection is lost behind the final dot."""
    stuffed = re.sub(rb"(?m)^\.", b"..", mail.content)
    for line, want in [(f"MAIL FROM:<{harness.SENDER}>", "250"),
                       *((f"RCPT TO:<{rcpt}>", "250")
                         for rcpt in mail.good + mail.bad),
                       ("DATA", "354")]:
        reply = session.do(line)
        if not reply.startswith(want):
            mail.reply = reply
            return
    session.sock.sendall(stuffed)
    mail.reply = ""
    session.sock.sendall(b".\r\n")
    mail.reply = session.reply()


class Deliveries:
    """What a Sesd took since the last call of restart()."""

    def __init__(self, sesd):
        self.sesd = sesd
        self.at = 0
        self.entries = []

    def read(self):
        """{Message-ID: [entry]}"""
        if self.sesd.journal.exists():
            with open(self.sesd.journal, "rb") as f:
                f.seek(self.at)
                text = f.read()
            end = text.rfind(b"\n") + 1
            self.at += end
            self.entries += [e for e in map(json.loads,
                                            text[:end].splitlines())
                             if "event" not in e]
        found = collections.defaultdict(list)
        for e in self.entries:
            found[e["message_id"]].append(e)
        return found

    def restart(self):
        self.read()
        for e in self.entries:
            (self.sesd.store / f"{e['id']}.eml").unlink(missing_ok=True)
        self.entries = []


def read_letters(relay):
    """{Message-ID: [(fields, content)]} of failed/."""
    letters = collections.defaultdict(list)
    for name in relay.dead_letters():
        fields, raw = relay.dead_letter(name.removesuffix(".eml"))
        content = harness.without_received(raw)
        m = re.search(rb"^Message-ID: <(.*)>\r\n", content, re.M)
        letters[m[1].decode()].append((fields, content))
    return letters


def judge(mails, deliveries, letters):
    """Nothing accepted lost, nothing refused delivered, nothing garbled;
    {mail: copies beyond the first}, the same for letters."""
    taken = deliveries.read()
    known = {m.message_id for m in mails}
    need(known >= set(taken), f"delivered, but by whom? {set(taken) - known}")
    need(known >= set(letters), f"whose are these? {set(letters) - known}")
    more_copies, more_letters = {}, {}
    for mail in mails:
        copies = taken.get(mail.message_id, [])
        buried = letters.get(mail.message_id, [])
        for e in copies:
            content = harness.without_received(deliveries.sesd.stored(e))
            need(content == mail.content, f"{mail}: garbled: {e}")
            need(sorted(e["rcpts"]) == sorted(mail.good),
                 f"{mail}: delivered to others: {e}")
        for fields, content in buried:
            need(content == mail.content, f"{mail}: its letter is garbled")
            need(fields["Recipient"] == mail.bad,
                 f"{mail}: a letter for others: {fields}")
        need(not mail.refused or not copies and not buried,
             f"{mail}: refused, and delivered")
        if mail.finished:
            need(not copies and not buried, f"{mail}: finished, and again")
        elif mail.accepted:
            need(copies or not mail.good, f"{mail}: accepted, and LOST")
            need(buried or not mail.bad, f"{mail}: its letter is LOST")
        if len(copies) > 1:
            more_copies[mail] = len(copies) - 1
        if len(buried) > 1:
            more_letters[mail] = len(buried) - 1
    return more_copies, more_letters


def check_at_rest(spool):
    """Of a relay that has nothing to do and was stopped."""
    files = sorted(str(p.relative_to(spool)) for p in spool.rglob("*")
                   if not p.is_dir())
    odd = [f for f in files
           if not re.fullmatch(r"lock|clock|crashed|outcomes/\d{9}|"
                               r"failed/[0-9A-F]{16}(\.\d+)?\.eml", f)]
    need(not odd, f"left over in the spool: {odd}")
    need(len(files) < 20, f"more and more files: {files}")
