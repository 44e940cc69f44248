"""A network of one's own: a namespace with nothing but a loopback that has the
MTU of Ethernet, nft rules in it, a bridge to another host, and a DNS server
that does what it is told.

in_network() runs a function there, in a forked child, as a process can't leave
a namespace again without privileges; with those of a user namespace, anybody
may enter one.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
import traceback

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def run(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)


def enter():
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET | (CLONE_NEWUSER if uid != 0 else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"),
                           ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as f:
                f.write(text)
    run("ip", "link", "set", "lo", "up", "mtu", "1500")


def in_network(fn):
    """fn() in a network of its own; fails as fn() does."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            enter()
            fn()
            code = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-60000:])
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(write)
    with open(read, "rb") as f:
        report = f.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"in the network of its own:\n{report}"


def real_segments(device="lo", wrap=()):
    """What crosses it is what would be on a wire: no segment is put together
    from several, or cut up later."""
    run(*wrap, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro",
        "off")


class Bridge:
    """Another host at PEER, behind a bridge that takes no packet over `mtu`
    bytes in either direction, and tells nobody."""

    OURS, PEER = "10.98.7.1", "10.98.7.2"

    def __init__(self, mtu):
        self.holders = []
        switch, host = self.namespace(), self.namespace()
        run("ip", "link", "add", "ours", "type", "veth", "peer", "name", "left",
            "netns", str(switch))
        run("ip", "link", "add", "peer", "netns", str(host), "type", "veth",
            "peer", "name", "right", "netns", str(switch))
        at = ("nsenter", "-n", "-t", str(switch))
        run(*at, "ip", "link", "add", "switch", "type", "bridge")
        for port in ("left", "right"):
            run(*at, "ip", "link", "set", port, "master", "switch", "up")
            real_segments(port, at)
        run(*at, "ip", "link", "set", "switch", "up")
        run(*at, "ip", "link", "set", "right", "mtu", str(mtu))
        #: Words before a command that runs there.
        self.there = ("nsenter", "-n", "-t", str(host))
        for device, address, at in (("ours", self.OURS, ()),
                                    ("peer", self.PEER, self.there)):
            run(*at, "ip", "addr", "add", f"{address}/24", "dev", device)
            run(*at, "ip", "link", "set", device, "up")
            real_segments(device, at)
        run(*self.there, "ip", "link", "set", "lo", "up")

    def namespace(self):
        """The pid of a process that keeps one, until our own end."""
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holder.stdout.readline()
        self.holders.append(holder)
        return holder.pid


def filter_nothing():
    """Everything arrives again."""
    run("nft", "flush", "chain", "inet", "test", "in")


def filter_input(*rules):
    """nft rules about what arrives, in the words of nft. Where it leaves, the
    sender's kernel would be told, and the network tells nobody."""
    lines = "".join(f"add rule inet test in {rule}\n" for rule in rules)
    run("nft", "-f", "-", stdin=(
        "add table inet test\n"
        "add chain inet test in "
        "{ type filter hook input priority 0; }\n" + lines))


class Dns:
    """127.0.0.1:53 over UDP. `answer(name, qtype)` gives a list of IPv4 and
    IPv6 addresses, or an rcode, or None for silence."""

    RESOLV = "nameserver 127.0.0.1\noptions attempts:1 timeout:{}\n"

    def __init__(self, answer):
        self.answer = answer
        self.names = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, peer = self.sock.recvfrom(2000)
            threading.Thread(target=self.reply, args=(query, peer),
                             daemon=True).start()

    def reply(self, query, peer):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        qtype = struct.unpack_from("!H", query, at + 1)[0]
        question = query[12:at + 5]
        self.names.append(".".join(labels))
        answer = self.answer(self.names[-1], qtype)
        if answer is None:
            return
        rcode, addresses = 0, []
        if isinstance(answer, int):
            rcode = answer
        else:
            addresses = [socket.inet_pton(f, a) for f, t, a in (
                (socket.AF_INET6, 28, a) if ":" in a else
                (socket.AF_INET, 1, a) for a in answer) if t == qtype]
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1,
                                       len(addresses), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", qtype, 1, 60, len(a)) + a
            for a in addresses)
        self.sock.sendto(head + question + records, peer)
