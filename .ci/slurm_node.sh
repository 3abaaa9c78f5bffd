#!/bin/sh
# Install and start SLURM on this machine as a cluster of one node, on Debian or Ubuntu as root.
# Usage: .ci/slurm_node.sh [start|stop]. It replaces /etc/slurm/slurm.conf.
set -eu

state=/tmp/neftune-slurm
conf=/etc/slurm/slurm.conf

stop() {
    for daemon in slurmd slurmctld munged; do
        if [ -s "$state/$daemon.pid" ]; then kill "$(cat "$state/$daemon.pid")" 2>/dev/null || true; fi
    done
}

if [ "${1:-start}" = stop ]; then
    stop
    exit 0
fi

if ! { command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; } >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurmctld slurmd slurm-client munge
fi

mkdir -p "$state/ctld" "$state/d" /etc/slurm /run/munge /var/lib/munge /var/log/munge
chown munge: "$state" /run/munge /var/lib/munge /var/log/munge
chmod 755 "$state" /run/munge
if [ ! -s /etc/munge/munge.key ]; then
    dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 2>/dev/null
fi
chown munge: /etc/munge/munge.key
chmod 400 /etc/munge/munge.key

name=$(hostname -s)
cpus=$(getconf _NPROCESSORS_ONLN)
cat >"$conf" <<END
ClusterName=neftune
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=30
MinJobAge=300
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
END

stop
su -s /bin/sh munge -c "/usr/sbin/munged --pid-file=$state/munged.pid --force" || true
sleep 1
slurmctld -c
sleep 2
slurmd
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
    sleep 1
done
scontrol update "NodeName=$name" State=RESUME 2>/dev/null || true
sinfo
srun --immediate=20 true
