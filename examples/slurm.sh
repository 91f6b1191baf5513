#!/bin/bash
# Training on four machines under SLURM: sbatch examples/slurm.sh
# `ray symmetric-run` starts a Ray cluster on the machines of the job, runs the command on the first of
# them once all have joined, and ends the cluster with it.
#SBATCH --job-name=distvi
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@60
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=6379

srun --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" -- \
  distvi train mnist --data-dir "${DISTVI_DATA:?where MNIST lies, on a disk that the first machine sees}" \
  --engine ray --address auto --workers 28 --servers 4 --scheme backup --out "run-$SLURM_JOB_ID"
