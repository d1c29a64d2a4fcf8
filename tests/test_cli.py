"""The command line, in this process and in one of its own."""

import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
import types

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("formulaic")

import csoftmax as cs  # noqa: E402
from csoftmax import cli, datasets  # noqa: E402
from csoftmax import formula as face  # noqa: E402
from csoftmax.cli import main  # noqa: E402

TWO = "species ~ flipper_length_mm + body_mass_g"
FOUR = "species ~ bill_length_mm + bill_depth_mm + flipper_length_mm + body_mass_g"


@pytest.fixture
def run(capsys):
    """run(*argv) -> (exit status, stdout, stderr)"""

    def run(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def model(tmp_path, run):
    path = tmp_path / "model.json"
    assert run("fit", "penguins", TWO, "--out", path)[0] == 0
    return path


def one_error(err):
    """The message of an error, which is one line and no traceback."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("csoftmax: error: ")
    return lines[0]


# -- fit --------------------------------------------------------------------------------------------------------------
def test_fit_prints_the_summary_of_the_same_fit_in_python(run):
    status, out, err = run("fit", "penguins", TWO)
    assert status == 0
    assert out.rstrip("\n") == str(cs.fit_formula(TWO, datasets.load_penguins()).summary()).rstrip("\n")
    for word in ("flipper_length_mm", "body_mass_g", "Chinstrap", "Gentoo"):
        assert word in out
    assert err == "csoftmax: 2 of 344 rows left out for missing values (flipper_length_mm 2, body_mass_g 2)\n"


def test_nothing_is_said_of_missing_values_where_there_are_none(run):
    assert run("fit", "anes96", "vote ~ selfLR + age")[2] == ""


def test_separated_classes_print_no_coefficients_and_end_with_status_2(run, tmp_path):
    out_file = tmp_path / "model.json"
    status, out, err = run("fit", "penguins", FOUR, "--out", out_file)
    assert status == 2
    assert out == ""
    assert "no model: " in err
    assert "separa" in err
    assert "Warning" not in err  # Python's own text of a warning
    assert not out_file.exists()


def test_a_penalty_gives_separated_classes_a_model(run):
    status, out, _ = run("fit", "penguins", FOUR, "--l2", "1")
    assert status == 0
    assert "bill_depth_mm" in out


def test_a_fit_that_stops_early_is_status_2_and_no_summary(run):
    status, out, err = run("fit", "anes96", "PID ~ logpopul + selfLR + age + educ + income", "--max-iter", "1")
    assert (status, out) == (2, "")
    assert "no model: " in err


def test_reference_and_symmetric_choose_what_is_shown(run, tmp_path):
    run("fit", "penguins", TWO, "--reference", "Gentoo", "--out", tmp_path / "g.json")
    run("fit", "penguins", TWO, "--symmetric", "--out", tmp_path / "s.json")
    assert cs.from_json(tmp_path / "g.json").reference == "Gentoo"
    assert cs.from_json(tmp_path / "s.json").reference is None


def test_a_reference_is_found_by_its_text_among_number_labels(run, tmp_path):
    assert run("fit", "anes96", "vote ~ age + selfLR", "--reference", "1", "--out", tmp_path / "m.json")[0] == 0
    assert cs.from_json(tmp_path / "m.json").reference == 1


def test_an_unknown_reference_lists_the_classes(run):
    status, _, err = run("fit", "penguins", TWO, "--reference", "Emperor")
    assert status == 1
    assert "--reference is 'Emperor'; the classes are 'Adelie', 'Chinstrap', 'Gentoo'" in one_error(err)


def test_weights_are_a_column_of_frequencies(run, tmp_path):
    rows = datasets.load_anes96()[["vote", "selfLR"]]
    counted = rows.value_counts().rename("n").reset_index()
    assert len(counted) < 20
    counted.to_csv(tmp_path / "counted.csv", index=False)
    assert run("fit", tmp_path / "counted.csv", "vote ~ selfLR", "--weights", "n", "--out", tmp_path / "m.json")[0] == 0
    got, wanted = cs.from_json(tmp_path / "m.json"), cs.fit_formula("vote ~ selfLR", rows)
    np.testing.assert_allclose(got.coef, wanted.coef, rtol=1e-6)
    assert got.nobs == wanted.nobs == 944


@pytest.mark.parametrize("cov_type", ["observed", "HC0", "HC1", "HC2", "HC3"])
def test_cov_type_prints_and_keeps_the_standard_errors_it_names(run, tmp_path, cov_type):
    status, out, _ = run("fit", "penguins", TWO, "--cov-type", cov_type, "--out", tmp_path / "m.json")
    expected = cs.fit_formula(TWO, datasets.load_penguins()).with_covariance(cov_type)
    assert (status, out) == (0, f"{expected.summary()}\n")
    read = cs.from_json(tmp_path / "m.json")
    assert read.cov_type == cov_type
    np.testing.assert_array_equal(read.bse, expected.bse)


@pytest.mark.parametrize("more", [(), ("--cov-type", "cluster")])
def test_groups_give_cluster_robust_errors_and_rows_without_a_group_are_left_out_and_counted(run, more):
    penguins = datasets.load_penguins()
    status, out, err = run("fit", "penguins", TWO, "--groups", "sex", *more)
    complete = penguins.dropna(subset=["sex"])
    expected = cs.fit_formula(TWO, complete).with_covariance("cluster", groups=complete["sex"])
    assert status == 0 and out.splitlines()[12:] == str(expected.summary()).splitlines()[12:]
    assert "cluster (2)" in out and re.search(r"Rows dropped: +11 \(missing\)", out)
    assert err == "csoftmax: 11 of 344 rows left out for missing values (sex 11)\n"


def test_groups_and_missing_covariates_are_counted_together(run, tmp_path):
    table = datasets.load_penguins()[["species", "body_mass_g", "island"]]
    table.loc[[0, 5], "island"] = None  # row 3 lacks its mass
    table.to_csv(tmp_path / "t.csv", index=False)
    status, _, err = run("fit", tmp_path / "t.csv", "species ~ .", "--groups", "island", "--out", tmp_path / "m.json")
    assert err == "csoftmax: 4 of 344 rows left out for missing values (island 2, body_mass_g 2)\n"
    read = cs.from_json(tmp_path / "m.json")
    assert (status, read.nobs, read.n_missing, read.n_groups) == (0, 340, 4, 3)
    assert read.feature_names == ["body_mass_g"], "the column of groups is no predictor by ."


@pytest.mark.parametrize(("weight_type", "cov_type"), [
    ("frequency", "observed"), ("probability", "HC0"), ("analytic", "observed")])
def test_weight_type_says_what_the_weights_are(run, tmp_path, weight_type, cov_type):
    penguins = datasets.load_penguins()
    argv = ("--weights", "year", "--weight-type", weight_type, "--out", tmp_path / "m.json")
    assert run("fit", "penguins", TWO, *argv)[0] == 0
    read = cs.from_json(tmp_path / "m.json")
    expected = cs.fit_formula(TWO, penguins, sample_weight="year", weight_type=weight_type)
    assert (read.weight_type, read.cov_type, read.nobs) == (weight_type, cov_type, expected.nobs)
    np.testing.assert_array_equal(read.bse, expected.bse)


def test_the_options_reach_the_fit(run, monkeypatch):
    seen = {}

    def fit_prepared(prepared, **options):
        seen.update(options)
        return types.SimpleNamespace(success=False, message="not today")

    monkeypatch.setattr(face, "fit_prepared", fit_prepared)
    argv = ["--l2", "2", "--solver", "trust-ncg", "--tol", "1e-9", "--max-iter", "7", "--threads", "3", "--symmetric"]
    status, out, err = run("fit", "anes96", "vote ~ age", *argv)
    assert (status, out, err) == (2, "", "csoftmax: no model: not today\n")
    assert seen == {
        "l2": 2.0,
        "solver": "trust-ncg",
        "tol": 1e-9,
        "max_iter": 7,
        "n_threads": 3,
        "reference": None,
    }


def test_bias_reduction_fits_separated_samples_and_is_what_their_message_names(run):
    status, out, err = run("fit", "penguins", FOUR)
    assert status == 2 and "--l2 1) or --bias-reduction firth makes the maximum exist" in err
    status, out, err = run("fit", "penguins", FOUR, "--bias-reduction", "firth")
    assert status == 0 and re.search("Bias reduction: +Firth", out)


@pytest.mark.parametrize("more", [[], ["--level", "0.9"], ["--cov-type", "HC1"], ["--symmetric"], ["--out", "m.json"]])
def test_rrr_and_margins_print_the_tables_of_the_same_fit_in_python(run, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    formula = "species ~ body_mass_g + C(sex, contr.treatment('male'))"
    result = cs.fit_formula(formula, datasets.load_penguins(), **({"reference": None} if "--symmetric" in more else {}))
    result = result.with_covariance("HC1") if "HC1" in more else result
    level = 0.9 if "0.9" in more else 0.95
    summary, ratios, margins = (str(table.summary(level=level)) for table in (
        result, result.relative_risk_ratios(), result.margins()))
    assert "sex: female vs male" in margins and "ratio" in ratios
    for options, tables in ((["--rrr"], [summary, ratios]), (["--margins"], [summary, margins]),
                            (["--margins", "--rrr"], [summary, ratios, margins])):
        status, out, _ = run("fit", "penguins", formula, *options, *more)
        assert (status, out) == (0, "\n\n".join(tables) + "\n")


def test_the_level_changes_the_intervals(run):
    summaries = {run("fit", "anes96", "vote ~ selfLR", "--level", level)[1] for level in ("0.9", "0.99")}
    assert len(summaries) == 2
    assert "" not in summaries


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("p.csv", lambda t, p: t.to_csv(p, index=False)),
        ("p.csv.gz", lambda t, p: t.to_csv(p, index=False)),
        ("p.tsv", lambda t, p: t.to_csv(p, index=False, sep="\t")),
        ("p.v2.TSV.gz", lambda t, p: t.to_csv(p, index=False, sep="\t")),
        ("p.parquet", lambda t, p: t.to_parquet(p)),
    ],
)
def test_every_kind_of_file_gives_the_same_summary(run, tmp_path, name, write):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write(datasets.load_penguins(), tmp_path / name)
    assert run("fit", tmp_path / name, TWO) == run("fit", "penguins", TWO)


def test_a_dash_reads_standard_input(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(datasets.path("penguins").read_text()))
    assert run("fit", "-", TWO) == run("fit", "penguins", TWO)


def test_a_column_of_numbers_with_a_question_mark_is_pointed_out_and_na_reads_it(run, tmp_path):
    table = datasets.load_anes96()[["vote", "age"]].astype(str)
    table.loc[3, "age"] = "?"
    table.to_csv(tmp_path / "t.csv", index=False)
    _, _, err = run("fit", tmp_path / "t.csv", "vote ~ age", "--l2", "1")
    assert "warning: the column 'age' is text because 1 of its values are no numbers, such as '?'" in err
    status, _, err = run("fit", tmp_path / "t.csv", "vote ~ age", "--na", "?")
    assert status == 0
    assert err == "csoftmax: 1 of 944 rows left out for missing values (age 1)\n"


def test_missing_raise_refuses_the_data(run):
    status, out, err = run("fit", "penguins", TWO, "--missing", "raise")
    assert (status, out) == (1, "")
    assert "data has missing values: 'flipper_length_mm' in 2 rows" in one_error(err)


# -- the model file ---------------------------------------------------------------------------------------------------
def test_out_writes_the_model_and_leaves_nothing_else(model):
    assert os.listdir(model.parent) == [model.name]
    assert json.loads(model.read_text())
    np.testing.assert_array_equal(cs.from_json(model).coef, cs.fit_formula(TWO, datasets.load_penguins()).coef)
    # the mode of a new file under the process's umask, not that of a temporary file
    plain = model.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(model.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_failed_write_leaves_the_old_model_and_no_part_of_the_new_one(model, run, monkeypatch):
    before = model.read_bytes()

    def full(handle):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    status, out, err = run("fit", "penguins", "species ~ body_mass_g", "--out", model)
    assert (status, out) == (1, "")
    assert err.endswith("csoftmax: error: the disk is full\n")
    assert model.read_bytes() == before
    assert os.listdir(model.parent) == [model.name]


def test_out_goes_through_a_symbolic_link(model, run):
    link = model.with_name("link.json")
    link.symlink_to(model)
    assert run("fit", "penguins", "species ~ body_mass_g", "--out", link)[0] == 0
    assert link.is_symlink()
    assert list(cs.from_json(model).feature_names) == ["body_mass_g"]


def test_a_place_that_cannot_be_written_is_refused_before_the_fit(run, tmp_path, monkeypatch):
    monkeypatch.setattr(face, "prepare", None)  # never reached
    assert "which is not a regular file" in one_error(run("fit", "penguins", TWO, "--out", tmp_path)[2])
    missing = tmp_path / "no" / "m.json"
    assert "does not exist" in one_error(run("fit", "penguins", TWO, "--out", missing)[2])
    assert "which is not a regular file" in one_error(run("fit", "penguins", TWO, "--out", os.devnull)[2])


# -- predict ----------------------------------------------------------------------------------------------------------
def complete_penguins(path):
    penguins = datasets.load_penguins().dropna()
    penguins.to_csv(path, index=False)
    return penguins


def test_predict_prints_a_class_for_each_row(model, run, tmp_path):
    penguins = complete_penguins(tmp_path / "new.csv")
    status, out, err = run("predict", model, tmp_path / "new.csv")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "class"
    assert lines[1:] == cs.from_json(model).predict(penguins).tolist()


def test_predict_proba_adds_a_column_for_each_class_and_loses_no_digit(model, run, tmp_path):
    penguins = complete_penguins(tmp_path / "new.csv")
    target = tmp_path / "predictions.csv"
    assert run("predict", model, tmp_path / "new.csv", "--proba", "--out", target) == (0, "", "")
    rows = list(csv.reader(target.read_text().splitlines()))
    assert rows[0] == ["class", "proba_Adelie", "proba_Chinstrap", "proba_Gentoo"]
    proba = np.array([[float(p) for p in row[1:]] for row in rows[1:]])
    np.testing.assert_array_equal(proba, cs.from_json(model).predict_proba(penguins))
    assert sorted(os.listdir(tmp_path)) == ["model.json", "new.csv", "predictions.csv"]


def test_predict_refuses_missing_values_unless_told_to_leave_them_empty(model, run):
    status, out, err = run("predict", model, "penguins")
    assert (status, out) == (1, "")
    message = "2 of 344 rows of 'penguins' have missing values in the model's columns, the first in row 4"
    assert message in one_error(err)
    status, out, err = run("predict", model, "penguins", "--missing", "empty", "--proba")
    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 345
    assert lines[4] == ",,,"
    assert sum(line == ",,," for line in lines) == 2
    assert "2 of 344 rows have missing values and no prediction" in err


def test_predict_names_an_absent_column_and_an_unseen_level(run, tmp_path):
    model = tmp_path / "m.json"
    run("fit", "penguins", "species ~ flipper_length_mm + sex", "--out", model)
    penguins = complete_penguins(tmp_path / "new.csv")
    penguins.drop(columns="sex").to_csv(tmp_path / "absent.csv")
    assert "uses the column 'sex'" in one_error(run("predict", model, tmp_path / "absent.csv")[2])
    penguins.assign(sex="m").to_csv(tmp_path / "level.csv")
    message = "column 'sex' has levels that the fit did not see: 'm'; it saw 'female', 'male'"
    assert message in one_error(run("predict", model, tmp_path / "level.csv")[2])


def test_predict_reads_a_model_of_named_columns_without_a_formula(run, tmp_path):
    penguins = complete_penguins(tmp_path / "new.csv")
    X = penguins[["body_mass_g", "flipper_length_mm"]]
    result = cs.fit(X, penguins["species"])
    result.to_json(tmp_path / "m.json")
    status, out, _ = run("predict", tmp_path / "m.json", tmp_path / "new.csv")
    assert status == 0
    assert out.splitlines()[1:] == result.predict(X).tolist()
    penguins.drop(columns="body_mass_g").to_csv(tmp_path / "absent.csv")
    assert "uses the columns 'body_mass_g'" in one_error(
        run("predict", tmp_path / "m.json", tmp_path / "absent.csv")[2]
    )


def test_a_file_that_is_no_model_is_one_line_of_error(run, tmp_path):
    (tmp_path / "m.json").write_text('{"a": 1}')
    assert run("predict", tmp_path / "m.json", "penguins")[0] == 1
    (tmp_path / "m.json").write_text("not json")
    one_error(run("predict", tmp_path / "m.json", "penguins")[2])
    assert "MODEL is 'absent.json': no such file" in one_error(run("predict", "absent.json", "penguins")[2])


# -- errors, help, versions -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "COMMAND"),
        (("fti",), "invalid choice: 'fti'"),
        (("fit", "penguins"), "FORMULA"),
        (("fit", "absent.csv", "y ~ x"), "DATA is 'absent.csv': no such file; the tables that come with csoftmax are"),
        (("fit", "penguins", "species ~ wing"), "uses the column 'wing', which data does not have"),
        (("fit", "penguins", "species ~ year +"), "cannot be read"),
        (("fit", "penguins", TWO, "--weights", "heft"), "--weights names the column 'heft'"),
        (("fit", "penguins", TWO, "--l2", "-1"), "'-1' is not a number of at least 0"),
        (("fit", "penguins", TWO, "--tol", "0"), "'0' is not a positive number"),
        (("fit", "penguins", TWO, "--threads", "0"), "'0' is not a whole number of at least 1"),
        (("fit", "penguins", TWO, "--level", "95"), "'95' is not a number between 0 and 1"),
        (("fit", "penguins", TWO, "--symmetric", "--reference", "Gentoo"), "not allowed with"),
        (("fit", "penguins", "species ~ log(year - 2007)"), "is -inf in"),
        (("fit", "penguins", TWO, "--cov-type", "HC4"), "invalid choice: 'HC4'"),
        (("fit", "penguins", TWO, "--cov-type", "cluster"), "--cov-type is 'cluster' without groups; --groups COLUMN"),
        (("fit", "penguins", TWO, "--cov-type", "HC1", "--groups", "island"), "--cov-type is 'HC1'; one of the two"),
        (("fit", "penguins", TWO, "--groups", "isle"), "--groups names the column 'isle', which the data"),
        (("fit", "penguins", TWO, "--groups", "sex", "--missing", "raise"), "11 of 344 rows have no group in 'sex'"),
        (("fit", "penguins", TWO, "--weight-type", "analytic"), "--weight-type is 'analytic' without weights"),
        (("fit", "penguins", TWO, "--weights", "year", "--weight-type", "pweight"), "invalid choice: 'pweight'"),
        (("fit", "penguins", TWO, "--weights", "year", "--weight-type", "analytic", "--bias-reduction", "firth"),
         "--weight-type is 'analytic' beside --bias-reduction firth"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_status_1(run, argv, message):
    status, out, err = run(*argv)
    assert (status, out) == (1, "")
    assert message in one_error(err)


def test_a_file_of_an_unknown_or_a_broken_kind_is_one_line_of_error(run, tmp_path):
    (tmp_path / "t.dat").write_text("a,b\n1,2\n")
    assert "wanted a name that ends in .csv, .tsv or .parquet" in one_error(run("fit", tmp_path / "t.dat", "a ~ b")[2])
    (tmp_path / "t.csv").write_text('a,b\n1,2,3\n"')
    assert "cannot be read" in one_error(run("fit", tmp_path / "t.csv", "a ~ b")[2])
    (tmp_path / "e.csv").write_text("")
    assert "cannot be read" in one_error(run("fit", tmp_path / "e.csv", "a ~ b")[2])


@pytest.mark.parametrize("argv", [["--debug", "fit", "absent.csv", "y ~ x"], ["fit", "--debug", "absent.csv", "y ~ x"]])
def test_debug_lets_the_traceback_through(argv):
    with pytest.raises(Exception, match="no such file"):
        main(argv)


def test_an_error_of_ours_says_its_kind_and_how_to_see_more(run, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(face, "prepare", broken)
    status, _, err = run("fit", "penguins", TWO)
    assert status == 1
    assert one_error(err) == "csoftmax: error: RuntimeError: two lines (--debug shows where)"


def test_an_interrupt_is_one_line_and_status_130(run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(face, "fit_prepared", interrupted)
    assert run("fit", "penguins", TWO) == (130, "", "csoftmax: interrupted\n")


def test_help_has_examples_and_the_exit_statuses(run):
    for argv in (["--help"], ["fit", "--help"]):
        status, out, err = run(*argv)
        assert (status, err) == (0, "")
        assert 'csoftmax fit penguins "species ~ flipper_length_mm + body_mass_g"' in out
        assert "exit status:" in out
        assert "no maximum" in out
    assert "csoftmax predict model.json" in run("predict", "--help")[1]


def test_version_is_that_of_the_package(run):
    status, out, _ = run("--version")
    assert (status, out) == (0, f"csoftmax {cs.__version__}\n")


def test_show_versions_names_everything_a_bug_report_needs(run, monkeypatch):
    from csoftmax import _dispatch, _threads

    status, out, err = run("show-versions")
    assert (status, err) == (0, "")
    said = {line[:14].strip(): line[14:] for line in out.splitlines()}
    assert said["csoftmax"] == cs.__version__
    assert said["numpy"] == np.__version__
    assert said["pandas"] == pd.__version__
    assert said["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert said["CPU level"].startswith(f"{_dispatch.isa} in use")
    assert all(level in said["CPU level"] for level in _dispatch.available())
    usable = f"this process may use {_threads.usable_cpus(os.getpid())} of {os.cpu_count()} CPUs"
    assert said["threads"] == f"{_threads.default_n_threads()} by default; {usable}"
    assert said["numpy's BLAS"]
    for name in ("scipy", "formulaic", "scikit-learn", "rich", "platform"):
        assert said[name]
    assert cli._version_of("surely-no-such-distribution") == "not installed"


# -- progress ---------------------------------------------------------------------------------------------------------
def test_progress_shows_the_state_of_a_long_fit_on_a_terminal_and_nothing_of_a_short_one(monkeypatch):
    console = pytest.importorskip("rich.console")
    shown = io.StringIO()
    monkeypatch.setattr(
        console, "Console", lambda stderr, real=console.Console: real(file=shown, force_terminal=True, width=100)
    )
    state = types.SimpleNamespace(n_iter=12, log_likelihood=-1234.5, gradient_norm=0.03)
    progress = cli._Progress()
    progress(state)
    progress.close()
    assert shown.getvalue() == ""
    progress._start -= 2.0
    progress(state)
    state.n_iter = 13
    progress(state)
    progress.close()
    # at 12 frames a second, iteration 12 may be gone before it is drawn
    assert "iteration 13, log-likelihood -1234.5, gradient norm 0.03" in shown.getvalue()
    progress.close()  # again does nothing


def test_no_progress_where_stderr_is_no_terminal_or_rich_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert cli._Progress.if_terminal() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert cli._Progress.if_terminal() is None


def test_the_fit_calls_back_with_what_the_progress_line_shows(run, monkeypatch):
    states = []

    class Spy(cli._Progress):
        def __call__(self, state):
            states.append((int(state.n_iter), float(state.log_likelihood), float(state.gradient_norm)))
            super().__call__(state)

    monkeypatch.setattr(cli._Progress, "if_terminal", classmethod(lambda cls: Spy()))
    assert run("fit", "penguins", TWO)[0] == 0
    assert [n for n, _, _ in states] == sorted(n for n, _, _ in states)
    # the last state is the maximum, up to the fit's tolerance
    assert states[-1][1] == pytest.approx(cs.fit_formula(TWO, datasets.load_penguins()).log_likelihood, rel=1e-3)
    assert states[-1][2] < states[0][2]


# -- a process of its own ---------------------------------------------------------------------------------------------
def process(*argv, cwd, **options):
    command = [sys.executable, "-m", "csoftmax", *map(str, argv)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options)


def test_python_m_csoftmax_fits_saves_and_predicts(tmp_path):
    done = process("fit", "penguins", TWO, "--out", "model.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "flipper_length_mm" in done.stdout
    done = process("predict", "model.json", "penguins", "--missing", "empty", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 345
    assert process("fit", "penguins", FOUR, cwd=tmp_path).returncode == 2
    assert process("fit", "absent.csv", TWO, cwd=tmp_path).returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes of a POSIX shell")
def test_a_broken_pipe_ends_quietly(tmp_path):
    assert process("fit", "penguins", TWO, "--out", "model.json", cwd=tmp_path).returncode == 0
    # more than a pipe's buffer of predictions, and a reader that takes one line
    table = datasets.load_penguins().dropna()
    pd.concat([table] * 100).to_csv(tmp_path / "many.csv", index=False)
    command = [sys.executable, "-m", "csoftmax", "predict", "model.json", "many.csv", "--proba"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline().startswith("class,")
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(timeout=60) == 141


def test_help_and_version_import_no_data_frame_library(tmp_path):
    code = "import sys; from csoftmax.cli import main; main(['--help']); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
