#!/usr/bin/env python3
"""Judge of loss and duplicates.

Compares what the load generator was told is safe (--acked: lines of
`message-id queue-id') with what the SES emulator accepted (--journal: JSON
lines). A journal line with both "message_id" and "id" is an accepted message,
one with "event" is not. Ids are compared without angle brackets. Either option
may be given more than once. A last line without its newline is what a killed
writer left, and is passed over with a note; any other line that can not be
read ends the judgement with status 2.

Exit status: 0 nothing lost and no more duplicates than allowed, 1 not so, 2
no judgement.
"""

import argparse
import collections
import json
import sys

EXAMPLES = 10


class Unreadable(Exception):
    """Evidence that can not be trusted."""


def bare(message_id):
    return message_id.strip().strip("<>")


def lines_of(path):
    """Yields number and text of each whole line."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                print(f"judge: {path}:{number}: cut short, passed over",
                      file=sys.stderr)
                return
            if line.strip():
                yield number, line.decode("utf-8", "surrogateescape")


def read_acked(paths):
    acked = collections.Counter()
    for path in paths:
        for number, line in lines_of(path):
            words = line.split()
            if len(words) != 2:
                raise Unreadable(f"{path}:{number}: not two words")
            acked[bare(words[0])] += 1
    return acked


def read_journal(paths):
    arrived = collections.Counter()
    for path in paths:
        for number, line in lines_of(path):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise Unreadable(f"{path}:{number}: {error}") from error
            if not isinstance(entry, dict):
                raise Unreadable(f"{path}:{number}: not an object")
            if "event" in entry or "id" not in entry:
                continue
            if isinstance(entry.get("message_id"), str):
                arrived[bare(entry["message_id"])] += 1
    return arrived


def judge(acked, arrived):
    """Returns name -> (count, examples), in the order to print."""
    lost = [m for m in acked if m not in arrived]
    repeated = [m for m, n in arrived.items() if n > 1]
    unacked = [m for m in arrived if m not in acked]
    twice = [m for m, n in acked.items() if n > 1]
    return {
        "acked": (len(acked), []),
        "arrived": (len(arrived), []),
        "lost": (len(lost), lost),
        "duplicated": (len(repeated), repeated),
        "extra_copies": (sum(arrived[m] - 1 for m in repeated), []),
        "unacked_arrived": (len(unacked), unacked),
        "acked_twice": (len(twice), twice),
    }


def show(result, arrived, verdict, as_json):
    if as_json:
        out = {name: count for name, (count, _) in result.items()}
        out["examples"] = {name: some[:EXAMPLES]
                           for name, (_, some) in result.items() if some}
        out["ok"] = verdict
        print(json.dumps(out))
        return
    for name, (count, some) in result.items():
        print(f"{name.replace('_', ' '):<16} {count}")
        for message_id in some[:EXAMPLES]:
            copies = arrived[message_id]
            print(f"    {message_id}" +
                  (f" ({copies} copies)" if copies > 1 else ""))
    print("verdict          " + ("good" if verdict else "BAD"))


def main():
    parser = argparse.ArgumentParser(
        description="judge of loss and duplicates")
    parser.add_argument("--acked", action="append", required=True,
                        metavar="FILE")
    parser.add_argument("--journal", action="append", required=True,
                        metavar="FILE")
    parser.add_argument("--max-duplicates", type=int, default=0, metavar="N",
                        help="extra copies allowed (0)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        acked = read_acked(options.acked)
        arrived = read_journal(options.journal)
    except (OSError, Unreadable) as error:
        print(f"judge: {error}", file=sys.stderr)
        return 2
    result = judge(acked, arrived)
    verdict = (result["lost"][0] == 0 and
               result["extra_copies"][0] <= options.max_duplicates)
    show(result, arrived, verdict, options.json)
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
