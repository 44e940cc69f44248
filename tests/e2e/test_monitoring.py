"""What is shipped for Prometheus and Grafana against what the daemon says: an
alert on a metric that does not exist is an alert that never comes.  What
Prometheus itself makes of the rules is `make monitoring`."""

import json
import re

import pytest

import exposition
from harness import ROOT, wait_until

RULES = ROOT / "conf/prometheus/sesrelayd.rules.yml"
DASHBOARD = ROOT / "conf/prometheus/sesrelayd-dashboard.json"
SELECTOR = re.compile(
    r"\b((?:sesrelayd|process)_[a-z_]+)(?:\{((?:[^{}\"]|\"[^\"]*\")*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
FROM_SCRAPING = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def families(certs, tmp_path_factory):
    import conftest
    stage = conftest.Stage(tmp_path_factory.mktemp("monitoring"), certs)
    try:
        r = stage.relay(stage.sesd())
        r.send()
        r.wait_empty()
        # A connection that ended, so that every histogram has a series.
        r.ctl("pause")
        wait_until(lambda: "sesrelayd_connection_messages_count" in
                   r.ctl("metrics"), "the end of a connection")
        yield exposition.parse(r.ctl("metrics"))
        stage.end()
    finally:
        for p in stage.relays + stage.sesds:
            p.close()


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def rules():
    """(alert, expression) of each."""
    found = re.findall(r"- alert: (\w+)\n +expr: (.*)\n", RULES.read_text())
    assert len(found) == RULES.read_text().count("- alert:") > 10
    return found


def dashboard():
    """(title, expression) of each."""
    board = json.loads(DASHBOARD.read_text())
    found = [(p["title"], t["expr"]) for p in board["panels"]
             for t in p.get("targets", [])]
    found += [(a["name"], a["expr"]) for a in board["annotations"]["list"]]
    found += [(v["name"], v["query"]) for v in board["templating"]["list"]
              if v["type"] == "query"]
    assert len(found) > 40
    return found


def check(families, where, expression):
    selectors = SELECTOR.findall(expression)
    assert selectors or expression.startswith("up{"), where
    for name, matchers in selectors:
        base = re.sub("_(bucket|sum|count)$", "", name)
        family = families.get(name) or families.get(base)
        assert family, f"{where}: there is no {name}"
        assert (family.kind == "histogram") == (name != family.name), where
        labels = [dict(pairs) for (n, pairs) in family.samples if n == name]
        assert labels, f"{where}: {name} has no series"
        for label, op, value in MATCHER.findall(matchers):
            if label in FROM_SCRAPING:
                continue
            known = {x[label] for x in labels}  # fails if it has no such one
            wanted = value.split("|") if "~" in op else [value]
            assert set(wanted) <= known, f"{where}: {label} is never {value}"
        # A counter alone is a number that grows.
        if family.kind == "counter":
            assert re.search(rf"(rate|increase)\({name}\b", expression), where


def test_alerts_are_about_metrics_that_exist(families):
    for alert, expression in rules():
        check(families, alert, expression)


def test_dashboard_shows_metrics_that_exist(families):
    for title, expression in dashboard():
        check(families, title, expression)


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert(families):
    shown = " ".join(e for _, e in rules() + dashboard())
    missing = {n for n in families if n.startswith("sesrelayd_") and
               n not in shown}
    # Twice the same, in another form; and details for who looks closely.
    assert missing == {"sesrelayd_upstream_up", "sesrelayd_notices_total",
                       "sesrelayd_spool_torn_total"}


def test_dashboard_is_laid_out(families):
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "sesrelayd" and board["title"] == "sesrelayd"
    ids = [p["id"] for p in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for p in board["panels"]:
        g = p["gridPos"]
        assert g["x"] + g["w"] <= 24, p["title"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"])
                 for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken, f"{p['title']} covers another panel"
        taken |= cells
        # The data source is the reader's choice, never ours.
        for t in p.get("targets", []):
            assert t["datasource"]["uid"] == "${datasource}"
            assert "$instance" in t["expr"], p["title"]


def test_alerts_say_what_to_do():
    blocks = RULES.read_text().split("- alert: ")[1:]
    for block in blocks:
        name = block.split("\n")[0]
        assert re.search(r"severity: (page|ticket)\n", block), name
        assert re.search(r"summary: \".*\{\{ \$labels.instance \}\}", block)
        action = re.search(r"action: \"(.*)\"\n", block)[1]
        assert action.endswith(".") and len(action) > 60, name
        # Commands that it names exist.
        for verb in re.findall(r"`sesrelayctl ([\w-]+)", action):
            manual = (ROOT / "man/sesrelayctl.8").read_text()
            assert re.search(rf"\.(It|Cm) Cm {verb}\b|\.Cm {verb}\b",
                             manual), verb
