"""The grid search of search.py on the workers of a Dask cluster.

    python examples/ranks/dask_search.py
    python examples/ranks/dask_search.py tcp://scheduler:8786

Without an address it starts two workers on this machine. A worker that Dask starts has
OMP_NUM_THREADS=1, which dlcore obeys: two workers never fight for the threads of a core.
"""

import argparse
from contextlib import nullcontext

from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from search import fit_and_show, make_search


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="of a scheduler that is there")
    address = parser.parse_args().address

    own = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        nullcontext(address) if address else LocalCluster(**own) as cluster,
        Client(cluster) as client,
        parallel_config("dask"),
    ):
        print(f"{len(client.scheduler_info()['workers'])} workers")
        fit_and_show(make_search())


if __name__ == "__main__":  # workers import this file
    main()
