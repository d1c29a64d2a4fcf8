"""Two small real tables that travel with the package, for examples, tests and the command line.

Examples, the tests and `cli` stand on it. It stands on nothing of csoftmax; pandas is imported when a table is read.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_anes96", "load_penguins", "names", "path"]

_TABLES = {"anes96": "anes96.csv", "penguins": "penguins.csv"}


def names() -> list[str]:
    """Names of the tables.

    Returns
    -------
    list of str
        In alphabetical order; each is accepted by `path` and by the command line in place of a file.

    Examples
    --------
    >>> from csoftmax import datasets
    >>> datasets.names()
    ['anes96', 'penguins']
    """
    return sorted(_TABLES)


def path(name: str) -> Path:
    """Where the CSV file of a table is.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If there is no table of that name.

    Examples
    --------
    >>> from csoftmax import datasets
    >>> datasets.path("penguins").name
    'penguins.csv'
    """
    if name not in _TABLES:
        raise ValueError(f"name is {name!r}; the tables are {', '.join(map(repr, names()))}")
    # A package with compiled modules is always unpacked on disk, so the resource is a file.
    return Path(str(files("csoftmax") / "data" / _TABLES[name]))


def _read(name: str) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as exc:
        raise ImportError(
            f"reading the table {name!r} needs pandas, which is not installed: "
            'pip install "csoftmax[formula]" (or read csoftmax.datasets.path(...) yourself)'
        ) from exc
    return pd.read_csv(path(name))


def load_penguins() -> pd.DataFrame:
    """Palmer penguins: three species, four body measurements, some values missing.

    344 penguins seen on three islands of the Palmer Archipelago, Antarctica, from 2007 to 2009.

    Returns
    -------
    pandas.DataFrame of 344 rows
        =================== ====== ======= =========================================================
        column              kind   missing meaning
        =================== ====== ======= =========================================================
        species             text         0 Adelie (152), Chinstrap (68) or Gentoo (124)
        island              text         0 Biscoe, Dream or Torgersen
        bill_length_mm      number       2 length of the bill, millimetres
        bill_depth_mm       number       2 depth of the bill, millimetres
        flipper_length_mm   number       2 length of the flipper, millimetres
        body_mass_g         number       2 body mass, grams
        sex                 text        11 female or male
        year                number       0 year of the study: 2007, 2008 or 2009
        =================== ====== ======= =========================================================

    Notes
    -----
    Licence: CC0 1.0 (public domain dedication), as published in the R package palmerpenguins. The four measurements
    together separate the species: a model with all four has no maximum of the likelihood.

    References
    ----------
    .. [1] Horst A. M., Hill A. P., Gorman K. B. (2020). palmerpenguins: Palmer Archipelago (Antarctica) penguin
           data. R package version 0.1.0. doi:10.5281/zenodo.3960218
    .. [2] Gorman K. B., Williams T. D., Fraser W. R. (2014). Ecological sexual dimorphism and environmental
           variability within a community of Antarctic penguins (genus Pygoscelis). PLoS ONE 9(3): e90081.
           doi:10.1371/journal.pone.0090081

    Examples
    --------
    >>> from csoftmax.datasets import load_penguins
    >>> penguins = load_penguins()
    >>> penguins.shape
    (344, 8)
    >>> {str(k): int(v) for k, v in penguins["species"].value_counts().items()}
    {'Adelie': 152, 'Gentoo': 124, 'Chinstrap': 68}
    """
    return _read("penguins")


def load_anes96() -> pd.DataFrame:
    """American National Election Study of 1996: party identification in seven classes, and who gets the vote.

    944 respondents; a subset of the survey with complete answers.

    Returns
    -------
    pandas.DataFrame of 944 rows
        All columns are float64 and none has missing values.

        ========= ==================================================================================
        column    meaning
        ========= ==================================================================================
        popul     population of the place of residence, thousands (census)
        TVnews    days a week on which the respondent watches television news, 0 to 7
        selfLR    the respondent's own position from left to right: 1 extremely liberal, 4 moderate,
                  7 extremely conservative
        ClinLR    where the respondent sees Bill Clinton, on the same scale
        DoleLR    where the respondent sees Bob Dole, on the same scale
        PID       party identification: 0 strong Democrat, 1 weak Democrat, 2 independent-Democrat,
                  3 independent, 4 independent-Republican, 5 weak Republican, 6 strong Republican
        age       years
        educ      1 grades 1-8, 2 some high school, 3 high school graduate, 4 some college,
                  5 college degree, 6 master's degree, 7 PhD
        income    household income in 24 steps: 1 under 3 000 US dollars, 24 from 105 000 dollars on
        vote      expected vote: 0 Clinton, 1 Dole
        logpopul  log(popul + 0.1)
        ========= ==================================================================================

    Notes
    -----
    Licence: public domain. The table is the one distributed with statsmodels as `statsmodels.datasets.anes96`.

    References
    ----------
    .. [1] American National Election Studies (1996). 1996 Time Series Study. https://electionstudies.org
    .. [2] Seabold S., Perktold J. (2010). statsmodels: econometric and statistical modeling with Python. Proceedings
           of the 9th Python in Science Conference. doi:10.25080/Majora-92bf1922-011

    Examples
    --------
    >>> from csoftmax.datasets import load_anes96
    >>> anes96 = load_anes96()
    >>> anes96.shape
    (944, 11)
    >>> sorted(anes96["PID"].unique().tolist())
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    return _read("anes96")
