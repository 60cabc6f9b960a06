#!/bin/bash
# Four ranks on two machines under Slurm, from the root of a checkout on a disk that both see, in an
# environment that has dlcore, mpi4py and MPICH:
#
#     sbatch examples/ranks/slurm.sh
#
# Arguments go to train.py. Where Slurm's administrator has chosen another default, MPICH needs
# srun --mpi=pmi2; Open MPI needs srun --mpi=pmix.

#SBATCH --job-name=dlcore
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=8
#SBATCH --time=00:10:00

set -euo pipefail

export DLCORE_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" python examples/ranks/train.py "$@"
