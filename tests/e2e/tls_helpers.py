"""What the tests of TLS and of STARTTLS share: how mail waits while the way to
SES is not to be trusted, and that it arrives afterwards."""

from harness import without_received

MODES = ["starttls", "wrapper"]
SHORT = {"delivery.timeout_greeting": '"300ms"',
         "delivery.timeout_tls": '"300ms"',
         "delivery.timeout_command": '"300ms"'}


def said(s, **fields):
    """The commands that sesd was given, if it was told to trace them."""
    return {e["line"].split()[0] for e in s.events("command")
            if all(e[k] == v for k, v in fields.items())}


def held_back(s, r, qid, words):
    """The log tells of the fault; the message is there, uncharged; nothing
    was said to SES beyond STARTTLS."""
    for text in [words] if isinstance(words, str) else words:
        r.wait_log(text)
    r.wait_state("unreachable")
    assert "unreachable" in r.ctl("status").lower()
    assert r.count() == 1
    [m] = r.ctl_json("queue")
    assert (m["id"], m["attempts"]) == (qid, 0)
    assert r.outcomes() == [] and r.dead_letters() == []
    assert s.messages() == [] and s.events("auth") == []
    assert not said(s) & {"AUTH", "MAIL", "HELO"}
    assert s.events("protocol") == []


def arrives(s, r, qid, content):
    r.wait_outcome(qid, "sent")
    r.wait_empty()
    # In clear nothing was ever said but this, however the fault ended.
    assert said(s, tls=False) <= {"EHLO", "STARTTLS"}
    assert [without_received(s.stored(e)) for e in s.messages()] == [content]
    assert s.messages()[0]["tls"] in ("TLSv1.2", "TLSv1.3")
    assert [o["status"] for o in r.outcomes(qid)] == ["sent"]
    assert r.state() == "ok"
