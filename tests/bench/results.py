"""RESULTS.md and its charts, of the record of a run."""

import json
import subprocess

import growth
import measure
import rows

RELAYS = ("Postfix", "OpenSMTPD", "sesrelayd")
COLOURS = {"Postfix": "#b5651d", "OpenSMTPD": "#7a7a7a",
           "sesrelayd": "#0b6bcb", "limit": "#2e8b57"}
GROWTH = (("grow-queue", "messages in the queue", ("accept", "deliver")),
          ("grow-sessions", "sessions", ("accept",)),
          ("grow-connections", "connections", ("deliver",)))


class Figures:
    def __init__(self, record):
        self.record = record

    def of(self, key):
        """Medians of all competitors that have some."""
        return {name: t["medians"] for name, t in
                self.record["turns"].get(key, {}).items() if t["medians"]}

    def noisy(self, key, name):
        turns = self.record["turns"].get(key, {}).get(name, {"turns": []})
        return sum(t["noisy"] for t in turns["turns"])


def verdict(line, all_of):
    *_, met = line
    ours, postfix = all_of.get("sesrelayd"), all_of.get("Postfix")
    if ours is None:
        return "failed"
    try:
        return "met" if met(ours, postfix, all_of) else "**not met**"
    except (KeyError, TypeError):  # what it is compared with is missing
        return "?"


def table(figures):
    out = ["| work | Postfix 3.7 | OpenSMTPD 6.8 | limit in this run | goal | "
           "sesrelayd | verdict |", "|---|---|---|---|---|---|---|"]
    for line in rows.LINES:
        title, key, show, limit, goal, _ = line
        all_of = figures.of(key)
        if key not in figures.record["turns"]:
            continue
        cells = []
        for name in RELAYS:
            cell = show(all_of[name]) if name in all_of else "failed"
            if figures.noisy(key, name):
                cell += " ~"
            cells.append(cell)
        try:
            bound = limit(all_of)
        except KeyError:
            bound = "failed"
        out.append(f"| {title} | {cells[0]} | {cells[1]} | {bound} | {goal} | "
                   f"{cells[2]} | {verdict(line, all_of)} |")
    return out


def growth_lines(figures):
    out = []
    for key, axis, names in GROWTH:
        points = figures.of(key)
        if not points:
            continue
        for name in names:
            costs = [m[name] for m in points.values()]
            spread = max(costs) / min(costs) - 1
            good = "flat" if spread <= growth.FLAT else "**not flat**"
            out.append(
                f"- {axis} ({name}): " + ", ".join(
                    f"{int(n):,}: {m[name]:.3f} s"
                    for n, m in points.items()) +
                f"; {100 * spread:.0f} % between the least and the most, "
                f"{good}")
    return out


def plot(path, title, xlabel, ylabel, series, options=()):
    """A line of each series: name -> [(x, y)]; the rest is gnuplot's."""
    commands = [
        "set terminal svg size 760,420 dynamic font 'sans,13' background "
        "'#ffffff'", f"set output '{path}'", f"set title '{title}'",
        f"set xlabel '{xlabel}'", f"set ylabel '{ylabel}'",
        "set key outside right", "set grid ytics lc rgb '#dddddd'",
        "set yrange [0:*]", *options]
    parts, data = [], []
    for name, points in series.items():
        colour = COLOURS.get(name, "")
        style = (f" lc rgb '{colour}'" if colour else "") + (
            " dt 2" if name == "limit" else "")
        parts.append(f"'-' using 1:2 with linespoints lw 2 pt 7 ps 0.6{style} "
                     f"title '{name}'")
        data += [f"{x} {y}" for x, y in points] + ["e"]
    if not parts:
        return
    commands.append("plot " + ", ".join(parts))
    subprocess.run(["gnuplot"], text=True, check=True,
                   input="\n".join(commands + data) + "\n")


def series(figures, keys, figure, limit=None):
    """Of each relay over keys [(x, key)], and of the limit."""
    out = {}
    for name in (*RELAYS, limit):
        points = [(x, figures.of(key)[name][figure]) for x, key in keys
                  if name in figures.of(key)]
        if points:
            out["limit" if name == limit else name] = points
    return out


def charts(figures, directory):
    """The names of those there is something to draw for."""
    for path in directory.glob("*.svg"):
        path.unlink()
    log = ("set logscale x", "set logscale y", "set yrange [*:*]")
    accept = [(n, f"accept-{n}") for n in rows.LEVELS]
    plot(directory / "accept.svg", "Durable accept, upstream away", "sessions",
         "messages/s", series(figures, accept, "rate", "sink"), log)
    rtt = [(n, f"rtt-{n}") for n in rows.RTTS]
    plot(directory / "rtt.svg", "End to end, 100 sessions, 50 connections, "
         "50 ms at the dot", "round trip (ms)", "messages/s",
         series(figures, rtt, "rate", "bare"))
    plot(directory / "memory.svg", "Memory under load, end to end",
         "round trip (ms)", "PSS of all processes (MiB)",
         {name: [(x, y / 1048576) for x, y in points] for name, points in
          series(figures, rtt, "memory").items()},
         ("set logscale y", "set yrange [1:*]"))
    shares = ("10", "25", "50", "75", "90", "95", "99", "99.9")
    top = figures.of("accept-100")
    # Evenly spaced by the number of nines.
    plot(directory / "latency.svg", "From the final dot to its 250, 100 "
         "sessions, upstream away", "percentile", "ms (logarithmic)",
         {name: [(i, top[name][f"p{p}"]) for i, p in enumerate(shares)]
          for name in RELAYS if name in top},
         ("set logscale y", "set yrange [*:*]", "set xtics (" +
          ", ".join(f"'{p}' {i}" for i, p in enumerate(shares)) + ")"))
    for key, axis, names in GROWTH:
        points = figures.of(key)
        plot(directory / f"{key}.svg", "What a message costs sesrelayd", axis,
             "CPU seconds for 1,000 messages",
             {name: [(n, m[name]) for n, m in points.items()]
              for name in names if points}, ("set logscale x",))
    return sorted(path.name for path in directory.glob("*.svg"))


def instruction_lines(path):
    """What `make bench-instructions` counted last, if it ever ran here."""
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    out = ["## Instructions", "", "By `make bench-instructions`: a message of "
           "4 KiB accepted from 100 sessions, upstream away; a message sent "
           "by 50 connections from a queue; both together.", "",
           "| | instructions a message | system calls a message | of which |",
           "|---|---|---|---|"]
    for name, one in record.items():
        calls = sorted(one["strace"].items(), key=lambda kv: -kv[1])
        out.append(
            f"| {name} | {one['callgrind']['instructions']:,.0f} | "
            f"{sum(one['strace'].values()):.1f} | " +
            ", ".join(f"{k} {v:.2f}" for k, v in calls if v >= .05) + " |")
    return [*out, ""]


def noise(record):
    turns = [t for row in record["turns"].values() for name in row.values()
             for t in name["turns"]]
    noisy = sum(t["noisy"] for t in turns)
    worst = max(turns, key=lambda t: t["noise"]["foreign"])["noise"]
    return (f"{noisy} of {len(turns)} turns were noisy: others used more than "
            f"{100 * measure.NOISY_SHARE:.0f} % of a core, or a fixed piece "
            f"of work took more than {measure.NOISY_SPIN} times its least "
            f"time; their figures bear a ~. Most used by others: "
            f"{100 * worst['foreign']:.0f} % of a core.")


def text(record, figures, names, instructions):
    m = record["machine"]
    out = [
        "# sesrelayd, Postfix and OpenSMTPD side by side", "",
        "Written by `make bench`; each figure is the median of "
        f"{record['times']} turn(s), in which the relays alternated; where "
        "they would take minutes, Postfix and OpenSMTPD get fewer messages "
        "([rows.py](rows.py)). Limits "
        "are measured in the same run: a client without a queue that has 50 "
        "connections, a server that stores nothing, a log that does nothing "
        "but commit. Configurations: [peers](peers). What the figures mean, "
        "and what stands in the way of the rest: "
        "[docs/performance.md](../../docs/performance.md).", ""]
    if record["quick"]:
        out += ["**QUICK: the counts are too small for these to be results.**",
                ""]
    out += [f"- date: {record['date']}", f"- command: `{record['command']}`",
            f"- machine: {m['cpu']}, {m['memory']}, {m['system']}, "
            f"{m['kernel']}, spool on {m['spool']}",
            f"- noise: {noise(record)}", "", *table(figures), ""]
    bare = figures.of("cpu-bound").get("bare")
    if bare:
        out += ["The emulator of SES is not the limit: without latency a bare "
                f"client gets {bare['rate']:,.0f} messages/s from it, at "
                f"{bare['upstream_cpu']:.3f} CPU seconds for 1,000 messages "
                f"there and {bare['cpu']:.3f} in the client.", ""]
    cost = growth_lines(figures)
    if cost:
        out += ["## Growth", "", "CPU seconds of sesrelayd for 1,000 messages "
                "(allowed: 20 %).", "", *cost, ""]
    out += instruction_lines(instructions)
    failed = [f"- {key}, {name}: {t['error']}"
              for key, row in record["turns"].items()
              for name, n in row.items() for t in n["turns"] if t["error"]]
    if failed:
        out += ["## Turns that failed", "", *failed, ""]
    if names:
        out += ["## Charts", ""]
        out += [f"![{name[:-4]}](charts/{name})\n" for name in names]
    return "\n".join(out).rstrip() + "\n"


def write(record, directory):
    figures = Figures(record)
    names = charts(figures, directory)
    out = text(record, figures, names, directory / "instructions.json")
    (directory / "RESULTS.md").write_text(out)
    return out
