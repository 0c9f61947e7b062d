"""Which cluster is behind a miner, by its options."""

from pathlib import Path

from aitbc_cli.miner.cluster.cluster import Cluster
from aitbc_cli.miner.cluster.ray import Ray
from aitbc_cli.miner.cluster.slurm import Slurm
from aitbc_cli.miner.options import Options

__all__ = ["Cluster", "cluster_of"]


def cluster_of(options: Options, folder: Path) -> Cluster | None:
    """The cluster; none where the miner's own machine does the work. `folder` is the miner's home."""
    command = options.kinds.get("command", {})
    if options.ray is not None:
        return Ray(command, folder, options.ray)
    return Slurm(command, folder, options.kinds.get("container")) if options.slurm else None
