"""The text format of Prometheus, read strictly: what its own parser takes, and
what promtool asks of names and types beyond that."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
VALUE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|\+Inf|-Inf|NaN")
ABBREVIATED = re.compile(r"_(s|ms|us|ns|sec|b|kb|mb|pct)(_|$)")


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.kind = name, help_text, None
        self.samples = {}  # (name, labels as sorted pairs): value


def parse_labels(text):
    """A tuple of sorted pairs; fails unless all of the text is labels."""
    pairs, at = [], 0
    while at < len(text):
        m = LABEL.match(text, at)
        assert m, f"no label: {text[at:]!r}"
        pairs.append((m[1], re.sub(r"\\(.)", lambda x: {"n": "\n"}.get(
            x[1], x[1]), m[2])))
        at = m.end()
        if at < len(text):
            assert text[at] == ",", f"no comma: {text[at:]!r}"
            at += 1
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a label twice: {text}"
    return tuple(sorted(pairs))


def owns(family, name):
    if family.kind == "histogram":
        return name in (family.name + x for x in ("_bucket", "_sum", "_count"))
    return name == family.name


def check_histogram(family):
    """Buckets grow to +Inf, which is the count; the sum is there."""
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        one = series.setdefault(rest, {"le": [], "sum": None, "count": None})
        if name.endswith("_bucket"):
            one["le"].append((float(dict(labels)["le"]), value))
        else:
            one[name.rsplit("_", 1)[1]] = value
    for rest, one in series.items():
        where = f"{family.name}{rest}"
        bounds = [le for le, _ in one["le"]]
        counts = [n for _, n in one["le"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, where
        assert counts == sorted(counts), where
        assert one["count"] == counts[-1] and one["sum"] is not None, where


def check_family(family):
    name, kind = family.name, family.kind
    assert kind in ("counter", "gauge", "histogram"), name
    assert family.help.strip(), f"{name}: no help"
    # Series of histograms come with their first observation.
    assert family.samples or kind == "histogram", f"{name}: no sample"
    assert name.endswith("_total") == (kind == "counter"), name
    assert name == name.lower() and not ABBREVIATED.search(name), name
    if kind != "histogram":
        assert not re.search("_(bucket|count|sum)$", name), name
        for _, labels in family.samples:
            assert not {"le", "quantile"} & {k for k, _ in labels}, name
    if kind == "counter":
        assert min(family.samples.values()) >= 0, name
    if kind == "histogram":
        check_histogram(family)


def parse(text):
    """Families by name."""
    assert text.endswith("\n") and "\n\n" not in text and "\r" not in text
    families, current = {}, None
    for line in text.splitlines():
        m = re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.*)", line)
        if m and m[1] == "HELP":
            assert m[2] not in families, f"{m[2]} begins twice"
            current = families[m[2]] = Family(m[2], m[3])
            continue
        if m:
            assert m[2] == current.name and current.kind is None, line
            current.kind = m[3]
            continue
        m = SAMPLE.fullmatch(line)
        assert m and VALUE.fullmatch(m[3]), f"no sample: {line!r}"
        assert current and current.kind and owns(current, m[1]), line
        key = (m[1], parse_labels(m[2] or ""))
        assert key not in current.samples, f"twice: {line}"
        current.samples[key] = float(m[3])
    for family in families.values():
        check_family(family)
    return families


def value(families, name, **labels):
    """Of one sample; KeyError if there is none."""
    return families[name].samples[(name, tuple(sorted(labels.items())))]
