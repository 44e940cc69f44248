"""make install: everything below DESTDIR and working from there; uninstall
leaves nothing but the operator's configuration."""

import os
import re
import subprocess

import pytest

import harness
from harness import BUILD, PASSWORD, RCPT, ROOT, SENDER

# None of them is a default.  (sysconfdir is compiled in: it stays /etc.)
PLACES = {"PREFIX": "/opt/relay", "sbindir": "/opt/srv", "bindir": "/opt/b",
          "libexecdir": "/opt/le", "unitdir": "/opt/units",
          "sysusersdir": "/opt/users", "tmpfilesdir": "/opt/tmpfiles",
          "completionsdir": "/opt/completions", "docdir": "/opt/doc/relay",
          "mandir": "/opt/man"}
CONFIG = "/etc/sesrelayd/sesrelayd.conf"
LINKS = ["/opt/srv/sendmail", "/opt/relay/lib/sendmail", "/opt/b/mailq",
         "/opt/b/newaliases", "/opt/man/man1/sendmail.1",
         "/opt/man/man1/mailq.1", "/opt/man/man1/newaliases.1"]


@pytest.fixture
def dest(directory):
    return directory / "dest"


def make(dest, target):
    san = BUILD.name[4:].replace("-", ",") if harness.SANITIZED else ""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", "-C", str(ROOT), f"SAN={san}", f"DESTDIR={dest}",
         *(f"{name}={place}" for name, place in PLACES.items()), target],
        env=env, text=True, capture_output=True, timeout=900)


def good(dest, target):
    done = make(dest, target)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(dest):
    return sorted("/" + str(path.relative_to(dest))
                  for path in dest.rglob("*")
                  if path.is_symlink() or not path.is_dir())


def test_everything_has_its_place(dest):
    good(dest, "install-mta")
    there = files(dest)
    assert there.pop(there.index(CONFIG))
    beyond = [f for f in there
              if not f.startswith(tuple(PLACES.values()))]
    assert beyond == []
    for name in ("sesrelayd", "sesrelayctl", "sesrelay-sendmail"):
        assert f"/opt/srv/{name}" in there
    assert "/opt/le/sesrelayd-sesd" in there
    for unit in ("sesrelayd.service", "sesrelayd.socket"):
        assert f"/opt/units/{unit}" in there
    assert "/opt/users/sesrelayd.conf" in there
    assert "/opt/tmpfiles/sesrelayd.conf" in there
    for page in (ROOT / "man").iterdir():
        assert f"/opt/man/man{page.suffix[1:]}/{page.name}" in there
    for link in LINKS:
        assert link in there
        target = os.readlink(f"{dest}{link}")
        # A program's link is absolute: it is for when DESTDIR is gone.
        target = f"{dest}{target}" if target.startswith("/") else os.path.join(
            os.path.dirname(f"{dest}{link}"), target)
        assert os.path.isfile(target)
    modes = {oct((dest / f[1:]).stat().st_mode & 0o7777) for f in there
             if f not in LINKS}
    assert modes == {"0o644", "0o755"}  # no setuid, and nothing for a group
    unit = (dest / "opt/units/sesrelayd.service").read_text()
    assert re.search("^ExecStart=/opt/srv/sesrelayd$", unit, re.M)
    assert "@" not in re.sub("^SystemCallFilter=.*$", "", unit, flags=re.M)


def test_works_from_there(dest, monkeypatch, sesd, relay):
    good(dest, "install-mta")
    upstream = sesd()
    monkeypatch.setattr(harness, "BUILD", dest / "opt/srv")
    r = relay(upstream)
    subprocess.run(
        [dest / "opt/srv/sesrelay-sendmail", "-f", SENDER, RCPT],
        input=b"Subject: from the installed one\n\nhello\n", check=True,
        env={"SESRELAY_SENDMAIL_SERVER": f"127.0.0.1:{r.port}"}, timeout=60)
    upstream.wait_messages(1)
    version = subprocess.run([dest / "opt/srv/sesrelayd", "-V"], text=True,
                             capture_output=True, check=True).stdout
    assert version.startswith("sesrelayd ")
    page = subprocess.run(["mandoc", dest / "opt/man/man8/sesrelayctl.8"],
                          text=True, capture_output=True)
    assert page.returncode == 0 and "send-test" in page.stdout, page.stderr


def test_configuration_is_the_operators(dest):
    good(dest, "install")
    config = dest / CONFIG[1:]
    fresh = config.read_text()
    assert fresh == (ROOT / "conf/sesrelayd.conf").read_text()
    config.write_text("# mine\n")
    password = config.with_name("ses-password")
    password.write_text(PASSWORD)
    assert "is left as it is" in good(dest, "install")
    assert config.read_text() == "# mine\n"
    good(dest, "uninstall")
    assert files(dest) == [CONFIG[:-14] + "ses-password", CONFIG]
    assert config.read_text() == "# mine\n"


def test_uninstall_leaves_nothing_else(dest):
    good(dest, "install-mta")
    mine = dest / "opt/doc/other/README"
    mine.parent.mkdir()
    mine.write_text("another package's")
    good(dest, "uninstall")
    assert files(dest) == [CONFIG, "/opt/doc/other/README"]
    assert not (dest / "opt/doc/relay").exists()
    good(dest, "uninstall")  # again: nothing to do is no error


@pytest.mark.parametrize("link", LINKS[:2] + LINKS[-1:])
def test_another_mail_servers_names_are_left(dest, link):
    theirs = dest / link[1:]
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n# another mail server\n")
    done = make(dest, "install-mta")
    assert done.returncode != 0
    assert f"{theirs} is another program's" in done.stderr
    assert theirs.read_text() == "#!/bin/sh\n# another mail server\n"
    assert [f for f in files(dest) if f in LINKS] == [link]
    good(dest, "uninstall")
    assert files(dest) == sorted([CONFIG, link])
