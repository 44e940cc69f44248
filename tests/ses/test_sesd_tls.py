"""sesd: versions, ciphers, alerts and new keys of TLS; made certificates."""

import contextlib
import ssl
import subprocess

import pytest

from sesd_peer import Client, ID, wait_until


def context(s, version=None, ciphers=None):
    c = ssl.create_default_context(cafile=s.certs / "ca.pem")
    c.minimum_version = ssl.TLSVersion.TLSv1
    if version:
        c.minimum_version = c.maximum_version = version
    if ciphers:
        c.set_ciphers(ciphers)
    return c


def shake(s, c):
    """The version and cipher of a fresh connection with this context."""
    client = Client(s, "starttls")
    client.do("STARTTLS")
    client.sock = c.wrap_socket(client.sock, server_hostname="localhost")
    assert client.do("EHLO x").endswith(b"250 Ok\r\n")
    return client.sock.version(), client.sock.cipher()[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_at_run_time(sesd):
    s = sesd()
    v = ssl.TLSVersion
    assert shake(s, context(s))[0] == "TLSv1.3"
    s.set(tls_max="1.2")
    assert shake(s, context(s))[0] == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        shake(s, context(s, v.TLSv1_3))
    s.set(tls_max="1.3", tls_min="1.3")
    with pytest.raises(ssl.SSLError):
        shake(s, context(s, v.TLSv1_2))
    old = context(s, v.TLSv1, "DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake(s, old)
    s.set(tls_max="1.0", tls_min="1.2")  # the highest wins
    assert shake(s, old)[0] == "TLSv1"
    with pytest.raises(ssl.SSLError):
        shake(s, context(s))
    with pytest.raises(ValueError):
        s.set(tls_max="1.4")


@pytest.mark.parametrize("ciphers,name", [
    ("eNULL:@SECLEVEL=0", "ECDHE-ECDSA-NULL-SHA"),
    ("aNULL:!eNULL:@SECLEVEL=0", "AECDH-AES256-SHA")])
def test_ciphers_nobody_wants(sesd, ciphers, name):
    s = sesd("--set", "tls_max=1.2", "--set", f"ciphers={ciphers}")
    with pytest.raises(ssl.SSLError):
        shake(s, context(s))
    c = context(s, ciphers=ciphers)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE  # who is anonymous has no certificate
    assert shake(s, c) == ("TLSv1.2", name)
    with pytest.raises(ValueError):
        s.set(ciphers="NO-SUCH-CIPHER")


class Watching(Client):
    """Keeps the alerts and the handshake messages that it receives."""

    def wrap(self):
        self.alerts, self.messages = [], []
        c = context(self.sesd)
        c.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        c._msg_callback = self.note
        self.sock = c.wrap_socket(self.sock, server_hostname="localhost",
                                  suppress_ragged_eofs=False)

    def note(self, _conn, direction, _version, content_type, kind, data):
        if direction == "read" and content_type.name == "ALERT":
            self.alerts.append(tuple(data))
        elif direction == "read" and content_type.name == "HANDSHAKE":
            self.messages.append(kind.name)


CLOSE_NOTIFY, USER_CANCELED = (1, 0), (1, 90)


@pytest.mark.parametrize("how", ["setting", "rule"])
def test_user_canceled(sesd, how):
    s = sesd("--set", "user_canceled=1") if how == "setting" else sesd(
        "--rule", "on IDLE reply idle user-canceled")
    c = Watching(s, "wrapper").start()
    for _ in range(3):  # the count of records must be right
        assert ID.fullmatch(c.mail())
    s.set(idle="100ms")
    assert c.reply().startswith(b"451 4.4.2")
    assert c.end() == "eof"
    assert c.alerts == [USER_CANCELED, CLOSE_NOTIFY]


@pytest.mark.parametrize("suite", [
    "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256"])
def test_user_canceled_with_every_suite(sesd, suite):
    s = sesd("--set", "user_canceled=1")
    with subprocess.Popen(
            ["openssl", "s_client", "-quiet", "-msg", "-connect",
             f"127.0.0.1:{s.ports['wrapper']}", "-ciphersuites", suite],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True) as p:
        wait_until(lambda: s.events("tls"))
        assert s.events("tls")[0]["cipher"] == suite
        s.set(idle="100ms")
        out = p.communicate(timeout=20)[0]
    assert 0 < out.index("warning user_canceled") < out.index(
        "warning close_notify")


def test_user_canceled_is_for_tls_1_3(sesd):
    s = sesd("--set", "user_canceled=1", "--set", "tls_max=1.2")
    c = Watching(s, "wrapper")
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "eof"
    assert c.alerts == [CLOSE_NOTIFY]


def test_truncation_by_rule(sesd):
    s = sesd("--rule", 'on NOOP times 1 raw "250 O" close no-close-notify',
             "--rule", "on QUIT times 1 no-close-notify")
    c = Client(s, "wrapper")
    c.send(b"NOOP\r\n")
    assert c.sock.recv(100) == b"250 O"
    assert c.end() == "truncated"
    c = Client(s, "wrapper")
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "truncated"
    c = Client(s, "wrapper")
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "eof"


def test_many_new_keys(sesd):
    s = sesd("--rule", "on NOOP rekey 100")
    c = Watching(s, "wrapper").start()
    for _ in range(3):
        assert c.do("NOOP") == b"250 Ok\r\n"
    assert c.messages.count("KEY_UPDATE") == 300
    assert ID.fullmatch(c.mail())
    s.set(user_canceled=1)  # can't be done under the new keys
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "eof"
    assert c.alerts == [CLOSE_NOTIFY]


def test_new_handshake_before_tls_1_3(sesd):
    s = sesd("--rule", "on NOOP rekey 3", "--set", "tls_max=1.2")
    c = Watching(s, "wrapper").start()
    del c.messages[:]
    c.send(b"NOOP\r\n")
    with contextlib.suppress(ssl.SSLError):  # as the client likes
        c.reply()
    assert c.messages[:1] == ["HELLO_REQUEST"]


@pytest.mark.parametrize("kind,word", [
    ("expired", "expired"), ("not-yet", "not yet valid"),
    ("other-name", "mismatch"), ("wrong-wildcard", "mismatch"),
    ("name-in-subject", "mismatch"), ("self-signed", "self-signed"),
    ("unknown-ca", "unable to get local issuer"),
    ("no-chain", "unable to get local issuer"), ("chain", None),
    ("good", None)])
def test_made_certificates(sesd, tmp_path, kind, word):
    authority = tmp_path / "made.pem"
    s = sesd("--write-ca", str(authority), "--hostname", "mail.test",
             "--do", f"cert {kind} starttls")
    assert ID.fullmatch(Client(s, "wrapper").start().mail())

    def try_it(name="localhost"):
        c = Client(s)
        c.do("STARTTLS")
        trust = ssl.create_default_context(cafile=authority)
        trust.hostname_checks_common_name = False
        trust.wrap_socket(c.sock, server_hostname=name)
    if word:
        with pytest.raises(ssl.SSLCertVerificationError, match=word):
            try_it()
        return
    for name in ("localhost", "127.0.0.1", "::1", "mail.test"):
        try_it(name)
    with pytest.raises(ssl.SSLCertVerificationError):
        try_it("else.test")
