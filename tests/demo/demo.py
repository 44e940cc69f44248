#!/usr/bin/env python3
"""The main job, shown: real programs hand real messages to the relay, the
relay hands them to the SES emulator over verified TLS, in both TLS modes.

Prints for each message which client sent it, its queue id, SES's id, its size,
and whether the content arrived as it was sent: unchanged but for the header
that a relay adds, or with the Date or Message-ID that it lacked.  Exit status 0
only if every message did.
"""

import email.errors
import email.parser
import email.policy
import pathlib
import re
import smtplib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import (DATE, Relay, Sesd, Workdir, make_certificates,  # noqa
                     wait_until)

CORPUS = pathlib.Path("/usr/lib/python3.11/test/test_email/data")
SENDER = "app@example.com"
RECIPIENT = "someone@example.net"
SINGLE = ("date from sender reply-to subject message-id mime-version "
          "content-type content-transfer-encoding content-disposition "
          "return-path references in-reply-to user-agent precedence").split()


def canonical(content):
    """As SMTP carries it: CRLF everywhere, and at the end."""
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def unfit(content):
    """Why SES would refuse this message; None if it would not."""
    if re.search(rb"\r(?!\n)|\0", content):
        return "bare CR or NUL"
    head = email.parser.BytesHeaderParser(
        policy=email.policy.compat32).parsebytes(content)
    if "from" not in head:
        return "no From"
    for name in SINGLE:
        if len(head.get_all(name, [])) > 1:
            return f"two {name}"
    if any(isinstance(d, email.errors.MissingHeaderBodySeparatorDefect)
           for d in head.defects):
        return "a line in the header that is no field"
    if head.get("return-path") == "<>":
        return "bounces to nobody"
    for name in ("from", "to", "cc"):
        if name in head and "@" not in str(head[name]):
            return f"{name} without a domain"
    if max(map(len, canonical(content).split(b"\r\n"))) > 998:
        return "a line over 998"
    return None


def corpus():
    """(name, content) of what is to be sent, and how many were left out."""
    messages, left_out = [], 0
    for path in sorted(CORPUS.glob("msg_*.txt")):
        content = path.read_bytes()
        if unfit(content) is None:
            messages.append((path.name, content))
        else:
            left_out += 1
    head = (f"From: {SENDER}\nTo: {RECIPIENT}\nSubject: %s\n"
            f"{DATE}\nMessage-ID: <%s@example.com>\nMIME-Version: 1.0\n"
            "Content-Type: text/plain; charset=utf-8\n"
            "Content-Transfer-Encoding: 8bit\n\n")
    dots = "".join("." * (i % 5) + f" line {i}\n" for i in range(500))
    messages.append(
        ("dots", (head % ("dots", "dots") + ".\n..\n...\n" + dots).encode()))
    messages.append(
        ("8-bit", (head % ("8-bit", "8-bit") +
                   "Grüße aus Zürich — 日本語\n" * 50).encode()))
    import base64
    blob = base64.encodebytes(bytes(range(256)) * (10_000_000 // 256))
    messages.append(
        ("10 MB attachment",
         (head % ("attachment", "attachment")).encode() + blob))
    return messages, left_out


def by_curl(port, path):
    subprocess.run(
        ["curl", "-sS", f"smtp://127.0.0.1:{port}/client.example",
         "--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "-T", str(path)],
        check=True, timeout=50)


def by_msmtp(port, path):
    with path.open("rb") as f:
        subprocess.run(
            ["msmtp", "-C", "/dev/null", "--host=127.0.0.1", f"--port={port}",
             f"--from={SENDER}", "--set-from-header=off",
             "--set-date-header=off", "--set-msgid-header=off",
             "--remove-bcc-headers=off",
             "--undisclosed-recipients=off", "--", RECIPIENT],
            stdin=f, check=True, timeout=50)


def by_smtplib(port, path):
    with smtplib.SMTP("127.0.0.1", port, timeout=50) as s:
        s.sendmail(SENDER, [RECIPIENT], path.read_bytes())


CLIENTS = [("curl", by_curl), ("msmtp", by_msmtp), ("smtplib", by_smtplib)]


def queue_id(relay, seen):
    """The id of the message that was accepted last."""
    def find():
        ids = re.findall(r"/qmgr\[\d+\]: ([0-9A-F]{16}): from=", relay.log())
        return ids[-1] if len(ids) > seen else None
    return wait_until(find, "the accepted message in the log")


def ses_id(relay, qid):
    def find():
        m = re.search(qid + r": to=.*status=sent \(250 Ok (\S+?)\)",
                      relay.log())
        return m and m.group(1)
    return wait_until(find, f"{qid} to be sent", 40)


def outcome(sesd, sid, content):
    """What became of the content, without the Received field that the relay
    put on top: None if it is not as it should be."""
    stored = (sesd.store / f"{sid}.eml").read_bytes()
    m = re.match(rb"Received: [^\r]*\r\n([ \t][^\r]*\r\n)*", stored)
    if m is None:
        return None
    stored, content = stored[m.end():], canonical(content)
    if stored == content:
        return "unchanged"
    # The separator of a mailbox file is no header field.
    content = re.sub(rb"\AFrom [^\r]*\r\n", b"", content)
    head, _, body = content.partition(b"\r\n\r\n")
    m = re.fullmatch(re.escape(head) + rb"\r\n((?:Date: [^\r]*\r\n)?"
                     rb"(?:Message-ID: [^\r]*\r\n)?)\r\n" + re.escape(body),
                     stored)
    if m is None:
        return None
    added = re.findall(rb"^([\w-]+):", m[1], re.M)
    if not added:
        return "without the mailbox's From line"
    return "with " + b" and ".join(added).decode() + " added"


def show(relay, sesd, messages, mode, directory):
    good = 0
    print(f"\n{mode}: relay on 127.0.0.1:{relay.port} -> emulator on "
          f"127.0.0.1:{sesd.ports[mode]}, TLS verified")
    print(f"{'message':<18}{'client':<9}{'queue id':<18}{'SES id':<58}"
          f"{'bytes':>9}  content")
    for i, (name, content) in enumerate(messages):
        client, send = CLIENTS[i % len(CLIENTS)]
        path = directory / "message"
        # curl and smtplib put a line end of their own behind LF files.
        path.write_bytes(content if client == "msmtp" else canonical(content))
        send(relay.port, path)
        qid = queue_id(relay, i)
        sid = ses_id(relay, qid)
        what = outcome(sesd, sid, content)
        good += what is not None
        print(f"{name:<18}{client:<9}{qid:<18}{sid:<58}{len(content):>9}  "
              f"{what or 'CHANGED'}")
    return good


def main():
    began = time.monotonic()
    messages, left_out = corpus()
    assert len(messages) >= 20, f"only {len(messages)} messages"
    print(f"{len(messages)} messages ({left_out} more of the corpus are of "
          "the kind that SES refuses: no From, two of a header, ...)")
    good = 0
    with Workdir("demo") as directory:
        certs = make_certificates(directory / "certs")
        sesd = Sesd(directory / "sesd", certs,
                    options=["--store", str(directory / "sesd/store")])
        try:
            for mode in ("starttls", "wrapper"):
                relay = Relay(directory / mode, sesd, mode)
                try:
                    good += show(relay, sesd, messages, mode, directory)
                    relay.wait_empty()
                    print(f"left in the spool: {relay.count()} messages")
                    code = relay.stop()
                    print(f"relay stopped, exit {code}")
                    good += code == 0
                finally:
                    relay.close()
        finally:
            sesd.close()
        violations = sesd.events("protocol")
    want = 2 * len(messages) + 2
    print(f"\n{good - 2} of {want - 2} messages arrived as they should; protocol "
          f"violations seen by the emulator: {len(violations)}; "
          f"{time.monotonic() - began:.1f} s")
    return 0 if good == want and not violations else 1


if __name__ == "__main__":
    sys.exit(main())
