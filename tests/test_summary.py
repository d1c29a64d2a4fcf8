"""How a model is shown: numbers and names in text, HTML and LaTeX, and as a data frame.

It stands on csoftmax.fit; that LaTeX runs is checked where there is one, and its grammar always.
"""

import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.stats import chi2

import csoftmax as cs
from csoftmax import tables

# everything that LaTeX or HTML takes for something else, at the start of a name and within
AWKWARD = ["[a]_1 & 50% #2", "{b} ~^ \\cmd $x$", '*c <i> | "d" -- `e`', "Ä é ß"]


def awkward_result(**options):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((120, 2))
    y = (X @ rng.standard_normal((2, 4)) + rng.gumbel(size=(120, 4))).argmax(axis=1)
    pd = pytest.importorskip("pandas")
    return cs.fit(pd.DataFrame(X, columns=["x_1 [T.%]", "[x]*2"]), pd.Series(np.array(AWKWARD)[y], name="y_&"),
                  reference=AWKWARD[0], **options)


def latex_cells(text):
    """The cells of each tabular's rows; an AssertionError where the grammar of a table does not hold."""
    assert all(char.isprintable() or char == "\n" for char in text)
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0, "braces balance"
    begun = re.findall(r"\\(begin|end){(\w+)}", text)
    stack = []
    for what, name in begun:
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    known = {"begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "par", "medskip",
             "smallskip", "parbox", "linewidth", "footnotesize", "multicolumn", "textbf", "times", "textbackslash",
             "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textasciigrave"}
    body = "\n".join(line for line in text.splitlines() if not line.startswith("% "))
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= known
    for special in "#%_":
        assert not re.search(rf"(?<!\\){special}", body), f"{special} is escaped"
    tabulars = []
    for columns, inside in re.findall(r"\\begin{tabular}{(\w+)}\n(.*?)\n\\end{tabular}", text, re.S):
        rows = []
        for line in inside.split("\n"):
            if line in (r"\toprule", r"\midrule", r"\bottomrule"):
                continue
            assert line.endswith(r" \\")
            assert not re.match(r"[\[*]", line.lstrip()), "taken for an argument of the row's end before it"
            cells = re.split(r"(?<!\\)&", line[:-3])
            if r"\multicolumn" not in line:
                assert len(cells) == len(columns)
            assert all(len(re.findall(r"(?<!\\)\$", cell)) % 2 == 0 for cell in cells)
            rows.append([cell.strip() for cell in cells])
        tabulars.append(rows)
    return tabulars


class _Tags(HTMLParser):
    """Checks that tags close in order, and collects the text of cells."""

    def __init__(self):
        super().__init__()
        self.open, self.cells, self.rows = [], [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def html_rows(page):
    parser = _Tags()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser.rows


# -- three faces of the same numbers -----------------------------------------------------------------------------------
def test_text_html_and_latex_show_the_same_numbers():
    result = awkward_result()
    summary = result.summary()
    shown = [k for k, label in enumerate(result.classes) if label != result.reference]
    numbers = {f"{x:.4f}" for x in result.params[shown].ravel() if abs(x) >= 1}
    numbers |= {f"{z:.3f}" for z in result.zvalues[shown].ravel()}
    html = [cell for row in html_rows(summary.to_html()) for cell in row]
    assert summary._repr_html_() == summary.to_html()
    latex = [cell.strip("$") for rows in latex_cells(summary.to_latex()) for row in rows for cell in row]
    for number in numbers:
        assert number in str(summary)
        assert number in html
        assert number in latex


def test_names_stand_in_html_as_they_are():
    rows = html_rows(awkward_result().summary()._repr_html_())
    assert [row[0] for row in rows if row[0].startswith("y_&=")] == [f"y_&={label}" for label in sorted(AWKWARD)
                                                                     if label != AWKWARD[0]]
    assert sum(row[0] == "x_1 [T.%]" for row in rows) == 3


def test_latex_of_awkward_names_keeps_the_grammar_of_a_table():
    facts, coefficients = latex_cells(awkward_result().summary().to_latex(caption="A caption", label="tab:a"))
    assert all(len(row) == 4 for row in facts)
    assert sum(row[0] == r"x\_1 [T.\%]" for row in coefficients) == 3
    assert sum(row[0] == "{[}x]*2" for row in coefficients) == 3


@pytest.mark.parametrize("text, wanted", [
    ("a_b", r"a\_b"), ("[x]", "{[}x]"), ("*", "{*}"), ("a--b---c-d", "a-{}-b-{}-{}-c-d"), ("\\", r"\textbackslash{}"),
    ("{}", r"\{\}"), ("a\nb", "a b"), ("<|>", r"\textless{}\textbar{}\textgreater{}"), ("50% & #1", r"50\% \& \#1"),
    ("~^", r"\textasciitilde{}\textasciicircum{}"), ("$", r"\$"), ("", "")])
def test_latex_text_prints_as_it_is_written(text, wanted):
    assert tables.latex_text(text) == wanted


@pytest.mark.parametrize("text, wanted", [
    ("1.2346", "1.2346"), ("-1.2346", "$-1.2346$"), ("1.000e-05", r"$1.000\times 10^{-5}$"), ("nan", "nan"),
    ("(-2.500e+06)", r"($-2.500\times 10^{6}$)"), ("(0.5)", "(0.5)"), ("0.1 to 2", "0.1 to 2"), ("12%", r"12\%"),
    ("-inf", "-inf"), ("342", "342"), ("2 (missing)", "2 (missing)")])
def test_latex_numbers_have_a_minus_and_powers_of_ten(text, wanted):
    assert tables.latex_value(text) == wanted


def test_latex_compiles(tmp_path):
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("there is no pdflatex to run")
    result = awkward_result()
    tables_of = [result.summary().to_latex(label="t:a"), awkward_result(l2=1.0).summary().to_latex(),
                 cs.compare(result, awkward_result(l1=1.0), names=["a_b", "[c]"]).to_latex()]
    document = "\n".join([r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *tables_of,
                          r"\end{document}"])
    (tmp_path / "a.tex").write_text(document, encoding="utf-8")
    done = subprocess.run([program, "-halt-on-error", "-interaction=nonstopmode", "a.tex"], cwd=tmp_path,
                          capture_output=True, text=True, errors="replace", timeout=120)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("this LaTeX has no booktabs")
    assert done.returncode == 0, done.stdout[-2000:]


# -- widths ------------------------------------------------------------------------------------------------------------
def test_columns_of_the_text_never_touch():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    name = "a_name_that_leaves_eleven_letters_to_each_column"
    X = pd.DataFrame({name: rng.standard_normal(200) * 1e-150})
    text = str(cs.fit(X, rng.integers(0, 3, 200), reference=0).summary())
    rows = [line.split() for line in text.splitlines() if line.startswith(name)]
    assert [len(row) for row in rows] == [7, 7]
    assert any(len(cell) == 11 for row in rows for cell in row), "as in -1.234e+150"


def test_a_long_name_widens_the_table_and_is_kept_whole():
    pd = pytest.importorskip("pandas")
    name = "C(region, Treatment('north'))[T.south-west]:scale(household_income)"
    frame = pd.DataFrame({name: np.arange(20.0) % 7})
    text = str(cs.fit(frame, np.arange(20) % 3).summary())
    lines = text.splitlines()
    assert any(line.startswith(name + " ") for line in lines)
    assert len({len(line) for line in lines if line.startswith(("===", "---"))}) == 1


# -- why there is no standard error ------------------------------------------------------------------------------------
def no_warning(function):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function()


@pytest.mark.parametrize("scale", [[1e200, 1.0, 1e-200], [1e-200, 1.0, 1.0], [1e200, 1.0, 1.0]])
@pytest.mark.parametrize("options", [{}, {"bias_reduction": "firth"}])
def test_columns_of_1e200_are_summarised_without_a_warning_and_no_standard_error_is_wrong(scale, options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3))
    y = (X @ rng.standard_normal((3, 3)) + rng.gumbel(size=(100, 3))).argmax(axis=1)
    result, plain = cs.fit(X * scale, y, reference=0, **options), cs.fit(X, y, reference=0, **options)
    text = no_warning(lambda: str(result.summary()))
    in_range = np.array([*(np.array(scale) == 1.0), True])
    # the same standard errors, but for the rounding of columns shifted in other units
    np.testing.assert_allclose(result.bse[1:, in_range], plain.bse[1:, in_range], rtol=1e-9)
    assert np.isnan(result.bse[1:, ~in_range]).all(), "a variance that is 0 or infinite is none"
    outside = ", ".join(name for name, inside in zip(["x1", "x2", "x3"], in_range, strict=False) if not inside)
    assert f"No standard errors of {outside}: float64 cannot hold their variances" in " ".join(text.split())


def test_columns_of_1e150_still_have_standard_errors():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 2)), rng.integers(0, 3, 100)
    result, plain = cs.fit(X * [1e150, 1e-150], y, reference=0), cs.fit(X, y, reference=0)
    np.testing.assert_allclose(result.zvalues[1:], plain.zvalues[1:], rtol=1e-9)


def test_collinear_columns_are_named_below_the_table_once():
    X = np.column_stack([np.arange(30.0) % 7, 2 * (np.arange(30.0) % 7), np.arange(30.0) % 5])
    text = " ".join(str(cs.fit(X, np.arange(30) % 3).summary()).split())
    assert "Not determined by the data (collinear columns), shown as the minimum-norm answer: x1, x2." in text
    assert "No standard errors" not in text


def test_the_likelihood_ratio_against_the_null_model_is_in_the_summary_where_it_is_chi_squared():
    X, y = np.random.default_rng(5).standard_normal((60, 2)), np.arange(60) % 3
    result = cs.fit(X, y)
    expected = tables.format_pvalue(result.lr_test(cs.fit(X[:, :0], y)).pvalue)
    assert ("LLR p-value", expected) in result.summary().facts[1]
    through_0 = cs.fit(X, y, fit_intercept=False)
    assert ("LLR p-value", tables.format_pvalue(chi2.sf(2.0 * (through_0.log_likelihood + 60 * np.log(3.0)), 4))) in \
        through_0.summary().facts[1]
    weighted = cs.fit(X, y, sample_weight=np.linspace(1.0, 2.0, 60), weight_type="probability")
    for other in (result.with_covariance("HC1"), weighted, cs.fit(X, y, l2=1.0), cs.fit(X, y, l1=1.0),
                  cs.fit(X, y, bias_reduction="firth"), cs.fit(X[:, :0], y)):
        assert "LLR" not in str(other.summary())


def test_a_constant_column_is_said_to_repeat_the_intercept():
    X, y = np.column_stack([np.arange(30.0) % 7, np.ones(30)]), np.arange(30) % 3
    assert "The intercept is collinear with a constant column" in str(cs.fit(X, y).summary())
    twice = np.column_stack([X[:, 0], 2.0 * X[:, 0]])
    for other in (cs.fit(twice, y), cs.fit(X, y, fit_intercept=False)):
        assert "constant column" not in str(other.summary())


def test_frequencies_that_are_not_whole_numbers_are_asked_whether_they_are_a_surveys(tmp_path):
    X, y = np.arange(30.0)[:, np.newaxis] % 7, np.arange(30) % 3
    asked = "survey's weights are"
    weights = np.linspace(0.5, 2.31, 30)
    scaled = weights / weights.mean()  # as surveys give them: a whole number of rows in all
    for options in ({"sample_weight": weights}, {"sample_weight": scaled}, {"sample_weight": scaled, "l1": 0.1}):
        result = cs.fit(X, y, **options)
        assert asked in " ".join(result.summary().notes)
        result.to_json(tmp_path / "model.json")
        assert asked in str(cs.from_json(tmp_path / "model.json").summary())
    soft = np.full((30, 3), 0.25) + 0.25 * np.eye(3)[y]  # a row's total is 1
    for labels, options in ((y, {}), (y, {"sample_weight": np.arange(30) % 4}), (soft, {}),
                            (y, {"sample_weight": weights, "weight_type": "probability"}),
                            (y, {"sample_weight": weights, "weight_type": "analytic"})):
        assert asked not in " ".join(cs.fit(X, labels, **options).summary().notes)


def test_a_singular_information_is_given_as_the_reason(monkeypatch):
    X, y = np.random.default_rng(0).standard_normal((50, 2)), np.arange(50) % 3
    result = cs.fit(X, y, reference=0)
    monkeypatch.setattr(result, "_symmetric_covariance", np.full((3, 3, 3, 3), np.nan))
    assert "No standard errors: the information is singular at the estimate." in str(result.summary())


def test_firth_and_penalties_are_said():
    text = " ".join(str(awkward_result(bias_reduction="firth").summary()).split())
    assert "Bias reduction: Firth" in text and "Certified solution: yes" in text
    text = " ".join(str(awkward_result(l2=[0.5, 2.0]).summary()).split())
    assert "l2 penalty: 0.5 to 2" in text and "Standard errors are from the penalised information" in text
    text = awkward_result(l1=1.0).summary()
    assert "l1 penalty:" in str(text) and "std err" not in str(text)
    assert len(latex_cells(text.to_latex())[1][0]) == 2


def test_a_separated_fit_shows_no_coefficients_in_any_face():
    with pytest.warns(cs.SeparationWarning):
        summary = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1]).summary()
    assert len(latex_cells(summary.to_latex())) == 1
    assert "NOT A MAXIMUM" in summary.to_latex() and "NOT A MAXIMUM" in summary._repr_html_()
    assert all(row[0] != "x1" for row in html_rows(summary._repr_html_()))


def test_a_warning_stands_below_the_title_in_text_and_html():
    with pytest.warns(cs.SeparationWarning):
        summary = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1]).summary()
    for face in (str(summary), summary._repr_html_()):
        assert face.index("Softmax regression") < face.index("NOT A MAXIMUM") < face.index("Dep. variable")


def test_a_table_of_estimates_has_no_empty_table_of_facts():
    table = awkward_result().contrasts().summary()
    assert len(latex_cells(table.to_latex())) == 1
    assert table._repr_html_().count("<table") == 1 and "Contrasts of classes" in table._repr_html_()


# -- a feature called Intercept ----------------------------------------------------------------------------------------
def test_a_feature_called_intercept_stands_beside_the_constant():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"Intercept": np.arange(30.0) % 7})
    result = cs.fit(frame, np.arange(30) % 3, reference=0)
    names = result.to_frame()["feature"].tolist()
    assert names == ["Intercept", "(Intercept)"] * 2
    assert str(result.summary()).count("\n(Intercept) ") == 2


# -- data frames -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("reference", [None, 1])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_frame_has_each_estimate_beside_its_class_and_feature(n_classes, reference, fit_intercept):
    pytest.importorskip("pandas")
    rng = np.random.default_rng(n_classes)
    X = rng.standard_normal((150, 1))
    result = cs.fit(X, rng.integers(0, n_classes, 150), reference=reference, fit_intercept=fit_intercept)
    frame = result.to_frame(level=0.9)
    assert frame.columns.tolist() == ["class", "feature", "estimate", "std_error", "z", "pvalue", "lower", "upper"]
    shown = [k for k in range(n_classes) if k != reference]
    assert frame["class"].tolist() == [k for k in shown for _ in range(1 + fit_intercept)]
    assert frame["feature"].tolist() == ["x1", "Intercept"][:1 + fit_intercept] * len(shown)
    for name, array in (("estimate", result.params), ("std_error", result.bse), ("z", result.zvalues),
                        ("pvalue", result.pvalues), ("lower", result.conf_int(level=0.9)[:, :, 0]),
                        ("upper", result.conf_int(level=0.9)[:, :, 1])):
        assert frame[name].tolist() == array[shown].ravel().tolist()
    assert frame.attrs == {"response_name": "y", "reference": reference, "level": 0.9}


def test_without_pandas_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    result = cs.fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    with pytest.raises(ImportError, match=r'pip install "csoftmax\[formula\]"'):
        result.to_frame()
    with pytest.raises(ImportError, match=r'pip install "csoftmax\[formula\]"'):
        cs.compare(result).to_frame()
