"""What the clients are given to send, and whether what came out at the other
end is that.

A client that sends a file as it is gets a whole message; one that makes the
message itself gets a text, perhaps a file to attach, and the addresses.  The
first is compared byte for byte with LF made CRLF, the second by its decoded
text, by the digest of what is attached, and by its addresses.
"""

import base64
import email
import email.policy
import email.utils
import hashlib
import random
import re
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import SENDER, without_received  # noqa: E402

TO, CC, BCC = "to@example.net", "cc@example.org", "bcc@example.com"
SUBJECT = "by a real client"
BLOB_NAME = "blob.bin"

DOTS = "first line\n.\n.dot at the start\n\n.\nFrom_here on\n.last\n"
# A client that stuffs no dot behind a bare LF means one dot by these.
TWO_DOTS = "..\n...\n..two at the start\n\n..\n"
UTF8 = "Gr\u00fc\u00dfe aus Z\u00fcrich \u65e5\u672c\u8a9e \U0001f4e8\n"
LONG = "".join(f"{n} " + "x" * (n - 4) + "\n" for n in (900, 989, 990, 997))
assert max(map(len, LONG.splitlines())) == 997
# What a base64 of 200 KB holds.
BLOB = random.Random(5).randbytes(200 * 1024 * 3 // 4)


class Mail:
    """One thing to send."""

    def __init__(self, name, text, rcpts=(TO,), blob=None):
        self.name = name
        self.text = text
        self.rcpts = list(rcpts)
        self.blob = blob

    def raw(self, end="\n", extra=""):
        """The whole message as a file has it."""
        head = (f"From: {SENDER}\nTo: {TO}\n"
                + (f"Cc: {CC}\n" if CC in self.rcpts else "") + extra
                + f"Subject: {SUBJECT}\n"
                f"Date: Sun, 01 Mar 2026 10:00:00 +0000\n"
                f"Message-ID: <{self.name}@example.com>\nMIME-Version: 1.0\n")
        plain = ("Content-Type: text/plain; charset=utf-8\n"
                 "Content-Transfer-Encoding: 8bit\n\n" + self.text)
        if self.blob is None:
            text = head + plain
        else:
            text = (head + 'Content-Type: multipart/mixed; boundary="=_"\n\n'
                    "--=_\n" + plain + "\n--=_\n"
                    "Content-Type: application/octet-stream\n"
                    "Content-Transfer-Encoding: base64\n"
                    f"Content-Disposition: attachment; filename={BLOB_NAME}\n"
                    "\n" + base64.encodebytes(self.blob).decode() + "--=_--\n")
        return text.replace("\n", end).encode()

    def write(self, directory, end="\n", extra=""):
        """Into a directory, for a client to read."""
        (directory / "message").write_bytes(self.raw(end, extra))
        (directory / "text").write_bytes(self.text.encode())
        blob = directory / BLOB_NAME
        blob.unlink(missing_ok=True)
        if self.blob is not None:
            blob.write_bytes(self.blob)


MAILS = [
    Mail("dots", DOTS),
    Mail("two-dots", TWO_DOTS),
    Mail("8-bit", UTF8),
    Mail("long", LONG),
    Mail("200K", "see the file\n", blob=BLOB),
    Mail("empty", ""),
    Mail("bcc", "to three\n", rcpts=(TO, CC, BCC)),
]


class Unequal(Exception):
    """What arrived is not what was given; says where."""


def canonical(content):
    """As SMTP carries it: CRLF everywhere, and at the end."""
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def same(what, got, want):
    if got == want:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b),
              min(len(got), len(want)))
    start = max(0, at - 20)
    raise Unequal(f"{what}: at {at} of {len(want)}: has "
                  f"{got[start:at + 40]!r}, not {want[start:at + 40]!r}")


def without_added(stored, sent):
    """The content without what the relay adds: its own field on top, and at
    the end of the header a Date and a Message-ID that it did not have."""
    content = without_received(stored)
    head, gap, body = content.partition(b"\r\n\r\n")
    had = b"\n" + sent.partition(b"\r\n\r\n")[0].lower()
    fields = head.split(b"\r\n")
    for name in (b"message-id:", b"date:"):
        if fields[-1].lower().startswith(name) and b"\n" + name not in had:
            fields.pop()
    return b"\r\n".join(fields) + gap + body


def judge_envelope(mail, entry, sender=SENDER):
    if (entry["from"], sorted(entry["rcpts"])) != (sender, sorted(mail.rcpts)):
        raise Unequal(f"envelope {entry['from']} {entry['rcpts']}")


def judge_raw(mail, stored, adds=b"", top=b""):
    """Is it the file, and what this client is known to add at its end, or on
    top (a pattern)?"""
    got = without_received(stored)
    on_top = re.match(top, got)
    if not on_top:
        raise Unequal(f"on top: {got[:200]!r}")
    same("content", got[on_top.end():], canonical(mail.raw()) + adds)


def text_of(part):
    return part.get_content().replace("\r\n", "\n")


def addresses(parsed, name):
    fields = [str(v) for v in parsed.get_all(name, [])]
    return [a for _, a in email.utils.getaddresses(fields)]


def judge_made(mail, stored, sender=SENDER):
    """Does the message that the client made say what it was told?"""
    content = without_received(stored)
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    for name, want in (("From", [sender]), ("To", [TO]),
                       ("Cc", [a for a in mail.rcpts if a == CC]),
                       ("Bcc", [])):
        same(name, addresses(parsed, name), want)
    same("Subject", str(parsed["Subject"]), SUBJECT)
    if BCC.encode() in content:
        raise Unequal("the Bcc recipient can be seen")
    body = parsed.get_body(("plain",))
    text = text_of(body) if body is not None else ""
    # Most end the text with a line of their own, or take the last end away.
    same("text", text.rstrip("\n"), mail.text.rstrip("\n"))
    digests = [hashlib.sha256(p.get_content()).hexdigest()
               for p in parsed.iter_attachments()]
    same("attached", digests, [] if mail.blob is None else
         [hashlib.sha256(mail.blob).hexdigest()])
