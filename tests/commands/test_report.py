"""The report: its scores, the paper's only where they are comparable, and the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.commands.reporting import charts, page, runs, scores
from dtql_jax.errors import UserError
from dtql_jax.evaluation.published import paper_score
from dtql_jax.evaluation.scores import stratified_bootstrap_interval
from tests.commands.commands import assert_wrong, call
from tests.commands.report_folders import write_folder

FINAL = np.array([[50.0, 70.0], [80.0, 80.0], [10.0, 30.0], [90.0, 100.0], [60.0, 60.0]])


def read(*folders: Path) -> list[runs.Variant]:
    return runs.variants(runs.read_runs(map(str, folders)))


def row_of(variant: runs.Variant) -> dict[str, str]:
    """The row of a variant in its task's table."""
    score = scores.score_of(variant)
    assert score is not None
    columns, (row,) = scores.score_table([score])
    return dict(zip(columns, row, strict=True))


def test_the_table_holds_the_numbers(tmp_path: Path) -> None:
    (variant,) = read(write_folder(tmp_path / "a", seeds=tuple(range(5)), final=FINAL))
    means = FINAL.mean(axis=1)
    low, high = stratified_bootstrap_interval(means)
    # a quarter of 5, rounded down, is left out at either end
    middle = np.sort(means)[1:4].mean()
    error, seed_error = FINAL.std(ddof=1) / np.sqrt(10), means.std(ddof=1) / np.sqrt(5)
    assert row_of(variant) == {
        "variant": "dtql",
        "mean ± standard error": f"{FINAL.mean():.1f} ± {error:.1f}",
        "± over seeds": f"{seed_error:.1f}",
        "IQM": f"{middle:.1f}",
        "95 % interval": f"[{low:.1f}, {high:.1f}]",
        "seeds x episodes": "5 x 2",
        "paper's DTQL": 99.6,
    }


def test_one_seed_has_an_interval_over_episodes(tmp_path: Path) -> None:
    final = np.array([[0.0, 100.0, 100.0, 100.0]])
    folder = write_folder(
        tmp_path / "a", "pointmaze-umaze", source="generated", seeds=(4,), final=final
    )
    (variant,) = read(folder)
    row, (low, high) = row_of(variant), stratified_bootstrap_interval(final[0], np.mean)
    assert scores.score_name(variant) == "success rate"
    assert row["mean ± standard error"] == "75.0 ± 25.0"
    assert row["± over seeds"] == row["IQM"] == "-"
    assert row["95 % interval"] == f"[{low:.1f}, {high:.1f}]¹"


def test_an_unfinished_run_shows_its_last_evaluation(tmp_path: Path) -> None:
    row = row_of(read(write_folder(tmp_path / "a", finished=False))[0])
    assert row["variant"] == "dtql (not finished)" and row["seeds x episodes"] == "3 x 4"
    assert row["mean ± standard error"] == "50.0"


def test_seeds_of_several_runs_are_one_row(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", seeds=(0, 1))
    write_folder(tmp_path / "b", seeds=(2,))
    write_folder(tmp_path / "c", algorithm="iql", seeds=(0, 1))
    found = read(tmp_path)
    seeds = [(v.label, [m.seed for m in v.members]) for v in found]
    assert seeds == [("dtql", [0, 1, 2]), ("iql", [0, 1])]
    # the same seed once more is a repetition, no other draw
    write_folder(tmp_path / "d", seeds=(0,))
    assert [v.label for v in read(tmp_path)] == ["dtql (a)", "iql", "dtql (d)"]


def test_members_of_a_sweep_are_told_apart(tmp_path: Path) -> None:
    alphas = [{"alpha": 1.0}, {"alpha": 5.0}]
    final = np.array([[10.0, 10.0], [20.0, 20.0], [60.0, 60.0], [80.0, 80.0]])
    folder = write_folder(tmp_path / "a", seeds=(0, 1), settings=alphas, final=final)
    found = read(folder)
    assert [v.label for v in found] == ["dtql alpha=1.0", "dtql alpha=5.0"]
    means = [row_of(v)["mean ± standard error"].split(" ")[0] for v in found]
    assert means == ["15.0", "70.0"]
    np.testing.assert_allclose(found[1].members[0].curve("evaluations", "score")[1], [30.0, 60.0])
    assert scores.settings_table(found)[1] == [["algorithm.alpha", 1.0, 5.0]]


def test_tasks_are_strata(tmp_path: Path) -> None:
    one, two = np.array([[10.0], [30.0], [50.0]]), np.array([[70.0], [80.0], [90.0]])
    write_folder(tmp_path / "a", "hopper-medium", final=one)
    write_folder(tmp_path / "b", "walker2d-medium", final=two)
    columns, (row,) = scores.aggregate_table([scores.score_of(v) for v in read(tmp_path)])
    values = np.concatenate([one, two], axis=1)
    low, high = stratified_bootstrap_interval(values)
    assert dict(zip(columns, row, strict=True)) == {
        **{"variant": "dtql", "tasks": 2, "seeds": 3, "mean": f"{values.mean():.1f}"},
        **{"IQM": f"{np.sort(values.ravel())[1:5].mean():.1f}"},
        **{"95 % interval": f"[{low:.1f}, {high:.1f}]"},
    }


@pytest.mark.parametrize(
    ("task", "source", "version", "expected"),
    [
        ("hopper-medium", "d4rl", "v2", 99.6),
        ("hopper-medium-v2", "d4rl", "v2", 99.6),
        ("antmaze-umaze", "d4rl", "v0", 94.8),
        ("antmaze-umaze", "d4rl", "v2", None),
        ("hopper-medium", "minari", "v0", None),
        ("hopper-medium", "generated", "v2", None),
        ("pointmaze-umaze", "d4rl", "v0", None),
    ],
)
def test_the_papers_number(task: str, source: str, version: str, expected: float | None) -> None:
    found = paper_score(task, source, version)
    assert (found and found.score) == expected


def test_the_papers_means_are_those_of_its_rows() -> None:
    from dtql_jax.evaluation.published import _SCORES

    domains = {"Gym": ("halfcheetah", "hopper", "walker2d"), "AntMaze": ("antmaze",)}
    domains |= {"Adroit": ("pen",), "Kitchen": ("kitchen",)}
    published = {"Gym": 88.7, "AntMaze": 73.6, "Adroit": 72.7, "Kitchen": 71.8}
    for domain, bodies in domains.items():
        own = [score for (task, _), score in _SCORES.items() if task.startswith(bodies)]
        assert abs(np.mean(own) - published[domain]) < 0.06, domain


class Page(HTMLParser):
    """The references, tags and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        names = ("src", "href", "srcset", "xlink:href")
        self.references += [value for name, value in attrs if name in names]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "runs" / "a")
    write_folder(tmp_path / "runs" / "b", algorithm="bc", finished=False)
    picture = b"\x89PNG\r\n" + bytes(20)
    (tmp_path / "runs" / "a" / "trajectories.png").write_bytes(picture)
    written = page.write(page.build(read(tmp_path / "runs")), tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text()
    found = Page(html)
    assert all(r.startswith(("data:", "#")) for r in found.references), found.references
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert "@import" not in html and "url(http" not in html
    assert found.tags.count("svg") == 2  # learning curve, critic loss
    text = " ".join(" ".join(found.words).split())
    for words in ("50.0 ± 1.9", "99.6", "b has not finished", "fingerprint", "made-up device"):
        assert words in text, words
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html
    assert str(tmp_path) not in html
    # colours follow the scheme: none of those drawn is left in the drawings
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.S))
    assert "var(--c0)" in drawings and not re.search(r"#[0-9a-f]{6}", drawings)
    assert "<td>dtql</td><td>50.0 ± 1.9</td>" in html and "<td>3 x 4</td>" in html
    assert written == tmp_path / "out" / "report.html" and len(list(written.parent.iterdir())) == 1


def test_without_d4rls_data_the_paper_is_not_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "pointmaze-umaze", source="generated")
    page.write(page.build(read(tmp_path / "a")), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "scores are not shown" in text and "paper&#39;s DTQL" not in text


def test_text_of_a_run_does_not_become_markup(tmp_path: Path) -> None:
    write_folder(tmp_path / "a<b>", "hopper-medium", d4rl_dir="<b>")
    write_folder(tmp_path / "a<c>", "hopper-medium")
    page.write(page.build(read(tmp_path / "a<b>", tmp_path / "a<c>")), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "a&lt;b&gt;" in text and "<b>" not in text


def test_the_command_to_repeat_a_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", seeds=(3, 4), batch_size=17)
    (run,) = runs.read_runs([str(folder)])
    command = page.repeat(run)
    assert command.startswith("dtql-jax train ")
    assert set(command.split()[2:]) == {
        *("--env=hopper-medium", "--preset=quick", "--algorithm=dtql"),
        *("--config.seed=3", "--config.seeds=2", "--config.batch_size=17"),
    }


def test_curves_show_means_bands_and_seeds(tmp_path: Path) -> None:
    final = np.array([[10.0], [20.0], [60.0]])
    figure = charts.learning_curves(read(write_folder(tmp_path / "a", final=final)))
    assert figure is not None
    (axes,) = figure.axes
    *seeds, mean = axes.get_lines()
    assert len(seeds) == 3 and len(axes.collections) == 1
    np.testing.assert_allclose(mean.get_xdata(), [5_000, 10_000])
    np.testing.assert_allclose(mean.get_ydata(), [15.0, 30.0])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() >= 5.0 and band[:, 1].max() <= 60.0


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        runs.read_runs([str(tmp_path)])
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        runs.read_runs([str(tmp_path)])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="lacks 'config'"):
        runs.read_runs([str(tmp_path)])


def test_the_command(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")

    ended = call("report", f"--run={folder}")
    assert ended.returncode == 0, ended.stderr
    assert "report of 1 run(s): dtql on hopper-medium" in ended.stdout
    assert (folder / "report" / "report.html").is_file()
    assert_wrong(call("report"), "--run is missing")
    assert_wrong(call("report", "--run=nowhere"), "no run.json")


def test_a_picture_is_labelled_with_the_first_member(tmp_path: Path) -> None:
    write_folder(tmp_path / "a")
    content = json.loads((tmp_path / "a" / "run.json").read_text())
    settings = [{"alpha": 0.5}, {"alpha": 0.5}, {"alpha": 5.0}]
    seeds = range(len(settings))
    content["members"] = [{"seed": k, "settings": s} for k, s in zip(seeds, settings, strict=True)]
    (tmp_path / "a" / "run.json").write_text(json.dumps(content))
    (tmp_path / "a" / "trajectories.png").write_bytes(b"\x89PNG\r\n" + bytes(20))
    page.write(page.build(read(tmp_path / "a")), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "trajectories: dtql alpha=0.5" in text and "trajectories: dtql alpha=5" not in text
