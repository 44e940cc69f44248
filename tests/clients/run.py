#!/usr/bin/python3
"""Real clients, real callers of sendmail: each hands mail to a relay, and what
the emulator of SES gets is what it was given.  Printed as a table.

    run.py [NAME]...        those whose name has this in it

A client's mails: dots at line starts, 8-bit text, long lines, 200 KB attached,
an empty body, three recipients of whom one is Bcc.  The dialogue is that of
the last.  Exit code 1 when one of them was not delivered as it was given, with
the reason below the table.
"""

import argparse
import contextlib
import inspect
import sys
import traceback

import callers
import content
import smtp_clients
import tap
import tools

from harness import (  # noqa: E402 (the path is set by content)
    Relay, Sesd, Workdir, make_certificates, wait_until)


class Stage:
    """The emulator, a relay, and the tap in front of it."""

    def __init__(self, directory, certs, config=None, settings=None):
        self.sesd = Sesd(directory / "sesd", certs, store=True,
                         settings=settings)
        self.relay = Relay(directory / "relay", self.sesd, config=config)
        self.tap = tap.Tap(self.relay.port)
        self.seen = 0

    def next_message(self):
        """The one message that has come since the last call."""
        wait_until(lambda: self.sesd.stats()["accepted"] > self.seen,
                   "the message at sesd", 20)
        self.relay.wait_empty()
        new = self.sesd.messages()[self.seen:]
        self.seen += len(new)
        if len(new) != 1:
            raise content.Unequal(f"{len(new)} messages at sesd")
        return new[0], self.sesd.stored(new[0])

    def forget(self):
        """What a failed client left behind is not the next one's."""
        self.relay.wait_empty()
        self.seen = len(self.sesd.messages())

    def close(self):
        self.tap.close()
        try:
            self.relay.stop()
        finally:
            self.relay.close()
            self.sesd.close()


def send_one(stage, client, mail, directory, kit):
    """The dialogue; raises when it was not as it has to be."""
    extra = ""
    if client.header and content.BCC in mail.rcpts:
        extra = client.header.format(content.BCC)
    mail.write(directory, client.end, extra)
    stage.tap.forget()
    client.send(smtp_clients.Where(stage.tap.port, directory, mail, kit))
    stage.tap.wait_end()
    dialogue, sent = tap.read_back(stage.tap.chunks)
    entry, stored = stage.next_message()
    if len(sent) != 1:
        raise content.Unequal(f"{len(sent)} contents on the wire: {dialogue}")
    if client.login and " AUTH " not in dialogue:
        raise content.Unequal(f"no login: {dialogue}")
    content.same("of what went over the wire, the content",
                 content.without_added(stored, sent[0]), sent[0])
    content.judge_envelope(mail, entry)
    if client.makes:
        content.judge_made(mail, stored)
    else:
        content.judge_raw(mail, stored, client.adds, client.top)
    return dialogue


def attempt(stage, results, name, send):
    """Notes under the name whether it went well; what send() returned."""
    try:
        said = send()
        results[name] = None
        return said
    except (content.Unequal, smtp_clients.Failed, AssertionError,
            OSError) as e:
        results[name] = f"{type(e).__name__}: {e}"
    except Exception:
        results[name] = traceback.format_exc()
    stage.forget()
    return None


def print_row(row, version, said, results, failures):
    bad = [name for name, why in results.items() if why]
    word = "equal" if not bad else "FAILED: " + " ".join(bad)
    print(f"{row.name:<15} {version:<13} {row.variant:<23} "
          f"{len(results) - len(bad)}/{len(results)} {word}\n"
          f"    {said or ''}", flush=True)
    for name, why in row.without.items():
        print(f"    no {name}: {why}")
    for name in bad:
        failures.append(f"{row.name} {row.variant}: {name}: {results[name]}")


def run_clients(stage, rows, directory, kit, failures):
    for client in rows:
        said, results = "", {}
        for mail in content.MAILS:
            if mail.name not in client.without:
                said = attempt(stage, results, mail.name,
                               lambda m=mail: send_one(
                                   stage, client, m, directory, kit)) or said
        print_row(client, kit.version(client.name), said, results, failures)


def call_one(stage, world, caller, mail):
    """How sendmail was called."""
    world.calls()
    if mail:
        mail.write(world.files)
    going_on = caller.call(world, mail)
    if inspect.isgenerator(going_on):
        with contextlib.closing(going_on):
            next(going_on)
            entry, stored = stage.next_message()
    else:
        entry, stored = stage.next_message()
    callers.judge(caller, mail, entry, stored)
    return world.calls()


def run_callers(stage, world, rows, failures):
    for caller in rows:
        said, results = "", {}
        for mail in [] if caller.own else content.MAILS:
            if mail.name not in caller.without:
                said = attempt(stage, results, mail.name,
                               lambda m=mail: call_one(
                                   stage, world, caller, m)) or said
        if caller.own:
            said = attempt(stage, results, "its own",
                           lambda: call_one(stage, world, caller, None))
        print_row(caller, world.kit.version(caller.name), said, results, failures)


def run_all(directory, certs, kit, wanted, failures):
    for name, config in (("open", None),
                         ("login", {"smtp.accept_any_auth": "true"})):
        rows = [c for c in smtp_clients.CLIENTS
                if c.login == (name == "login") and wanted(c.name)]
        if rows:
            stage = Stage(directory / name, certs, config)
            with contextlib.closing(stage):
                files = directory / name / "files"
                files.mkdir()
                run_clients(stage, rows, files, kit, failures)
    rows = [c for c in callers.CALLERS if wanted(c.name)]
    if rows:
        where = directory / "sendmail"
        where.mkdir()
        (where / "aliases").write_text(f"root: {callers.OPS}\n")
        stage = Stage(where, certs,
                      {key: value.replace("{directory}", str(where))
                       for key, value in callers.REWRITE.items()},
                      {"verified": callers.VERIFIED_DOMAIN})
        with contextlib.closing(stage):
            world = callers.World(where, stage.relay.port, kit)
            run_callers(stage, world, rows, failures)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="*")
    args = parser.parse_args()

    def wanted(name):
        return not args.name or any(n.lower() in name.lower()
                                    for n in args.name)

    failures = []
    with Workdir("clients") as directory:
        certs = make_certificates(directory / "certs")
        (directory / "tools").mkdir()
        with contextlib.closing(tools.Tools(directory / "tools")) as kit:
            run_all(directory, certs, kit, wanted, failures)
    for text in failures:
        print(f"\n{text}")
    print("clients: " + (f"{len(failures)} FAILED" if failures else
                         "all delivered as they were given"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
