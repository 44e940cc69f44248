"""TLS and the login: whatever is wrong with them, mail is kept, the log says
why, nothing is said in clear that should not be, and mail goes out as soon as
the fault is gone."""

import base64

import pytest

from harness import PASSWORD, USER, Sesd, message, wait_until
from tls_helpers import MODES, SHORT, arrives, held_back

# --- certificates ---

CERTIFICATES = [
    ("expired", "certificate refused: certificate has expired"),
    ("notyet", "certificate refused: certificate is not yet valid"),
    ("othername", "certificate refused: hostname mismatch"),
    ("selfsigned", "certificate refused: self-signed certificate"),
    ("unknownca", "certificate refused: unable to get local issuer"),
    ("cn-only", "certificate refused: hostname mismatch"),
    ("wrongwild", "certificate refused: hostname mismatch"),
    ("nochain", "certificate refused: unable to get local issuer"),
]


@pytest.mark.parametrize("cert,words,mode", [
    *((*c, "wrapper") for c in CERTIFICATES),
    *((*c, "starttls") for c in CERTIFICATES)])
def test_bad_certificate(sesd, relay, certs, cert, words, mode):
    s = sesd(cert=cert)
    r = relay(s, mode)
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, [words, "check ses.endpoint, ses.ca_file"])
    s.control(f"cert {certs}/good.pem {certs}/good.key")
    arrives(s, r, qid, content)


def test_certificate_with_intermediate(sesd, relay):
    s = sesd(cert="chain")
    r = relay(s, "wrapper")
    r.send()
    s.wait_messages(1)


def test_server_comes_back_with_a_good_certificate(stage, sesd, relay, certs):
    s = sesd(cert="expired")
    r = relay(s)
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, "certificate has expired")
    s.stop()
    address = f"127.0.0.1:{s.ports['starttls']}=starttls"
    again = Sesd(s.dir, certs, modes=[address], store=True)
    stage.sesds.append(again)
    arrives(again, r, qid, content)


def test_expired_certificate_does_not_pass_by_a_resumed_session(
        sesd, relay, certs):
    s = sesd()
    r = relay(s, config={"delivery.messages_per_connection": "1"})
    for n in range(3):
        r.send()
        s.wait_messages(n + 1)
    s.control(f"cert {certs}/expired.pem {certs}/expired.key")
    # One may be open already, for the next message.
    s.control("drop-connections")
    r.send()
    r.wait_log("certificate has expired")
    assert r.count() == 1 and len(s.messages()) == 3


def test_other_anchors_than_ca_file_are_not_trusted(sesd, relay):
    s = sesd()
    r = relay(s, config={"ses.ca_file": None})  # the system's
    qid = r.send()
    held_back(s, r, qid, "certificate refused: unable to get local issuer")


def test_address_as_endpoint_is_verified_too(sesd, relay, certs):
    s = sesd()
    r = relay(s, config={"ses.endpoint": '"127.0.0.1"'})
    r.send()
    s.wait_messages(1)  # it stands in the certificate
    s.control(f"cert {certs}/othername.pem {certs}/othername.key")
    s.control("drop-connections")
    r.send()
    r.wait_log("certificate refused: IP address mismatch")
    assert len(s.messages()) == 1


# --- TLS that does not come about ---

@pytest.mark.parametrize("mode", MODES)
def test_old_tls_only(sesd, relay, mode):
    s = sesd(options=["--tls-max", "1.1"])
    r = relay(s, mode)
    qid = r.send()
    held_back(s, r, qid, "TLS 1.2")


# rule, mode, what the log says
FAULTS = [
    ("on STARTTLS abort-tls", "starttls", "at TLS handshake"),
    ("on STARTTLS abort-tls reset", "starttls", "at TLS handshake"),
    ("on TLS stall", "starttls", "timed out at TLS handshake"),
    ("on TLS stall", "wrapper", "timed out at TLS handshake"),
    ("on TLS close", "wrapper", "at TLS handshake"),
    # Without the delay it may come before the connect is known to be good.
    ("on TLS delay 100 reset", "wrapper", "at TLS handshake"),
    ("on TLS abort-tls", "wrapper", "at TLS handshake"),
    ('on TLS raw "220 email-smtp.amazonaws.com ESMTP\\r\\n" stall', "wrapper",
     "the peer does not speak TLS here"),
    ('on TLS raw "220 email-smtp.amazonaws.com ESMTP\\r\\n" halfclose', "wrapper",
     "the peer does not speak TLS here"),
    # Without the delay the alert may come with the 220: injected bytes.
    ('on TLS delay 100 raw "\\x15\\x03\\x01\\x00\\x02\\x02\\x28" halfclose',
     "starttls", "handshake failure"),
]


@pytest.mark.parametrize("rule,mode,words", FAULTS,
                         ids=[f"{m}: {r}" for r, m, _ in FAULTS])
def test_tls_fault(sesd, relay, rule, mode, words):
    s = sesd(rules=[rule])
    r = relay(s, mode, config=SHORT)
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, words)
    s.control("clear")
    arrives(s, r, qid, content)


@pytest.mark.parametrize("port,mode,words", [
    ("wrapper", "starttls", "timed out at initial greeting"),
    ("plain", "starttls", "STARTTLS is not offered"),
])
def test_wrong_mode(sesd, relay, port, mode, words):
    s = sesd(modes=["starttls", "wrapper", "plain"])
    r = relay(s, start=False, config=SHORT)
    r.set_ports((s.ports[port], mode))
    r.write_config()
    r.start()
    content = message()
    qid = r.send(content)
    held_back(s, r, qid, words)
    r.set_ports((s.ports["wrapper"], "wrapper"))
    r.write_config()
    r.reload()
    arrives(s, r, qid, content)


@pytest.mark.parametrize("bad", [
    {"cert": "expired"},
    {"options": ["--tls-max", "1.1"]},
    {"rules": ["on TLS stall"]},
    {"rules": ["on EHLO no-starttls"]},
    {"rules": ['on STARTTLS reply "454 TLS not available"']},
    {"rules": ['on STARTTLS reply "502 not implemented"']},
    {"rules": ['on STARTTLS inject "250 AUTH LOGIN\\r\\n"']},
    {"rules": ['on CONNECT reply "554 no service here"']},
    {"rules": ['on EHLO reply "502 not implemented"']},
    {"rules": ['on CONNECT raw "SSH-2.0-OpenSSH_9.2\\r\\n"']},
], ids=lambda bad: str(*bad.values()))
def test_next_port_is_used_when_one_is_no_good(sesd, relay, bad):
    one, two = sesd(**bad), sesd()
    r = relay(two, start=False, config=SHORT)
    r.set_ports((one.ports["starttls"], "starttls"),
                (two.ports["wrapper"], "wrapper"))
    r.write_config()
    r.start()
    content = message()
    qid = r.send(content)
    arrives(two, r, qid, content)
    assert one.messages() == [] and one.events("auth") == []


# --- the login ---

def no_password_in(text):
    for secret in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode(),
                   base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
                   .decode()):
        assert secret not in text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offered,used", [
    ("PLAIN", "PLAIN"), ("LOGIN", "LOGIN"), ("LOGIN PLAIN", "PLAIN"),
    ("CRAM-MD5 LOGIN XOAUTH2", "LOGIN")])
def test_mechanisms(sesd, relay, mode, offered, used):
    s = sesd(settings={"auth": offered})
    r = relay(s, mode)
    r.send()
    s.wait_messages(1)
    assert [(e["mechanism"], e["ok"]) for e in s.events("auth")] == [
        (used, True)]
    no_password_in(r.log())


def test_login_when_plain_is_offered_and_not_known(sesd, relay):
    s = sesd(rules=['on AUTH times 1 reply "504 The requested authentication '
                    'mechanism is not supported"'])
    r = relay(s)
    r.send()
    s.wait_messages(1)
    assert s.events("auth")[-1]["mechanism"] == "LOGIN"


def refused_login(r, qid, words):
    r.wait_log(words)
    wait_until(lambda: r.state().startswith("credentials"),
               "status to tell of the credentials")
    assert "CREDENTIALS REFUSED" in r.ctl("status")
    [m] = r.ctl_json("queue")
    assert (m["id"], m["attempts"]) == (qid, 0)
    assert "bounced" not in {o["status"] for o in r.outcomes()}
    assert r.dead_letters() == []
    assert r.counter("auth_failures_total") == 1


@pytest.mark.parametrize("mode", MODES)
def test_wrong_password(sesd, relay, mode):
    wrong = PASSWORD[::-1]
    s = sesd()
    r = relay(s, mode, start=False)
    r.set_password(wrong)
    r.start()
    content = message()
    qid = r.send(content)
    refused_login(r, qid, "535 Authentication Credentials Invalid")
    r.wait_log("check ses.username, ses.password_file and ses.region")
    r.wait_log("nothing is lost or bounced")
    # It does not hammer: one login until the wait is over.
    more = r.send()
    wait_until(lambda: r.count() == 2, "the second message in the queue")
    assert len(s.events("auth")) == 1
    for form in (wrong, base64.b64encode(wrong.encode()).decode(),
                 base64.b64encode(f"\0{USER}\0{wrong}".encode()).decode()):
        assert form not in r.log()
        assert form not in r.ctl("status") + r.ctl("--json", "status")
    r.set_password(PASSWORD)
    r.reload()
    r.wait_outcome(qid, "sent", timeout=10)
    r.wait_outcome(more, "sent", timeout=10)
    r.wait_empty()
    assert r.state() == "ok"
    assert len(s.messages()) == 2
    no_password_in(r.log())


def test_unsubscribed_account(sesd, relay):
    s = sesd(settings={"account": "unsubscribed"})
    r = relay(s)
    qid = r.send()
    refused_login(r, qid, "535 Account not subscribed to SES")
    r.wait_log("not signed up for SES in this region")


def test_no_mechanism_offered(sesd, relay):
    s = sesd(settings={"auth": ""})
    r = relay(s)
    qid = r.send()
    refused_login(r, qid, "neither AUTH PLAIN nor AUTH LOGIN is offered")
    assert s.events("auth") == []


@pytest.mark.parametrize("reply", [
    "454 Temporary authentication failure",
    "421 Service not available, closing transmission channel.",
    "503 Refusing any other AUTH command.",
    "250 Ok", "334 again", "235-never\\n236 mixed",
])
def test_login_that_fails_for_now(sesd, relay, reply):
    s = sesd(rules=[f'on AUTH times 1 reply "{reply}"'])
    r = relay(s)
    content = message()
    qid = r.send(content)
    arrives(s, r, qid, content)
    assert s.stats()["connections"]["total"] == 2
