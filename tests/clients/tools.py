"""What must be made before the clients can run, in the directory of the run:
nodemailer by npm, the compiled programs, and a busybox with its sendmail,
which Debian's is built without; and the version of each client."""

import pathlib
import re
import subprocess

import postfix
import smart_hosts

PROGRAMS = pathlib.Path(__file__).with_name("programs")
JARS = "/usr/share/java/javax.mail.jar:/usr/share/java/javax.activation.jar"
SOURCES = """Types: deb-src
URIs: {uris}
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def run(argv, where=None, **kwargs):
    done = subprocess.run([str(a) for a in argv], cwd=where, text=True,
                          capture_output=True, timeout=300, **kwargs)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, argv))}:\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def debian_mirror():
    """Where this machine's own packages come from."""
    for line in run(["apt-get", "indextargets", "--format", "$(SITE)",
                     "Created-By: Packages"]).splitlines():
        if line and "security" not in line:
            return line
    return "http://deb.debian.org/debian"


def build_busybox(directory):
    """Of Debian's source, with this one applet."""
    (directory / "lists").mkdir(parents=True)
    sources = directory / "sources.list.d"
    sources.mkdir()
    (sources / "debian.sources").write_text(
        SOURCES.format(uris=debian_mirror()))
    apt = ["apt-get", "-q", "-o", "Dir::Etc::sourcelist=-",
           "-o", f"Dir::Etc::sourceparts={sources}",
           "-o", f"Dir::State::lists={directory / 'lists'}",
           "-o", f"Dir::Cache={directory}",
           "-o", "APT::Sandbox::User=root"]
    run([*apt, "update"], directory)
    run([*apt, "source", "--download-only", "busybox"], directory)
    archive = next(directory.glob("busybox_*.orig.tar.*"))
    run(["tar", "xf", archive], directory)
    tree = next(p for p in directory.glob("busybox-*") if p.is_dir())
    run(["make", "allnoconfig"], tree)
    config = (tree / ".config").read_text()
    (tree / ".config").write_text(config.replace(
        "# CONFIG_SENDMAIL is not set", "CONFIG_SENDMAIL=y").replace(
        "# CONFIG_LONG_OPTS is not set", "CONFIG_LONG_OPTS=y"))
    run(["make", "oldconfig"], tree, input="\n" * 500)
    run(["make", "-j2", "busybox"], tree)
    return tree / "busybox"


class Tools:
    """Each is made when it is first asked for."""

    def __init__(self, directory):
        self.dir = directory

    def _make(self, name, maker):
        if name not in self.__dict__:
            self.__dict__[name] = maker()
        return self.__dict__[name]

    @property
    def busybox(self):
        return self._make("_busybox",
                          lambda: build_busybox(self.dir / "busybox"))

    @property
    def go(self):
        def build():
            out = self.dir / "go-client"
            env = {"PATH": "/usr/bin:/bin", "HOME": str(self.dir),
                   "GOCACHE": str(self.dir / "go-cache")}
            run(["go", "build", "-o", out, PROGRAMS / "smtp.go"], self.dir,
                env=env)
            return out
        return self._make("_go", build)

    @property
    def java_path(self):
        def build():
            out = self.dir / "java"
            run(["javac", "-cp", JARS, "-d", out, PROGRAMS / "Mail.java"])
            return f"{JARS}:{out}"
        return self._make("_java", build)

    def unpacked(self, package):
        """The files of a package that cannot be installed here."""
        def unpack():
            where = self.dir / package
            where.mkdir()
            run(["apt-get", "-o", "APT::Sandbox::User=root", "download",
                 package], where)
            run(["dpkg-deb", "-x", next(where.glob("*.deb")), where])
            return where
        return self._make(f"_{package}", unpack)

    @property
    def mdadm(self):
        """The package would bring udev with it."""
        return self.unpacked("mdadm") / "sbin/mdadm"

    @property
    def exim(self):
        return self.unpacked("exim4-daemon-light") / "usr/sbin/exim4"

    @property
    def opensmtpd(self):
        return self.unpacked("opensmtpd") / "usr/sbin/smtpd"

    @property
    def npm(self):
        def install():
            where = self.dir / "npm"
            where.mkdir()
            run(["npm", "install", "--silent", "--no-audit", "--no-fund",
                 "--prefix", where, "nodemailer"], where)
            return where / "node_modules/nodemailer"
        return self._make("_npm", install)

    @property
    def debian(self):
        return pathlib.Path("/usr/share/nodejs/nodemailer")

    def postfix_to(self, port):
        """One that has the relay there as its smart host."""
        def start():
            return postfix.Postfix(self.dir / "postfix", port)
        return self._make("_postfix", start)

    def exim_to(self, port):
        return self._make("_exim_host", lambda: smart_hosts.Exim(
            self.dir / "exim", self.exim, port))

    def opensmtpd_to(self, port):
        return self._make("_opensmtpd_host", lambda: smart_hosts.OpenSmtpd(
            self.dir / "smtpd", self.opensmtpd, port))

    def version(self, name):
        """Of a client, in a word."""
        return VERSIONS[name](self)

    def close(self):
        for name in ("_postfix", "_opensmtpd_host"):
            if name in self.__dict__:
                self.__dict__[name].close()


def first(argv, pattern=r"(\d[\w.]*\d)"):
    def find(kit):
        words = [str(a(kit)) if callable(a) else a for a in argv]
        done = subprocess.run(words, capture_output=True, text=True)
        m = re.search(pattern, done.stdout + done.stderr)
        return m[1] if m else "?"
    return find


def package(name):
    def find(kit):
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name],
            capture_output=True, text=True)
        return re.sub(r"^\d+:|[-+].*$", "", done.stdout) or "?"
    return find


VERSIONS = {
    "curl": package("curl"),
    "swaks": package("swaks"),
    "msmtp": package("msmtp"),
    "smtplib": first(["/usr/bin/python3", "-V"]),
    "Net::SMTP": first(["perl", "-MNet::SMTP", "-e",
                        "print Net::SMTP->VERSION"]),
    "net/smtp.rb": first(["ruby", "-rnet/smtp", "-e",
                          "puts Net::SMTP::VERSION"]),
    "PHPMailer": package("libphp-phpmailer"),
    "nodemailer": first(
        ["node", "-p", lambda kit: f"require('{kit.npm}/package').version"
         f" + '/' + require('{kit.debian}/package').version"], r"(\S+)"),
    "Go net/smtp": first(["go", "version"]),
    "JavaMail": package("libmail-java"),
    "s-nail": package("s-nail"),
    "mutt": package("mutt"),
    "busybox": lambda kit: kit.busybox.parent.name.split("-")[-1],
    "nc.openbsd": package("netcat-openbsd"),
    "nc.traditional": package("netcat-traditional"),
    "bash": package("bash"),
    "Postfix": package("postfix"),
    # It wants its user, even to tell its version.
    "Exim": first(["dpkg-deb", "-f", lambda kit: next(
        kit.exim.parents[2].glob("*.deb")), "Version"]),
    "OpenSMTPD": first([lambda kit: kit.opensmtpd, "-h"], r"OpenSMTPD (\S+)"),
    "cron": package("cron"),
    "at": package("at"),
    "php": package("php8.2-cli"),
    "bsd-mailx": package("bsd-mailx"),
    "git send-email": package("git-email"),
    "MIME::Lite": package("libmime-lite-perl"),
    "mdadm": first([lambda kit: kit.mdadm, "--version"], r"v(\S+)"),
}
