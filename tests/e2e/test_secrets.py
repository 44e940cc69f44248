"""The SMTP password is where it is used, and nowhere else: not in files, logs
and answers, not in /proc, not in a core, and not in memory once it is of no
more use."""

import base64
import hashlib
import hmac
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from harness import BUILD, USER, wait_until

# Nothing else looks like these, in parts neither.
OLD = "Zx7QuaggaZx7NumbatZx7OkapiZx7"
NEW = "Kp4TapirKp4SaigaKp4FossaKp4"


def forms(password):
    """As it stands in a file, and as it goes to SES."""
    return {"plain": password.encode(),
            "AUTH LOGIN": base64.b64encode(password.encode()),
            "AUTH PLAIN": base64.b64encode(
                f"\0{USER}\0{password}".encode())}


def where(data, password):
    """Which forms of it are in there; a part of each will do, as buffers are
    overwritten in parts."""
    return [name for name, form in forms(password).items()
            if form[-20:-4] in data]


def memory(pid):
    """What can be read of a process: (region, bytes) each."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem",
                                                 "rb", 0) as mem:
        for line in maps:
            fields = line.split(None, 5)
            if "r" not in fields[1] or "[v" in line:
                continue
            begin, end = (int(x, 16) for x in fields[0].split("-"))
            if end - begin > 1 << 32:
                continue  # a sanitizer's own, nearly all of it not there
            mem.seek(begin)
            try:
                yield line.strip(), mem.read(end - begin)
            except OSError:
                continue  # gone since, or past the end of a file


def in_memory(pid, password):
    return [(region, name) for region, data in memory(pid)
            for name in where(data, password)]


def write_inline(r, password):
    """Into a file that is not read in one piece."""
    r.settings["ses.password_file"] = None
    r.settings["ses.password"] = f'"{password}"'
    r.write_config()
    with open(r.config_file, "a") as f:
        f.write(("#" * 70 + "\n") * 300)


def with_old_password(sesd, relay, inline, auth):
    s = sesd(settings={"password": OLD, "auth": auth})
    r = relay(s, start=False)
    if inline:
        write_inline(r, OLD)
    r.set_password(OLD)
    r.start()
    return s, r


def use(s, r, n):
    for _ in range(n):
        r.send()
    r.wait_empty()
    assert any(e["ok"] for e in s.events("auth"))


def change_password(s, r, inline, password):
    s.set("password", password)
    r.set_password(password)
    if inline:
        write_inline(r, password)


@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("inline", [False, True], ids=["file", "inline"])
def test_replaced_password_is_wiped(sesd, relay, inline, auth):
    if os.geteuid() != 0:
        _, r = with_old_password(sesd, relay, inline, auth)
        with pytest.raises(PermissionError):
            open(f"/proc/{r.process.pid}/mem", "rb")
        return
    s, r = with_old_password(sesd, relay, inline, auth)
    use(s, r, 5)
    assert in_memory(r.process.pid, OLD), "it has to be found to be missed"
    # One that is refused, and tried, on the way.
    change_password(s, r, inline, "no-password-of-ses")
    s.set("password", OLD)
    r.ctl("reload")
    r.wait_log("the new password was refused: 535")
    change_password(s, r, inline, NEW)
    r.ctl("reload")
    r.wait_log("SES accepted the new credentials")
    use(s, r, 5)
    assert in_memory(r.process.pid, NEW)
    # Connections of before have it, until they are renewed.
    wait_until(lambda: in_memory(r.process.pid, OLD) == [],
               "the end of the old password")
    assert in_memory(r.process.pid, "no-password-of-ses") == []


def files_of(*relays):
    for r in relays:
        for path in r.dir.rglob("*"):
            if path.is_file() and path != r.password_file:
                yield path


def test_password_is_written_nowhere(sesd, relay, directory):
    """The whole life at debug level, up to a crash."""
    s = sesd(settings={"password": OLD})
    r = relay(s, start=False)
    r.set_password(OLD)
    r.start(wrap=("prlimit", "--core=unlimited:unlimited"))
    said = []

    def say(*argv):
        done = subprocess.run(argv, capture_output=True, timeout=60,
                              cwd=directory)
        said.append(done.stdout + done.stderr)

    def ctl(*args):
        say(str(BUILD / "sesrelayctl"), "-c", str(r.config_file), *args)

    use(s, r, 3)
    s.set("auth", "LOGIN")
    r.ctl("reload")
    wait_until(lambda: r.status()["connections"]["idle"] == 0, "idle out")
    use(s, r, 3)
    for refusal in ("535 Authentication Credentials Invalid",
                    "454 Temporary authentication failure",
                    "504 The requested authentication mechanism is not "
                    "supported", "221 Bye", "nonsense"):
        s.rule(f'on AUTH reply "{refusal}"')
        wait_until(lambda: r.status()["connections"]["idle"] == 0, "idle out")
        r.send()
        wait_until(lambda: r.status()["upstream"]["connect_error"], "trouble")
        ctl("status")
        ctl("--json", "status")
        ctl("queue", "-l")
        s.control("clear")
        ctl("retry")
        r.wait_empty()
    r.set_password("Zx7WrongZx7" + OLD)
    ctl("reload")
    r.wait_log("the new password was refused: 535")
    ctl("status")
    r.set_password(OLD)
    ctl("reload")
    for argv in (["-t"], ["-T"]):
        say(str(BUILD / "sesrelayd"), "-c", str(r.config_file), *argv)
    ctl("check")
    ctl("--json", "check")
    ctl("trace", "nothing")
    proc = pathlib.Path(f"/proc/{r.process.pid}")
    said += [(proc / name).read_bytes() for name in ("cmdline", "environ")]
    os.kill(r.process.pid, signal.SIGABRT)
    end = os.waitid(os.P_PID, r.process.pid, os.WEXITED | os.WNOWAIT)
    assert end.si_status == signal.SIGABRT
    assert end.si_code == os.CLD_KILLED  # and not CLD_DUMPED
    assert len(said) > 20 and all(said)
    for text in said:
        assert where(text, OLD) == []
    paths = list(files_of(r))
    assert any(p.name == "log" for p in paths)
    for path in paths:
        assert where(path.read_bytes(), OLD) == [], path
    r.process.wait()
    r.process = None


KEY = "Hv3CivetHv3GenetHv3KoalaHv3TenrecHv3Quol"


def derived(key, region):
    """What SES takes for the secret access key of a user."""
    digest = ("AWS4" + key).encode()
    for word in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        digest = hmac.new(digest, word.encode(), hashlib.sha256).digest()
    return base64.b64encode(b"\x04" + digest).decode()


def given_inline(r, directory):
    write_inline(r, OLD)
    return [r.config_file], ()


def given_as_credential(r, directory):
    path = directory / "credentials" / "ses-password"
    path.parent.mkdir()
    path.write_text(OLD + "\n")
    path.chmod(0o400)
    r.settings["ses.password_file"] = None
    return [path], ("env", f"CREDENTIALS_DIRECTORY={path.parent}")


def given_as_key(r, directory):
    path = directory / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    r.settings["ses.password_file"] = None
    r.settings["ses.secret_key_file"] = f'"{path}"'
    r.settings["ses.region"] = '"eu-west-1"'
    return [path], ()


@pytest.mark.parametrize("give", [given_inline, given_as_credential,
                                  given_as_key])
def test_password_is_hidden_whatever_way_it_came(sesd, relay, directory, give):
    password = derived(KEY, "eu-west-1") if give is given_as_key else OLD
    s = sesd(settings={"password": password})
    r = relay(s, start=False, config={"log.level": '"debug"'})
    r.password_file.unlink()
    sources, wrap = give(r, directory)
    if give is not given_inline:
        r.write_config()
    r.start(wrap=wrap)
    use(s, r, 2)
    s.set("password", "another one")
    wait_until(lambda: r.status()["connections"]["idle"] == 0, "idle out")
    r.send()
    wait_until(lambda: r.status()["upstream"]["connect_error"], "the refusal")
    said = []
    for argv in (["sesrelayd", "-t"], ["sesrelayd", "-T"],
                 ["sesrelayctl", "--json", "status"], ["sesrelayctl", "check"],
                 ["sesrelayctl", "queue", "-l"], ["sesrelayctl", "reload"]):
        done = subprocess.run(
            [*wrap, str(BUILD / argv[0]), "-c", str(r.config_file), *argv[1:]],
            capture_output=True, timeout=60)
        assert done.returncode == 0 or argv[1:] == ["check"], done
        said.append(done.stdout + done.stderr)
    proc = pathlib.Path(f"/proc/{r.process.pid}")
    said += [(proc / name).read_bytes() for name in ("cmdline", "environ")]
    assert all(said)
    said += [path.read_bytes() for path in files_of(r) if path not in sources]
    for text in said:
        assert where(text, password) == [] and where(text, KEY) == []
    assert b"535" in b"".join(said)  # what was said includes the trouble


# Reads what it is told by an argument each; says which of these it can.
PRYING = """
import os, signal, socket, sys
for what in sys.argv[1:]:
    kind, _, path = what.partition(":")
    try:
        if kind == "connect":
            socket.socket(socket.AF_UNIX).connect(path)
        elif kind == "kill":
            os.kill(int(path), 0)
        elif kind == "list":
            os.listdir(path)
        else:
            open(path, "rb").read(1)
        print(what)
    except OSError:
        pass
"""


def test_other_users_see_nothing(sesd, relay, directory):
    """The daemon as a user of its own and without privileges, as a service
    has it; another user, and another process of its own user too."""
    s = sesd(settings={"password": OLD})
    r = relay(s, start=False)
    r.set_password(OLD)
    shutil.copy(s.certs / "ca.pem", r.dir / "ca.pem")
    r.settings["ses.ca_file"] = f'"{r.dir / "ca.pem"}"'
    r.write_config()
    drop = ["setpriv", "--no-new-privs"]
    if os.geteuid() == 0:
        directory.chmod(0o755)
        for d in (r.dir, *r.dir.rglob("*")):
            os.chown(d, 64010, 64010)
        drop += ["--clear-groups", "--bounding-set=-all"]
    own, other = ((*drop, f"--reuid={n}", f"--regid={n}") if
                  os.geteuid() == 0 else drop for n in (64010, 64011))
    r.start(wrap=own)
    use(s, r, 2)
    pid = r.process.pid
    files = [f"read:{p}" for p in r.spool.rglob("*") if p.is_file()]
    assert files
    secret = [f"read:/proc/{pid}/{name}"
              for name in ("environ", "mem", "maps", "auxv")]
    private = [f"list:{r.spool}", *files, f"read:{r.password_file}",
               f"connect:{r.control}", f"kill:{pid}"]

    def pry(how, things):
        done = subprocess.run(
            [*how, "/usr/bin/python3", "-c", PRYING, *things],
            capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    # Not even who runs as the same user.
    assert pry(own, secret) == []
    assert set(pry(own, private)) == set(private)
    if os.geteuid() == 0:
        config = [f"read:{r.config_file}"]
        assert pry(other, secret + private + config) == config
