"""Ray: the connection to a cluster, and what its processes have to be like."""
