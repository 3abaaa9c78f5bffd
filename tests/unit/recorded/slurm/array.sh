#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-11%4
#SBATCH --cpus-per-task=8
#SBATCH --error=/shared/first/jobs/1/%A_%a_0_log.err
#SBATCH --gres=gpu:1
#SBATCH --job-name=neftune-first
#SBATCH --mem=32G
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/first/jobs/1/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/first/jobs/1/%A_%a_%t_log.out --error /shared/first/jobs/1/%A_%a_%t_log.err run
