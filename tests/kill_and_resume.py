"""Kill fits of all kinds at random instants, and hold what they come to against undisturbed ones.

``python tests/kill_and_resume.py --kills 200``: a long campaign; the tests have a few of these.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from support.kills import UNITS, Campaign
from support.resumable_fits import FITS


def main():
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    campaign = Campaign(options.seed, print)
    for name, unit in itertools.cycle(itertools.product(FITS, UNITS)):
        if campaign.kills >= options.kills:
            break
        with tempfile.TemporaryDirectory() as folder:
            campaign.run(name, unit, Path(folder), most=4)
    print(f"{campaign.kills} kills, {campaign.resumed} of them of fits that had been resumed")


if __name__ == "__main__":
    main()
