"""What the manual of troubles and the documents say: messages that they quote
are in the program, commands do what they are for, settings exist."""

import re
import subprocess

import pytest

from harness import BUILD, PASSWORD, ROOT, USER, message

TROUBLES = ROOT / "man/sesrelayd-troubleshooting.7"
POSTFIX = ROOT / "docs/migrating-from-postfix.md"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def roff(text):
    return text.replace("\\(dq", '"').replace("\\&", "").replace("\\e", "\\")


def quoted(page):
    """(what stands behind .Li, whether it is a list item's head)"""
    for line in page.read_text().splitlines():
        m = re.match(r"\.(It )?Li (.*)", line)
        if not m:
            continue
        text = re.sub(r"( [.,;:])+$", "", roff(m[2]))
        for part in text.split(" , ") if m[1] else [text]:
            yield part, bool(m[1])


def literals():
    """The strings of the program, those of one message joined."""
    text = "".join(p.read_text() for p in sorted(ROOT.glob("daemon/**/*.c")))
    return re.sub(r'"\s*"', "", text)


def commands():
    return [roff(line[6:]) for line in TROUBLES.read_text().splitlines()
            if line.startswith(".Dl # ")]


def test_quoted_messages_exist():
    source = literals()
    found = list(quoted(TROUBLES))
    assert len(found) > 25
    for text, is_item in found:
        if is_item:  # a verdict of `check`, whole
            assert f'"{text}"' in source, text
        for piece in text.split("..."):
            assert piece.strip() in source, (text, piece)


def test_every_item_of_the_guide_is_answered():
    heads = re.findall(r"^\.S[hs] (.*)$", TROUBLES.read_text(), re.M)
    for head in ("CANNOT CONNECT", "Incorrect credentials",
                 "Network or firewall", "PORT 25 ON EC2",
                 "NETWORK ERRORS AND DROPPED MAIL", "MTU",
                 "Long-lived connections", "IP ADDRESSES FOR A FIREWALL"):
        assert head in heads


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_manual(command, sesd, relay):
    r = relay(sesd())
    (r.dir / "secret-key").write_text(SECRET_KEY + "\n")
    qid = r.send(message(message_id="a1@app.example.com"))
    r.wait_outcome(qid, "sent")
    if command.startswith(("ip ", "sysctl ")):
        argv = ["unshare", "--net", "sh", "-ec",
                "ip link add eth0 type veth peer name eth1; " + command]
    else:
        assert command.split()[0] in ("sesrelayctl", "sesrelayd")
        program, rest = command.split(" ", 1)
        argv = ["sh", "-c", f"{BUILD / program} -c {r.config_file} {rest}"]
    done = subprocess.run(argv, cwd=r.dir, capture_output=True, text=True,
                          timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (done.stdout, done.stderr)
    if " trace " in command:
        assert f"{qid}\n" in done.stdout
    elif " send-test " in command:
        assert re.search(r"^SES id: +\S+$", done.stdout, re.M)
    elif " password " in command:
        made = (r.dir / "ses-password").read_text().strip()
        assert len(made) == len(PASSWORD) and made[0] == "B"


def schema():
    out = subprocess.run([BUILD / "sesrelayd", "--dump-schema"], text=True,
                         capture_output=True, check=True).stdout
    return {line.split("\t")[0] for line in out.splitlines()}


@pytest.mark.parametrize("page", [
    *sorted((ROOT / "docs").glob("*.md")), TROUBLES],
    ids=lambda page: page.name)
def test_keys_exist(page):
    known = schema()
    groups = {key.split(".")[0] for key in known}
    named = re.findall(r"(?:`|Cm )([a-z]+\.[a-z_]+)(?=[` ,;]|$)",
                       page.read_text(), re.M)
    named = [name for name in named if name.split(".")[0] in groups]
    assert len(named) > (10 if page in (POSTFIX, TROUBLES) else 0)
    assert [name for name in named if name not in known] == []


def test_keys_have_a_counterpart_in_postfix():
    """Every setting on the left is one of main.cf's."""
    known = subprocess.run(["/usr/sbin/postconf", "-d"], text=True, check=True,
                           capture_output=True).stdout
    known = {line.split(" =")[0].strip() for line in known.splitlines()}
    named = []
    settings = False
    for line in POSTFIX.read_text().splitlines():
        if line.startswith("| "):
            left = line.split("|")[1]
            settings = settings and "| Postfix" not in line \
                or "main.cf |" in line
            if settings:
                named += re.findall(r"`([A-Za-z0-9_]+)(?: = [^`]*)?`", left)
    assert len(named) > 50
    assert [name for name in named if name not in known] == []


def test_verbs_exist():
    """sesrelayctl VERB, in the documents and README."""
    usage = subprocess.run([BUILD / "sesrelayctl", "-h"], text=True,
                           capture_output=True, check=True).stdout
    for page in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"):
        verbs = re.findall(r"(?:`|^ +)sesrelayctl ([a-z-]{3,})",
                           page.read_text(), re.M)
        assert verbs or page not in (POSTFIX, ROOT / "README.md")
        for verb in verbs:
            assert re.search(rf"^ +{re.escape(verb)}\b", usage, re.M), verb


def rewritten(directory, config, sender, rcpt):
    """What rewrite-test makes of a letter, by a configuration that has to be
    good, its password from the credential."""
    credentials = directory / "credentials"
    credentials.mkdir()
    (credentials / "ses-password").write_text(PASSWORD)
    file, letter = directory / "test.conf", directory / "letter"
    file.write_text(config)
    letter.write_text(f"From: {sender}\nTo: {rcpt}\n\nx\n")
    done = subprocess.run(
        [BUILD / "sesrelayctl", "-c", file, "rewrite-test", letter,
         "--from", sender, "--to", rcpt], capture_output=True, text=True,
        timeout=60, env={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_of_the_migration_load(directory):
    """The example of a generic map is a configuration."""
    block = re.search(r"^    rewrite: \{\n(?:    .*\n)*?    \};$",
                      POSTFIX.read_text(), re.M)[0]
    ses = 'ses: { region = "eu-west-1"; username = "%s"; };\n' % USER
    assert "noreply@example.com" in rewritten(
        directory, ses + block, "cron@internal.example", "a@example.net")


@pytest.mark.parametrize("name", ["cloud-init.yaml", "ansible.yml"])
def test_configuration_of_the_examples(directory, name):
    """What they write to the host is good, and cares for cron's mail."""
    text = (ROOT / "conf/examples" / name).read_text()
    block = re.search(r"content: \|\n((?: +.*\n)*? +rewrite: \{\n"
                      r"(?: +.*\n)*?)(?= +\};\n)", text)[1] + "};\n"
    block = block.replace("{{ ses_region }}", "eu-west-1").replace(
        "{{ ses_username }}", USER)
    out = rewritten(directory, block, "root", "root")
    assert "noreply@example.com" in out and "ops@example.com" in out
