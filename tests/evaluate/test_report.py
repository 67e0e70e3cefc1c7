import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from pictures import is_cut
from toy_results import result, toy_task

from biofm_jax.errors import UserError
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.report_table import breakable
from biofm_jax.evaluate.results import write_result


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags left open."""

    VOID = frozenset({"meta", "img", "br", "link", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []
        self.ids = [value for name, value in self.attributes if name == "id"]
        self.links = [value for name, value in self.attributes if name == "href"]
        self.pictures = [value for name, value in self.attributes if name == "src"]

    @property
    def text(self):
        return "".join(self.words)

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
    made = {"command": "biofm train x.py", "commit": "abc1", "counted": "images"}
    (folder / "run.json").write_text(json.dumps(made))
    for seed in (0, 1):
        write_result(result(seed=seed), folder / "results")
    write_result(result(task="two classes", metric="auroc", control=None), folder / "results")
    return folder


def read(report) -> Page:
    return Page(report.html.read_text())


def test_page_and_table(run, tmp_path):
    report = write_report([run], tmp_path / "out" / "report.html", "A <title>")
    assert report.problems == [] and len(report.rows) == 2
    page = read(report)
    for wanted in ("A <title>", "flat", "biofm train x.py", "abc1", "0.2500", "two classes",
                   "images/s"):  # fmt: skip
        assert wanted in page.text
    assert '"seed": 17' in page.text  # the experiment
    assert "--task <toy>" in page.text  # escaped, not swallowed
    assert "Other protocol" in page.text and "random split" in page.text
    assert len(page.pictures) == 4  # ranks, a scatter, a ROC and a loss curve
    for picture in page.pictures:
        kind, data = picture.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert not is_cut(picture)
    markdown = report.markdown.read_text()
    assert markdown.startswith("## other\n\n| task") and "Other protocol" not in markdown
    assert markdown.count("\n") == 6


def test_results_stand_by_domain_modality_and_task(tmp_path):
    for task in ("toy", "esol", "flip_gb1/sampled", "bbbp"):
        write_result(result(task=task), tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html")
    order = ["computational biology", "protein", "flip_gb1/sampled", "drug discovery", "molecule",
             "bbbp", "esol", "other", "toy"]  # fmt: skip
    text = report.html.read_text()
    headings = re.findall(r"<h[345]>(.*?)(?:: RMSE.*)?</h[345]>", text)
    assert headings[: len(order)] == order
    page = read(report)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) >= {f"#{name}" for name in ("results", "ranks", "provenance")}
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)
    markdown = report.markdown.read_text()
    assert re.findall(r"^#+ (.*)$", markdown, re.M) == [
        "computational biology", "protein", "drug discovery", "molecule", "other"
    ]  # fmt: skip
    assert re.findall(r"^\| (\S+) \| probe", markdown, re.M) == [
        "flip_gb1/sampled", "bbbp", "esol", "toy"
    ]  # fmt: skip


def test_two_states_of_the_data_stand_apart(tmp_path):
    for data in ("0" * 16, "f" * 16):
        write_result(result(data=data), tmp_path / data)
    page = read(write_report([tmp_path], tmp_path / "report.html"))
    assert {"task-toy-000000", "task-toy-ffffff"} <= set(page.ids)


def test_only_methods_that_saw_all_labels_have_a_picture(tmp_path):
    methods = ("probe", "probe@10%", "probe@4shot", "probe+shuffled")
    for method in methods:
        write_result(result(method=method), tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html")
    page = read(report)
    assert [alt for name, alt in page.attributes if name == "alt"] == [
        "toy: score by share of the training labels",
        "predictions of probe on toy",
    ]
    for method in methods:
        assert page.text.count(method) > 1  # in the results and with its command


def test_what_a_model_stands_on_is_in_its_table(tmp_path):
    write_result(result(), tmp_path)
    text = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    floors = re.findall(r'<tr class="floor"><td>(.*?)</td><td>(.*?)</td>', text)
    assert floors == [("flat", "baseline"), ("Same | protocol", "published")]
    # A baseline that was evaluated like a model is there once.
    write_result(result(model="flat", method="baseline", control=None), tmp_path)
    text = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    assert re.findall(r'<tr class="floor"><td>(.*?)</td>', text) == ["Same | protocol"]
    assert len(re.findall(r"<td>flat</td><td>baseline</td>", text)) == 2  # and how it was made


def test_leaks_are_told_once_a_task(tmp_path):
    leaks = leak_report(toy_task().data(None), "protein", classes=False)
    for seed in (0, 1):
        write_result(result(seed=seed, leaks=leaks), tmp_path)
    write_result(result(task="old"), tmp_path)
    text = read(write_report([tmp_path], tmp_path / "report.html")).text
    assert text.count("Leaks: exact duplicates") == 1
    assert text.count("No leak report: results of an old version.") == 1


def test_page_needs_nothing_else(run, tmp_path):
    text = write_report([run], tmp_path / "report.html").html.read_text()
    page = Page(text)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert all(value.startswith("data:image/png;base64,") for value in page.pictures)
    assert all(value.startswith("#") for value in page.links)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|import\(|srcset", text)
    assert ("name", "viewport") in page.attributes
    # The browser may load nothing, and run no script but the page's own.
    policy = re.search(r'content="(default.*?)"', text)
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy[1].replace("&#39;", "'") == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_texts_of_a_result_are_no_html(tmp_path):
    evil = '<script>alert("1")</script><img src=x>'
    names = {name: evil for name in ("model", "split", "unit", "command", "data", "started")}
    write_result(result(method="probe", **names), tmp_path)
    write_result(result(task=evil, versions={evil: evil}, baselines={}), tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html", evil)
    page = read(report)
    assert report.problems == [] and page.tags.count("script") == 1
    assert "x" not in page.pictures and page.text.count("alert") > 5


def test_where_a_cell_breaks():
    given = "x=1, random:a/b_c.py:smoke, probe@10%+shuffled 0.1 [-0.2, +0.3] sd 0.1 & 2.0 / 3"
    assert str(breakable(given)) == (
        "x=<wbr>1, random:<wbr>a/<wbr>b_<wbr>c.py:<wbr>smoke, probe@<wbr>10%+shuffled "
        "0.1 [-0.2,\u00a0+0.3] sd\u00a00.1 &amp; 2.0 / 3"
    )


def test_several_broken_files(run, tmp_path):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    (run / "experiment.json").write_text("{")
    (run / "run.json").write_text("[]")
    (run / "results" / "cut.result.json").write_text('{"task": ')
    report = write_report([run], tmp_path / "report.html")
    assert len(report.problems) == 4 and len(report.rows) == 2
    text = read(report).text
    for name in ("metrics.jsonl, line 6", "experiment.json", "run.json", "cut.result.json"):
        assert name in text


def test_a_copy_of_a_result_is_no_second_seed(tmp_path):
    write_result(result(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    later = result(started="2026-02-01T00:00:00+00:00", command="later")
    write_result(later, tmp_path / "c")
    report = write_report([tmp_path / "c", tmp_path / "a", tmp_path / "b"], tmp_path / "r.html")
    (row,) = report.rows
    assert row.seeds == (0,) and row.results[0].command == "later"
    assert len(report.problems) == 2
    assert all("toy, probe of runs/toy, seed 0" in problem for problem in report.problems)


def test_folders_that_hold_one_another_are_read_once(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [run, tmp_path, tmp_path / "runs" / ".." / "runs"]
    report = write_report(folders, tmp_path / "report.html")
    assert report.problems == [] and [row.seeds for row in report.rows] == [(0, 1), (0,)]
    assert "1 training run," in read(report).text


def test_run_without_a_loss_or_any_record(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0}\n')
    report = write_report([tmp_path], tmp_path / "report.html")
    assert report.rows == [] and "none logged" not in report.html.read_text()


def test_nothing_to_report(tmp_path):
    with pytest.raises(UserError, match=r"no results .* and no interpretations"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(UserError, match="is not a folder"):
        write_report([tmp_path / "none"], tmp_path / "report.html")
