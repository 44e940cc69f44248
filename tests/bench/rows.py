"""The table: which turns are taken (TURNS), and what its lines show of them
(LINES).

A turn is (key, group, {competitor: function of the context}), where a relay is
its class with the arguments of the turn.  A line is (title, key, show, limit,
goal, met): show() makes the text of a relay's figures, limit() that of all
figures of the key; met() gets ours, Postfix's and the limits'.
"""

from functools import partial

import relays
import turns

LEVELS = (1, 10, 100)  # sessions
RTTS = (0, 10, 40)


def compare(turn, peers=None, **limits):
    """All three relays, and what else there is to compare with.  `peers`:
    other arguments for the others, which take ten times as long."""
    out = {name: (cls, turn if cls is relays.Sesrelayd
                  else partial(turn, **(peers or {})))
           for name, cls in relays.ALL.items()}
    out.update(limits)
    return out


def make_turns(quick):
    """Small counts prove that the harness works; they are no results."""
    def count(full, small):
        return small if quick else full

    out = []
    for n, full, small in zip(LEVELS, (2000, 10000, 20000), (200, 1000, 2000)):
        messages = count(full, small)
        out.append((f"accept-{n}", "accept", compare(
            partial(turns.accept, messages=messages, sessions=n),
            {"messages": min(messages, 5000)},
            disk=partial(turns.disk, seconds=count(3, 1), sessions=n),
            sink=partial(turns.sink, messages=count(full, small * 2),
                         sessions=n))))
    for rtt, full in zip(RTTS, (10000, 5000, 3000)):
        messages = count(full, 500)
        out.append((f"rtt-{rtt}", "rtt", compare(
            partial(turns.end_to_end, messages=messages, rtt_ms=rtt),
            {"messages": min(messages, 2500)},
            bare=partial(turns.bare, messages=messages, rtt_ms=rtt))))
    messages = count(20000, 1000)
    out.append(("cpu-bound", "cpu-bound", compare(
        partial(turns.end_to_end, messages=messages, rtt_ms=0, dot_ms=0),
        {"messages": min(messages, 5000)},
        bare=partial(turns.bare, messages=messages, rtt_ms=0, dot_ms=0))))
    messages = count(10000, 1000)
    out.append(("drain", "drain", compare(
        partial(turns.drain, messages=messages, rtt_ms=10,
                patience=count(75, 20)),
        bare=partial(turns.bare, messages=messages, rtt_ms=10))))
    messages = count(200, 40)
    out.append(("large", "large", compare(
        partial(turns.end_to_end, messages=messages, rtt_ms=10, sessions=20,
                size=turns.MIB),
        bare=partial(turns.bare, messages=messages, rtt_ms=10,
                     size=turns.MIB))))
    out.append(("throttled", "throttled", compare(
        partial(turns.throttled, messages=count(5000, 500),
                patience=count(90, 10)))))
    out.append(("latency", "latency", compare(
        partial(turns.latency, times=count(9, 3)),
        bare=turns.bare_latency)))
    out.append(("faults", "faults", compare(
        partial(turns.faults, messages=count(3000, 300),
                patience=count(75, 12)))))
    return out


def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}"


def mib(x):
    return f"{x / turns.MIB:.0f}" if x > 20 * turns.MIB else \
        f"{x / turns.MIB:.1f}"


def rate(m):
    return number(m["rate"])


def milliseconds(name):
    return lambda m: f"{m[name]:.1f} ms" if m[name] < 20 else \
        f"{m[name]:.0f} ms"


def bare_rate(all_of):
    return rate(all_of["bare"])


def drained(m):
    return f"{rate(m)}/s" + (f", {m['left']:.0f} left" if m["left"] else "")


def throttle(m):
    return (f"{rate(m)}/s, {m['throttled']:.1f} % throttled" +
            (f", {m['left']:.0f} waiting" if m["left"] else ""))


def faulty(m):
    arrived = f"{m['left']:.0f} missing" if m["left"] else "all"
    return (f"{arrived} after {m['seconds']:.0f} s, {m['twice']:.0f} twice of "
            f"{m['lost']:.0f} lost")


def accept_lines():
    for n, times in zip(LEVELS, (5, 8, 10)):
        def met(ours, postfix, limits, times=times, n=n):
            good = ours["rate"] >= times * postfix["rate"]
            return good and (n == 1 or
                             ours["rate"] >= .8 * limits["sink"]["rate"])
        goal = f"≥ {times} × Postfix" + (
            ", ≥ 80 % of the sink" if n > 1 else "")
        yield (f"durable accept, upstream away, {n} session"
               f"{'s' if n > 1 else ''} (messages/s)", f"accept-{n}", rate,
               lambda all_of: f"log {rate(all_of['disk'])}, "
               f"sink {rate(all_of['sink'])}", goal, met)


def near_bare(ours, _, limits):
    return ours["rate"] >= .97 * limits["bare"]["rate"]


LINES = [
    *accept_lines(),
    ("99th percentile of the 250, 100 sessions", "accept-100",
     milliseconds("p99"), lambda all_of: "sink " + milliseconds("p99")(
         all_of["sink"]), "≤ 20 ms", lambda ours, *_: ours["p99"] <= 20),
    *((f"end to end, RTT {rtt} ms, 50 ms at the dot, 100 sessions "
       "(messages/s)", f"rtt-{rtt}", rate, bare_rate, "≥ 97 % of the limit",
       near_bare) for rtt in RTTS),
    ("end to end, RTT 0, no server delay (messages/s)", "cpu-bound", rate,
     bare_rate, "≥ 5,000 and ≥ 5 × Postfix",
     lambda ours, postfix, _: ours["rate"] >= max(5000, 5 * postfix["rate"])),
    ("drain of the queue, RTT 10 ms", "drain", drained, bare_rate,
     "≥ 97 % of the limit",
     lambda ours, _, limits: near_bare(ours, _, limits) and not ours["left"]),
    ("messages of 1 MiB, RTT 10 ms (MiB/s)", "large",
     lambda m: number(m["mib"]), lambda all_of: number(all_of["bare"]["mib"]),
     "≥ 3 × Postfix",
     lambda ours, postfix, _: ours["mib"] >= 3 * postfix["mib"]),
    ("upstream takes 100/s", "throttled", throttle, lambda _: "100/s",
     "≥ 97/s, ≤ 2 % throttled, all delivered",
     lambda ours, *_: (ours["rate"] >= 97 and ours["throttled"] <= 2 and
                       not ours["left"])),
    ("CPU seconds for 1,000 messages end to end, RTT 10 ms", "rtt-10",
     lambda m: f"{m['cpu']:.2f}",
     lambda all_of: f"{all_of['bare']['cpu']:.2f}", "≤ 0.25",
     lambda ours, *_: ours["cpu"] <= 0.25),
    ("memory (PSS) idle / under load, 100 sessions, RTT 10 ms (MiB)",
     "rtt-10", lambda m: f"{mib(m['idle'])} / {mib(m['memory'])}",
     lambda _: "", "≤ 5 / 32",
     lambda ours, *_: (ours["idle"] <= 5 * turns.MIB and
                       ours["memory"] <= 32 * turns.MIB)),
    ("one message, RTT 10 ms, warm / cold connection", "latency",
     lambda m: f"{m['warm']:.0f} / {m['cold']:.0f} ms",
     lambda all_of: f"{all_of['bare']['warm']:.0f} / "
     f"{all_of['bare']['cold']:.0f} ms", "limit + 3 ms",
     lambda ours, _, limits: all(ours[k] <= limits["bare"][k] + 3
                                 for k in ("warm", "cold"))),
    ("2 % of replies lost, 2 % of bodies cut", "faults", faulty,
     lambda _: "", "all within 60 s, no more twice than lost",
     lambda ours, *_: (not ours["left"] and ours["seconds"] <= 60 and
                       ours["twice"] <= ours["lost"])),
]
