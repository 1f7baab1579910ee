#!/usr/bin/env bash
# One run on many nodes of a Slurm cluster; SRC and OUT lie on a file system that all nodes see under one path,
# or are addresses such as s3://bucket/run.
#   sbatch --array=1-64 pipelines/cluster/slurm.sh SRC OUT [options of 'p3mdata anonymize dir']
# Task K does every 64th shard; the last one writes manifest and report. Tasks that failed or ran out of time are
# started again with the same command (--array=7,12 for some of them, with TASKS=64): finished images are kept.
# Closing can be a job of its own:  sbatch --dependency=afterany:JOBID --wrap "p3mdata merge OUT"
#SBATCH --job-name=p3mdata
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=1G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail

tasks=${TASKS:-${PARTS:-${SLURM_ARRAY_TASK_MAX:?start it with sbatch --array=1-N}}}
# In the background, so that the signal before the time limit reaches it: it ends after the image at hand.
p3mdata anonymize dir "$@" --task "$SLURM_ARRAY_TASK_ID/$tasks" --workers "${SLURM_CPUS_PER_TASK:-1}" --no-progress &
task=$! stopped= code=0
trap 'stopped=1; kill -TERM "$task"' TERM
wait "$task" || code=$?
# The signal interrupted that wait; the second one tells how the task ended.
[ -z "$stopped" ] || { code=0; wait "$task" || code=$?; }
exit "$code"
