#!/usr/bin/python3
"""Real clients, real callers of sendmail: each hands mail to a relay, and what
the emulator of SES gets is what it was given.  Printed as a table.

    run.py [NAME]...        those clients whose name has this in it

A client's mails: dots at line starts, 8-bit text, long lines, 200 KB attached,
an empty body, three recipients of whom one is Bcc.  The dialogue is that of
the last.  Exit code 1 when one of them was not delivered as it was given, with
the reason below the table.
"""

import argparse
import sys
import traceback

import content
import smtp_clients
import tap
import tools

from harness import (  # noqa: E402 (the path is set by content)
    Relay, Sesd, Workdir, make_certificates, wait_until)


class Stage:
    """The emulator, a relay, and the tap in front of it."""

    def __init__(self, directory, certs, config=None):
        self.sesd = Sesd(directory / "sesd", certs, store=True)
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
    client.send(smtp_clients.Where(stage.tap.port, directory, mail, kit))
    stage.tap.wait_end()
    dialogue, sent = tap.read_back(stage.tap.chunks)
    entry, stored = stage.next_message()
    if len(sent) != 1:
        raise content.Unequal(f"{len(sent)} contents on the wire: {dialogue}")
    content.same("of what went over the wire, the content",
                 content.without_added(stored, sent[0]), sent[0])
    content.judge_envelope(mail, entry)
    if client.makes:
        content.judge_made(mail, stored)
    else:
        content.judge_raw(mail, stored, client.adds)
    return dialogue


def send_all(stage, client, directory, kit):
    """(last dialogue, {mail: None or why it failed})."""
    dialogue, results = "", {}
    for mail in content.MAILS:
        if mail.name in client.without:
            continue
        try:
            dialogue = send_one(stage, client, mail, directory, kit)
            results[mail.name] = None
        except (content.Unequal, smtp_clients.Failed, AssertionError,
                OSError) as e:
            results[mail.name] = f"{type(e).__name__}: {e}"
            stage.forget()
        except Exception:
            results[mail.name] = traceback.format_exc()
            stage.forget()
    return dialogue, results


def print_row(client, version, dialogue, results, failures):
    bad = [name for name, why in results.items() if why]
    word = "equal" if not bad else "FAILED: " + " ".join(bad)
    left = "".join(f" (no {name}: {why})"
                   for name, why in client.without.items())
    print(f"{client.name:<15} {version:<15} {client.variant:<23} "
          f"{len(results) - len(bad)}/{len(results)} {word}{left}\n"
          f"    {dialogue}", flush=True)
    for name in bad:
        failures.append(f"{client.name} {client.variant}: {name}: "
                        f"{results[name]}")


def run_clients(directory, certs, kit, wanted, failures):
    versions = kit.versions()
    stages = {}
    try:
        for login, config in ((False, None),
                              (True, {"smtp.accept_any_auth": "true"})):
            clients = [c for c in smtp_clients.CLIENTS
                       if c.login == login and wanted(c.name)]
            if not clients:
                continue
            where = directory / ("login" if login else "open")
            stages[login] = Stage(where, certs, config)
            files = where / "files"
            files.mkdir()
            for c in clients:
                dialogue, results = send_all(stages[login], c, files, kit)
                print_row(c, versions[c.name], dialogue, results, failures)
    finally:
        for s in stages.values():
            s.close()


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
        kit = tools.Tools(directory / "tools")
        run_clients(directory, certs, kit, wanted, failures)
    for text in failures:
        print(f"\n{text}")
    print("clients: " + (f"{len(failures)} FAILED" if failures else
                         "all delivered as they were given"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
