"""sesrelayctl password: from a secret access key to the SMTP password, without
a daemon."""

import json
import os
import pty
import subprocess

import pytest

from harness import BUILD

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PASSWORDS = {
    "us-east-1": "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9",
    "us-west-2": "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd",
    "eu-west-1": "BMW5RDrXmmVs0lV7GpI4oLkHXpZ4stDsk6q91z1g38Pk",
}
CTL = str(BUILD / "sesrelayctl")


def password(*args, key=SECRET + "\n"):
    return subprocess.run([CTL, "password", *args], input=key, text=True,
                          capture_output=True, timeout=30)


@pytest.mark.parametrize("region", PASSWORDS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_key_on_standard_input(region, end):
    done = password("--region", region, key=SECRET + end)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == PASSWORDS[region] + "\n"


def test_json():
    done = password("--json", "--region", "us-west-2")
    assert json.loads(done.stdout) == {"region": "us-west-2",
                                       "password": PASSWORDS["us-west-2"]}


@pytest.fixture
def config(directory):
    """A configuration with a region, and maybe a file with the key."""
    def make(text):
        path = directory / "c.conf"
        path.write_text(f"ses: {{ region = \"eu-west-1\"; {text} }};\n")
        return str(path)
    return make


def test_region_of_the_configuration(config):
    done = password("-c", config(""))
    assert done.stdout == PASSWORDS["eu-west-1"] + "\n"
    done = password("-c", config(""), "--region", "us-east-1")
    assert done.stdout == PASSWORDS["us-east-1"] + "\n"


def test_key_in_the_file_of_the_configuration(config, directory):
    path = directory / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    c = config(f'secret_key_file = "{path}";')
    done = password("-c", c, key="")
    assert done.returncode == 0
    assert done.stdout == PASSWORDS["eu-west-1"] + "\n"
    assert str(path) in done.stderr and SECRET not in done.stderr
    # What is piped in goes before it.
    other = password("-c", c, key="another+secret+key\n")
    assert other.returncode == 0 and other.stdout != done.stdout
    path.chmod(0o644)
    done = password("-c", c, key="")
    assert done.returncode == 1 and "chmod 600" in done.stderr
    assert done.stdout == ""
    path.unlink()
    done = password("-c", c, key="")
    assert done.returncode == 1 and "No such file" in done.stderr


@pytest.mark.parametrize("key,words", [
    ("AKIAIOSFODNN7EXAMPLE", "this is an access key id"),
    (PASSWORDS["us-east-1"], "this is an SMTP password already"),
    (SECRET + "x", "does not look like a secret access key"),
])
def test_what_looks_like_no_key_is_warned_of(key, words):
    done = password("--region", "us-east-1", key=key)
    assert done.returncode == 0 and len(done.stdout) == 45
    assert words in done.stderr and key not in done.stderr


@pytest.mark.parametrize("args,key,code,words", [
    ([], SECRET, 64, "for which region"),
    (["--region", "EU"], SECRET, 64, "the region must be"),
    (["--region", "email-smtp.eu-west-1.amazonaws.com"], SECRET, 64,
     "the region must be"),
    (["--region", "us-east-1"], "", 1, "no secret access key"),
    (["--region", "us-east-1"], "two words", 1, "holds blanks"),
    (["--region", "us-east-1"], SECRET + "\nmore\n", 1, "more than one line"),
    (["--region", "us-east-1"], "x" * 2000, 1, "too long"),
    (["--region", "us-east-1", "more"], SECRET, 64, "too many arguments"),
    (["--from", "a@b.c"], SECRET, 64,
     "--from goes with rewrite-test and send-test"),
    (["-c", "/nonexistent"], SECRET, 64, "/nonexistent"),
])
def test_mistakes(args, key, code, words):
    done = password(*args, key=key)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert not key or key not in done.stderr


def test_key_that_is_typed_is_not_shown():
    main, side = pty.openpty()
    p = subprocess.Popen([CTL, "password", "--region", "us-east-1"],
                         stdin=side, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    prompt = p.stderr.read(len("Secret access key"))
    assert prompt == "Secret access key"
    os.write(main, SECRET.encode() + b"\n")
    out, err = p.communicate(timeout=30)
    assert out == PASSWORDS["us-east-1"] + "\n"
    assert p.returncode == 0 and SECRET not in err
    os.set_blocking(main, False)
    try:
        assert SECRET.encode() not in os.read(main, 4096)
    except BlockingIOError:
        pass  # nothing was shown at all
    os.close(side)
    os.close(main)
