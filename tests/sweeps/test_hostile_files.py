"""Sweep files and names by somebody who means harm: refused in words, or shown as they are.

Documents are random, but of the shape that sweep files have, so that they reach the checks behind
the first one. Nothing here is compiled: what runs would give is made up.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import re
import string
import time
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import sdpo_jax
import sweeps
from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS, grid
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.grid import AXES, programs
from sdpo_jax.oracles.judges import STRENGTHS
from sdpo_jax.program import SEED_AXES
from sweeps.__main__ import main
from sweeps.execute import estimate, threads
from sweeps.file import oracle_tables, sweepfile, values
from sweeps.file.mistakes import SweepError
from sweeps.file.reader import RESERVED
from sweeps.file.sweepfile import parse
from sweeps.report import drawing
from sweeps.report.display import Display, console
from sweeps.store import blocks
from sweeps.store.manifest import Manifest
from sweeps.system import text

DOCUMENTS = 1500
# Of a processor, for one document: far above what the slowest takes, far below what harms.
SECONDS = 3.0
# Runs up to which a plan's results are made up, to see that they can be labelled.
FEW = 2_000

NAMES = [
    "[/red]", "[bold]x", "[link=http://x]y[/link]", ":smile:", "$", "$\\frac{$", "$$x^2$$",
    "\\", "\\$", "_hidden", "__", "<script>alert(1)</script>", "</svg>-->", "&amp;", "{{ 7 * 7 }}",
    "%s%n", "a,b", 'a"b', "'", "=cmd()", "NA", "nan", "1", "0.1", "-", "sdpo", "SDPO", "文字",
    "é", "ñ" * 30, "🙂", "ع", "x" * 300, "x" * 299 + "y", "a  b", "name, noise=0.1",
    "../../etc/passwd", "con", "main", "a/b", "#", "[axes]", "]]>", "\u200dx",
]  # fmt: skip
NEVER_NAMES = [
    "", " ", " x", "x\n", "\x1b[31mred", "\x1b]0;title\x07", "a\x00", "\x7f", "\u202eabc",
    "\u2066x", "\u2028", "\u0085", "a\tb", "\ufeffx",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 7, 64, 1000, 2**20, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**400, -(10**400),
    0.0, -0.0, 0.1, 0.10000000001, 0.5, 1.0, 1e-50, -1e-50, 1e-40, 5e-324, 1e38, 1e39, -1e39, 1e308,
    float("inf"), -float("inf"), float("nan"),
]  # fmt: skip


def quoted(value):
    """A TOML string of any characters."""
    plain = set(string.ascii_letters + string.digits + " -_.[]{}$<>/'=,:#")
    return '"' + "".join(c if c in plain else f"\\U{ord(c):08x}" for c in value) + '"'


def toml(value):
    """TOML of what the generator makes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    return value.text if isinstance(value, Raw) else str(value)


class Raw:
    """TOML as it stands."""

    def __init__(self, text):
        self.text = text


def key(name):
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


class Writer:
    """Makes documents that are right in most places and wrong in some."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.wrong = self.rng.choice([0.0, 0.02, 0.1, 0.5])

    def pick(self, *makers):
        return self.rng.choice(makers)()

    def slips(self):
        return self.rng.random() < self.wrong

    def anything(self, depth=0):
        rng = self.rng
        if depth < 3 and rng.random() < 0.4:
            if rng.random() < 0.5:
                return [self.anything(depth + 1) for _ in range(rng.randrange(4))]
            return {self.any_name(): self.anything(depth + 1) for _ in range(rng.randrange(3))}
        return rng.choice(
            [
                *NUMBERS, True, False, Raw("1979-05-27"), Raw("07:32:00"), Raw("0xff"),
                Raw("9" * 5000), Raw("[" * 40 + "]" * 40), Raw("[" * 5000 + "]" * 5000),
                self.any_name(), {"count": 20_000_000}, {"linspace": [0, 1, 20_000_000]},
                {"range": [0, 10**18]}, {"kind": self.any_name()},
            ]
        )  # fmt: skip

    def any_name(self):
        return self.rng.choice(
            [
                *NAMES, *NEVER_NAMES, *AXES, *METRICS, *sorted(RESERVED), "kind", "judge", "axes",
                "base", "zip", "grid", "title", "name", "linspace", "count", "noize", "a" * 5000,
            ]
        )  # fmt: skip

    def word(self):
        if self.slips():
            return self.any_name()
        return self.rng.choice("abcd") + self.rng.choice(["", "-1", "_x", "-comparisons", "B"])

    def number(self, name):
        rng = self.rng
        if self.slips():
            return rng.choice(NUMBERS)
        if name in SEED_AXES:
            return rng.randrange(2**32)
        if name in SIZE_FIELDS:
            return rng.randrange(20, 40) if name == "steps" else rng.randrange(2, 6)
        return rng.choice([0.1, 0.5, 1.0, rng.random()])

    def value(self, name):
        if self.slips():
            return self.anything()
        if name == "oracle":
            return self.oracle()
        for named, choices in (("algorithm", ALGORITHMS), ("optimizer", OPTIMIZERS)):
            if name == named:
                return self.rng.choice([*choices])
        return self.number(name)

    def oracle(self):
        rng = self.rng
        kinds = [*oracle_tables.KINDS]
        if rng.random() < 0.3:
            return rng.choice(kinds)
        table = {"kind": rng.choice(kinds)}
        if rng.random() < 0.5:
            table["name"] = rng.choice(NAMES if rng.random() > self.wrong else NEVER_NAMES)
        fields = ["levels", "threshold", "value", "gain", "base", "cuts", "rises", "likelihood"]
        own = {"ordinal": "levels", "binary": "threshold", "constant": "value"}
        for field in {own.get(table["kind"], "kind"), *rng.sample(fields, rng.randrange(2))}:
            if field != "kind" and rng.random() < 0.7:
                table[field] = self.anything() if self.slips() else rng.choice(
                    [0.5, 5, [0.25, 0.5], [2, 3, 4], {"linspace": [0.1, 0.4, 3]}]
                )  # fmt: skip
        if rng.random() < 0.3:
            strengths = rng.sample(sorted(STRENGTHS), 2)
            lists = [[0.1, 0.2], [i / 50_000 for i in range(rng.choice([2, 2, 2, 2000]))]]
            table["judge"] = {each: rng.choice([0.1, *lists]) for each in strengths}
        return table

    def values(self, name, count):
        rng = self.rng
        if self.slips():
            return self.anything()
        if name in (*SEED_AXES, *SIZE_FIELDS, *CONFIG_FIELDS) and rng.random() < 0.4:
            low, high = (20, 40) if name in SIZE_FIELDS else (0.1, 0.9)
            forms = [{"linspace": [low, high, count]}, {"logspace": [low, high, count]}]
            seeds = [{"count": count}, {"range": [3, 3 + count]}, {"count": 20_000_000}]
            return rng.choice(seeds if name in SEED_AXES else forms)
        return [self.value(name) for _ in range(count)]

    def axes(self, most, count=None):
        rng = self.rng
        names = rng.sample(AXES, rng.randrange(most))
        if self.slips():
            names.append(self.any_name())
        return {name: self.values(name, count or rng.randrange(1, 4)) for name in names}

    def base(self):
        rng = self.rng
        table = {name: self.value(name) for name in rng.sample(AXES, rng.randrange(4))}
        more = {
            "metrics": rng.sample([*METRICS], rng.randrange(1, 4)),
            "record": [rng.choice([*METRICS])],
            "record_every": rng.choice([1, 7, 1000]),
            "logits": rng.choice([True, False]),
            "block_width": rng.choice([16, 64]),
            "teacher_nodes": rng.choice([0, 8]),
        }
        for name in rng.sample(sorted(more), rng.randrange(3)):
            table[name] = self.anything() if self.slips() else more[name]
        if self.slips():
            table[self.any_name()] = self.anything()
        return table

    def part(self):
        table = {}
        if self.rng.random() < 0.7:
            table["axes"] = self.anything() if self.slips() else self.axes(4)
        if self.rng.random() < 0.4:
            table["zip"] = {self.word(): self.axes(4, 2) for _ in range(self.rng.randrange(1, 3))}
        if self.rng.random() < 0.3:
            table["title"] = self.any_name()
        return table

    def document(self):
        raw = {"base": self.base()} if self.rng.random() < 0.7 else {}
        if self.rng.random() < 0.5:
            raw |= self.part()
        else:
            raw["grid"] = {
                self.word(): self.part() | ({"base": self.base()} if self.slips() else {})
                for _ in range(self.rng.randrange(4))
            }
        if self.slips():
            raw[self.any_name()] = self.anything()
        if self.rng.random() < 0.1:
            raw["name"] = self.word()
        lines = [f"{key(name)} = {toml(value)}" for name, value in raw.items()]
        if self.slips():
            return "\n".join(lines)[: self.rng.randrange(200)]
        return "\n".join(lines)


@pytest.fixture(autouse=True)
def never_compiled(monkeypatch):
    monkeypatch.setattr(programs._PROGRAMS, "get", lambda *_: pytest.fail("reached the compiler"))


def harmless(shown):
    """Whether text can be shown on a terminal, line ends aside."""
    letters = set(shown) - {"\n"}
    return not any(unicodedata.category(c) in ("Cc", "Cs") or c in BIDI for c in letters)


BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def made_up(plan, rng, count):
    """What so many runs of a plan might have given."""
    shapes = blocks.layout_of(plan)
    steps = plan.base.sizes.steps
    return {
        name: np.full(count, steps, dtype)
        if name == "finite_steps"
        else rng.random((count, *extra)).astype(dtype)
        for name, (extra, dtype) in shapes.items()
    }


@pytest.mark.parametrize("start", range(0, DOCUMENTS, DOCUMENTS // 3))
def test_a_random_document_is_a_plan_or_one_clear_error(start):
    rng = np.random.default_rng(start)
    right = wrong = 0
    for seed in range(start, start + DOCUMENTS // 3):
        document = Writer(seed).document()
        begun = time.process_time()
        try:
            sweep = parse(document, "random")
        except SweepError as error:
            wrong += 1
            said = str(error)
            assert error.mistakes
            assert harmless(said), (seed, said)
            assert len(said) < 100_000, (seed, len(said))
            assert all(each.path and each.problem and each.allowed for each in error.mistakes)
            sweep = None
        assert time.process_time() - begun < SECONDS, seed
        if sweep is None:
            continue
        right += 1
        files = [f"{name}{end}".lower() for name in sweep.grids for end in ("", "-comparisons")]
        assert len(set(files)) == len(files)
        for plan in sweep.plans.values():
            points = plan.base.sizes.length * plan.base.sizes.vocab_size + plan.base.sizes.steps
            if plan.total * points < 10**6 and plan.total < FEW:
                data = grid.label(plan, made_up(plan, rng, plan.total))
                assert data.sizes.keys() >= {axis.dimension for axis in plan.axes}
                assert data["reward" if "reward" in data else "finite_steps"].size == plan.total
    assert right > 50
    assert wrong > 50


@pytest.fixture
def made_up_runs(monkeypatch):
    """Runs whose numbers are random, so that nothing has to be trained."""

    def compute(plan, chunks, *, progress=None, stop=None, workers=None):
        rng = np.random.default_rng(0)
        for done, chunk in enumerate(chunks, 1):
            if progress is not None:
                label = chunk.group.label
                progress(sdpo_jax.Progress("compile", label, done - 1, len(chunks), 0.1))
                progress(sdpo_jax.Progress("block", label, done, len(chunks), 0.1))
            yield chunk, made_up(plan, rng, len(chunk.places))

    monkeypatch.setattr(sdpo_jax, "compute", compute)
    monkeypatch.setattr(threads, "compiled_ahead", lambda _: contextlib.nullcontext())
    found = estimate.Estimate(1, 1, 1, 1, 1, 1, 1, 0.1, 0.1)
    monkeypatch.setattr(estimate, "estimate", lambda *_: found)


def swept(tmp_path, text, name="sweep.toml"):
    """The folder of a file, run."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    assert main(["run", str(file), "--out", str(out)]) == 0
    return file, out


class Page(HTMLParser):
    """The ids, the tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.tags, self.text = [], set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("part", range(3))
@pytest.mark.usefixtures("made_up_runs")
def test_hostile_names_go_through_every_command_as_they_are(tmp_path, capsys, part):
    # Eight are drawn at a time; what is special about a letter does not need every other one.
    names = NAMES[part::3]
    oracles = [
        {"kind": "binary", "threshold": (place + 1) / 50, "name": name}
        for place, name in enumerate(names)
    ]
    title = NAMES[part]
    document = (
        f"title = {quoted(title)}\n[base]\nmetrics = ['reward']\nsteps = 20\n"
        f"[axes]\nalgorithm = ['sdpo', 'reinforce']\nseed = {{ count = 5 }}\n"
        f"oracle = {toml(oracles)}\n"
    )
    file, out = swept(tmp_path, document)
    for command in (["plan", str(file)], ["plan", str(out)], ["status", str(out)]):
        assert main(command) == 0
        # A table is as wide as the terminal and may break a title anywhere.
        said = capsys.readouterr().out
        assert text.plain(title)[:30] in said.replace("\n", " ")
        assert harmless(said)
    assert main(["render", str(out)]) == 0
    assert main(["export", str(out), "--to", "csv"]) == 0
    data = sweeps.open(out)
    assert list(data.oracle.values) == names
    rows = pd.read_csv(out / "tables" / "main.csv", keep_default_na=False, dtype={"oracle": str})
    each = pd.read_csv(out / "export" / "main.csv", keep_default_na=False, dtype={"oracle": str})
    assert set(rows.oracle) == set(each.oracle) == set(names)
    svg = (out / "figures" / "main-reward.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert len(set(page.ids)) == len(page.ids)
    for name in names:
        assert name in page.text


@pytest.mark.parametrize("name", NEVER_NAMES)
def test_names_that_could_not_be_seen_or_selected_are_refused(name):
    with pytest.raises(SweepError) as error:
        parse(f"[axes]\noracle = [{{ kind = 'binary', name = {quoted(name)} }}]", "x")
    assert error.value.mistakes[0].path == "axes.oracle[0].name"
    assert harmless(str(error.value))


@pytest.mark.usefixtures("made_up_runs")
def test_what_somebody_elses_manifest_says_does_not_reach_the_terminal(tmp_path, capsys):
    out = swept(tmp_path, "[base]\nmetrics = ['reward']\n[axes]\nseed = [1]")[1]
    manifest = Manifest.read(out)
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e[/red]"
    texts = (f"title = {quoted(hostile[6:])}\n{manifest.text}",)
    for changed in (
        Manifest(hostile, manifest.fingerprints, manifest.texts),
        Manifest(manifest.name, manifest.fingerprints, texts),
        Manifest(manifest.name, ({**manifest.fingerprints[0], hostile: "x"},), texts),
    ):
        changed.write(out)
        capsys.readouterr()
        for command in ("status", "resume", "plan", "render"):
            assert main([command, str(out)]) in (0, 2)
            captured = capsys.readouterr()
            assert harmless(captured.out + captured.err)


def test_a_live_bar_shows_labels_as_text():
    shown = io.StringIO()
    with Display(console(file=shown, force_terminal=True, width=200)) as display:
        display.start("[/red]\x1b[2J", 0, 4)
        display.advance(sdpo_jax.Progress("compile", "sdpo, [/bold]", 0, 4, 0.1))
        display.advance(sdpo_jax.Progress("block", "sdpo, [/bold]", 4, 4, 0.1))
        display.say("[/red]")
    assert "[/red]\\x1b[2J" in shown.getvalue()
    assert "[/bold]" in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()


def test_names_that_look_alike_in_a_figure_are_numbered():
    long = ["x" * 300, "x" * 100 + "y" + "x" * 199]
    assert drawing.all_drawn(long)[0].startswith("1. ")
    assert len(set(drawing.all_drawn(long))) == 2
    assert drawing.all_drawn(["a", "b", "a"]) == ["a", "b", "a"]


def test_numbers_read_back():
    rng = np.random.default_rng(1)
    numbers = [*rng.random(200), *(10 ** rng.uniform(-30, 30, 200)), 0.1, 1e-7, 123456789.0, 0.0]
    for number in numbers:
        assert float(text.exact(number)) == number
    assert text.exact(0.1) == "0.1"
    assert text.exact(3.0) == "3"
    assert text.exact(7) == "7"


@pytest.mark.usefixtures("made_up_runs")
def test_labels_of_files_select_the_runs_that_they_name(tmp_path):
    labels = [0.1, 0.1000001, 0.12345678901234567, 1 / 3, 1.00000012, 1e-7, 123456.789]
    out = swept(
        tmp_path,
        "[base]\nmetrics = ['reward']\nsteps = 20\n"
        f"[axes]\nlearning_rate = {labels}\nalgorithm = ['sdpo', 'reinforce']\n"
        "seed = {count = 5}",
    )[1]
    assert main(["render", str(out)]) == 0
    assert main(["export", str(out), "--to", "csv"]) == 0
    data = sweeps.open(out)
    for name in ("main", "main-comparisons"):
        table = pd.read_csv(out / "tables" / f"{name}.csv")
        assert set(table.learning_rate) == set(labels)
    table = pd.read_csv(out / "tables" / "main.csv")
    for _, row in table.iterrows():
        chosen = data.reward.sel({"learning_rate": row.learning_rate, "algorithm": row.algorithm})
        assert float(chosen.astype(float).mean()) == pytest.approx(row["mean"], rel=1e-5)
    each = pd.read_csv(out / "export" / "main.csv")
    for _, row in each.iterrows():
        at = {name: row[name] for name in ("learning_rate", "algorithm", "seed")}
        assert data.reward.sel(at).item() == np.float32(row.reward)
    with (out / "tables" / "main.csv").open(newline="") as file:
        written = {row["learning_rate"] for row in csv.DictReader(file)}
    page = Page((out / "report.html").read_text())
    assert all(label in page.text for label in written)


@pytest.mark.usefixtures("made_up_runs")
@pytest.mark.parametrize(
    "axes", ["", "[axes]\nalgorithm = ['sdpo', 'reinforce']", "[axes]\nnoise = [0.1]"]
)
def test_a_sweep_of_few_axes_goes_through_every_command(tmp_path, axes, capsys):
    file, out = swept(tmp_path, f"[base]\nsteps = 20\nmetrics = ['reward']\n{axes}")
    assert sweeps.open(out).reward.size == max(1, axes.count("'") // 2)
    for command in (
        ["plan", str(file)], ["status", str(out)], ["render", str(out)], ["resume", str(out)],
        ["export", str(out), "--to", "csv"], ["export", str(out), "--to", "netcdf"],
    ):  # fmt: skip
        assert main(command) == 0, (command, capsys.readouterr())
    assert len(pd.read_csv(out / "export" / "main.csv")) == sweeps.open(out).reward.size


@pytest.mark.usefixtures("made_up_runs")
def test_tables_of_several_grids_are_kept_apart(tmp_path):
    text = "[base]\nmetrics = ['reward']\nsteps = 20\n" + "".join(
        f"[grid.{name}.axes]\nseed = {{ count = 5 }}\nalgorithm = ['sdpo', '{algorithm}']\n"
        for name, algorithm in (("a", "reinforce"), ("made", "rloo"), ("a-reward", "grpo"))
    )
    out = swept(tmp_path, text)[1]
    assert main(["render", str(out)]) == 0
    for name, algorithm in (("a", "reinforce"), ("made", "rloo"), ("a-reward", "grpo")):
        assert algorithm in (out / "tables" / f"{name}.csv").read_text()
        assert algorithm in (out / "tables" / f"{name}-comparisons.csv").read_text()
    ids = Page((out / "report.html").read_text()).ids
    assert len(set(ids)) == len(ids)


def test_two_files_never_share_a_folder_by_their_names():
    stems = [
        "ä", "ö", "a", "a b", "a-b", "a_b", "a.b", "my sweep", "my-sweep", "-", "--", "", ".", "..",
        "con", "CON", "aux", "x" * 65, "x" * 64, "x" * 66, "a\nb", "\udcff", "..a", "a..", "中",
        "文", "1", "2024-run",
    ]  # fmt: skip
    found = {stem: parse("[axes]\nseed = [1]", stem).name for stem in stems}
    assert len(set(found.values())) == len(stems)
    for stem, name in found.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        assert name.strip("-") == name
        assert not values.DEVICES.fullmatch(name)
        if stem in ("a", "a-b", "a_b", "my-sweep", "2024-run"):
            assert name == stem
    # One name, spelled as file systems do.
    assert len({sweepfile._name_of(unicodedata.normalize(f, "ä")) for f in ("NFC", "NFD")}) == 1


@pytest.fixture
def odd_files(tmp_path):
    """Things in the place of a sweep file, and a word of what is said of each."""
    found = {}

    def put(name, content, word):
        (tmp_path / name).write_bytes(content)
        found[tmp_path / name] = word

    put("empty.toml", b"", "empty")
    put("blank.toml", b" \n\t\n", "empty")
    put("latin.toml", "title = 'ä'".encode("latin-1"), "UTF-8")
    put("wide.toml", "[axes]\nseed = [1]".encode("utf-16"), "UTF-8")
    put("binary.toml", bytes(range(256)), "UTF-8")
    put("zeros.toml", b"\0" * 100, "TOML")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(2**30)
    found[tmp_path / "huge.toml"] = "1,073,741,824 bytes"
    os.mkfifo(tmp_path / "pipe.toml")
    found[tmp_path / "pipe.toml"] = "a pipe"
    (tmp_path / "folder.toml").mkdir()
    found[tmp_path / "folder.toml"] = "a folder"
    return found


def test_what_is_no_page_of_text_is_refused_in_one_line_at_once(odd_files, capsys):
    for file, word in odd_files.items():
        begun = time.process_time()
        assert main(["run", str(file)]) == 2
        said = capsys.readouterr().err
        assert word in said
        assert "Traceback" not in said
        assert time.process_time() - begun < SECONDS


def test_a_mark_of_the_byte_order_and_other_line_ends_are_no_mistake(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_bytes("\ufeff[axes]\r\nseed = [1, 2]\r\n".encode())
    assert sweepfile.read(file).plans["main"].shape == (2,)


def test_plan_of_a_folder(tmp_path, capsys, made_up_runs):
    out = swept(tmp_path, "title = 'mine'\n[base]\nmetrics = ['reward']\n[axes]\nseed = [1, 2]")[1]
    assert main(["plan", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mine" in said
    assert "seed 2" in said
    (tmp_path / "other").mkdir()
    assert main(["plan", str(tmp_path / "other")]) == 2
    assert "no sweep there" in capsys.readouterr().err
    assert main(["run", str(out)]) == 2
    assert "`resume` goes on" in capsys.readouterr().err
