"""The grid search of search.py on the workers of a Ray cluster.

    python examples/ranks/ray_search.py
    python examples/ranks/ray_search.py ray://head:10001

Without an address it starts Ray on this machine, with two processors. Ray gives a worker as many
threads by OMP_NUM_THREADS as it has processors, one by default, which dlcore obeys.
"""

import argparse

import ray
from joblib import parallel_config
from ray.util.joblib import register_ray
from search import fit_and_show, make_search


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="of a cluster that is there")
    address = parser.parse_args().address

    own = {"num_cpus": 2, "include_dashboard": False}
    register_ray()
    with ray.init(address, **({} if address else own)), parallel_config("ray"):
        print(f"{ray.cluster_resources()['CPU']:.0f} processors")
        fit_and_show(make_search())


if __name__ == "__main__":
    main()
