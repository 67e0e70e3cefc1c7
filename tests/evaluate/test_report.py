import base64
import json
import re
from html.parser import HTMLParser

import pytest
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.results import write_result


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags left open."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "toy"
    folder.mkdir(parents=True)
    rows = [{"step": s, "loss": 3.0 / (s + 1), "tokens_per_second": 5e3} for s in range(0, 50, 10)]
    rows[-1]["validation_loss"] = 0.25
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "experiment.json").write_text(json.dumps({"loop": {"seed": 17, "steps": 50}}))
    (folder / "run.json").write_text(json.dumps({"command": "biofm train x.py", "commit": "abc1"}))
    for seed in (0, 1):
        write_result(result(seed=seed), folder / "results")
    write_result(result(task="two classes", metric="auroc", control=None), folder / "results")
    return folder


def test_page_and_table(run, tmp_path):
    report = write_report([run], tmp_path / "out" / "report.html", "A <title>")
    assert report.problems == [] and len(report.rows) == 2
    page = Page(report.html.read_text())
    text = " ".join(page.words)
    for wanted in ("A <title>", "flat", "biofm train x.py", "abc1", "0.2500", "two classes"):
        assert wanted in text
    assert '"seed": 17' in text  # the experiment
    assert "--task <toy>" in text  # escaped, not swallowed
    assert "Other protocol" in text and "random split" in text
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) == 4  # ranks, a scatter, a ROC and a loss curve
    for picture in pictures:
        kind, data = picture.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    markdown = report.markdown.read_text()
    assert markdown.startswith("## other\n\n| task") and "Other protocol" not in markdown
    assert markdown.count("\n") == 6


def test_page_needs_nothing_else(run, tmp_path):
    text = write_report([run], tmp_path / "report.html").html.read_text()
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    assert ("name", "viewport") in page.attributes


def test_broken_files_are_named_in_the_page(run, tmp_path):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    (run / "experiment.json").write_text("{")
    (run / "run.json").write_text("[]")
    (run / "results" / "cut.result.json").write_text('{"task": ')
    report = write_report([run], tmp_path / "report.html")
    assert len(report.problems) == 4 and len(report.rows) == 2
    text = " ".join(Page(report.html.read_text()).words)
    for name in ("metrics.jsonl, line 6", "experiment.json", "run.json", "cut.result.json"):
        assert name in text


def test_run_without_a_loss_or_any_record(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0}\n')
    report = write_report([tmp_path], tmp_path / "report.html")
    assert report.rows == [] and "none logged" not in report.html.read_text()


def test_nothing_to_report(tmp_path):
    with pytest.raises(UserError, match=r"no results .* and no runs"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(UserError, match="is not a folder"):
        write_report([tmp_path / "none"], tmp_path / "report.html")
